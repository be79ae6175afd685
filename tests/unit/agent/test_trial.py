"""How far a configuration comes on a device: every step, and what no order of steps may do."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ketang_agent.clock import Instant
from ketang_agent.remote import trial
from ketang_agent.remote.machine import Look, Phase, Verdict, Works, factory
from ketang_contract.config import Apply, Config, filled, narrowed, widened
from ketang_contract.layers import LayerAt
from ketang_contract.state import ConfigState

BASE = Config(usage_s=20, host_s=60, network_s=60, occupancy_s=0, inference=False, spool_max_mb=64)
WIDER = replace(BASE, host_s=30)
NARROWER = replace(BASE, usage_s=60)
BOTH_WAYS = replace(BASE, host_s=30, usage_s=60)
AT = LayerAt(target="lan", key_epoch=1, version=1)
STEADY = Look(connected=True, session=1, acknowledged=True, sampled=True)
BACK = replace(STEADY, session=2)
AWAY = Look(connected=False, session=1, acknowledged=False, sampled=True)


def at(seconds, boot="boot-1"):
    return Instant(1_790_000_000_000 + int(seconds * 1000), int(seconds * 1000), boot)


def accepted(config, name="a", attempt=0, *, machine=None):
    """A verdict as the judge would give it of a machine."""
    in_force = BASE if machine is None else machine.in_force
    return Verdict(
        hash=name * 64,
        attempt=attempt,
        layers=(replace(AT, version=ord(name)),),
        config=config,
        fallback=narrowed(in_force, config),
        held={"of": name},
        held_committed={"of": name, "committed": True},
        trust_version=1,
    )


def refused(name="b", reason="forged"):
    return Verdict(hash=name * 64, attempt=1, reason=reason)


def tried(config=WIDER, name="a", attempt=0, machine=None, look=STEADY, second=0):
    """A machine in whose trial a configuration is, since a second of the first boot."""
    machine = machine or factory(BASE)
    taken = trial.take(trial.received(machine), accepted(config, name, attempt, machine=machine))
    return trial.step(taken, look, at(second))


def committed(config=WIDER, name="a", second=0):
    return trial.step(tried(config, name, second=second), BACK, at(second + 1))


def crashes(machine, count, now):
    for _ in range(count):
        machine = trial.begin(machine, now)
    return machine


# What comes down.


def test_a_device_that_was_never_told_anything_does_what_its_profile_says():
    machine = factory(BASE)
    assert machine.applied == BASE
    assert machine.report.state is ConfigState.FACTORY
    assert trial.step(machine, STEADY, at(9)) is machine


def test_what_is_being_judged_is_told_and_changes_nothing():
    machine = trial.received(factory(BASE))
    assert machine.report.state is ConfigState.RECEIVED
    assert machine.applied == BASE


def test_what_comes_in_a_trial_does_not_hide_it():
    machine = tried()
    assert trial.received(machine) is machine


def test_a_refusal_is_told_by_its_name_and_reason_and_changes_nothing_held():
    before = committed()
    machine = trial.take(trial.received(before), refused())
    said = machine.report
    assert (said.state, said.failed, said.reason) == (ConfigState.REJECTED, "b" * 64, "forged")
    assert (said.desired, said.attempt, said.running) == ("b" * 64, 1, "a" * 64)
    assert (machine.in_force, machine.held) == (before.in_force, before.held)


def test_a_refusal_without_a_name_leaves_the_last_one_desired():
    machine = trial.take(committed(), Verdict(reason="bad_desired"))
    assert machine.report.desired == "a" * 64
    assert machine.report.failed is None


def test_a_refusal_does_not_end_a_trial():
    machine = trial.take(tried(), refused())
    assert machine.applied == WIDER
    done = trial.step(machine, BACK, at(2))
    assert done.report.state is ConfigState.COMMITTED
    assert done.report.desired == "a" * 64


def test_a_refusal_while_something_is_staged_is_told_until_its_trial_begins():
    later = replace(WIDER, apply=Apply.AFTER_HOURS)
    staged = tried(later)
    machine = trial.step(trial.take(staged, refused()), STEADY, at(1))
    assert machine.report.state is ConfigState.REJECTED
    machine = trial.step(machine, replace(STEADY, moment=True), at(2))
    said = machine.report
    assert (said.state, said.desired, said.attempt) == (ConfigState.TRIAL, "a" * 64, 0)


@pytest.mark.parametrize("config", [NARROWER, BOTH_WAYS])
def test_what_was_accepted_narrows_at_once_and_its_failure_takes_nothing_back(config):
    machine = factory(BASE)
    taken = trial.take(machine, accepted(config))
    assert taken.report.state is ConfigState.VERIFIED
    assert taken.applied == NARROWER
    failed = trial.give_up(trial.step(taken, STEADY, at(0)), "why")
    assert failed.applied == NARROWER


def test_what_runs_already_is_committed_without_a_trial():
    machine = trial.take(committed(), accepted(WIDER, attempt=3))
    assert machine.report.state is ConfigState.COMMITTED
    assert machine.report.attempt == 3
    assert machine.candidate is None


def test_another_name_for_what_is_in_force_is_committed_without_a_trial():
    machine = trial.take(committed(), accepted(WIDER, "b"))
    assert machine.report.state is ConfigState.COMMITTED
    assert machine.report.running == "b" * 64
    assert machine.report.layers == (replace(AT, version=ord("b")),)


def test_the_one_that_runs_ends_the_trial_of_another():
    machine = tried(NARROWER, "b", machine=committed())
    back = trial.take(machine, accepted(WIDER, "a", machine=machine))
    assert back.candidate is None
    assert back.applied == WIDER


def test_the_same_once_more_leaves_its_trial_as_it_is():
    machine = tried()
    again = trial.take(machine, accepted(WIDER, machine=machine))
    assert again.candidate == machine.candidate
    assert again.report.state is ConfigState.TRIAL


def test_the_same_once_more_is_tried_to_its_end_though_what_it_narrows_is_in_force_already():
    machine = tried(NARROWER)
    again = trial.take(machine, accepted(NARROWER, machine=machine))
    assert again.report.state is ConfigState.TRIAL
    assert trial.step(again, BACK, at(1)).before is not None


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (Phase.STAGED, ConfigState.STAGED),
        (Phase.TRIAL, ConfigState.TRIAL),
        (Phase.RETURNING, ConfigState.INCONCLUSIVE),
        (Phase.WAITING, ConfigState.INCONCLUSIVE),
    ],
)
def test_the_same_once_more_is_told_as_what_it_is(phase, state):
    machine = tried()
    machine = replace(machine, candidate=replace(machine.candidate, phase=phase))
    assert trial.take(machine, accepted(WIDER, machine=machine)).report.state is state


def test_another_one_in_a_trial_takes_its_place_and_what_narrowed_stays():
    machine = tried(NARROWER)
    machine = trial.take(machine, accepted(WIDER, "b", machine=machine))
    assert machine.report.state is ConfigState.VERIFIED
    assert machine.applied == NARROWER
    assert machine.candidate.hash == "b" * 64
    assert machine.candidate.starts == machine.candidate.suspicions == 0


# The moment.


@pytest.mark.parametrize("apply", [None, Apply.NOW])
def test_what_is_not_told_to_wait_is_tried_at_once(apply):
    machine = tried(replace(WIDER, apply=apply))
    assert machine.report.state is ConfigState.TRIAL
    assert machine.applied.host_s == 30


@pytest.mark.parametrize("apply", [Apply.BREAK, Apply.AFTER_HOURS])
def test_what_waits_for_its_moment_is_staged_until_that_comes(apply):
    machine = tried(replace(WIDER, apply=apply))
    assert machine.report.state is ConfigState.STAGED
    assert machine.applied == BASE
    assert trial.step(machine, STEADY, at(9999)) is machine, "a write each time would wear the disk"
    assert trial.begin(machine, at(0, "boot-2")).applied == BASE
    machine = trial.step(machine, replace(STEADY, moment=True), at(10_000))
    assert machine.report.state is ConfigState.TRIAL


def test_what_waits_for_a_start_is_tried_at_the_next_one():
    machine = tried(replace(WIDER, apply=Apply.BOOT))
    assert trial.step(machine, STEADY, at(9)).report.state is ConfigState.STAGED
    machine = trial.step(trial.begin(trial.end(machine), at(10)), STEADY, at(10))
    assert machine.report.state is ConfigState.TRIAL
    assert machine.candidate.starts == 0
    back = replace(STEADY, session=STEADY.session + 1)
    assert trial.step(machine, back, at(11)).report.state is ConfigState.COMMITTED


# The trial.


def test_a_trial_is_passed_once_the_device_came_back_was_heard_and_sampled():
    done = trial.step(tried(), BACK, at(2.5))
    said = done.report
    assert (said.state, said.running, said.desired) == (ConfigState.COMMITTED, "a" * 64, "a" * 64)
    assert said.trial_ms == 2500
    assert said.layers == (replace(AT, version=ord("a")),)
    assert done.held == {"of": "a", "committed": True}
    assert done.before.in_force == BASE


@pytest.mark.parametrize(
    ("look", "state", "reason"),
    [
        (STEADY, "inconclusive", "not_connected"),
        (replace(BACK, connected=False), "inconclusive", "not_connected"),
        (replace(BACK, acknowledged=False), "inconclusive", "not_acknowledged"),
        (replace(BACK, failing=frozenset({"host"})), "rolled_back", "collector_failing"),
        (replace(BACK, sampled=False), "rolled_back", "not_sampled"),
        (replace(BACK, model=Works.PENDING), "rolled_back", "model_slow"),
    ],
)
def test_what_is_missing_at_its_deadline_ends_a_trial(look, state, reason):
    machine = tried()
    waits = trial.step(machine, look, at(trial.TRIAL_MS / 1000 - 0.001))
    assert waits is machine
    done = trial.step(machine, look, at(trial.TRIAL_MS / 1000))
    assert (done.report.state, done.report.reason) == (state, reason)
    assert done.report.trial_ms == trial.TRIAL_MS
    assert done.applied == BASE


def test_a_collector_that_failed_before_is_not_held_against_it():
    failing = frozenset({"network"})
    machine = tried(look=replace(STEADY, failing=failing))
    done = trial.step(machine, replace(BACK, failing=failing), at(1))
    assert done.report.state is ConfigState.COMMITTED


def test_a_model_that_fails_ends_the_trial_at_once():
    done = trial.step(tried(), replace(AWAY, model=Works.NO), at(1))
    assert (done.report.state, done.report.reason) == (ConfigState.ROLLED_BACK, "model_failing")


def test_a_caller_may_end_it():
    done = trial.give_up(tried(), "disk_failing")
    assert (done.report.state, done.report.reason) == (ConfigState.ROLLED_BACK, "disk_failing")
    assert trial.give_up(done, "again") is done


# What failed.


def test_what_failed_is_not_tried_again_by_itself():
    failed = trial.give_up(tried(), "why")
    for _ in range(3):
        failed = trial.take(trial.received(failed), accepted(WIDER, machine=failed))
        assert (failed.report.state, failed.report.reason) == (ConfigState.ROLLED_BACK, "why")
        assert trial.step(failed, STEADY, at(5000)) is failed
        failed = trial.begin(trial.end(failed), at(6000))


def test_what_failed_is_told_though_others_failed_since():
    failed = trial.give_up(tried(), "first")
    failed = trial.give_up(tried(NARROWER, "b", machine=failed), "second")
    again = trial.take(failed, accepted(WIDER, "a", machine=failed))
    assert (again.report.failed, again.report.reason) == ("a" * 64, "first")


def test_it_is_tried_again_when_asked_to_five_times_in_all():
    machine, trials = factory(BASE), 0
    for attempt in (0, 1, 1, 2, 3, 4, 5, 6, 2**31):
        machine = trial.take(machine, accepted(WIDER, attempt=attempt, machine=machine))
        machine = trial.step(machine, STEADY, at(attempt))
        trials += machine.report.state is ConfigState.TRIAL
        machine = trial.give_up(machine, "why")
        assert machine.report.state is ConfigState.ROLLED_BACK
    assert trials == trial.MOST_ATTEMPTS


def test_what_only_narrowed_and_failed_is_not_told_as_committed_when_it_comes_again():
    failed = trial.give_up(tried(NARROWER), "collector_failing")
    assert failed.applied == NARROWER
    again = trial.take(failed, accepted(NARROWER, machine=failed))
    assert again.report.state is ConfigState.ROLLED_BACK


def test_what_passed_in_the_end_is_remembered_as_failed_no_more():
    machine = trial.give_up(tried(), "why")
    machine = trial.step(tried(attempt=1, machine=machine), BACK, at(1))
    assert machine.report.state is ConfigState.COMMITTED
    assert machine.report.failed is None
    again = trial.take(machine, accepted(WIDER, attempt=0, machine=machine))
    assert again.report.state is ConfigState.COMMITTED


def test_a_lower_attempt_asks_for_nothing():
    machine = trial.give_up(tried(attempt=3), "why")
    machine = trial.take(machine, accepted(WIDER, attempt=2, machine=machine))
    assert machine.report.state is ConfigState.ROLLED_BACK
    assert machine.candidate is None


# The network's fault, or the configuration's.


def returning(machine=None, second=0):
    machine = machine or tried(second=second)
    return trial.step(machine, AWAY, at(second + trial.TRIAL_MS / 1000))


def test_where_the_device_cannot_connect_without_it_either_nobody_is_blamed():
    machine, second = returning(), 40
    for _ in range(20):
        assert machine.report.state is ConfigState.INCONCLUSIVE
        assert machine.applied == BASE
        second += trial.RETURN_MS / 1000
        machine = trial.step(machine, AWAY, at(second))
        assert machine.candidate.phase is Phase.WAITING
        waits = trial.step(machine, AWAY, at(second + 9999))
        assert waits is machine, "no trial without a connection"
        second += trial.AGAIN_MS / 1000
        machine = trial.step(machine, STEADY, at(second))
        assert machine.report.state is ConfigState.TRIAL
        machine, second = returning(machine, second), second + 40
    assert machine.failed == ()


def test_where_it_can_it_is_blamed_the_second_time():
    machine = trial.step(returning(), BACK, at(41))
    assert machine.candidate.phase is Phase.WAITING
    assert machine.candidate.suspicions == 1
    assert trial.step(machine, BACK, at(100)) is machine
    machine = trial.step(machine, BACK, at(101))
    assert machine.report.state is ConfigState.TRIAL
    machine = returning(replace(machine, candidate=replace(machine.candidate)), 101)
    machine = trial.step(machine, replace(BACK, session=9), at(145))
    assert (machine.report.state, machine.report.reason) == ("rolled_back", "not_connected")


def test_the_second_chance_is_taken():
    machine = trial.step(trial.step(returning(), BACK, at(41)), BACK, at(101))
    assert trial.step(machine, replace(BACK, session=3), at(102)).report.state == "committed"


def test_a_connection_from_before_going_back_proves_nothing():
    machine = returning()
    assert trial.step(machine, replace(STEADY, session=1), at(41)) is machine


def test_what_is_inconclusive_is_told_by_its_own_name():
    machine = trial.take(tried(), refused())
    said = returning(machine).report
    assert (said.state, said.desired) == (ConfigState.INCONCLUSIVE, "a" * 64)


def test_starts_while_it_waits_are_not_counted_as_its_own():
    machine = trial.step(returning(), AWAY, at(100))
    machine = crashes(machine, 10, at(101))
    machine = trial.step(machine, STEADY, at(200))
    assert machine.report.state is ConfigState.TRIAL
    machine = trial.begin(machine, at(201))
    assert machine.report.state is ConfigState.TRIAL, "killed once, as anybody may be"


# Crashes.


def test_a_good_one_is_committed_though_its_trial_was_killed_twice():
    machine = crashes(tried(), 2, at(1))
    assert machine.applied == WIDER
    assert trial.step(machine, BACK, at(2)).report.state is ConfigState.COMMITTED


def test_one_that_crashes_at_every_start_is_given_up_at_the_fourth():
    machine = crashes(tried(), 3, at(1))
    assert (machine.report.state, machine.report.reason) == (ConfigState.ROLLED_BACK, "crashed")
    assert machine.applied == BASE


def test_crashes_are_counted_over_boots_and_each_boot_has_the_whole_time():
    machine = tried()
    machine = trial.begin(machine, at(5000, "boot-2"))
    assert machine.candidate.since_ms == 5_000_000
    assert trial.step(machine, AWAY, at(5039, "boot-2")) is machine
    machine = trial.begin(machine, at(1, "boot-3"))
    machine = trial.begin(machine, at(1, "boot-4"))
    assert machine.report.reason == "crashed"


def test_one_that_hangs_is_given_up_at_the_start_after_its_deadline():
    machine = trial.begin(tried(), at(25))
    assert machine.report.state is ConfigState.TRIAL
    machine = trial.begin(machine, at(50))
    assert (machine.report.state, machine.report.reason) == (ConfigState.ROLLED_BACK, "crashed")


def test_one_crash_is_forgiven_however_late():
    machine = trial.begin(tried(), at(50))
    assert trial.step(machine, BACK, at(51)).report.state is ConfigState.COMMITTED


def test_an_orderly_stop_past_the_deadline_blames_nobody():
    machine = trial.begin(trial.end(trial.begin(trial.end(tried()), at(10))), at(50))
    assert machine.report.state is ConfigState.TRIAL


def test_what_is_committed_is_given_up_when_it_crashes_soon_after():
    machine = committed()
    machine = crashes(machine, trial.MOST_CRASHES - 1, at(30))
    assert machine.applied == WIDER
    machine = trial.begin(machine, at(40))
    said = machine.report
    assert (said.state, said.reason) == (ConfigState.ROLLED_BACK, "crashed_later")
    assert (said.running, said.failed) == (None, "a" * 64)
    assert machine.applied == BASE
    again = trial.take(machine, accepted(WIDER, machine=machine))
    assert again.report.state is ConfigState.ROLLED_BACK, "not tried again by itself"


def test_what_it_narrowed_survives_its_crashes():
    machine = crashes(committed(BOTH_WAYS), trial.MOST_CRASHES, at(30))
    assert machine.applied == NARROWER


def test_what_was_narrowed_since_its_commit_survives_its_crashes_too():
    machine = committed()
    other = replace(WIDER, usage_s=60)
    machine = trial.give_up(tried(other, "b", machine=machine, second=2), "why")
    assert machine.applied == other
    assert crashes(machine, trial.MOST_CRASHES, at(30)).applied == NARROWER


def test_crashes_after_an_orderly_stop_are_counted():
    machine = trial.begin(trial.end(committed()), at(30))
    assert crashes(machine, trial.MOST_CRASHES, at(31)).report.reason == "crashed_later"


def test_orderly_stops_and_other_boots_are_no_crashes():
    machine = committed()
    for _ in range(9):
        machine = trial.begin(trial.end(machine), at(30))
    machine = crashes(machine, 9, at(30, "boot-2"))
    assert machine.applied == WIDER


def test_a_steady_one_is_not_given_up_for_crashes():
    machine = trial.step(committed(), STEADY, at(1 + trial.STEADY_MS / 1000))
    assert machine.before is None
    assert crashes(machine, 99, at(1000)).applied == WIDER


def test_another_boot_makes_it_steady():
    assert trial.step(committed(), STEADY, at(1, "boot-2")).before is None


def test_the_last_resort_collects_nothing_and_can_be_told_another_thing():
    machine = crashes(tried(NARROWER), 3, at(1))
    assert (machine.report.reason, machine.applied) == ("crashed", NARROWER)
    machine = crashes(machine, trial.MOST_CRASHES, at(2))
    collected = {name for name in BASE.__slots__ if name.endswith("_s") and name != "scan_s"}
    assert {getattr(machine.applied, name) for name in collected} <= {0, None}
    assert machine.applied.inference is False
    mended = trial.step(trial.take(machine, accepted(WIDER, "c", machine=machine)), STEADY, at(3))
    assert trial.step(mended, BACK, at(4)).applied == WIDER


def test_the_last_resort_is_forgotten_when_what_was_gone_back_to_is_steady():
    machine = crashes(tried(), 3, at(1))
    machine = trial.step(machine, STEADY, at(2 + trial.STEADY_MS / 1000))
    assert crashes(machine, 9, at(700)).applied == BASE


def test_what_narrowed_at_once_and_crashes_before_its_trial_is_not_kept_for_ever():
    later = replace(NARROWER, apply=Apply.AFTER_HOURS)
    machine = crashes(tried(later), 99, at(1))
    assert machine.applied.usage_s == 0


def test_what_only_narrowed_and_crashes_after_its_commit_is_not_kept_for_ever():
    machine = crashes(committed(NARROWER), 99, at(2))
    assert machine.applied.usage_s == 0


# Any order of anything.

_CONFIGS = st.builds(
    lambda **said: filled(BASE, Config(**said)),
    usage_s=st.sampled_from([0, 10, 20, 60]),
    host_s=st.sampled_from([0, 5, 60, 300]),
    apply=st.sampled_from([None, *Apply]),
)
_LOOKS = st.builds(
    Look,
    connected=st.booleans(),
    session=st.integers(1, 6),
    acknowledged=st.booleans(),
    sampled=st.booleans(),
    failing=st.sampled_from([frozenset(), frozenset({"host"})]),
    model=st.sampled_from(Works),
    moment=st.booleans(),
)


class AnyOrder(RuleBasedStateMachine):
    """Bundles, looks, clocks, boots, crashes and stops in any order.

    What comes is what a judge lets through: something new, or the last once more.
    """

    def __init__(self):
        super().__init__()
        self.now = at(1000)
        self.boots = 1
        self.machine = factory(BASE)
        self.brought = 0
        self.last = None
        self.asked = set()
        """Names that may be tried: brought for the first time, or again with a higher attempt."""
        self.allowed = BASE
        """As narrow as everything accepted since the last commit."""
        self.connected_without = {}

    def goes_on(self, machine):
        before, self.machine = self.machine, machine
        was = before.candidate.phase if before.candidate else None
        one = machine.candidate
        if one is not None and one.phase is Phase.TRIAL and was is not Phase.TRIAL:
            assert one.hash in self.asked, "tried though nobody asked"
        if machine.report.state is ConfigState.ROLLED_BACK:
            self.asked.discard(machine.report.failed)
        if machine.running != before.running and machine.report.state is ConfigState.COMMITTED:
            self.allowed = machine.in_force
        new = [said for said in machine.failed if said not in before.failed]
        for said in new:
            if said.reason in {"not_connected", "not_acknowledged"}:
                assert self.connected_without.get((said.hash, said.attempt), 0) >= 2, "blamed early"

    @rule(config=_CONFIGS, attempt=st.integers(0, 2))
    def brings_another(self, config, attempt):
        self.last = config, chr(ord("f") + self.brought)
        self.brought += 1
        self.brings(attempt)

    @precondition(lambda self: self.last is not None)
    @rule(attempt=st.integers(0, 6))
    def brings_the_last_again(self, attempt):
        self.brings(attempt)

    def brings(self, attempt):
        config, name = self.last
        known = {said.hash: said.attempt for said in self.machine.failed}
        verdict = accepted(config, name, attempt, machine=self.machine)
        before = known.get(verdict.hash)
        if before is None or before < attempt < trial.MOST_ATTEMPTS:
            self.asked.add(verdict.hash)
        self.allowed = narrowed(self.allowed, config)
        self.goes_on(trial.take(trial.received(self.machine), verdict))

    @rule()
    def brings_what_is_refused(self):
        before = self.machine
        self.goes_on(trial.take(trial.received(before), refused("e")))
        assert self.machine.applied == before.applied
        assert self.machine.candidate == before.candidate

    @rule(look=_LOOKS)
    def steps(self, look):
        one = self.machine.candidate
        if one is not None and one.phase is Phase.RETURNING:
            proved = look.connected and look.acknowledged and look.session > one.session
            key = one.hash, one.attempt
            self.connected_without[key] = self.connected_without.get(key, 0) + proved
        self.goes_on(trial.step(self.machine, look, self.now))
        if one is not None and one.phase is Phase.TRIAL:
            over = self.now.boottime_ms - one.since_ms >= trial.TRIAL_MS
            still = self.machine.candidate
            assert not (over and still and still.phase is Phase.TRIAL), "past its deadline"

    @rule(seconds=st.sampled_from([0.2, 5, 20, 41, 61, 601]))
    def time_passes(self, seconds):
        self.now = replace(self.now, boottime_ms=self.now.boottime_ms + int(seconds * 1000))

    @rule(orderly=st.booleans(), boots=st.booleans())
    def starts_again(self, orderly, boots):
        if boots:
            self.boots += 1
            self.now = at(1, f"boot-{self.boots}")
        ended = trial.end(self.machine) if orderly else self.machine
        before = self.machine
        self.goes_on(trial.begin(ended, self.now))
        one = self.machine.candidate
        if one is not None and one.phase is Phase.TRIAL:
            assert one.starts <= trial.MOST_STARTS
        if before.candidate is None and self.machine.before is None and before.before is None:
            assert self.machine.applied == before.applied

    @precondition(lambda self: self.machine.candidate is not None)
    @rule()
    def is_given_up(self):
        self.goes_on(trial.give_up(self.machine, "why"))
        assert self.machine.candidate is None

    @invariant()
    def what_is_in_force_is_never_wider_than_what_was_accepted(self):
        assert not widened(self.allowed, self.machine.in_force)

    @invariant()
    def what_is_in_force_says_something_of_every_collector(self):
        for name in ("usage_s", "host_s", "network_s"):
            assert getattr(self.machine.in_force, name) is not None
        assert self.machine.in_force.spool_max_mb == 64

    @invariant()
    def what_it_says_is_what_it_is(self):
        said, one = self.machine.report, self.machine.candidate
        assert said.running == self.machine.running
        if said.state in {ConfigState.TRIAL, ConfigState.INCONCLUSIVE}:
            assert one is not None
            assert said.desired == one.hash
        if said.state is ConfigState.COMMITTED:
            assert one is None
            assert said.desired == said.running
        if said.state is ConfigState.ROLLED_BACK:
            assert one is None
            assert said.reason

    @invariant()
    def only_a_trial_applies_anything_else(self):
        one = self.machine.candidate
        if one is None or one.phase is not Phase.TRIAL:
            assert self.machine.applied == self.machine.in_force


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
