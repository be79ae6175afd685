"""The ledger: every number is in one place, whatever order the news comes in."""

from hypothesis import given
from hypothesis import strategies as st

from ketang_contract.ledger import Ledger
from ketang_contract.ranges import RangeSet

HEAD = 40
some = st.sets(st.integers(1, HEAD), max_size=15)
news = st.lists(st.tuples(st.sampled_from(["stored", "refused", "dropped"]), some), max_size=10)


def told(steps):
    ledger = Ledger().with_head(HEAD)
    for what, plain in steps:
        ledger = getattr(ledger, f"with_{what}")(RangeSet.of_numbers(plain))
    return ledger


@given(news)
def test_no_number_is_ever_in_two_places(steps):
    ledger = told(steps)
    assert not ledger.stored & ledger.dropped
    assert not ledger.stored & ledger.refused
    assert not ledger.dropped & ledger.refused


@given(news)
def test_head_is_the_sum_of_stored_dropped_refused_and_missing(steps):
    ledger = told(steps)
    places = (ledger.stored, ledger.dropped, ledger.refused, ledger.missing)
    assert sum(map(len, places)) == HEAD
    assert ledger.balanced == (not ledger.missing)


@given(news)
def test_stored_wins_over_refused_and_refused_over_dropped(steps):
    ledger = told(steps)
    every = {what: set() for what in ("stored", "refused", "dropped")}
    for what, plain in steps:
        every[what] |= plain
    assert set(ledger.stored) == every["stored"]
    assert set(ledger.refused) == every["refused"] - every["stored"]
    assert set(ledger.dropped) == every["dropped"] - every["refused"] - every["stored"]


@given(st.data(), news)
def test_the_order_of_news_and_its_repetition_change_nothing(data, steps):
    shuffled = data.draw(st.permutations(steps + steps))
    assert told(shuffled) == told(steps)


@given(st.lists(st.integers(0, 100)))
def test_the_head_never_goes_back(heads):
    ledger = Ledger()
    for head in heads:
        ledger = ledger.with_head(head)
    assert ledger.head == max(heads, default=0)
