"""What a device's word, or its silence, says of a release. Pure.

A device is believed: its own report decides, whenever it comes. Silence is judged by who else is
silent: a school whose other devices went too has lost its line, and no release is to blame.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ketang_center.rollouts.plan import Rules, State
from ketang_center.rollouts.values import Member
from ketang_contract.layers import LayerAt
from ketang_contract.state import ConfigReport, ConfigState

_SAID = {
    ConfigState.RECEIVED: State.TRIAL,
    ConfigState.VERIFIED: State.TRIAL,
    ConfigState.TRIAL: State.TRIAL,
    ConfigState.STAGED: State.STAGED,
    ConfigState.ROLLED_BACK: State.FAILED,
    ConfigState.INCONCLUSIVE: State.INCONCLUSIVE,
}
TOO_OLD = "agent_too_old"
WENT_OFF, LINE_DOWN, SILENT = "went_off", "line_down", "silent"
_BEFORE_MS = 120_000
"""One line failed for all of them; a broker notices of each at another time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A device's session, as last heard of."""

    connected: bool
    orderly: bool
    since_ms: int


GONE = Seen(connected=False, orderly=False, since_ms=0)
"""Never seen."""


def said(member: Member, at: LayerAt, report: ConfigReport) -> tuple[State, str] | None:
    """Say what a report makes of a member: its state and the reason; None: nothing of this.

    Args:
        member: with the hash and attempt it was sent.
        at: the layer the rollout is about.
        report: the device's own account.
    """
    runs = at in report.layers or (bool(member.hash) and report.running == member.hash)
    if report.state is ConfigState.COMMITTED and runs:
        return State.COMMITTED, ""
    if not member.hash or report.desired != member.hash or report.attempt < member.attempt:
        return None
    if report.state is ConfigState.REJECTED:
        state = State.TOO_OLD if report.reason == TOO_OLD else State.REJECTED
        return state, report.reason
    found = _SAID.get(report.state)
    return (found, report.reason) if found else None


def is_line_down(since_ms: int, others: Iterable[Seen], mates: Collection[Seen]) -> bool:
    """Tell whether a school has lost its line since a moment.

    Args:
        since_ms: when the release was sent to one of it.
        others: the school's devices that are in no trial.
        mates: those that are in one, itself among them.

    Returns:
        True when at least as many of those that were there have gone without a word as stayed.
        Where nobody else was there: when all in trial, several, went as one. A release that cuts
        them all off looks the same; of that they tell themselves, for each goes back by itself.
    """
    gone = stayed = 0
    for one in others:
        if one.connected:
            stayed += 1
        elif not one.orderly and one.since_ms >= since_ms - _BEFORE_MS:
            gone += 1
    if gone or stayed:
        return gone >= stayed
    went_ms = [one.since_ms for one in mates if not one.orderly and not one.connected]
    stayed = sum(one.connected for one in mates)
    return len(went_ms) > 1 and not stayed and max(went_ms) - min(went_ms) <= _BEFORE_MS


def overdue(
    member: Member, seen: Seen, rules: Rules, *, quiet_ms: int, at_hand_ms: int, line_down: bool
) -> tuple[State, str] | None:
    """Say what silence makes of an unresolved member; None: it has time yet.

    Args:
        member: one whose word is waited for.
        seen: its session.
        rules: of the rollout.
        quiet_ms: how long it told nothing new while the centre could hear it.
        at_hand_ms: how long it has had it, while the centre could hear it.
        line_down: whether its school has lost its line since it was sent to.
    """
    if member.state in {State.SENT, State.TRIAL}:
        if quiet_ms < rules.silence_s * 1000:
            return None
        if not seen.connected and seen.orderly:
            return State.INCONCLUSIVE, WENT_OFF
        if not seen.connected and line_down:
            return State.INCONCLUSIVE, LINE_DOWN
        return State.TIMED_OUT, SILENT
    if member.state is State.STAGED:
        late = quiet_ms >= (rules.staged_s if seen.connected else rules.alone_s) * 1000
    else:  # an inconclusive one tries again by itself, and tells of each time
        late = member.state is State.INCONCLUSIVE and at_hand_ms >= rules.alone_s * 1000
    return (State.WAITING, member.reason) if late else None
