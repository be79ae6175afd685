"""Who of a live rollout has told nothing for too long, and what that says."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

from ketang_center.rollouts.hearing import Sessions
from ketang_center.rollouts.live import Live
from ketang_center.rollouts.outcomes import Seen, is_line_down, overdue
from ketang_center.rollouts.values import Member


def fallen_silent(
    live: Live,
    schools: Mapping[str, Sequence[str]],
    sessions: Sessions,
    unresolved: Container[str],
    hearing_since_ms: int,
    now_ms: int,
) -> Iterator[Member]:
    """Yield what silence makes of those who have a release at hand.

    Args:
        live: the rollout.
        schools: each school's devices.
        sessions: who is connected.
        unresolved: who has any release at hand.
        hearing_since_ms: since when the centre hears, UTC; what was not heard is no silence.
        now_ms: UTC.
    """
    rules = live.rollout.rules
    for device in live.unresolved:
        member = live.members[device]
        at_hand_ms = now_ms - max(member.sent_ms, hearing_since_ms)
        if at_hand_ms < min(rules.silence_s, rules.alone_s) * 1000:
            continue
        mates, others = list[Seen](), list[Seen]()
        for one in schools.get(member.school, ()):
            (mates if one in unresolved else others).append(sessions.seen(one))
        found = overdue(
            member,
            sessions.seen(device),
            rules,
            quiet_ms=now_ms - max(member.updated_ms, hearing_since_ms),
            at_hand_ms=at_hand_ms,
            line_down=is_line_down(member.sent_ms, others, mates),
        )
        if found:
            state, reason = found
            yield replace(member, state=state, reason=reason, updated_ms=now_ms)
