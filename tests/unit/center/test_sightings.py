"""Which boots prove two machines: never one machine, however late its messages; always two."""

import random
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ketang_center.store.sightings import (
    MOST_BOOTS,
    SCHEMA,
    SPREAD_MS,
    TOLERANCE_MS,
    Future,
    Ruling,
    Sightings,
    counts,
    in_doubt,
    read_boots,
    read_rulings,
)
from ketang_contract.batch import Sent

T0_MS = 1_790_000_000_000
DEVICE = "ifp-1"
HEARTBEAT_S = 300
STANDS_S = 60
LONGEST_RETRY_S = 120


class Desk:
    """Sightings over a database in memory; times in seconds since ``T0_MS``."""

    def __init__(self):
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(SCHEMA)
        self.sightings = Sightings(self.db)

    def hears(self, boot_id, boottime_s, at_s, **birth):
        sent = Sent(wall_ms=0, boot_id=boot_id, boottime_ms=int(boottime_s * 1000))
        return self.sightings.hear(DEVICE, sent, T0_MS + int(at_s * 1000), **birth)

    def cases(self):
        return read_rulings(self.db, DEVICE)

    def boots(self):
        return {one.boot_id: one for one in read_boots(self.db, DEVICE)}

    def decide(self, at_s, admitted, barred, future=Future.SAME):
        self.db.execute(
            "UPDATE clone SET decided_ms = ?, future = ?, admitted = ?, barred = ?"
            " WHERE decided_ms IS NULL",
            (
                T0_MS + at_s * 1000,
                future,
                *(str(one).replace("'", '"') for one in (admitted, barred)),
            ),
        )


@pytest.fixture
def desk():
    return Desk()


# One machine, whatever happens to its messages.


@dataclass(frozen=True)
class Uptime:
    lasts_s: int
    off_s: int
    clock: float
    """Seconds its boot clock counts in a true second."""
    reconnects: int


@dataclass(frozen=True)
class Outage:
    begins: float
    """As a share of the whole time."""
    lasts_s: int
    then: str


CLOCKS = st.sampled_from((1.0, 1.0, 1 + 1e-4, 1 - 1e-4, 1 + 4e-4, 1 - 4e-4, 1.1, 0.9))
UPTIMES = st.lists(
    st.builds(
        Uptime,
        lasts_s=st.integers(10, 20_000),
        off_s=st.integers(8, 5_000),
        clock=CLOCKS,
        reconnects=st.integers(0, 5),
    ),
    min_size=2,
    max_size=8,
)
OUTAGES = st.lists(
    st.builds(
        Outage,
        begins=st.floats(0, 1),
        lasts_s=st.integers(1, 20_000),
        then=st.sampled_from(("lost", "held", "shuffled")),
    ),
    max_size=3,
)
STEPS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from((-90_000, -3_600, -60, -4, 4, 60, 3_600, 90_000))),
    max_size=2,
)
SHARES = st.sampled_from((0.0, 0.05, 0.3, 0.9))


def said_by_one_machine(uptimes, chance):
    """``(moment, boot, boot clock)`` of every message as it is sent, in order."""
    said, at_s = [], 0.0
    for number, up in enumerate(uptimes):
        moments = [3.0, *(chance.uniform(3, up.lasts_s) for _ in range(up.reconnects))]
        moments += range(HEARTBEAT_S, up.lasts_s, HEARTBEAT_S)
        said += [(at_s + one, f"boot-{number}", one * up.clock) for one in sorted(moments)]
        at_s += up.lasts_s + up.off_s
    return said, at_s


def arrivals(said, whole_s, outages, late, again, chance):
    """When each message comes: at once, held back, twice, or not at all."""
    came = []
    for sent_s, boot, clock_s in said:
        times = [sent_s + chance.uniform(0, 2)]
        if chance.random() < late:
            times = [sent_s + chance.uniform(2, whole_s)]
        if chance.random() < again:
            times.append(sent_s + chance.uniform(0, whole_s))
        came += [(at_s, boot, clock_s) for at_s in times]
    for outage in outages:
        begins_s = outage.begins * whole_s
        ends_s = begins_s + outage.lasts_s
        caught = sorted(one for one in came if begins_s <= one[0] < ends_s)
        came = [one for one in came if not begins_s <= one[0] < ends_s]
        if outage.then == "shuffled":
            chance.shuffle(caught)
        if outage.then != "lost":
            step_s = chance.uniform(0, 0.5)
            came += [(ends_s + at * step_s, *one[1:]) for at, one in enumerate(caught)]
    return sorted(came)


@settings(max_examples=300)
@given(UPTIMES, OUTAGES, STEPS, SHARES, SHARES, st.booleans(), st.integers(0, 2**32))
def test_one_machine_is_never_two_however_late_its_messages_come(
    uptimes, outages, steps, late, again, frozen, seed
):
    chance, desk = random.Random(seed), Desk()
    said, whole_s = said_by_one_machine(uptimes, chance)
    for at_s, boot, clock_s in arrivals(said, whole_s, outages, late, again, chance):
        shown_s = at_s + sum(by_s for share, by_s in steps if at_s >= share * whole_s)
        desk.hears(boot, clock_s, shown_s, session=1 if frozen else int(boot[5:]) + 1)
    assert not desk.cases()


def test_a_frozen_disk_that_begins_anew_each_morning_is_no_clone(desk):
    for day in range(100):
        for turn in range(5):
            desk.hears(f"boot-{day}", turn * 300, day * 86_400 + turn * 300, session=7)
    assert not desk.cases()


def test_a_retained_birth_of_an_old_boot_that_was_never_heard_before_is_no_clone(desk):
    for turn in range(3):
        desk.hears("now", turn * 300, turn * 300)
    desk.hears("old", 5, 610)
    desk.hears("old", 5, 650)
    for turn in range(3, 9):
        desk.hears("now", turn * 300, turn * 300)
    assert not desk.cases()


def test_what_came_in_one_bunch_after_an_outage_is_no_sign_of_life(desk):
    for turn in range(5):
        desk.hears("b", 30 + turn * 300, turn * 300)
    for turn in range(20):
        desk.hears("a", turn * 300, 1_201 + turn)
    for turn in range(5, 9):
        desk.hears("b", 30 + turn * 300, turn * 300)
    assert not desk.cases()


def test_a_machine_taken_back_to_a_snapshot_with_its_memory_is_no_clone(desk):
    """Its old boot comes back to life, and its boot clock is behind for ever."""
    for turn in range(10):
        desk.hears("a", turn * 300, turn * 300)
    for turn in range(12, 20):
        desk.hears("b", (turn - 12) * 300, turn * 300)
    for turn in range(20, 90):
        desk.hears("a", (turn - 20 + 10) * 300, turn * 300)
    assert not desk.cases()


# Two machines.


def test_two_machines_that_throw_each_other_out_are_found_within_a_minute():
    waits = [found_after_s(seed, together=bool(seed % 2)) for seed in range(300)]
    assert max(waits) < 60
    assert sorted(waits)[150] < 20


def found_after_s(seed, *, together):
    """Seconds from the second machine's first word to the case: as brokers and ``Link`` do it."""
    chance, desk = random.Random(seed), Desk()
    began_s = {"a": -4.0 if together else -90_000.0, "b": -4.0}
    up_s = 0.0 if together else began_s["a"] + 4

    def hears(boot, at_s):
        return desk.hears(boot, at_s - began_s[boot], at_s + chance.uniform(0, 0.5))

    while up_s <= 0:
        hears("a", up_s)
        up_s += HEARTBEAT_S
    held, other = "a", "b"
    stood_s, failures = {"a": 0.0 if together else -90_000.0, "b": 0.0}, {"a": 0, "b": 0}
    retry_s, first_s = chance.uniform(0, 2), None
    while True:
        at_s = retry_s
        first_s = at_s if first_s is None else first_s
        if hears(other, at_s):
            return at_s - first_s
        if at_s - stood_s[held] >= STANDS_S:
            failures[held] = 0
        retry_s = at_s + chance.random() * min(1 << failures[held], LONGEST_RETRY_S)
        failures[held] += 1
        stood_s[other] = at_s
        held, other = other, held


@settings(max_examples=100)
@given(
    st.integers(0, 100_000),
    st.integers(3 * HEARTBEAT_S, 20_000),
    SHARES.filter(lambda share: share < 0.5),
    st.sampled_from((1.0, 1 + 1e-4, 1 - 1e-4)),
    st.integers(0, 2**32),
)
def test_two_machines_side_by_side_for_three_heartbeats_are_always_found(
    alone_s, beside_s, again, clock, seed
):
    chance, desk, came = random.Random(seed), Desk(), []
    for boot, from_s in (("a", 0), ("b", alone_s + HEARTBEAT_S)):
        until_s = alone_s + HEARTBEAT_S + beside_s
        at_s = from_s + chance.uniform(0, 10)
        while at_s < until_s:
            clock_s = (at_s - from_s) * clock
            came.append((at_s + chance.uniform(0, 1), boot, clock_s))
            if chance.random() < again:
                came.append((at_s + chance.uniform(0, 10_000), boot, clock_s))
            at_s += chance.uniform(100, HEARTBEAT_S)
    for at_s, boot, clock_s in sorted(came):
        desk.hears(boot, clock_s, at_s)
    assert len(desk.cases()) == 1


@contextmanager
def two_machines(desk):
    """Two heartbeats of ``a``, then ``b`` beside it: one case."""
    assert not desk.hears("a", 1_000, 0)
    assert not desk.hears("a", 1_300, 300)
    assert not desk.hears("b", 10, 400)
    assert not desk.hears("b", 30, 420)
    assert desk.hears("a", 1_600, 600)
    yield desk
    for one in desk.cases():
        assert one.device == DEVICE


def test_a_case_says_since_when_and_which_boots(desk):
    with two_machines(desk):
        [case] = desk.cases()
        assert (case.older, case.newer) == ("a", "b")
        assert case.since_ms == T0_MS + 400_000
        assert case.found_ms == T0_MS + 600_000
        assert case.decided_ms is None


def test_a_machine_that_slept_while_the_other_ran_is_found_when_it_wakes(desk):
    """A, then B, then A again: the boot clock counts the sleep."""
    for turn in range(3):
        desk.hears("a", turn * 300, turn * 300)
    for turn in range(4):
        desk.hears("b", turn * 300, 1_000 + turn * 300)
    assert not desk.cases()
    desk.hears("a", 30_000, 30_000)
    desk.hears("a", 30_300, 30_300)
    assert [one.since_ms for one in desk.cases()] == [T0_MS + 1_000_000]


def test_an_open_case_is_not_opened_again(desk):
    with two_machines(desk):
        for turn in range(3, 9):
            assert not desk.hears("b", turn * 300, 420 + turn * 300)
            assert not desk.hears("a", 1_600 + turn * 300, 600 + turn * 300)
        assert len(desk.cases()) == 1


def test_what_a_person_decided_of_the_same_boots_is_not_asked_again(desk):
    for admitted, barred in ((["a"], ["b"]), (["a", "b"], []), ([], ["a", "b"])):
        with two_machines(Desk()) as fresh:
            fresh.decide(700, admitted, barred)
            for turn in range(3, 9):
                assert not fresh.hears("b", turn * 300 + 30, 420 + turn * 300)
                assert not fresh.hears("a", 1_600 + turn * 300, 600 + turn * 300)


def test_a_new_boot_of_the_one_sent_away_opens_a_new_case_and_one_of_the_other_does_not(desk):
    with two_machines(desk):
        desk.decide(700, ["a"], ["b"])
        for turn in range(4):
            desk.hears("b-again", 10 + turn * 20, 800 + turn * 20)
        assert desk.hears("a", 1_900, 900)
        assert [one.since_ms for one in desk.cases()] == [T0_MS + 400_000, T0_MS + 800_000]
        desk.decide(950, ["a"], ["b-again"])
        for turn in range(40):
            desk.hears("b-again", 210 + turn * 20, 1_000 + turn * 20)
            desk.hears("a-again", 10 + turn * 20, 1_000 + turn * 20)
        assert len(desk.cases()) == 2


def test_of_a_revoked_id_nothing_is_asked_any_more(desk):
    with two_machines(desk):
        desk.decide(700, [], ["a", "b"], Future.REVOKE)
        for turn in range(10):
            desk.hears("c", 10 + turn * 20, 800 + turn * 20)
            desk.hears("d", 10 + turn * 20, 805 + turn * 20)
        assert len(desk.cases()) == 1


def test_a_moment_beside_each_other_within_the_tolerance_is_no_case(desk):
    desk.hears("a", 0, 0)
    desk.hears("a", 300, 300)
    desk.hears("b", 5, 400)
    desk.hears("b", 5 + SPREAD_MS / 1000, 400 + SPREAD_MS / 1000)
    last_s = 400 + TOLERANCE_MS / 1000
    assert not desk.hears("a", last_s, last_s)
    assert desk.hears("a", last_s + 0.1, last_s + 0.1)


def test_a_boot_clock_that_runs_off_for_months_is_still_on_its_line(desk):
    """100 ppm, a heartbeat each 5 minutes, 90 days: 13 minutes off in the end."""
    for clock in (1 + 1e-4, 1 - 1e-4):
        one = Desk()
        for turn in range(90 * 288):
            one.hears("a", turn * 300 * clock, turn * 300)
        at_s = 90 * 86_400
        one.hears("b", 10, at_s)
        one.hears("b", 30, at_s + 20)
        assert one.hears("a", (at_s + 60) * clock, at_s + 60)


def test_a_centre_whose_clock_was_set_back_finds_them_all_the_same(desk):
    for turn in range(5):
        desk.hears("a", turn * 300, turn * 300)
    for turn in range(5, 20):
        desk.hears("a", turn * 300, turn * 300 - 3_600)
        desk.hears("b", turn * 300 - 1_400, turn * 300 - 3_600)
    assert len(desk.cases()) == 1


# What is kept.


def test_at_most_so_many_boots_of_a_device_are_kept_the_least_lately_heard_goes(desk):
    desk.hears("lives", 0, 0)
    for number in range(3 * MOST_BOOTS):
        desk.hears(f"boot-{number}", 5, 1_000 * number)
        desk.hears("lives", 1_000 * number + 1, 1_000 * number + 1)
    boots = desk.boots()
    assert len(boots) == MOST_BOOTS
    assert {"lives", f"boot-{3 * MOST_BOOTS - 1}"} <= set(boots)
    assert set(desk.sightings._known(DEVICE).boots) == set(boots)


def test_what_is_known_is_the_same_after_a_restart(desk):
    desk.hears("a", 1_000, 0, session=4, version="0.1.0")
    desk.hears("a", 1_300, 300)
    desk.hears("b", 10, 400)
    desk.sightings = Sightings(desk.db)
    desk.hears("b", 30, 420)
    assert desk.boots()["a"].version == "0.1.0"
    assert desk.hears("a", 1_600, 600)


def test_ordinary_messages_are_written_only_when_half_a_minute_has_passed(desk):
    desk.hears("a", 0, 0)
    desk.hears("a", 10, 10)
    before = desk.db.total_changes
    for tenth in range(300):
        desk.hears("a", 10 + tenth / 10, 10 + tenth / 10)
    assert desk.db.total_changes == before
    desk.hears("a", 50, 50)
    assert desk.db.total_changes == before + 1


def test_a_case_is_told_once_and_only_when_it_is_durable(desk):
    with two_machines(desk):
        assert desk.sightings.take_found() == []
        desk.sightings.settle()
        assert [one.device for one in desk.sightings.take_found()] == [DEVICE]
        assert desk.sightings.take_found() == []


# Which records count.

OPEN = Ruling(1, DEVICE, 100, 160, "a", "b")


def decided(future=Future.SAME):
    return Ruling(
        1, DEVICE, 100, 160, "a", "b", 200, future, frozenset({"a"}), frozenset({"b"}), "lin"
    )


@pytest.mark.parametrize(
    ("boot", "received_ms", "open_case", "same", "revoked"),
    [
        ("a", 99, True, True, True),
        ("b", 99, True, True, True),
        ("a", 100, False, True, True),
        ("b", 150, False, False, False),
        ("b", 300, False, False, False),
        ("z", 150, False, False, False),
        ("z", 300, False, True, False),
    ],
)
def test_what_counts_before_during_and_after_a_case(boot, received_ms, open_case, same, revoked):
    assert counts([], boot, received_ms)
    assert counts([OPEN], boot, received_ms) is open_case
    assert counts([decided()], boot, received_ms) is same
    assert counts([decided(Future.REVOKE)], boot, received_ms) is revoked


def test_a_record_counts_only_where_every_case_lets_it():
    later = Ruling(2, DEVICE, 250, 260, "a", "c")
    assert counts([decided(), later], "a", 240)
    assert not counts([decided(), later], "a", 250)
    assert not counts([decided(), later], "b", 240)


def test_boots_are_in_doubt_until_a_case_is_open_or_has_named_them():
    assert in_doubt([], "a", "b")
    assert not in_doubt([OPEN], "a", "b")
    assert not in_doubt([decided()], "a", "b")
    assert not in_doubt([decided()], "b", "c")
    assert in_doubt([decided()], "a", "c")
