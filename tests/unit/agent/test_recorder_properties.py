"""Whatever the clocks, the machine and the probes do, a window stays a window."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.agent.clocks import FakeClock

from ketang_agent.collectors.base import HostReading, UsageReading
from ketang_agent.platforms.base import Power
from ketang_agent.recorder import Recorder
from ketang_contract import validate
from ketang_contract.config import holds_at
from ketang_contract.records import Category, IdleSource, to_line

HOUR_S = 3600
readings = st.builds(
    UsageReading,
    idle_s=st.none()
    | st.sampled_from([0, 5, 59, 60, 100, 179, 180, 200, 5000])
    | st.floats(0, 1e7),
    idle_source=st.sampled_from(IdleSource),
    locked=st.booleans(),
    presenting=st.booleans(),
    category=st.sampled_from(Category),
)
wall_steps = st.tuples(
    st.just("is_set"),
    st.sampled_from([HOUR_S, -HOUR_S, 400 * 86_400, -400 * 86_400, 1.5, -1.5, 3, -3])
    | st.floats(-1e6, 1e6),
)
to_1970 = st.tuples(st.just("is_set_to"), st.sampled_from([0, 1, 5_000, 299_999]))
waits = st.tuples(
    st.just("passes"), st.sampled_from([0.001, 1, 30, 59, 60, 61, 179, 181, 299, 300, 1800])
)
suspends = st.tuples(st.just("sleeps"), st.sampled_from([0.5, 1, 90, 1800, 30 * 86_400]))
minutes = st.tuples(st.just("minute"), readings)
DAY = tuple((day, 0, 1440) for day in range(7))
some_hours = st.sampled_from([None, (), DAY, ((0, 481, 483), (0, 485, 497), (1, 0, 600))])
changes = st.tuples(st.just("hours"), some_hours)
others = st.tuples(st.sampled_from(["power", "host", "pause", "reboot"]), st.sampled_from(Power))
stories = st.lists(
    st.one_of(waits, wall_steps, to_1970, suspends, minutes, others, changes), max_size=60
)


class Teller:
    """Plays a story; the loop closes what is due after every step."""

    def __init__(self):
        self.clock = FakeClock()
        self.recorder = Recorder("panel-1")
        self.records = []
        self.boots = 0

    def play(self, story):
        for what, value in story:
            getattr(self, f"_{what}", self._time)(what, value)
            self.records += self.recorder.close_due(self.clock.now())
        self.records += self.recorder.close_all(self.clock.now())
        return self.records

    def _time(self, what, value):
        getattr(self.clock, what)(value)

    def _minute(self, _, reading):
        self.recorder.add(reading, self.clock.passes(60))

    def _power(self, _, change):
        self.recorder.power(change, self.clock.now())

    def _host(self, *_):
        self.recorder.add(HostReading(cpu_pct=50), self.clock.now())

    def _pause(self, *_):
        self.recorder.pause_usage(self.clock.now())

    def _hours(self, _, hours):
        self.recorder.keep_to(hours, self.clock.now())

    def _reboot(self, *_):
        self.boots += 1
        self.clock.reboots(f"boot-{self.boots + 1}")


def windows_of(records, kind):
    return [one for one in records if one.body.kind == kind]


@settings(max_examples=300, deadline=None)
@given(stories)
def test_every_record_is_one_the_centre_takes_and_every_sum_holds(story):
    for record in Teller().play(story):
        assert validate.record(to_line(record)) == record
        if record.body.kind in ("usage", "host"):
            assert 0 < record.body.window_s <= 300
        if record.body.kind == "usage":
            used_s = record.body.active_s + record.body.presenting_s
            kinds = record.body.categories
            assert sum(getattr(kinds, one) for one in Category) == used_s


@settings(max_examples=300, deadline=None)
@given(stories)
def test_windows_never_overlap_on_the_boot_clock(story):
    records = Teller().play(story)
    for kind in ("usage", "host"):
        spans = sorted(
            (one.boot_id, one.boottime_ms, one.boottime_ms + one.body.window_s * 1000)
            for one in windows_of(records, kind)
        )
        for before, after in pairwise(spans):
            assert before[0] != after[0] or before[2] <= after[1]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(waits, suspends, minutes, others), max_size=60))
def test_no_use_is_told_of_time_outside_hours_whatever_comes_late(story):
    hours = ((0, 481, 483), (0, 485, 497), (0, 520, 1439), (2, 0, 600))
    for one in windows_of(Teller().play([("hours", hours), *story]), "usage"):
        last_ms = one.wall_ms + one.body.window_s * 1000 - 1
        assert holds_at(hours, one.wall_ms)
        assert holds_at(hours, last_ms)


@settings(max_examples=150, deadline=None)
@given(stories)
def test_no_window_is_held_back_for_more_than_ten_minutes(story):
    teller = Teller()
    teller.play(story)
    for _ in range(600):
        teller.clock.passes(1)
        teller.recorder.close_due(teller.clock.now())
    assert len(teller.recorder._drafts) <= 3


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(minutes, wall_steps, to_1970, suspends.filter(lambda s: s[1] <= 1800)),
        max_size=60,
    )
)
def test_with_a_sample_every_minute_every_second_is_in_some_state(story):
    teller = Teller()
    teller.recorder.add(UsageReading(idle_s=0), teller.clock.now())
    began_ms = teller.clock.now().boottime_ms
    found = [one.body for one in windows_of(teller.play(story), "usage")]
    told_s = sum(
        one.active_s + one.presenting_s + one.idle_s + one.locked_s + one.asleep_s + one.unknown_s
        for one in found
    )
    passed_s = (teller.clock.now().boottime_ms - began_ms) / 1000
    steps = sum(one[0] != "minute" for one in story)
    # a cut window loses its last part of a second, a small correction up to two
    assert passed_s - 3 * steps - len(found) - 2 <= told_s <= passed_s + 1


@settings(max_examples=100, deadline=None)
@given(stories)
def test_a_probe_that_always_fails_is_never_active(story):
    failing = [
        (what, UsageReading(idle_s=None) if what == "minute" else value) for what, value in story
    ]
    for one in windows_of(Teller().play(failing), "usage"):
        assert one.body.active_s == one.body.presenting_s == one.body.idle_s == 0
