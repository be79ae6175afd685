"""Who is sent a release next: the rules by themselves."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ketang_center.rollouts.order import spread
from ketang_center.rollouts.plan import (
    BACK,
    UNRESOLVED,
    Candidate,
    Count,
    Rules,
    Standing,
    State,
    bounds,
    cohort_of,
    decide,
    is_stranger,
    reason_to_stop,
)
from ketang_center.rollouts.tally import Tally
from ketang_center.rollouts.values import Member

RULES = Rules()
KNOWN = {"k": Count(committed=1)}
SCHOOL = {"s": Count(committed=1)}


def candidates(count, kind="k", school="s"):
    return [Candidate(f"d{at}", kind, school) for at in range(count)]


def standing(total=1000, groups=None, **more):
    said = {"kinds": KNOWN, "schools": SCHOOL} | more
    return Standing(total=total, groups=groups or {}, **said)


def test_groups_are_twenty_then_two_hundred_then_parts_of_the_rest():
    assert bounds(RULES, 1220) == (20, 220, 320, 470, 720, 1220)
    assert bounds(RULES, 12) == (12,)
    assert bounds(RULES, 20) == (20,)
    assert bounds(BACK, 500) == (500,)


@given(st.integers(1, 60_000))
def test_groups_grow_and_end_with_everybody(total):
    found = bounds(RULES, total)
    assert list(found) == sorted(set(found))
    assert found[-1] == total


def test_the_first_group_is_sent_to_at_once_and_no_more_than_it():
    decision = decide(RULES, standing(), candidates(500))
    assert len(decision.send) == 20
    assert decision.group == 1


def test_the_second_group_waits_for_the_first():
    open_one = {1: Count(committed=18, unresolved=2)}
    assert not decide(RULES, standing(groups=open_one), candidates(500)).send
    passed = {1: Count(committed=19, unresolved=1)}
    decision = decide(RULES, standing(groups=passed), candidates(500))
    assert decision.group == 2
    assert len(decision.send) == 19


def test_twenty_are_unresolved_at_most_until_two_hundred_have_committed():
    groups = {1: Count(committed=20), 2: Count(committed=179, unresolved=15)}
    assert len(decide(RULES, standing(groups=groups), candidates(500)).send) == 5
    groups = {1: Count(committed=20), 2: Count(committed=200), 3: Count(committed=780)}
    decision = decide(RULES, standing(20_000, groups), candidates(500))
    assert len(decision.send) == 100


def test_strangers_are_twenty_at_most_however_many_have_committed():
    groups = {1: Count(committed=20), 2: Count(committed=200), 3: Count(committed=1780)}
    strange = standing(20_000, groups, strangers=15)
    decision = decide(RULES, strange, candidates(500, school="new"))
    assert len(decision.send) == 5
    mixed = [*candidates(30, kind="new"), Candidate("known", "k", "s")]
    assert decide(RULES, strange, mixed).send[-1] == "known"


def test_a_minute_sends_to_no_more_than_its_rate():
    rules = replace(RULES, per_minute=10)
    assert len(decide(rules, standing(sent_lately=4), candidates(500)).send) == 6
    assert not decide(rules, standing(sent_lately=10), candidates(500)).send


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"groups": {1: Count(7, 3, 5)}}, "group 1: 3 of 10 failed"),
        ({"groups": {1: Count(500, 3)}, "kinds": {"ifp": Count(2, 3)}}, "kind ifp: 3 of 5"),
        ({"groups": {1: Count(500, 3)}, "schools": {"s9": Count(1, 3)}}, "school s9: 3 of 4"),
        ({"groups": {1: Count(18, 2)}}, "group 1: 18 of 20 committed"),
        ({"groups": {1: Count(3)}, "waiting": 21}, "21 tell nothing"),
    ],
)
def test_what_goes_wrong_stops_everything_and_is_told(said, told):
    assert told in decide(RULES, standing(**said), candidates(5)).stop


@pytest.mark.parametrize(
    "said",
    [
        {"groups": {1: Count(10, 2, 8)}},
        {"groups": {1: Count(20), 2: Count(150, 5, 20)}},
        {"groups": {1: Count(17, 0, 3)}},
        {"groups": {1: Count(3)}, "waiting": 20},
    ],
)
def test_a_few_failures_among_many_stop_nothing(said):
    assert not decide(RULES, standing(**said), candidates(5)).stop


def test_a_number_of_failures_stops_in_any_case_where_one_is_set():
    rules = replace(RULES, failures_most=30)
    assert reason_to_stop(rules, standing(60_000, {6: Count(40_000, 30)})) == "30 failures"


def test_it_is_finished_when_all_who_can_be_reached_have_told():
    groups = {1: Count(committed=12)}
    assert decide(RULES, standing(500, groups, reached=12), []).finished
    open_one = {1: Count(committed=12, unresolved=1)}
    assert not decide(RULES, standing(500, open_one, reached=13), []).finished
    assert not decide(RULES, standing(500, {}), []).finished
    assert decide(RULES, standing(12, groups, reached=12), []).finished


def test_it_is_finished_when_all_have_told_what_counts_neither_way():
    assert decide(RULES, standing(30, {}, reached=30), []).finished


def test_who_came_later_is_a_stranger_until_enough_of_his_quarter_of_an_hour_have_committed():
    known = {"groups": {1: Count(4_000)}, "kinds": {"pc": Count(9)}, "schools": {"s": Count(9)}}
    there = [Candidate(f"d{at}", "pc", "s") for at in range(300)]
    late = [replace(one, cohort=3) for one in there]
    assert len(decide(RULES, standing(9_000, reached=4_000, **known), there).send) == 300
    for proven, many in ((0, 20), (199, 20), (200, 300)):
        now = standing(9_000, reached=4_000, cohorts={3: Count(proven)}, **known)
        assert len(decide(RULES, now, late).send) == many


def test_a_cohort_is_a_quarter_of_an_hour_after_the_beginning():
    minute = 60_000
    began, moments = 1_000_000, (-minute, 0, 1, 15 * minute, 15 * minute + 1)
    assert [cohort_of(began, began + one) for one in moments] == [0, 0, 1, 1, 2]


def test_an_undo_goes_to_everybody_and_stops_for_nothing():
    decision = decide(BACK, standing(500, {1: Count(0, 40, 100)}), candidates(300))
    assert len(decision.send) == 300
    assert not decision.stop


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyzuvw")), min_size=1, max_size=80),
    st.text(max_size=5),
)
def test_the_order_is_everybody_once_and_the_same_each_time(places, seed):
    devices = [Candidate(f"d{at}", kind, school) for at, (kind, school) in enumerate(places)]
    order = spread(devices, seed)
    assert sorted(order) == sorted(one.device for one in devices)
    assert order == spread(reversed(devices), seed)


def test_the_first_group_has_every_kind_and_many_schools():
    devices = [
        Candidate(f"{kind}-{school}-{at}", kind, f"s{school}")
        for kind, many in (("pc", 40), ("board", 5), ("gateway", 1))
        for school in range(30)
        for at in range(many)
    ]
    first = [one.split("-") for one in spread(devices, "7")[:21]]
    assert {kind for kind, _, _ in first} == {"pc", "board", "gateway"}
    assert len({(kind, school) for kind, school, _ in first}) == 21


MOVES = st.lists(st.tuples(st.integers(0, 19), st.sampled_from(list(State)), st.booleans()))


@given(MOVES)
def test_running_counts_are_those_of_a_count_from_the_beginning(moves):
    members = [
        Member(1, f"d{at}", f"k{at % 3}", f"s{at % 4}", at, cohort=at % 5) for at in range(20)
    ]
    tally = Tally(Rules(), members)
    for at, (which, state, excused) in enumerate(moves):
        after = replace(
            members[which], state=state, group=1 + which % 2, excused=excused, sent_ms=at + 1
        )
        tally.change(members[which], after)
        members[which] = after
    now, anew = tally.standing(100_000), Tally(Rules(), members).standing(100_000)
    nothing = Count()
    assert now.reached == anew.reached == sum(one.state is not State.PENDING for one in members)
    for one, other in (
        (now.groups, anew.groups),
        (now.kinds, anew.kinds),
        (now.cohorts, anew.cohorts),
    ):
        for name in {*one, *other}:
            assert one.get(name, nothing) == other.get(name, nothing)
    assert (now.strangers, now.waiting, now.total) == (anew.strangers, anew.waiting, anew.total)
    assert now.strangers == sum(
        is_stranger(Rules(), now, one.kind, one.school, one.cohort)
        for one in members
        if one.state in UNRESOLVED and not one.excused
    )


COUNTS = st.builds(Count, st.integers(0, 400), st.integers(0, 5), st.integers(0, 60))


@settings(max_examples=300)
@given(
    st.integers(1, 3000),
    st.dictionaries(st.integers(1, 6), COUNTS, max_size=4),
    st.integers(0, 25),
    st.integers(0, 60),
    st.integers(0, 2000),
)
def test_never_more_than_the_limits_are_sent_to(total, groups, strangers, waiting, lately):
    now = Standing(
        total=total, groups=groups, strangers=strangers, waiting=waiting, sent_lately=lately
    )
    decision = decide(RULES, now, candidates(200, "new", "new"))
    after = now.all.unresolved + len(decision.send)
    most = max(20, now.all.committed // 10) if now.all.committed >= 200 else 20
    if decision.send:
        assert after <= most
        assert strangers + len(decision.send) <= 20
        assert lately + len(decision.send) <= RULES.per_minute
        assert not decision.stop
        assert not decision.finished
