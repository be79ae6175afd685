"""What the device knows of itself, and how it tells the centre what changed."""

import json
from dataclasses import fields, replace

import pytest
from tests.unit.agent.clocks import FakeClock
from tests.unit.agent.test_local_page import STATUS

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import Gatherer, NotApplicable
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_agent.status import Collectors, Result, Status, lanes_of, to_json
from ketang_agent.telling import LIVE_GAP_MS, REPORTED_GAP_MS, Teller
from ketang_agent.uplink.client import Connected, Lost
from ketang_agent.uplink.link import Link
from ketang_agent.uplink.sender import Sender
from ketang_contract import topics, validate
from ketang_contract.records import Fault, Host, Record, Stream, TimeQuality
from ketang_contract.state import Camera, Live, Reported


class One:
    def __init__(self, name, problem=None):
        self.name, self.problem = name, problem

    def sample(self, now):
        yield from ()
        if self.problem:
            raise self.problem


def test_every_field_is_told_even_where_it_is_empty_or_zero():
    said = json.loads(json.dumps(to_json(STATUS)))
    assert set(said) == {one.name for one in fields(Status)}
    assert said["spool"]["unsaved"] == 0
    assert said["spool"]["losses"] == [{"stream": "ops", "reason": "evicted", "records": 4}]


def test_each_collector_tells_how_its_last_sample_went():
    gatherer, now = Gatherer(), FakeClock().now()
    collectors = Collectors(dict.fromkeys("abcd", 60), "abcd")
    for one in (One("a"), One("b", NotApplicable("no battery")), One("c", OSError("gone"))):
        gatherer.gather(one, now)
        collectors.note(one.name, now)
    told = [(one.result, one.why) for one in collectors.status(gatherer)]
    assert told == [
        (Result.OK, ""),
        (Result.NOT_APPLICABLE, "no battery"),
        (Result.FAILING, "OSError: gone"),
        (Result.NOT_YET, ""),
    ]


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        yield spool


def test_lanes_tell_waiting_from_acknowledged_and_leave_out_what_was_lost(spool):
    now = FakeClock().now()
    one = Record(
        subject="d",
        wall_ms=now.wall_ms,
        boot_id="b",
        boottime_ms=1,
        time=TimeQuality.FREE,
        body=Host(window_s=300),
    )
    spool.append([one] * 10)
    lane = Lane(spool.current_store, Stream.OPS)
    spool.mark_acked(lane, spool.pending(lane).lowest(3), now.wall_ms)
    [told] = lanes_of(spool, {(lane.store_id, Stream.OPS): 2})
    assert (told.head, told.pending, told.acked) == (10, 7, 1)


class Wire:
    """The broker's side of a link, in memory."""

    def __init__(self):
        self.said, self.coming = [], []

    def start(self):
        self.coming.append(Connected())

    def happenings(self):
        coming, self.coming = self.coming, []
        return coming

    def subscribe(self, topic):
        pass

    def publish(self, topic, payload, *, qos=1, retain=False):
        self.said.append((topic.removeprefix(topics.of("d", "")), payload, qos))
        return len(self.said)

    def close(self):
        pass

    finish = close

    def take(self, channel):
        found = [payload for name, payload, _ in self.said if name == channel]
        self.said = []
        return found


class Desk:
    def __init__(self, spool):
        self.clock, self.wire, self.teller = FakeClock(), Wire(), Teller()
        sender = Sender(spool, "d", "center-1")
        self.link = Link(spool, sender, "d", lambda _: self.wire, "0.1.0", jitter=lambda: 0.0)

    def now(self) -> Instant:
        return self.clock.now()

    def connect(self):
        self.link.poll(self.now())
        self.link.poll(self.now())
        assert self.link.connected

    def lose(self):
        self.wire.coming.append(Lost("gone"))
        self.link.poll(self.now())

    def tell(self, after_ms=0, **changes):
        self.clock.passes(after_ms / 1000)
        self.teller.tell(self.link, replace(STATUS, **changes), self.now())


@pytest.fixture
def desk(spool):
    return Desk(spool)


HEALTHY = {"faults": (), "camera": Camera.OFF}


def test_nothing_is_said_live_while_nothing_changes(desk):
    desk.connect()
    desk.tell(**HEALTHY)
    desk.tell(LIVE_GAP_MS, **HEALTHY)
    assert desk.wire.take("up/live") == []


def test_a_change_is_said_at_once_and_the_next_one_waits_its_turn(desk):
    desk.connect()
    desk.tell(**HEALTHY | {"faults": (Fault.DISK_LOW,)})
    [live] = desk.wire.take("up/live")
    assert validate.document(Live, live) == Live(session=1, faults=(Fault.DISK_LOW,))
    desk.tell(LIVE_GAP_MS - 1, **HEALTHY)
    assert desk.wire.take("up/live") == []
    desk.tell(1, **HEALTHY)
    assert len(desk.wire.take("up/live")) == 1


def test_a_flapping_fault_is_told_no_oftener_than_the_gap(desk):
    desk.connect()
    for at in range(100):
        desk.tell(1000, **HEALTHY | {"faults": (Fault.TOO_HOT,) if at % 2 else ()})
    assert len(desk.wire.take("up/live")) <= 1 + 100_000 // LIVE_GAP_MS


def test_what_changed_without_a_connection_is_said_at_the_next_under_its_own_number(desk):
    desk.tell(**HEALTHY | {"camera": Camera.STOPPED})
    desk.connect()
    [live] = desk.wire.take("up/live")
    assert validate.document(Live, live) == Live(session=1, camera=Camera.STOPPED)
    desk.lose()
    desk.connect()
    [live] = desk.wire.take("up/live")
    assert validate.document(Live, live).session == 2


def test_the_devices_own_account_goes_out_in_every_session_and_when_it_changed(desk):
    desk.connect()
    desk.tell()
    [raw] = desk.wire.take("up/reported")
    reported = validate.document(Reported, raw)
    assert (reported.profile, reported.model, reported.camera) == ("ifp", "mtcnn", Camera.COUNTING)
    assert reported.losses == STATUS.spool.losses
    desk.tell(REPORTED_GAP_MS)
    assert desk.wire.take("up/reported") == []
    desk.tell(1, model="yunet")
    assert len(desk.wire.take("up/reported")) == 1
    desk.tell(REPORTED_GAP_MS - 1, model="mtcnn")
    assert desk.wire.take("up/reported") == []
    desk.lose()
    desk.tell()
    desk.connect()
    desk.tell()
    [raw] = desk.wire.take("up/reported")
    assert validate.document(Reported, raw).session == 2


def test_while_the_drain_stands_nothing_is_sent_and_nothing_due_wakes_the_loop(spool):
    now = FakeClock().now()
    desk = Desk(spool)
    desk.connect()
    desk.wire.said = []
    desk.link.draining = False
    spool.append(
        [
            Record(
                subject="d",
                wall_ms=now.wall_ms,
                boot_id="b",
                boottime_ms=1,
                time=TimeQuality.FREE,
                body=Host(window_s=300),
            )
        ]
    )
    desk.link.poll(desk.now())
    assert desk.wire.said == []
    assert desk.link.wake_at_ms() is None
    desk.link.draining = True
    desk.link.poll(desk.now())
    assert [name for name, *_ in desk.wire.said] == ["up/b/ops"]


def test_a_full_disk_does_not_keep_the_device_from_connecting_under_a_new_number(spool):
    desk = Desk(spool)
    desk.connect()
    desk.lose()
    spool._db.execute("PRAGMA query_only = ON")
    desk.connect()
    assert desk.link.session == 2
    desk.lose()
    desk.connect()
    assert desk.link.session == 3
    spool._db.execute("PRAGMA query_only = OFF")
    desk.lose()
    desk.connect()
    assert desk.link.session == 4
    assert spool.meta("session") == 4
