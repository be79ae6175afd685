"""Running counts of one rollout, so that a step costs what has changed and not the whole fleet.

They hold nothing of their own: the same members give the same counts, in whatever order they came.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import replace

from ketang_center.rollouts.plan import (
    FAILURES,
    UNRESOLVED,
    Count,
    Rules,
    Standing,
    State,
    is_stranger,
)
from ketang_center.rollouts.values import Member

_MINUTE_MS = 60_000


class Tally:
    """``Tally(rules, members)``, then ``change`` for each member that becomes another."""

    def __init__(self, rules: Rules, members: Iterable[Member] = ()) -> None:
        self._rules = rules
        self.total = 0
        self.states: dict[int, Counter[State]] = defaultdict(Counter)
        """By group; 0 is those whose turn has not come."""
        self._groups: dict[int, Count] = {}
        self._kinds: dict[str, Count] = {}
        self._schools: dict[str, Count] = {}
        self._cohorts: dict[int, Count] = {}
        self._open: Counter[tuple[str, str, int]] = Counter()
        self._waiting = self._pending = 0
        self._sent_ms: deque[int] = deque()
        members = list(members)
        for one in members:
            self.add(one)
        # In order: they are dropped from the left.
        self._sent_ms = deque(sorted(one.sent_ms for one in members if one.sent_ms))

    def add(self, member: Member) -> None:
        """Count one more."""
        self.total += 1
        self._count(member, 1)

    def change(self, before: Member, after: Member) -> None:
        """Count a member as what it has become."""
        self._count(before, -1)
        self._count(after, 1)
        if after.sent_ms > before.sent_ms:
            self._sent_ms.append(after.sent_ms)

    def standing(self, now_ms: int) -> Standing:
        """Say where the rollout stands."""
        known = Standing(
            total=self.total,
            groups=self._groups,
            kinds=self._kinds,
            schools=self._schools,
            cohorts=self._cohorts,
            reached=self.total - self._pending,
            waiting=self._waiting,
            sent_lately=self._sent_lately(now_ms),
        )
        return replace(known, strangers=self._strangers(known))

    def _sent_lately(self, now_ms: int) -> int:
        # A stamp of times to come, from before the clock was set back, must not stay for ever.
        while self._sent_ms and not now_ms - _MINUTE_MS < self._sent_ms[0] <= now_ms:
            self._sent_ms.popleft()
        return len(self._sent_ms)

    def _strangers(self, known: Standing) -> int:
        return sum(
            count for like, count in self._open.items() if is_stranger(self._rules, known, *like)
        )

    def _count(self, one: Member, by: int) -> None:
        self.states[one.group][one.state] += by
        if one.state is State.PENDING:
            self._pending += by
        if one.excused:
            return
        if one.state is State.WAITING:
            self._waiting += by
        committed = by if one.state is State.COMMITTED else 0
        failures = by if one.state in FAILURES else 0
        unresolved = by if one.state in UNRESOLVED else 0
        if not (committed or failures or unresolved):
            return
        if unresolved:
            like = (one.kind, one.school, one.cohort)
            self._open[like] += by
            if not self._open[like]:
                del self._open[like]
        _add(self._groups, one.group, committed, failures, unresolved)
        _add(self._kinds, one.kind, committed, failures, unresolved)
        _add(self._schools, one.school, committed, failures, unresolved)
        _add(self._cohorts, one.cohort, committed, failures, unresolved)


def _add(counts: dict, name: str | int, committed: int, failures: int, unresolved: int) -> None:  # type: ignore[type-arg]
    was = counts.get(name, Count())
    counts[name] = Count(
        was.committed + committed, was.failures + failures, was.unresolved + unresolved
    )
