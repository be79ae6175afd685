from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.clocks import BOOT, MONDAY_MS

from ketang_agent.clock import Instant
from ketang_agent.windows import (
    MAX_GAP_WINDOWS,
    apportion,
    following,
    in_hours,
    is_counted,
    jump_ms,
    open_window,
    shifted,
)
from ketang_contract.config import COUNTED_EVERY_S

moments = st.builds(Instant, st.integers(0, 5 * 10**12), st.integers(0, 10**11), st.just(BOOT))


@pytest.mark.parametrize(
    ("after_the_hour_s", "starts_s", "length_s"),
    [
        (0, 0, 300),
        (1, 1, 299),
        (120.5, 120.5, 179),
        (297.9, 297.9, 2),
        (298.5, 300, 300),  # a second and a half is no window: it begins with the next
        (300, 300, 300),
    ],
)
def test_a_window_ends_at_the_wall_clocks_next_five_minutes(after_the_hour_s, starts_s, length_s):
    window = open_window(Instant(MONDAY_MS + int(after_the_hour_s * 1000), 7_000, BOOT))
    assert window.opened.wall_ms - MONDAY_MS == starts_s * 1000
    assert window.length_s == length_s


@given(moments)
def test_no_window_is_longer_than_five_minutes_or_negative(at):
    window = open_window(at)
    assert 0 < window.length_s <= 300
    assert (shifted(window.opened, window.ends_ms).wall_ms) % 300_000 == 0


@given(moments, st.integers(0, 10**9), st.integers(-2000, 2000))
def test_windows_that_follow_each_other_leave_no_hole_beyond_a_small_correction(
    at, later_ms, step_ms
):
    window = open_window(at)
    until_ms = at.boottime_ms + later_ms
    clocks = Instant(at.wall_ms + later_ms + step_ms, until_ms, BOOT)
    found = [window, *following(window, clocks, until_ms)]
    assert len(found) <= MAX_GAP_WINDOWS + 2
    for one, after in pairwise(found[: MAX_GAP_WINDOWS + 1]):
        assert 0 <= after.opened.boottime_ms - one.ends_ms < 2000
    assert found[-1].ends_ms > until_ms


@given(moments, st.integers(0, 10**10), st.integers(-(10**12), 10**12))
def test_a_jump_is_what_the_wall_clock_moved_against_the_boot_clock(at, passed_ms, moved_ms):
    later = shifted(at, at.boottime_ms + passed_ms)
    now = Instant(later.wall_ms + moved_ms, later.boottime_ms, BOOT)
    assert jump_ms(at, now) == (moved_ms if abs(moved_ms) > 2000 else 0)


@given(st.lists(st.integers(0, 300_000), max_size=8), st.integers(0, 300))
def test_rounding_keeps_the_sum_and_never_exceeds_the_cap(parts_ms, most_s):
    seconds = apportion(parts_ms, most_s)
    assert sum(seconds) == min(most_s, (sum(parts_ms) + 500) // 1000)
    assert all(one >= 0 for one in seconds)
    if sum(seconds) < most_s:
        assert all(abs(s - ms / 1000) < 1 for s, ms in zip(seconds, parts_ms, strict=True))


def test_a_part_rounded_up_among_others_is_split_to_the_same_second():
    assert sum(apportion([59_499, 1], 300)) == 60
    assert apportion([59_400, 99], 60, exact=True) == [60, 0]


@given(moments, st.integers(-1999, 1999), st.sampled_from(COUNTED_EVERY_S))
def test_one_window_of_every_interval_is_counted_and_a_small_correction_makes_no_other(
    at, step_ms, every_s
):
    begins = shifted(at, at.boottime_ms + 3_600_000 - at.wall_ms % 3_600_000)
    first = open_window(begins)
    until_ms = first.ends_ms + 3_600_000
    clocks = shifted(Instant(begins.wall_ms + step_ms, begins.boottime_ms, BOOT), until_ms)
    found = [first, *following(first, clocks, until_ms)][:12]
    each = every_s // 300
    assert [is_counted(one, every_s) for one in found] == [no % each == 0 for no in range(12)]


def test_a_window_that_begins_late_is_counted_like_the_whole_one():
    for second in (0, 250):
        late = open_window(Instant(MONDAY_MS + second * 1000, 0, BOOT))
        assert is_counted(late, 600)
        late = open_window(Instant(MONDAY_MS + (300 + second) * 1000, 0, BOOT))
        assert not is_counted(late, 600)


EIGHT = 8 * 60
"""Monday's first minute in UTC, as the clocks in Shanghai show it."""


@pytest.mark.parametrize(
    ("hours", "parts_s"),
    [
        (None, [(0, 300)]),
        ((), []),
        (((0, EIGHT, EIGHT + 60),), [(0, 300)]),
        (((1, EIGHT, EIGHT + 60),), []),
        (((0, EIGHT - 60, EIGHT + 2),), [(0, 120)]),
        (((0, EIGHT + 3, EIGHT + 60),), [(180, 300)]),
        (((0, EIGHT - 9, EIGHT + 1), (0, EIGHT + 4, EIGHT + 9)), [(0, 60), (240, 300)]),
    ],
)
def test_hours_cut_a_window_to_the_minute(hours, parts_s):
    window = open_window(Instant(MONDAY_MS, 7_000, BOOT))
    found = [
        (one.opened.boottime_ms - 7_000, one.ends_ms - 7_000) for one in in_hours(window, hours)
    ]
    assert found == [(begins * 1000, ends * 1000) for begins, ends in parts_s]
