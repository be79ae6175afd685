"""What a device's word, or its silence, says of a release."""

from dataclasses import replace

import pytest

from ketang_center.rollouts.outcomes import Seen, is_line_down, overdue, said
from ketang_center.rollouts.plan import Rules, State
from ketang_center.rollouts.values import Member
from ketang_contract.layers import LayerAt
from ketang_contract.state import ConfigReport, ConfigState

HASH, OTHER = "a" * 64, "b" * 64
AT = LayerAt(target="lan", key_epoch=1, version=3)
MEMBER = Member(1, "d", "k", "s", 0, group=1, state=State.SENT, sent_ms=1_000_000, hash=HASH)
RULES = Rules()
HERE = Seen(connected=True, orderly=False, since_ms=1)
LOST = Seen(connected=False, orderly=False, since_ms=1_010_000)
OFF = Seen(connected=False, orderly=True, since_ms=1_010_000)


def judged(member, seen, at_hand_ms, *, quiet_ms=None, line_down=False):
    quiet_ms = at_hand_ms if quiet_ms is None else quiet_ms
    return overdue(
        member, seen, RULES, quiet_ms=quiet_ms, at_hand_ms=at_hand_ms, line_down=line_down
    )


def report(state, desired=HASH, **more):
    return ConfigReport(state=state, desired=desired, **more)


@pytest.mark.parametrize(
    ("state", "becomes"),
    [
        (ConfigState.RECEIVED, State.TRIAL),
        (ConfigState.VERIFIED, State.TRIAL),
        (ConfigState.TRIAL, State.TRIAL),
        (ConfigState.STAGED, State.STAGED),
        (ConfigState.ROLLED_BACK, State.FAILED),
        (ConfigState.REJECTED, State.REJECTED),
        (ConfigState.INCONCLUSIVE, State.INCONCLUSIVE),
    ],
)
def test_a_report_of_what_was_sent_is_believed(state, becomes):
    assert said(MEMBER, AT, report(state, reason="why")) == (becomes, "why")


def test_what_runs_has_committed_whatever_it_was_brought_since():
    ran = report(ConfigState.COMMITTED, OTHER, running=OTHER, layers=(AT,))
    assert said(MEMBER, AT, ran) == (State.COMMITTED, "")
    assert said(MEMBER, AT, report(ConfigState.COMMITTED, running=HASH)) == (State.COMMITTED, "")
    older = replace(AT, version=2)
    before = report(ConfigState.COMMITTED, OTHER, running=OTHER, layers=(older,))
    assert said(MEMBER, AT, before) is None


def test_what_is_said_of_another_configuration_or_an_earlier_attempt_says_nothing():
    assert said(MEMBER, AT, report(ConfigState.ROLLED_BACK, OTHER)) is None
    again = replace(MEMBER, attempt=1)
    assert said(again, AT, report(ConfigState.ROLLED_BACK)) is None
    assert said(again, AT, report(ConfigState.ROLLED_BACK, attempt=1)) == (State.FAILED, "")
    assert said(replace(MEMBER, hash=""), AT, report(ConfigState.REJECTED, "")) is None


def test_an_agent_that_is_too_old_is_no_fault_of_the_release():
    told = said(MEMBER, AT, report(ConfigState.REJECTED, reason="agent_too_old"))
    assert told == (State.TOO_OLD, "agent_too_old")


@pytest.mark.parametrize(
    ("seen", "line_down", "becomes"),
    [
        (HERE, False, (State.TIMED_OUT, "silent")),
        (LOST, False, (State.TIMED_OUT, "silent")),
        (LOST, True, (State.INCONCLUSIVE, "line_down")),
        (HERE, True, (State.TIMED_OUT, "silent")),
        (OFF, False, (State.INCONCLUSIVE, "went_off")),
    ],
)
def test_silence_is_the_releases_fault_unless_the_line_or_a_person_was(seen, line_down, becomes):
    assert judged(MEMBER, seen, 299_999, line_down=line_down) is None
    assert judged(MEMBER, seen, 300_000, line_down=line_down) == becomes


def test_who_is_inconclusive_or_waits_for_its_moment_is_let_be_after_a_long_time():
    odd = replace(MEMBER, state=State.INCONCLUSIVE, reason="why")
    assert judged(odd, HERE, 1_799_999) is None
    assert judged(odd, HERE, 1_800_000) == (State.WAITING, "why")
    assert judged(odd, HERE, 1_800_000, quiet_ms=0) == (State.WAITING, "why"), "it tries again"
    staged = replace(MEMBER, state=State.STAGED)
    assert judged(staged, HERE, 1_800_000) is None
    assert judged(staged, HERE, 259_200_000) == (State.WAITING, "")
    assert judged(staged, OFF, 1_800_000) == (State.WAITING, "")


def test_a_school_has_lost_its_line_when_most_of_those_that_were_there_went():
    early = replace_since(LOST, 800_000)
    assert is_line_down(1_000_000, [LOST, LOST, HERE], [])
    assert is_line_down(1_000_000, [LOST, HERE], [])
    assert not is_line_down(1_000_000, [LOST, HERE, HERE], [LOST, LOST])
    assert not is_line_down(1_000_000, [early, early], [LOST])
    assert not is_line_down(1_000_000, [OFF, OFF], [LOST])
    assert not is_line_down(1_000_000, [], [])


def test_a_school_all_of_whose_devices_are_at_it_has_lost_its_line_when_they_went_as_one():
    later = replace_since(LOST, LOST.since_ms + 60_000)
    much_later = replace_since(LOST, LOST.since_ms + 600_000)
    assert is_line_down(1_000_000, [], [LOST, later])
    assert is_line_down(1_000_000, [OFF], [LOST, later, OFF])
    assert not is_line_down(1_000_000, [], [LOST, much_later])
    assert not is_line_down(1_000_000, [], [LOST, later, HERE])
    assert not is_line_down(1_000_000, [], [LOST]), "one alone says nothing of a line"


def replace_since(seen, since_ms):
    return Seen(seen.connected, seen.orderly, since_ms)
