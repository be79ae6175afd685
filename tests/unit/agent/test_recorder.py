"""Windows worked by hand. Times are seconds after 08:00:00; samples come every minute."""

from dataclasses import dataclass, field

import pytest
from tests.unit.agent.clocks import MONDAY_MS, FakeClock

from ketang_agent.collectors.base import HostReading, NetworkReading, UsageReading
from ketang_agent.platforms.base import Power
from ketang_agent.recorder import Recorder
from ketang_contract import validate
from ketang_contract.limits import FEW
from ketang_contract.records import (
    Category,
    EventName,
    IdleSource,
    Inventory,
    LinkKind,
    Occupancy,
    Record,
    TimeQuality,
    View,
    to_line,
)

X = IdleSource.XSCREENSAVER


def idle(seconds, **more):
    return UsageReading(idle_s=seconds, idle_source=X, **more)


FAILED = UsageReading(idle_s=None, idle_source=X, note="probe failed")
LOCKED = idle(5, locked=True)
BOARD = {"category": Category.WHITEBOARD}


@dataclass
class Case:
    says: str
    samples: dict[int, UsageReading]
    expected: dict[str, int]
    """Seconds by state in the first window; what is not named is 0."""
    categories: dict[str, int] = field(default_factory=dict)


CASES = [
    Case(
        "someone types all the time",
        {at: idle(3) for at in range(0, 361, 60)},
        {"active": 300},
        {"other": 300},
    ),
    Case(
        "nobody there: idle from the first sample on",
        {at: idle(1000 + at) for at in range(0, 361, 60)},
        {"idle": 300},
    ),
    Case(
        "last input at 60 s: idle is seen at 240 s and given the time since 60 s",
        {0: idle(0), 60: idle(0), 120: idle(60), 180: idle(120), 240: idle(180), 300: idle(240)},
        {"active": 60, "idle": 240},
        {"other": 60},
    ),
    Case(
        "last input at 200 s, idle seen in the next window: still given back to this one",
        {
            **{at: idle(0) for at in range(0, 181, 60)},
            240: idle(40),
            300: idle(100),
            360: idle(160),
            420: idle(220),
        },
        {"active": 200, "idle": 100},
        {"other": 200},
    ),
    Case(
        "a pause of two minutes is no idleness",
        {
            0: idle(0),
            60: idle(0),
            120: idle(60),
            180: idle(119),
            240: idle(1),
            300: idle(1),
            360: idle(1),
        },
        {"active": 300},
        {"other": 300},
    ),
    Case(
        "a whiteboard in front without a touch presents; its lead-in stays active",
        {at: idle(at, presenting=True, **BOARD) for at in range(0, 361, 60)},
        {"active": 120, "presenting": 180},
        {"whiteboard": 300},
    ),
    Case(
        "locked is locked, whatever is in front",
        {0: idle(0), 60: idle(0), **dict.fromkeys((120, 180, 240, 300, 360), LOCKED)},
        {"active": 60, "locked": 240},
        {"other": 60},
    ),
    Case(
        "a failing probe is unknown, never active",
        {
            0: idle(0),
            60: FAILED,
            120: FAILED,
            180: idle(1),
            240: idle(1),
            300: idle(1),
            360: idle(1),
        },
        {"active": 180, "unknown": 120},
        {"other": 180},
    ),
    Case(
        "one sample is missing: the next credits its own minute and no more",
        {0: idle(0), 60: idle(0), 180: idle(0), 240: idle(0), 300: idle(0), 360: idle(0)},
        {"active": 240},
        {"other": 240},
    ),
    Case(
        "a gap over three intervals is unknown, but for the last sample's minute",
        {0: idle(0), 60: idle(0), 300: idle(0), 360: idle(0)},
        {"active": 120, "unknown": 180},
        {"other": 120},
    ),
    Case(
        "the category follows the program in front",
        {
            0: idle(0),
            60: idle(0, category=Category.BROWSER),
            120: idle(0, **BOARD),
            180: idle(0, **BOARD),
            240: idle(0),
            300: idle(0),
            360: idle(0),
        },
        {"active": 300},
        {"browser": 60, "whiteboard": 120, "other": 120},
    ),
]


def usages(records):
    return [one for one in records if one.body.kind == "usage"]


def events(records):
    return [one for one in records if one.body.kind == "event"]


def seconds(body):
    names = ("active", "presenting", "idle", "locked", "asleep", "unknown")
    return {name: spent for name in names if (spent := getattr(body, f"{name}_s"))}


def by_category(body):
    return {one.value: spent for one in Category if (spent := getattr(body.categories, one))}


class Device:
    """A recorder and its clocks; the loop calls ``close_due`` every second."""

    def __init__(self):
        self.clock = FakeClock()
        self.recorder = Recorder("panel-1")
        self.records: list[Record] = self.recorder.close_due(self.clock.now())

    def add(self, reading):
        self.recorder.add(reading, self.clock.now())
        self.tick(0)

    def tick(self, seconds=1):
        self.clock.passes(seconds)
        self.records += self.recorder.close_due(self.clock.now())

    def runs(self, until_s, reading, every_s=60):
        """Let time pass to ``until_s`` of the wall clock, with a sample every minute."""
        if self.at_s == 0:
            self.add(reading(0) if callable(reading) else reading)
        while self.at_s < until_s:
            self.tick(min(every_s - self.at_s % every_s, until_s - self.at_s))
            if self.at_s % every_s == 0:
                self.add(reading(self.at_s) if callable(reading) else reading)

    @property
    def at_s(self):
        return (self.clock.now().wall_ms - MONDAY_MS) // 1000


@pytest.fixture
def device():
    return Device()


@pytest.mark.parametrize("case", CASES, ids=[one.says for one in CASES])
def test_a_window_worked_by_hand(device, case):
    for at_s in range(601):
        if at_s:
            device.tick()
        if at_s in case.samples:
            device.add(case.samples[at_s])
    first = usages(device.records)[0]
    assert first.wall_ms == MONDAY_MS
    assert first.body.window_s == 300
    assert seconds(first.body) == case.expected
    assert by_category(first.body) == case.categories
    assert first.body.idle_source is X


def test_presenting_is_believed_for_45_minutes_then_it_is_idle(device):
    device.runs(3600 + 360, lambda at_s: idle(at_s + 1, presenting=True, **BOARD))
    found = [one.body for one in usages(device.records)][:12]
    assert sum(one.presenting_s for one in found) == 45 * 60
    assert sum(one.idle_s for one in found) == 3600 - 45 * 60 - 120


def test_a_touch_earns_another_45_minutes(device):
    device.runs(3000, lambda at_s: idle(at_s + 1, presenting=True))
    device.runs(3060, idle(0))
    device.runs(6600, lambda at_s: idle(at_s - 3060, presenting=True))
    assert sum(one.body.presenting_s for one in usages(device.records)) > 45 * 60


def test_a_window_leaves_with_the_first_sample_that_settles_it(device):
    device.runs(299, idle(0))
    assert usages(device.records) == []
    device.runs(300, idle(0))
    assert len(usages(device.records)) == 1


def test_a_suspend_is_asleep_and_told_by_two_events(device):
    device.runs(120, idle(0))
    device.clock.sleeps(1800)
    device.tick(0)
    device.runs(2400, idle(0))
    told = events(device.records)
    assert [(one.body.name, one.body.seconds) for one in told] == [
        (EventName.SLEEP, None),
        (EventName.WAKE, 1800),
    ]
    assert [one.wall_ms - MONDAY_MS for one in told] == [120_000, 1_920_000]
    found = [one.body for one in usages(device.records)]
    assert sum(one.asleep_s for one in found) == 1800
    assert all(one.window_s == 300 for one in found)
    assert sum(one.active_s for one in found) == 2400 - 1800


def test_an_announced_suspend_is_told_once_and_counted_from_the_announcement(device):
    device.runs(120, idle(0))
    device.recorder.power(Power.SLEEPING, device.clock.now())
    device.clock.passes(2)
    device.clock.sleeps(600)
    device.tick(0)
    device.recorder.power(Power.WOKEN, device.clock.now())
    device.runs(1200, idle(0))
    assert [(one.body.name, one.body.seconds) for one in events(device.records)] == [
        (EventName.SLEEP, None),
        (EventName.WAKE, 602),
    ]
    assert sum(one.body.asleep_s for one in usages(device.records)) == 602


def test_a_missed_wake_is_noticed_by_the_next_sample(device):
    device.runs(120, idle(0))
    device.recorder.power(Power.SLEEPING, device.clock.now())
    device.clock.passes(1680)  # a virtual machine that was paused: the kernel counted no suspend
    device.add(idle(0))
    device.runs(2400, idle(0))
    assert EventName.WAKE in [one.body.name for one in events(device.records)]
    assert sum(one.body.asleep_s for one in usages(device.records)) == 1680


def test_a_sleep_of_a_fortnight_makes_a_days_windows_and_an_event_that_tells_the_rest(device):
    device.runs(120, idle(0))
    device.clock.sleeps(14 * 86_400)
    device.tick()
    device.records += device.recorder.close_all(device.clock.now())
    assert len(usages(device.records)) <= 290
    assert events(device.records)[-1].body.seconds >= 14 * 86_400


@pytest.mark.parametrize("by_s", [3600, -3600, 400 * 86_400, -MONDAY_MS // 1000, 3, -3])
def test_a_clock_that_is_set_closes_the_window_and_starts_another(device, by_s):
    device.runs(150, idle(0))
    device.clock.is_set(by_s)
    device.tick(0)
    device.clock.passes(30)
    device.add(idle(0))
    device.records += device.recorder.close_all(device.clock.now())
    (jump,) = events(device.records)
    assert (jump.body.name, jump.body.seconds) == (EventName.CLOCK_JUMP, by_s)
    first, second = usages(device.records)
    assert first.body.window_s == 150
    assert second.body.window_s == 30
    assert first.body.active_s + second.body.active_s == 180
    assert second.wall_ms == MONDAY_MS + (150 + by_s) * 1000
    suspect = abs(by_s) > 86_400
    assert (second.time is TimeQuality.BAD) is (suspect and by_s < 0)


def test_a_correction_within_two_seconds_is_no_jump(device):
    device.runs(150, idle(0))
    device.clock.is_set(1.5)
    device.runs(900, idle(0))
    device.records += device.recorder.close_all(device.clock.now())
    assert events(device.records) == []
    assert [one.body.window_s for one in usages(device.records)] == [300, 298, 300]


def test_a_reboot_in_between_ends_windows_where_they_were_known(device):
    device.runs(150, idle(0))
    device.clock.reboots()
    device.tick(10)
    device.records += device.recorder.close_all(device.clock.now())
    assert {one.boot_id for one in usages(device.records)} == {"boot-1"}
    assert sum(one.body.active_s for one in usages(device.records)) == 150


def test_a_boot_seen_only_by_its_name_starts_anew(device):
    device.runs(150, idle(0))
    device.clock.reboots(boottime_ms=device.clock.now().boottime_ms + 60_000)
    device.tick(10)
    device.records += device.recorder.close_all(device.clock.now())
    assert [(one.boot_id, one.body.window_s) for one in usages(device.records)] == [("boot-1", 150)]


def test_a_boot_clock_that_runs_backwards_makes_no_negative_window_and_no_stall(device):
    device.runs(150, idle(0))
    device.clock.reboots("boot-1", boottime_ms=2_000)
    device.tick(0)
    device.runs(1200, idle(0))
    assert [one.body.window_s for one in usages(device.records)] == [150, 150, 300, 300, 300]


def test_windows_that_ended_before_a_jump_keep_the_old_clocks_time(device):
    device.runs(150, idle(0))
    device.clock.passes(200)
    device.clock.is_set(3600)
    device.tick(0)
    device.records += device.recorder.close_all(device.clock.now())
    device.add(idle(0))
    found = [(one.wall_ms - MONDAY_MS, one.body.window_s) for one in usages(device.records)]
    assert found == [(0, 300), (300_000, 50)]


def test_a_sample_between_an_announcement_and_the_suspend_is_not_counted_twice(device):
    device.runs(115, idle(0))
    device.recorder.power(Power.SLEEPING, device.clock.now())
    device.runs(120, idle(0))
    device.clock.sleeps(60)
    device.tick(0)
    device.tick(50)
    (usage,) = usages(device.recorder.close_all(device.clock.now()))
    assert seconds(usage.body) == {"active": 120, "asleep": 60}


def test_a_label_before_1970_is_1970(device):
    device.clock.is_set_to(1_000)
    device.add(Occupancy(window_s=300, view=View.DARK, scans=1))
    (record,) = [one for one in device.records if one.body.kind == "occupancy"]
    assert (record.wall_ms, record.time) == (0, TimeQuality.BAD)


def test_a_device_that_never_samples_use_says_nothing_of_it(device):
    device.add(HostReading(cpu_pct=1))
    device.tick(300)
    assert {one.body.kind for one in device.records} == {"host"}


def test_a_sampler_that_dies_leaves_unknown_not_silence(device):
    device.runs(60, idle(0))
    while device.at_s < 900:
        device.tick()
    found = [one.body for one in usages(device.records)]
    assert sum(one.active_s for one in found) == 60
    assert sum(one.unknown_s for one in found) == 600 - 60


def test_use_that_is_paused_leaves_no_record_until_it_is_taken_up_again(device):
    device.runs(300, idle(0))
    device.recorder.pause_usage(device.clock.now())
    device.tick(3600)
    assert len(usages(device.records)) == 1


def test_host_and_network_are_aggregated_over_the_window(device):
    for cpu, heat, rtt in ((10, 50, 5), (90, 70, 300), (20, 60, 7)):
        device.add(HostReading(cpu_pct=cpu, temperature_c=heat, disk_free_pct=40.4))
        device.add(NetworkReading(link=LinkKind.ETHERNET, rtt_ms=rtt, received_kbps=cpu))
        device.tick(60)
    device.tick(120)
    (host,) = [one.body for one in device.records if one.body.kind == "host"]
    assert (host.cpu_mean_pct, host.cpu_max_pct, host.temperature_max_c) == (40, 90, 70)
    assert (host.disk_free_pct, host.window_s, host.battery_pct) == (40, 300, None)
    (network,) = [one.body for one in device.records if one.body.kind == "network"]
    assert (network.link, network.rtt_ms, network.received_kbps) == (LinkKind.ETHERNET, 7, 40)


def test_a_source_that_errs_makes_no_record_the_centre_would_refuse(device):
    device.add(HostReading(cpu_pct=1e9, battery_pct=-4, temperature_c=9999, uptime_s=2**40))
    device.add(NetworkReading(rtt_ms=10**9, link_mbps=-1, sent_kbps=1e30))
    device.add(idle(-5))
    device.tick(60)
    for record in device.recorder.close_all(device.clock.now()):
        assert validate.record(to_line(record)) == record


def test_inventory_is_told_at_start_on_change_and_once_a_day(device):
    for model in ("A", "A", "B", "B"):
        device.add(Inventory(model=model))
        device.tick(3600)
    device.tick(86_400)
    device.add(Inventory(model="B"))
    found = [one.body.model for one in device.records if one.body.kind == "inventory"]
    assert found == ["A", "B", "B"]


def test_occupancy_belongs_to_the_window_it_covers_even_when_it_comes_just_after(device):
    device.tick(301)
    device.add(Occupancy(window_s=300, view=View.OK, scans=30, median=FEW, p90=7))
    (record,) = [one for one in device.records if one.body.kind == "occupancy"]
    assert record.wall_ms == MONDAY_MS


def test_a_shutdown_is_an_event(device):
    device.recorder.power(Power.SHUTTING_DOWN, device.clock.now())
    device.tick(0)
    assert [one.body.name for one in events(device.records)] == [EventName.SHUTDOWN]


def test_a_stop_leaves_nothing_behind(device):
    device.runs(200, idle(0))
    device.records += device.recorder.close_all(device.clock.now())
    assert sum(one.body.active_s for one in usages(device.records)) == 200
    assert device.recorder.close_all(device.clock.passes(0)) == []


# Hours.

UNTIL_8_02 = ((0, 7 * 60, 8 * 60 + 2),)
"""In Shanghai, where the test's Monday begins at eight."""


def test_a_window_that_hours_cut_is_as_long_as_they_last_and_lacks_nothing():
    clock, recorder = FakeClock(), Recorder("pc-1")
    recorder.keep_to(UNTIL_8_02, clock.now())
    for _ in range(4):
        recorder.add(idle(3), clock.now())
        clock.passes(60)
    recorder.pause_usage(clock.now())
    (told,) = recorder.close_all(clock.now())
    assert (told.wall_ms, told.body.window_s) == (MONDAY_MS, 120)
    assert (told.body.active_s, told.body.unknown_s) == (120, 0)


def test_hours_that_begin_inside_a_window_are_where_its_record_begins():
    clock, recorder = FakeClock(), Recorder("pc-1")
    recorder.keep_to(((0, 8 * 60 + 2, 9 * 60),), clock.now())
    clock.passes(120)
    for _ in range(4):
        recorder.add(idle(3), clock.now())
        clock.passes(60)
    told = recorder.close_all(clock.now())[0]
    assert (told.wall_ms, told.body.window_s) == (MONDAY_MS + 120_000, 180)
    assert (told.body.active_s, told.body.unknown_s) == (180, 0)


def test_a_machine_that_sleeps_over_the_end_of_hours_tells_of_no_sleep_outside_them():
    clock, recorder = FakeClock(), Recorder("pc-1")
    recorder.keep_to(UNTIL_8_02, clock.now())
    recorder.add(idle(3), clock.passes(60))
    clock.sleeps(3600)
    told = [one.body for one in recorder.close_all(clock.now()) if one.body.kind == "usage"]
    assert [(one.window_s, one.asleep_s) for one in told] == [(60, 60)]


def test_what_was_counted_before_the_hours_changed_is_told_as_it_was():
    clock, recorder = FakeClock(), Recorder("pc-1")
    recorder.add(idle(3), clock.now())
    recorder.add(idle(3), clock.passes(60))
    recorder.keep_to((), clock.now())
    clock.passes(60)
    told = recorder.close_all(clock.now())
    assert [(one.body.window_s, one.body.active_s) for one in told] == [(60, 60)]
