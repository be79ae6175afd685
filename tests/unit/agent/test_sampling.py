"""What is sampled, how often, and when not at all."""

from types import SimpleNamespace

import pytest
from tests.unit.agent.clocks import MONDAY_MS, FakeClock

from ketang_agent.collectors.base import Gatherer, HostReading, UsageReading
from ketang_agent.hours import Hours, is_open, standing
from ketang_agent.recorder import Recorder
from ketang_agent.sampling import Hands, Sampling, intervals_of
from ketang_agent.scheduler import Scheduler
from ketang_contract.config import Config
from ketang_contract.records import Category, IdleSource

HOUR_S = 3600
SCHOOL = ((0, 8 * 60, 17 * 60),)
"""Mondays from 8 to 17 in Shanghai: from 0 to 9 UTC, which is where the test's Monday begins."""
ALL_ON = Config(usage_s=60, host_s=60, network_s=30)


def named(usage):
    """Categories that a record speaks of."""
    return [one for one in Category if getattr(usage.categories, one)]


class Source:
    """A collector that yields what it is told to, or raises it."""

    def __init__(self, name, reading=None):
        self.name, self.reading, self.samples = name, reading, 0

    def sample(self, now):
        self.samples += 1
        if isinstance(self.reading, BaseException):
            raise self.reading
        if self.reading is not None:
            yield self.reading


def touched(category=Category.OTHER, idle_s=1.0, **more):
    return UsageReading(
        idle_s=idle_s, idle_source=IdleSource.XSCREENSAVER, category=category, **more
    )


class Desk:
    def __init__(self):
        self.clock = FakeClock()
        self.recorder = Recorder("pc-1")
        self.gatherer = Gatherer()
        self.scheduler = Scheduler(self.clock)
        self.usage, self.host = Source("usage", touched()), Source("host", HostReading())
        self.network = Source("network")
        self.made = 0
        self.observer = SimpleNamespace(collectors=None, host=None, said=None)
        hands = Hands(self.scheduler, self.recorder, self.gatherer, self.observer)
        self.sampling = Sampling(hands, self._make, {"wps": Category.OFFICE})
        self.pauses, pause = [], self.recorder.pause_usage
        self.recorder.pause_usage = lambda now: (self.pauses.append(now.wall_ms), pause(now))

    def _make(self):
        self.made += 1
        return (self.usage, self.host, self.network)

    def apply(self, config):
        self.sampling.apply(config, self.clock.now())
        self.scheduler.run_due()

    def passes(self, seconds, step_s=10):
        for _ in range(int(seconds / step_s)):
            self.clock.passes(step_s)
            self.scheduler.run_due()

    def told(self, kind="usage"):
        """Bodies of a kind in everything recorded till now."""
        records = self.recorder.close_all(self.clock.now())
        return [one.body for one in records if type(one.body).__name__.lower() == kind]

    @property
    def samples(self):
        return self.usage.samples, self.host.samples, self.network.samples


@pytest.fixture
def desk():
    return Desk()


# How often.


def test_intervals_are_those_of_the_collectors_that_are_on():
    assert intervals_of(Config(usage_s=10, host_s=0, occupancy_s=300)) == {
        "usage": 10,
        "occupancy": 300,
    }


def test_everything_that_is_on_is_sampled_at_once_and_then_at_its_interval(desk):
    desk.apply(ALL_ON)
    assert desk.samples == (1, 1, 1)
    assert desk.sampling.sampled
    desk.passes(60)
    assert desk.samples == (2, 2, 3)


def test_what_is_turned_off_is_sampled_no_more_and_on_again_at_once(desk):
    desk.apply(ALL_ON)
    desk.apply(Config(usage_s=60, host_s=0, network_s=None))
    desk.passes(300)
    assert desk.samples == (7, 1, 1)
    desk.apply(ALL_ON)
    assert desk.samples == (8, 2, 2)
    assert desk.made == 1, "collectors keep what they remember"


def test_it_is_sampled_only_once_all_that_is_on_has_run_since(desk):
    desk.apply(ALL_ON)
    desk.sampling.apply(ALL_ON, desk.clock.now())
    assert not desk.sampling.sampled
    desk.scheduler.run_due()
    assert desk.sampling.sampled
    desk.apply(Config())
    assert desk.sampling.sampled, "nothing is on, so nothing is missing"


def test_a_collector_that_fails_has_run_and_is_told_as_failing_while_it_is_on(desk):
    desk.host.reading = OSError("broken")
    desk.apply(ALL_ON)
    assert desk.sampling.sampled
    assert desk.sampling.failing == {"host"}
    desk.apply(Config(usage_s=60))
    assert desk.sampling.failing == frozenset()
    desk.apply(ALL_ON)
    assert desk.sampling.failing == {"host"}
    desk.host.reading = HostReading()
    desk.passes(60)
    assert desk.sampling.failing == frozenset()


def test_the_page_shows_the_intervals_that_apply(desk):
    desk.apply(Config(usage_s=60, host_s=5, occupancy_s=300))
    shown = desk.observer.collectors.status(desk.gatherer)
    assert [(one.name, one.interval_s, one.result) for one in shown] == [
        ("usage", 60, "ok"),
        ("host", 5, "ok"),
    ]


# When not at all.


@pytest.mark.parametrize(
    ("hour", "expected"), [(-1, False), (0, True), (8.99, True), (9, False), (24, False)]
)
def test_hours_are_the_schools_own_and_not_utc(hour, expected):
    clock = FakeClock(MONDAY_MS + int(hour * HOUR_S * 1000))
    assert is_open(Config(hours=SCHOOL), clock.now()) is expected


def test_a_device_that_does_not_know_the_time_counts_nothing_where_hours_are_set():
    lost = FakeClock(0).now()
    every_day = tuple((day, 0, 1440) for day in range(7))
    assert not is_open(Config(hours=every_day), lost)
    assert is_open(Config(), lost), "where none are set it need not know"
    assert not is_open(Config(hours=()), FakeClock().now()), "none at all is never"


def test_outside_hours_use_is_neither_asked_nor_told_and_all_else_goes_on(desk):
    desk.apply(Config(usage_s=60, host_s=60, hours=((0, 17 * 60, 18 * 60),)))
    desk.passes(300)
    assert desk.usage.samples == 0
    assert desk.host.samples == 6
    assert desk.sampling.sampled, "there is nothing to wait for"
    assert desk.told() == []


def test_use_is_told_up_to_the_end_of_hours_and_again_from_their_begin(desk):
    desk.clock.is_set_to(MONDAY_MS + 9 * HOUR_S * 1000 - 120_000)
    desk.apply(Config(usage_s=60, hours=((0, 480, 1020), (0, 1025, 1030))))
    desk.passes(120 + 1800)
    told = desk.told()
    assert sum(one.active_s for one in told) == 120 + 300
    assert sum(one.unknown_s for one in told) == 0, "what was not asked is not unknown either"


def test_the_end_of_hours_is_noticed_within_a_second_and_not_with_the_next_sample(desk):
    desk.clock.is_set_to(MONDAY_MS + 9 * HOUR_S * 1000 - 30_000)
    desk.apply(Config(usage_s=60, hours=SCHOOL))
    desk.passes(29, step_s=1)
    assert desk.pauses == []
    desk.passes(2, step_s=1)
    assert desk.pauses == [MONDAY_MS + 9 * HOUR_S * 1000]
    desk.passes(60, step_s=1)
    assert len(desk.pauses) == desk.usage.samples == 1
    assert [(one.window_s, one.active_s) for one in desk.told()] == [(30, 30)]


def test_hours_that_end_and_begin_inside_a_window_leave_nothing_unknown(desk):
    """Else the centre would take what was not asked for time that nobody could tell."""
    desk.clock.is_set_to(MONDAY_MS + 8 * HOUR_S * 1000)
    desk.apply(Config(usage_s=60, hours=((0, 960, 962), (0, 968, 980))))
    desk.passes(20 * 60 + 30, step_s=1)
    found = [(one.window_s, one.active_s) for one in desk.told()]
    assert found == [(120, 120), (120, 120), (300, 300), (300, 300)]


def test_a_loop_that_was_held_up_tells_of_nothing_after_the_end_of_hours(desk):
    desk.clock.is_set_to(MONDAY_MS + 9 * HOUR_S * 1000 - 60_000)
    desk.apply(Config(usage_s=60, hours=SCHOOL))
    desk.passes(100, step_s=100)
    assert [(one.window_s, one.active_s) for one in desk.told()] == [(60, 60)]


@pytest.mark.parametrize("config", [Config(usage_s=60), Config(usage_s=0, hours=SCHOOL)])
def test_where_nothing_can_end_nothing_is_watched_every_second(desk, config):
    desk.apply(Config(usage_s=60, hours=SCHOOL))
    assert "hours" in desk.scheduler._entries
    desk.apply(config)
    assert "hours" not in desk.scheduler._entries


@pytest.mark.parametrize(
    ("hours", "hour", "expected"),
    [
        (None, 0, Hours.NOT_SET),
        (SCHOOL, 1, Hours.OPEN),
        (SCHOOL, 9, Hours.CLOSED),
        ((), 1, Hours.NEVER),
    ],
)
def test_how_a_moment_stands_to_the_hours_is_told(desk, hours, hour, expected):
    desk.apply(Config(usage_s=60, hours=hours))
    now = FakeClock(MONDAY_MS + hour * HOUR_S * 1000).now()
    assert standing(desk.observer.said, now) is expected


def test_use_that_is_turned_off_ends_where_it_was_and_is_not_unknown(desk):
    desk.apply(ALL_ON)
    desk.passes(120)
    desk.apply(Config(host_s=60))
    desk.passes(600)
    told = desk.told()
    assert sum(one.active_s for one in told) == 120
    assert sum(one.unknown_s for one in told) == 0


# What is told of the foreground.


def test_a_category_that_may_not_be_told_is_told_as_other(desk):
    desk.usage.reading = touched(Category.OFFICE)
    desk.apply(Config(usage_s=60, categories=(Category.BROWSER,)))
    desk.passes(120)
    (told,) = desk.told()
    assert named(told) == [Category.OTHER]


def test_presenting_is_judged_before_the_category_is_taken_out(desk):
    """What is in front is not told, but that somebody taught is."""
    desk.usage.reading = touched(Category.COURSEWARE, idle_s=400, presenting=True)
    desk.apply(Config(usage_s=60, categories=()))
    desk.passes(120)
    (told,) = desk.told()
    assert told.presenting_s == 120
    assert told.idle_s == 0
    assert named(told) == [Category.OTHER]


def test_where_no_categories_are_named_all_are_told(desk):
    desk.usage.reading = touched(Category.OFFICE)
    desk.apply(Config(usage_s=60))
    desk.passes(120)
    (told,) = desk.told()
    assert named(told) == [Category.OFFICE]


def test_a_programs_category_is_the_profiles_unless_the_region_says_another(desk):
    shared = desk.sampling.categories
    desk.apply(Config(foreground=(("wps", Category.COURSEWARE), ("zz", Category.BROWSER))))
    assert shared == {"wps": Category.COURSEWARE, "zz": Category.BROWSER}
    desk.apply(Config())
    assert shared == {"wps": Category.OFFICE}
    assert desk.sampling.categories is shared, "the collectors hold it"


# Whether anybody is there.


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (touched(idle_s=599), False),
        (touched(idle_s=600), True),
        (touched(idle_s=1, locked=True), True),
        (UsageReading(idle_s=None), False),
    ],
)
def test_untouched_is_ten_minutes_or_a_lock(desk, reading, expected):
    desk.usage.reading = reading
    desk.apply(ALL_ON)
    assert desk.sampling.untouched is expected


def test_the_last_look_at_the_machine_is_handed_on(desk):
    desk.host.reading = HostReading(cpu_pct=7)
    desk.apply(ALL_ON)
    assert desk.observer.host.cpu_pct == 7
