"""What a configuration says is carried out, and how that goes is seen from outside."""

import faulthandler
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tests.unit.agent.judged import BASE, Desk, at, bundle

from ketang_agent.clock import Instant
from ketang_agent.following import Following, Obeying
from ketang_agent.keeping import Keeper
from ketang_agent.remote.machine import Works
from ketang_agent.uplink.pacing import Budget
from ketang_contract.config import Apply, Config, LogLevel
from ketang_contract.records import Event, EventName, Record, TimeQuality
from ketang_contract.state import ConfigState

DAYS = range(7)
NIGHT_OR_DAY = tuple((day, 0, 1440) for day in DAYS)
NEVER = ()
WIDER = replace(BASE, host_s=30)


class Link:
    """A connection that comes back when the test says so."""

    def __init__(self):
        self.connected, self.session, self.left = True, 1, 0
        self.budget = Budget()

    def begin_anew(self, now):
        self.connected = False
        self.left += 1

    def comes_back(self):
        self.connected = True
        self.session += 1


class Device:
    """``Following`` with a real ``Remote`` and a real spool, and stand-ins for the rest."""

    def __init__(self, folder):
        self.desk = Desk(folder / "data")
        self.keeper = Keeper(folder / "spool", 8 << 20)
        assert self.keeper.open(at(0).wall_ms)
        self.sampling = SimpleNamespace(
            applied=[], sampled=True, failing=frozenset(), untouched=False, knows_use=True
        )
        self.sampling.apply = lambda config, _now: self.sampling.applied.append(config)
        self.heads = SimpleNamespace(allowed=[], is_live=False)
        self.heads.allow = lambda *, allowed: self.heads.allowed.append(allowed)
        self.heads.use = lambda *_, **__: None
        self.said = []
        self.link = Link()
        self.own = SimpleNamespace(wrong=lambda *_: "", step=lambda *_: False)
        self.bringing = SimpleNamespace(
            step=lambda *_: Works.NOT_ASKED, committed=lambda *_: None, end=lambda: None
        )
        parts = Obeying(self.keeper, self.sampling, self.heads, self._say, self.own, self.bringing)
        self.following = Following(self.desk.remote, parts, "info")
        self.following.begin(at(0))

    def _say(self, name):
        self.said.append(name)
        now = at(0)
        event = Record(
            subject="pc-1",
            wall_ms=now.wall_ms,
            boot_id=now.boot_id,
            boottime_ms=now.boottime_ms,
            time=TimeQuality.FREE,
            body=Event(name=name),
        )
        self.keeper.keep([event], now.wall_ms)

    def is_heard(self):
        """The centre acknowledges everything."""
        spool = self.keeper.spool
        for lane in spool.lanes():
            spool.mark_acked(lane, spool.pending(lane), 0)

    def bring(self, config, name="a", now=None):
        self.following.bring(bundle(config, name), now or at(0))

    def step(self, second=0, now=None):
        return self.following.step(self.link, now or at(second))

    def steps(self, second=0, times=3):
        return [self.step(second) for _ in range(times)]

    def commits(self, config, name="a", second=0):
        self.bring(config, name)
        self.steps(second)
        self.link.comes_back()
        self.is_heard()
        self.steps(second + 1)
        assert self.state is ConfigState.COMMITTED
        self.is_heard()

    @property
    def state(self):
        return self.following.report.state


@pytest.fixture
def device(tmp_path):
    level = logging.getLogger().level
    made = Device(tmp_path)
    yield made
    faulthandler.cancel_dump_traceback_later()
    made.keeper.close()
    logging.getLogger().setLevel(level)


def test_what_was_in_force_is_carried_out_before_anything_is_sampled(device):
    assert device.sampling.applied == [BASE]
    assert device.heads.allowed == [False]
    assert not device.following.busy


def test_a_trial_is_carried_out_begins_a_new_connection_and_is_told(device):
    device.bring(WIDER)
    device.steps()
    assert device.sampling.applied == [BASE, WIDER]
    assert device.link.left == 1
    assert device.said == [EventName.CONFIG_TRIED]
    assert device.following.busy


def test_a_commit_samples_nothing_anew(device):
    device.commits(WIDER)
    assert device.sampling.applied == [BASE, WIDER]
    assert device.link.left == 1
    assert device.said == [EventName.CONFIG_TRIED, EventName.CONFIG_COMMITTED]


def test_what_only_narrows_is_tried_like_any_other(device):
    """It is in force before its trial begins; that it works is not known yet."""
    narrower = replace(BASE, usage_s=60)
    device.desk.does = "waits"
    device.bring(narrower)
    device.steps()
    device.desk.children[0].end()
    device.steps(1)
    assert device.state is ConfigState.TRIAL
    assert device.link.left == 1
    device.steps(41)
    assert device.state is ConfigState.INCONCLUSIVE
    assert device.link.left == 2, "to see whether there is a connection without it"
    assert set(device.sampling.applied) == {BASE, narrower}


def test_a_trial_is_not_passed_before_the_centre_has_heard_of_it(device):
    device.bring(WIDER)
    device.steps()
    device.link.comes_back()
    device.steps(1)
    assert device.state is ConfigState.TRIAL, "the event that tells of it waits yet"
    device.is_heard()
    device.steps(2)
    assert device.state is ConfigState.COMMITTED


def test_what_waits_in_memory_because_the_disk_is_full_was_not_heard(device):
    device.keeper.writing = False
    device.bring(WIDER)
    device.steps()
    device.link.comes_back()
    device.steps(1)
    assert device.state is ConfigState.TRIAL


def test_the_connection_from_before_the_trial_proves_nothing(device):
    device.bring(WIDER)
    device.steps()
    device.is_heard()
    device.link.connected = True
    device.steps(1)
    assert device.state is ConfigState.TRIAL


def test_a_collector_that_failed_before_the_trial_is_not_held_against_it(device):
    device.sampling.failing = frozenset({"network"})
    device.commits(WIDER)


def test_one_that_fails_since_is(device):
    device.bring(WIDER)
    device.steps()
    device.sampling.failing = frozenset({"network"})
    device.link.comes_back()
    device.is_heard()
    device.steps(40)
    assert device.following.report.reason == "collector_failing"
    assert device.sampling.applied == [BASE, WIDER, BASE]
    assert device.said[-1] is EventName.CONFIG_ROLLED_BACK


def test_going_back_for_want_of_a_connection_begins_another_one(device):
    device.bring(WIDER)
    device.steps()
    device.steps(40)
    assert device.state is ConfigState.INCONCLUSIVE
    assert device.sampling.applied == [BASE, WIDER, BASE]
    assert device.link.left == 2


def test_there_need_be_no_connection_to_speak_of(device):
    device.link = None
    device.bring(WIDER)
    device.steps()
    assert device.state is ConfigState.TRIAL
    device.steps(40)
    assert device.state is ConfigState.INCONCLUSIVE


def test_news_are_told_at_once_and_only_news(device):
    device.bring(WIDER)
    assert any(device.steps())
    assert not any(device.steps())


def test_what_is_brought_again_is_told_again(device):
    device.commits(WIDER)
    assert not device.step(2)
    device.bring(WIDER)
    assert device.step(2)
    assert not device.step(2)


# Other parts that obey.


def test_the_upload_budget_and_the_spools_cap_follow_at_once(device):
    device.bring(replace(WIDER, upload_kbps=8, spool_max_mb=16))
    device.steps()
    assert device.keeper.cap_bytes == 16 << 20
    device.link.budget.spend(1 << 20)
    assert not device.link.budget.allows(at(0))
    device.steps(40)
    assert device.link.budget.allows(at(0)), "gone back"


def test_the_log_says_as_much_as_it_is_told_and_the_settings_decide_otherwise(device):
    assert logging.getLogger().level == logging.INFO
    device.bring(replace(WIDER, log_level=LogLevel.DEBUG))
    device.steps()
    assert logging.getLogger().level == logging.DEBUG
    device.steps(40)
    assert logging.getLogger().level == logging.INFO


COUNTS = Config(inference=True, occupancy_s=300)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (COUNTS, True),
        (replace(COUNTS, hours=NIGHT_OR_DAY), True),
        (replace(COUNTS, inference=False), False),
        (replace(COUNTS, inference=None), False),
        (replace(COUNTS, occupancy_s=0), False),
        (replace(COUNTS, hours=NEVER), False),
    ],
)
def test_heads_are_counted_only_while_everything_allows_it(device, config, expected):
    device.bring(config)
    device.steps()
    device.following.hold_to_hours(at(0))
    assert device.heads.allowed[-1] is expected


def test_heads_are_counted_to_the_last_second_of_hours_and_no_longer(device):
    ends_ms = 1_790_002_800_000  # Monday, 21 September 2026, 23:00 in Shanghai
    device.bring(replace(COUNTS, hours=((0, 22 * 60, 23 * 60),)))
    device.steps()
    for wall_ms, expected in ((ends_ms - 1, True), (ends_ms, False)):
        device.following.hold_to_hours(Instant(wall_ms, 0, "boot-1"))
        assert device.heads.allowed[-1] is expected


def test_heads_are_not_counted_by_a_clock_that_nobody_believes(device):
    device.bring(replace(COUNTS, hours=NIGHT_OR_DAY))
    device.steps()
    device.following.hold_to_hours(Instant(0, 0, "boot-1", TimeQuality.BAD))
    assert device.heads.allowed[-1] is False


# Moments.


@pytest.mark.parametrize(
    ("config", "tried"),
    [
        (Config(apply=Apply.NOW, host_s=30), True),
        (Config(apply=Apply.BREAK, host_s=30), False),
        (Config(apply=Apply.BREAK, host_s=30, breaks=NIGHT_OR_DAY), True),
        (Config(apply=Apply.BREAK, host_s=30, breaks=NEVER), False),
        (Config(apply=Apply.AFTER_HOURS, host_s=30), True),
        (Config(apply=Apply.AFTER_HOURS, host_s=30, hours=NIGHT_OR_DAY), False),
        (Config(apply=Apply.BOOT, host_s=30), False),
    ],
)
def test_a_change_is_tried_in_its_moment(device, config, tried):
    device.bring(config)
    device.steps()
    assert device.state is (ConfigState.TRIAL if tried else ConfigState.STAGED)


def test_a_break_is_also_when_nobody_used_the_device(device):
    device.bring(Config(apply=Apply.BREAK, host_s=30))
    device.steps()
    device.sampling.untouched = True
    device.steps(1)
    assert device.state is ConfigState.TRIAL


def test_the_end_of_hours_is_waited_for(device):
    weekday_ms = 1_790_000_000_000  # Monday, 21 September 2026, 22:13 in Shanghai
    open_now = ((0, 22 * 60, 23 * 60),)
    device.bring(Config(apply=Apply.AFTER_HOURS, host_s=30, hours=open_now))
    for minutes, state in ((0, ConfigState.STAGED), (46, ConfigState.STAGED), (47, "trial")):
        now = Instant(weekday_ms + minutes * 60_000, minutes * 60_000, "boot-1")
        for _ in range(3):
            device.step(now=now)
        assert device.state == state, minutes


def test_a_start_is_waited_for(device):
    device.bring(Config(apply=Apply.BOOT, host_s=30))
    device.steps()
    device.following.end()
    device.following.begin(at(5))
    device.step(5)
    assert device.state is ConfigState.TRIAL
    assert device.sampling.applied[-1].host_s == 30


@pytest.mark.parametrize(
    ("hours", "minutes", "time", "expected"),
    [
        (((0, 0, 1),), 10, TimeQuality.FREE, True),
        (((0, 0, 1),), 1, TimeQuality.FREE, False),
        (((0, 0, 1),), 10, TimeQuality.BAD, False),
        ((), 10, TimeQuality.FREE, False),
        (None, 10, TimeQuality.FREE, False),
        (tuple((day, 0, 1440) for day in range(7)), 10, TimeQuality.FREE, False),
    ],
)
def test_a_childs_device_rests_outside_hours_and_always_leaves_a_door(
    device, hours, minutes, time, expected
):
    """One that never connected could never be told anything again."""
    device.commits(Config(hours=hours))
    device.following._parts = replace(device.following._parts, rests=True)
    now = replace(at(minutes * 60), time=time)
    assert device.following.rests(now) is expected
