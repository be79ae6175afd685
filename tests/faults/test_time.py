"""A device's clocks go wrong, and the centre's figures stay right: from recorder to rollups.

One device, in use without a pause for three hours, speaks to a real worker, store and rollup. Its
clock is set wrong after 31 minutes and put right an hour later, or it sleeps. The truth is the
centre's own clock, which moves with the device's boot clock.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from ketang_agent.collectors.base import HostReading, UsageReading
from ketang_agent.recorder import Recorder
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.sender import Sender
from ketang_center.ingest.worker import Message, Worker
from ketang_center.metrics.rollup import Rollup, RollupReader
from ketang_center.registry.calendars import HOUR_MS, day_of
from ketang_center.registry.database import Registry
from ketang_center.store.partitions import SUSPECT, Key
from ketang_center.store.reading import StoreReader
from ketang_center.store.sqlite import Store
from ketang_contract import validate
from ketang_contract.ids import shard_of
from ketang_contract.records import Event, EventName, IdleSource, Usage
from tests.unit.agent.clocks import FakeClock

DEVICE = "ifp-0001"
START_MS = 1_790_038_800_000
"""09:00 at the school, a full hour."""
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
TOLERATED_MS = 120_000
IN_USE = UsageReading(idle_s=1, idle_source=IdleSource.XSCREENSAVER)


@dataclass
class Fact:
    """One row as the centre keeps it, its line read."""

    record: object
    slot: int
    true_ms: int
    received_ms: int
    suspect: bool


@dataclass
class Walk:
    """The whole way, a minute at a time. ``stack`` closes it."""

    folder: object
    stack: ExitStack
    clock: FakeClock = field(default_factory=lambda: FakeClock(START_MS))
    true_ms: int = START_MS
    on_line: bool = True
    worst_wait_ms: int = 0
    """Longest that anything waited to be sent and answered while on line."""
    _waits_since_ms: int | None = None

    def __post_init__(self):
        enter = self.stack.enter_context
        self.spool = enter(Spool(self.folder / "spool.db"))
        self.store = enter(Store(self.folder))
        lease = self.store.take_lease([shard_of(DEVICE)], "w_1", START_MS, 10**12)
        self.worker = Worker(self.store, lease)
        registry = enter(Registry(self.folder / "registry.db"))
        reading = enter(StoreReader(self.folder))
        self.rollup = enter(Rollup(reading, self.folder / "rollup.db", registry))
        self.rollups = RollupReader(self.folder / "rollup.db")
        self.stack.callback(self.rollups.close)
        self.recorder = Recorder(DEVICE)
        self.sender = self.new_sender()

    def new_sender(self):
        made = Sender(self.spool, DEVICE, self.store.control.center_id, jitter=lambda: 0.5)
        made.begin_session()
        return made

    def works(self, minutes):
        for _ in range(minutes):
            self.clock.passes(MINUTE_S)
            self.true_ms += MINUTE_S * 1000
            self.samples()

    def samples(self):
        now = self.clock.now()
        self.recorder.add(IN_USE, now)
        self.recorder.add(HostReading(uptime_s=now.boottime_ms // 1000), now)
        self.keeps(self.recorder.close_due(now))

    def keeps(self, records):
        if records:
            self.spool.append(records)
        self.speaks()

    def sleeps(self, seconds):
        self.clock.sleeps(seconds)
        self.true_ms += seconds * 1000
        self.samples()

    def speaks(self):
        if not self.on_line:
            return
        now = self.clock.now()
        while out := self.sender.next_frame(now):
            self.sender.confirm(out.digest)
            for reply in self.worker.handle([Message(out.topic, out.frame, self.true_ms)]):
                self.sender.on_ack(reply.payload, now)
        waits = any(self.spool.pending(lane) for lane in self.spool.lanes())
        if not waits:
            self._waits_since_ms = None
        elif self._waits_since_ms is None:
            self._waits_since_ms = self.true_ms
        else:
            self.worst_wait_ms = max(self.worst_wait_ms, self.true_ms - self._waits_since_ms)

    def reboots(self, wall_ms):
        """A crash: what was in memory is gone, the boot clock begins anew."""
        self.recorder = Recorder(DEVICE)
        self.clock.reboots()
        self.clock.is_set_to(wall_ms)
        self.sender = self.new_sender()

    def ends(self):
        self.on_line = True
        self.keeps(self.recorder.close_all(self.clock.now()))
        while self.rollup.step():
            pass

    def facts(self):
        found = [
            Fact(validate.record(line), slot, true_ms, received_ms, bool(suspect))
            for day in self.store.partitions.days()
            for line, slot, true_ms, received_ms, suspect in self.store.partitions.connection(
                day
            ).execute("SELECT line, slot, true_ms, received_ms, clock_suspect FROM row")
        ]
        return sorted(found, key=lambda one: (one.true_ms, one.record.boottime_ms))

    def used_s(self):
        """Seconds of use by hour since the start, as the pages read them."""
        start = START_MS // HOUR_MS
        return {
            hour.hour - start: sum(cell.used_s for cell in hour.cells)
            for hour in self.rollups.hours(DEVICE, day_of(START_MS))
        }


@pytest.fixture
def walk(tmp_path):
    with ExitStack() as stack:
        made = Walk(tmp_path, stack)
        made.samples()
        yield made


def check_windows(facts):
    """No window negative, overlong, or over another: boot time bears no other reading."""
    for kind in ("usage", "host"):
        spans = sorted(
            (one.record.boot_id, one.record.boottime_ms, one.record.body.window_s)
            for one in facts
            if one.record.body.kind == kind
        )
        assert all(0 < window_s <= 300 for *_, window_s in spans)
        for (boot, began_ms, window_s), (next_boot, next_ms, _) in pairwise(spans):
            assert boot != next_boot or began_ms + 1000 * window_s <= next_ms


def check_accounts(walk):
    """Every number given out is stored, and none waits."""
    lanes = [lane for lane in walk.spool.lanes() if walk.spool.head(lane)]
    assert lanes
    for lane in lanes:
        ledger = walk.store.control.ledger(Key(DEVICE, lane.store_id, lane.stream))
        assert ledger.balanced
        assert len(ledger.stored) == ledger.head == walk.spool.head(lane)
        assert not walk.spool.pending(lane)


def check_true_times(facts):
    """Within a boot a record's true time is its boot time, whatever its wall clock said."""
    began_ms = START_MS - FakeClock().now().boottime_ms
    for one in facts:
        assert abs(one.true_ms - (began_ms + one.record.boottime_ms)) <= TOLERATED_MS
        assert one.suspect == (abs(one.record.wall_ms - one.true_ms) > TOLERATED_MS)


WRONG = {
    "an hour fast": lambda clock: clock.is_set(HOUR_S),
    "an hour slow": lambda clock: clock.is_set(-HOUR_S),
    "400 days fast": lambda clock: clock.is_set(400 * DAY_S),
    "in 1970": lambda clock: clock.is_set_to(17_000),
}


@pytest.mark.parametrize("on_line", [True, False], ids=["on line", "off line meanwhile"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_clock_set_wrong_and_right_again_moves_no_figure(walk, wrong, on_line):
    walk.works(31)
    walk.on_line = on_line
    WRONG[wrong](walk.clock)
    walk.works(60)
    walk.clock.is_set_to(walk.true_ms)
    walk.works(5)
    walk.on_line = True
    walk.works(84)
    walk.ends()

    facts = walk.facts()
    check_windows(facts)
    check_accounts(walk)
    check_true_times(facts)
    hour_wrong = [one for one in facts if one.suspect]
    assert 12 <= sum(isinstance(one.record.body, Usage) for one in hour_wrong) <= 14
    assert all((one.slot == SUSPECT) == (wrong == "in 1970") for one in hour_wrong)
    jumps = [one for one in facts if getattr(one.record.body, "name", "") == EventName.CLOCK_JUMP]
    assert len(jumps) == 2
    assert walk.worst_wait_ms <= 60_000
    # Two windows may begin in one five minutes where the clock was set, and the cell holds five.
    used_s = walk.used_s()
    assert sum(used_s.values()) <= 180 * MINUTE_S
    for hour in range(3):
        assert HOUR_S - 300 <= used_s[hour] <= HOUR_S, used_s
    assert set(used_s) == {0, 1, 2}, "a figure in an hour that was not"


def test_a_suspend_of_half_an_hour_is_sleep_and_no_use(walk):
    walk.works(31)
    walk.sleeps(30 * MINUTE_S)
    walk.works(59)
    walk.ends()

    facts = walk.facts()
    check_windows(facts)
    check_accounts(walk)
    check_true_times(facts)
    assert not any(one.suspect for one in facts)
    names = [one.record.body.name for one in facts if isinstance(one.record.body, Event)]
    assert names == [EventName.SLEEP, EventName.WAKE]
    wake = next(one for one in facts if getattr(one.record.body, "name", "") == EventName.WAKE)
    assert wake.record.body.seconds == 30 * MINUTE_S
    bodies = [one.record.body for one in facts if isinstance(one.record.body, Usage)]
    assert sum(one.asleep_s for one in bodies) == 30 * MINUTE_S
    assert sum(one.active_s for one in bodies) == 90 * MINUTE_S
    assert walk.used_s() == {0: 31 * MINUTE_S, 1: 59 * MINUTE_S}
    assert walk.worst_wait_ms <= 60_000


@pytest.mark.parametrize("wrong", ["400 days fast", "in 1970"])
def test_records_of_an_earlier_boot_that_cannot_be_true_are_suspect_and_kept(walk, wrong):
    """Across boots only the wall clock speaks. What cannot be true counts when it arrived."""
    walk.on_line = False
    WRONG[wrong](walk.clock)
    walk.works(31)
    walk.reboots(walk.true_ms)
    walk.on_line = True
    walk.works(29)
    walk.ends()

    facts = walk.facts()
    check_windows(facts)
    check_accounts(walk)
    began_ms = FakeClock().now().boottime_ms
    before = [
        one for one in facts if one.record.boot_id == "boot-1" and one.record.boottime_ms > began_ms
    ]
    assert before
    for one in facts:
        assert one.suspect == (one in before)
        assert START_MS <= one.true_ms <= walk.true_ms
        if one.suspect:
            assert one.true_ms == one.received_ms
    assert set(walk.used_s()) == {0}
