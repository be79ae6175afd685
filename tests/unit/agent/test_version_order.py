"""Versions of the agent, in order; words that are none are no error."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_agent.remote.version_order import is_older

IN_ORDER = [
    "",
    "0.9.9",
    "1.2.0.dev1",
    "1.2.0a1",
    "1.2.0b1",
    "1.2.0rc1",
    "1.2.0rc2",
    "1.2.0rc10",
    "1.2.0",
    "1.2.0.post1",
    "1.2.1",
    "1.10.0",
    "2.0.0.1",
]


@pytest.mark.parametrize(("older", "newer"), list(itertools.combinations(range(len(IN_ORDER)), 2)))
def test_what_comes_before_a_release_is_older_and_what_comes_after_it_newer(older, newer):
    assert is_older(IN_ORDER[older], IN_ORDER[newer])
    assert not is_older(IN_ORDER[newer], IN_ORDER[older])


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.2", "1.2.0"), ("v1.2.0", "1.2.0"), ("1.2.0+local.7", "1.2.0"), ("1.2.0RC1", "1.2.0rc1")],
)
def test_one_version_said_in_two_ways_is_one(one, other):
    assert not is_older(one, other)
    assert not is_older(other, one)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_words_are_an_error_and_no_two_are_each_older(one, other):
    assert not (is_older(one, other) and is_older(other, one))
    assert not is_older(one, "")
