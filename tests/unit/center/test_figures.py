"""Figures, worked by hand."""

import pytest

from ketang_center.metrics.figures import (
    SILENT_MS,
    Counts,
    DayState,
    DayUse,
    classify,
    count,
    day_use,
    health_reasons,
    rate,
)
from ketang_center.metrics.windows import CELL_MS, HOUR_MS, Cell, Happening, Hour

H = 480_000
START = H * HOUR_MS
DAY_END = START + 10 * HOUR_MS
AFTER = DAY_END + HOUR_MS


def day(**values) -> DayUse:
    return DayUse(subject="d", day="2026-03-11", school="s", **values)


def hour(*cells: Cell, no: int = H, events=(), **values) -> Hour:
    values = {"first_ms": no * HOUR_MS, "last_ms": no * HOUR_MS + 1} | values
    return Hour(no, cells, tuple(events), **values)


def test_a_rate_with_missing_coverage_is_the_range_the_metrics_page_names():
    found = rate(48, 80, 100)
    assert (found.low, found.high, found.coverage) == pytest.approx((0.48, 0.68, 0.8))
    assert found.enough
    assert not found.exact


def test_under_80_percent_coverage_a_rate_is_not_enough():
    assert not rate(60, 79, 100).enough


def test_a_rate_without_a_denominator_is_none_and_not_zero():
    assert rate(0, 0, 0) is None
    assert Counts().coverage is None
    assert Counts().use_rate is None


def test_a_day_sums_its_cells_and_splits_a_cell_that_a_bell_cuts():
    cells = (
        Cell(0, {"active": 300}),
        Cell(1, {"active": 200, "idle": 100}),
        Cell(2, {"idle": 300}),
    )
    lessons = ((START, START + CELL_MS + CELL_MS // 2),)
    found = day_use("d", "2026-03-11", "s", [hour(*cells)], lessons)
    assert (found.active_s, found.idle_s) == (500, 400)
    assert found.lesson_used_s == 400, "300 + half of 200"
    assert found.lesson_on_s == 450
    assert found.window_ms == START + 2 * CELL_MS
    assert found.window_state == "idle"


def test_use_outside_lessons_is_no_use_in_lessons():
    found = day_use("d", "2026-03-11", "s", [hour(Cell(0, {"active": 300}))], ())
    assert (found.lesson_used_s, found.active_s) == (0, 300)


def test_asleep_is_not_on():
    found = day_use(
        "d", "2026-03-11", "s", [hour(Cell(0, {"asleep": 300}))], ((START, START + HOUR_MS),)
    )
    assert (found.lesson_on_s, found.asleep_s) == (0, 300)


def test_a_shutdown_before_the_next_start_is_history():
    events = [Happening(START + 1000, "shutdown"), Happening(START + 9000, "agent_started")]
    assert not day_use("d", "x", "s", [hour(events=events)], ()).orderly
    assert day_use("d", "x", "s", [hour(events=events[:1])], ()).orderly


@pytest.mark.parametrize(
    ("values", "state"),
    [
        (
            {"lesson_used_s": 600, "lesson_on_s": 900, "lesson_known_s": 900, "active_s": 900},
            DayState.USED,
        ),
        (
            {"lesson_used_s": 599, "lesson_on_s": 900, "lesson_known_s": 900, "active_s": 900},
            DayState.ON,
        ),
        ({"lesson_on_s": 900, "lesson_known_s": 0, "unknown_s": 900}, DayState.UNKNOWN),
        (
            {"lesson_on_s": 1000, "lesson_known_s": 790, "idle_s": 790, "unknown_s": 210},
            DayState.UNKNOWN,
        ),
        (
            {"lesson_on_s": 1000, "lesson_known_s": 800, "idle_s": 800, "unknown_s": 200},
            DayState.ON,
        ),
    ],
)
def test_a_day_with_data_is_judged_by_its_lesson_time(values, state):
    one = day(**values)
    assert classify(one, one, until_ms=DAY_END, now_ms=AFTER) is state


def test_a_device_that_was_never_heard_of_is_never_seen_not_lost():
    assert classify(None, None, until_ms=DAY_END, now_ms=AFTER) is DayState.NEVER


def test_days_after_an_orderly_shutdown_are_off_and_after_silence_lost():
    shut, silent = day(shutdown_ms=5, alive_ms=4, last_ms=5), day(alive_ms=4, last_ms=5)
    assert classify(None, shut, until_ms=DAY_END, now_ms=AFTER) is DayState.OFF
    assert classify(None, silent, until_ms=DAY_END, now_ms=AFTER) is DayState.LOST


def test_a_later_boot_tells_that_a_silent_day_was_off():
    silent = day(alive_ms=4, last_ms=5)
    assert (
        classify(None, silent, until_ms=DAY_END, now_ms=AFTER, next_boot_ms=DAY_END) is DayState.OFF
    )
    assert (
        classify(None, silent, until_ms=DAY_END, now_ms=AFTER, next_boot_ms=DAY_END - 1)
        is DayState.LOST
    )


def test_today_silence_is_lost_only_after_three_heartbeats():
    one = day(alive_ms=START, last_ms=START, idle_s=60, lesson_on_s=60, lesson_known_s=60)
    assert classify(one, one, until_ms=DAY_END, now_ms=START + SILENT_MS) is DayState.ON
    assert classify(one, one, until_ms=DAY_END, now_ms=START + SILENT_MS + 1) is DayState.LOST


def test_a_connected_device_without_a_window_is_unknown_not_never_seen_and_not_off():
    now_ms = START + 60_000
    shut = day(shutdown_ms=5, alive_ms=4, last_ms=5)
    for latest in (None, shut):
        assert (
            classify(None, latest, until_ms=DAY_END, now_ms=now_ms, heard_ms=START)
            is DayState.UNKNOWN
        )


def test_counts_add_up_to_the_devices_in_service_and_only_known_days_are_valid():
    found = count(
        [
            (DayState.USED, True),
            (DayState.OFF, False),
            (DayState.LOST, True),
            (DayState.UNKNOWN, False),
            (DayState.NEVER, False),
        ]
    )
    assert (found.in_service, found.valid, found.attention) == (5, 2, 2)
    assert found.coverage == pytest.approx(0.4)
    assert (found.use_rate.low, found.use_rate.high) == pytest.approx((0.2, 0.8))


def test_health_names_its_reasons_and_a_cleared_fault_is_none():
    events = [
        Happening(1, "fault_raised", "spool_full"),
        Happening(2, "fault_raised", "clock_wrong"),
        Happening(3, "fault_cleared", "spool_full"),
    ]
    sick = hour(events=events, hot_s=600, host={"disk_free_pct": 9, "battery_health_pct": 59})
    assert health_reasons([sick]) == ["clock_wrong", "disk_low", "too_hot", "battery_worn"]
    well = hour(hot_s=599, host={"disk_free_pct": 10, "battery_health_pct": 60})
    assert health_reasons([sick, well])[1:] == ["too_hot"]


def test_a_machine_that_is_never_switched_off_is_not_lost_on_a_day_without_lessons():
    whole = day(idle_s=36_000, alive_ms=DAY_END - CELL_MS, last_ms=DAY_END)
    assert classify(whole, whole, until_ms=DAY_END, now_ms=AFTER) is DayState.ON
    until_noon = day(idle_s=18_000, alive_ms=START, last_ms=DAY_END - 5 * HOUR_MS)
    assert classify(until_noon, until_noon, until_ms=DAY_END, now_ms=AFTER) is DayState.LOST


def test_a_machine_that_slept_all_day_and_told_so_is_not_on_and_not_lost():
    slept = day(asleep_s=36_000, alive_ms=DAY_END - CELL_MS, last_ms=DAY_END)
    assert classify(slept, slept, until_ms=DAY_END, now_ms=AFTER) is DayState.OFF


def test_a_connection_of_now_says_nothing_of_a_day_that_is_over():
    silent = day(alive_ms=4, last_ms=5)
    found = classify(None, silent, until_ms=DAY_END, now_ms=AFTER, heard_ms=AFTER)
    assert found is DayState.LOST


def test_a_machine_that_connected_after_its_shutdown_and_says_nothing_is_not_off():
    shut = day(shutdown_ms=5, alive_ms=4, last_ms=5)
    now_ms = START + HOUR_MS
    assert classify(None, shut, until_ms=DAY_END, now_ms=now_ms) is DayState.OFF
    silent = classify(None, shut, until_ms=DAY_END, now_ms=now_ms, heard_ms=START)
    assert silent is DayState.LOST
