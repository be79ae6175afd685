"""One live rollout in memory: its members as the book has them, and who of them is where."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from ketang_center.rollouts.book import Rollout
from ketang_center.rollouts.hearing import Sessions
from ketang_center.rollouts.outcomes import Seen
from ketang_center.rollouts.plan import FAILURES, UNRESOLVED, Candidate, State, cohort_of
from ketang_center.rollouts.tally import Tally
from ketang_center.rollouts.values import Member, Signed


class Live:
    """Never ahead of the book: a member is put here after it was written there. One thread."""

    def __init__(self, rollout: Rollout, layer: Signed, members: Iterable[Member]) -> None:
        self.rollout, self.layer = rollout, layer
        self.members = {one.device: one for one in members}
        self.tally = Tally(rollout.rules, self.members.values())
        self.unresolved: set[str] = set()
        self.failed: set[str] = set()
        ordered = sorted(self.members.values(), key=lambda one: one.position)
        self._pending = {one.device: None for one in ordered if one.state is State.PENDING}
        for one in ordered:
            self._sort(one)
        self.wakes = True
        """Whether anything has changed since it was last decided who is next."""

    def put(self, member: Member) -> None:
        """Take over what a member has become."""
        self.tally.change(self.members[member.device], member)
        self.members[member.device] = member
        self._sort(member)
        self.wakes = True

    def became(self, rollout: Rollout) -> None:
        """Take over what the rollout has become."""
        self.rollout, self.wakes = rollout, True

    def candidates(self, sessions: Sessions, busy: Callable[[str], bool]) -> Iterator[Candidate]:
        """Yield the pending devices that are connected and free, in their order."""
        for device in self._pending:
            if sessions.connected(device) and not busy(device):
                one = self.members[device]
                yield Candidate(device, one.kind, one.school, self.cohort(sessions.seen(device)))

    def cohort(self, seen: Seen) -> int:
        """Return the cohort of a device whose session is this."""
        begun_ms = max(self.rollout.began_ms, self.rollout.approved_ms)
        return cohort_of(begun_ms, seen.since_ms)

    @property
    def pending(self) -> Collection[str]:
        """Those whose turn has not come, in their order."""
        return self._pending.keys()

    def is_pending(self, device: str) -> bool:
        """Tell whether a device's turn has not come."""
        return device in self._pending

    def sent(self, device: str, group: int, now_ms: int, named: str, seen: Seen) -> Member:
        """Return what a member becomes when it is sent to, in this session of its."""
        return replace(
            self.members[device],
            state=State.SENT,
            reason="",
            group=group,
            sent_ms=now_ms,
            updated_ms=now_ms,
            hash=named,
            cohort=self.cohort(seen),
        )

    def _sort(self, member: Member) -> None:
        device, state = member.device, member.state
        if state is not State.PENDING:
            self._pending.pop(device, None)
        for those, states in ((self.unresolved, UNRESOLVED), (self.failed, FAILURES)):
            if state in states:
                those.add(device)
            else:
                those.discard(device)
