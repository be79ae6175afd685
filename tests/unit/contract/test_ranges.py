"""Range sets, held against Python's own sets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_contract.ranges import NOTHING, RangeSet

numbers = st.sets(st.integers(1, 60), max_size=40)
pairs = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda one: (one[0], one[0] + one[1])),
    max_size=12,
)


def made_of(plain):
    return RangeSet.of_numbers(plain)


def is_normal(ranges):
    return all(first <= last for first, last in ranges.ranges) and all(
        left[1] + 1 < right[0] for left, right in pairwise(ranges.ranges)
    )


@given(pairs)
def test_any_ranges_in_any_order_become_the_one_normal_form(some):
    plain = {number for first, last in some for number in range(first, last + 1)}
    built = RangeSet.of(some)
    assert is_normal(built)
    assert set(built) == plain
    assert built == made_of(plain)
    assert len(built) == len(plain)
    assert bool(built) == bool(plain)


@given(numbers, numbers)
def test_union_difference_and_intersection_are_those_of_sets(left, right):
    for mine, theirs in (
        (made_of(left) | made_of(right), left | right),
        (made_of(left) - made_of(right), left - right),
        (made_of(left) & made_of(right), left & right),
    ):
        assert is_normal(mine)
        assert set(mine) == theirs


@given(numbers, st.integers(1, 60), st.integers(0, 20))
def test_adding_one_span_takes_the_short_way_to_the_same_set(plain, first, length):
    span = set(range(first, first + length + 1))
    joined = made_of(plain) | RangeSet.span(first, first + length)
    assert is_normal(joined)
    assert set(joined) == plain | span


@given(numbers, st.integers(0, 61))
def test_membership_is_that_of_sets(plain, number):
    assert (number in made_of(plain)) == (number in plain)


@given(numbers, st.integers(0, 50))
def test_lowest_and_highest_take_from_the_ends(plain, count):
    ordered = sorted(plain)
    lowest, highest = made_of(plain).lowest(count), made_of(plain).highest(count)
    assert is_normal(lowest)
    assert is_normal(highest)
    assert list(lowest) == ordered[:count]
    assert list(highest) == ordered[max(len(ordered) - count, 0) :]


@given(numbers)
def test_upto_is_the_part_contiguous_from_one(plain):
    expected = 0
    while expected + 1 in plain:
        expected += 1
    assert made_of(plain).upto() == expected


@given(numbers.filter(bool))
def test_gaps_are_what_lies_between_first_and_last(plain):
    built = made_of(plain)
    assert (built.first, built.last) == (min(plain), max(plain))
    assert set(built.gaps()) == set(range(min(plain), max(plain))) - plain


def test_a_range_that_runs_backwards_is_no_range():
    with pytest.raises(ValueError, match="backwards"):
        RangeSet.of([(5, 4)])


def test_a_span_that_ends_before_it_starts_is_empty():
    assert RangeSet.span(1, 0) == NOTHING
