import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.clocks import FakeClock

from ketang_agent.inference.aggregate import Look, Tally, folded, ranked, summed
from ketang_contract.limits import FEW
from ketang_contract.records import Occupancy, View


def seen(*heads, score=0.9):
    return [Look(View.OK, each, score if each else None) for each in heads]


@given(st.integers(0, 10_000))
def test_one_to_four_never_leave_as_a_number(heads):
    out = folded(heads)
    assert out == FEW if 1 <= heads <= 4 else out == min(heads, 500)


@pytest.mark.parametrize(
    ("heads", "median", "p90"),
    [
        ([0], 0, 0),
        ([0, 0, 9], 0, 9),
        ([1, 2, 3, 4], FEW, FEW),
        ([5, 6, 7, 8, 9, 10, 11, 12, 13, 14], 9, 13),
        ([4, 5], FEW, 5),
        ([900], 500, 500),
    ],
)
def test_counts_are_by_nearest_rank_then_folded(heads, median, p90):
    made = summed(seen(*heads), 300)
    assert (made.median, made.p90, made.scans, made.view) == (median, p90, len(heads), View.OK)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=300))
def test_a_percentile_is_a_count_that_was_seen(heads):
    ordered = sorted(heads)
    assert ranked(ordered, 50) in heads
    assert ranked(ordered, 50) <= ranked(ordered, 90) <= ordered[-1]


def test_confidence_is_that_of_heads_and_unsaid_where_none_was_seen():
    assert summed(seen(5, 0, score=0.8), 300).confidence_pct == 80
    assert summed(seen(0, 0), 300).confidence_pct is None


def test_without_a_usable_look_there_is_no_count():
    looks = [Look(View.DARK), Look(View.NO_SOURCE), Look(View.DARK)]
    assert summed(looks, 300) == Occupancy(window_s=300, view=View.DARK)


def test_one_usable_look_among_dark_ones_counts_and_says_how_many_it_rests_on():
    made = summed([Look(View.DARK)] * 9 + seen(7), 300)
    assert (made.view, made.median, made.scans) == (View.OK, 7, 1)


def test_windows_end_at_the_wall_clocks_five_minutes():
    clock, tally = FakeClock(), Tally()
    clock.passes(100)
    assert tally.advance(clock.now()) == []
    tally.add(seen(6)[0])
    assert tally.advance(clock.passes(199.9)) == []
    (first,) = tally.advance(clock.passes(0.2))
    assert (first.window_s, first.median) == (200, 6)
    tally.add(seen(0)[0])
    (second,) = tally.advance(clock.passes(300))
    assert (second.window_s, second.median) == (300, 0)


def test_a_window_without_a_look_is_not_told_of():
    clock, tally = FakeClock(), Tally()
    tally.advance(clock.now())
    assert tally.advance(clock.passes(3000)) == []


def test_a_first_window_of_a_few_seconds_is_left_out():
    clock, tally = FakeClock(), Tally()
    tally.advance(clock.passes(294))
    tally.add(seen(6)[0])
    assert tally.advance(clock.passes(7)) == []


def test_a_jump_of_the_clock_starts_a_new_window_and_bends_none():
    clock, tally = FakeClock(), Tally()
    tally.advance(clock.now())
    tally.advance(clock.passes(60))
    tally.add(seen(6)[0])
    clock.is_set(3600)
    (cut,) = tally.advance(clock.passes(1))
    assert cut.window_s == 60
    assert tally.looks == []


def test_looks_before_and_after_a_sleep_are_not_mixed():
    clock, tally = FakeClock(), Tally()
    tally.advance(clock.now())
    tally.add(seen(6)[0])
    (before,) = tally.advance(clock.sleeps(2 * 3600 + 30))
    assert (before.window_s, before.median) == (300, 6)
    tally.add(seen(0)[0])
    (after,) = tally.advance(clock.passes(300))
    assert after.median == 0
