"""What people see of rollouts. Reads only.

What is shown as a device's state is what the device itself reported last, never what was sent.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ketang_center.registry.database import Registry
from ketang_center.rollouts import foreseeing, placing
from ketang_center.rollouts.book import Rollout, RolloutBook
from ketang_center.rollouts.plan import State, bounds
from ketang_center.rollouts.trusting import TrustHeld
from ketang_center.rollouts.values import Event, Member, Placed, Release, RolloutState, Signed, What
from ketang_contract import config
from ketang_contract.config import Config, Merged, Said
from ketang_contract.errors import BadInput
from ketang_contract.state import ConfigReport
from ketang_profiles.configured import as_config
from ketang_profiles.profile import shipped

AT_MACHINE = "local:"
"""Before the login of who did it at the centre's machine itself, without an account."""
_ENDED = frozenset({RolloutState.CANCELLED, RolloutState.ROLLED_BACK, RolloutState.SUPERSEDED})
TROUBLE_FIRST = (
    "ORDER BY CASE state WHEN 'failed' THEN 0 WHEN 'rejected' THEN 0 WHEN 'timed_out' THEN 0"
    " WHEN 'too_old' THEN 1 WHEN 'inconclusive' THEN 2 WHEN 'waiting' THEN 2"
    " WHEN 'committed' THEN 4 WHEN 'pending' THEN 5 ELSE 3 END, position LIMIT ? OFFSET ?"
)
"""The rest of a query of members: so many, after leaving out so many."""


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group. ``bound``: how many devices in all have it when this group is full."""

    no: int
    bound: int
    counts: Mapping[State, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a rollout stands. ``pending`` have not had their turn, ``not_placed`` cannot."""

    rollout: Rollout
    groups: tuple[GroupStatus, ...]
    counts: Mapping[State, int]
    total: int
    pending: int
    not_placed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Why a device does what it does.

    Attributes:
        placed: where it stands, as signed; None: nothing can be sent to it.
        wanted_hash: of what it was sent last; empty: nothing was.
        layers: what it is to have, the region's first.
        merged: what they come to; a field not in ``by`` is its profile's.
        reported: its own account; None: it gave none.
    """

    device: str
    placed: Placed | None
    wanted_hash: str
    layers: tuple[Signed, ...]
    merged: Merged
    reported: ConfigReport | None
    reported_ms: int
    agent_version: str
    memberships: tuple[tuple[Rollout, Member], ...]


class Look:
    """One thread: the registry's."""

    def __init__(
        self, book: RolloutBook, registry: Registry, trust: TrustHeld, now_ms: Callable[[], int]
    ) -> None:
        self._book, self._registry = book, registry
        self._trust, self._now_ms = trust, now_ms

    def releases(self) -> list[Release]:
        """Return every release that was admitted, the newest first."""
        return self._book.releases()

    def release(self, name: str) -> Release:
        """Return one release.

        Raises:
            BadInput: there is none of this name.
        """
        found = self._book.release(name)
        if found is None:
            raise BadInput(f"{name[:60]}: no release of this name was admitted here")
        return found

    def rollouts(self, *, live: bool = False) -> list[Rollout]:
        """Return the rollouts, the newest first; ``live``: those that have not ended."""
        found = self._book.rollouts()
        return [one for one in found if not live or one.state not in _ENDED]

    def rollout(self, no: int) -> Rollout:
        """Return one rollout.

        Raises:
            BadInput: there is none of this number.
        """
        found = self._book.rollout(no)
        if found is None:
            raise BadInput(f"there is no rollout {no}")
        return found

    def status(self, no: int) -> Status:
        """Return where a rollout stands.

        Raises:
            BadInput: there is none of this number.
        """
        rollout = self.rollout(no)
        rows = self._book.rows.table(
            "SELECT grp, state, count(*) FROM member WHERE rollout = ? GROUP BY grp, state", no
        )
        groups: dict[int, Counter[State]] = {}
        for group, state, count in rows:
            groups.setdefault(group, Counter())[State(state)] += count
        counts: Counter[State] = sum(groups.values(), Counter())
        limits = bounds(rollout.rules, counts.total())
        return Status(
            rollout=rollout,
            groups=tuple(
                GroupStatus(at, limit, groups.get(at, Counter()))
                for at, limit in enumerate(limits, 1)
            ),
            counts=counts,
            total=counts.total(),
            pending=counts[State.PENDING],
            not_placed=len(self.not_placed(rollout.target)),
        )

    def members(
        self, no: int, state: State | None = None, limit: int = 200, skip: int = 0
    ) -> list[Member]:
        """Return a rollout's devices, those with trouble first."""
        if state is None:
            return self._book.members(no, TROUBLE_FIRST, limit, skip)
        return self._book.members(no, f"AND state = ? {TROUBLE_FIRST}", state.value, limit, skip)

    def history(self, no: int | None = None, limit: int = 200) -> list[Event]:
        """Return who did what, the newest first; of one rollout, or of all."""
        return self._book.history(no, limit)

    def not_placed(self, target: str = "") -> list[str]:
        """Return the devices in service without a signed placement that fits.

        Args:
            target: only those that the register has below this unit; empty: all.
        """
        epoch = self._trust.placing_epoch()
        found = placing.unplaced(self._book, self._registry, epoch, self._now_ms())
        chosen = placing.below(self._registry.tree(), found, target) if target else found
        return [one.device for one in chosen]

    def console_state(self, device: str) -> ConfigReport | None:
        """Return what a device said last of its configuration; None: nothing."""
        told = self._book.report(device)
        return told[0].config if told else None

    def current(self, target: str) -> Release | None:
        """Return the newest release that was sent to a target and not taken back."""
        for one in self._book.rollouts():
            if one.target == target and self._stays(one):
                return self._book.release(one.release)
        return None

    def _stays(self, one: Rollout) -> bool:
        if one.what is What.UNDO or one.state in {RolloutState.AWAITING, RolloutState.ROLLED_BACK}:
            return False
        # Cancelled before it was sent to any, it is as if it had not begun.
        return one.state is not RolloutState.CANCELLED or bool(
            self._book.members(one.no, "AND sent_ms > 0 LIMIT 1")
        )

    def who_admitted(self, release: str) -> tuple[str, ...]:
        """Name everyone who ever brought a release, the first one first.

        Brought again with one more signature, it is the same release: its first bearer counts on.
        """
        found = self._book.rows.table(
            "SELECT who FROM event WHERE rollout = 0 AND what = 'admitted' AND detail = ?"
            " ORDER BY no",
            release,
        )
        return tuple(dict.fromkeys(row[0] for row in found))

    def who_brought(self, one: Rollout) -> frozenset[str]:
        """Name who has had a hand in a rollout, and so is no second person to approve it.

        Who worked at the machine itself is known there by his login, and at the console by his
        account: the same name is taken for the same person.
        """
        release = self._book.release(one.release)
        named = {one.began_by, *self.who_admitted(one.release)}
        named |= {release.admitted_by} if release else set()
        return frozenset({*named, *(name.removeprefix(AT_MACHINE) for name in named)})

    def without_hours(self, release: Release) -> int:
        """Count the devices that would have no hours left with a release."""
        return foreseeing.without_hours(self._book, self._registry, release)

    def explain(self, device: str) -> Explained:
        """Say what a device is to have, which layer set each value, and what it says itself.

        Raises:
            BadInput: no such device is known.
        """
        book, placed, told = self._book, self._book.placed(device), self._book.report(device)
        known = self._registry.device(device)
        if known is None and placed is None:
            raise BadInput(f"{device[:60]}: no device of this name is known here")
        layers = self._layers(placed) if placed else ()
        had = book.had(device)
        base = as_config(shipped(known.kind.value)) if known else Config()
        said = [Said(one.target, one.level, one.content) for one in layers]
        rollouts = {one.no: one for one in book.rollouts()}
        return Explained(
            device=device,
            placed=placed,
            wanted_hash=had.hash if had else "",
            layers=layers,
            merged=config.merge(base, said),
            reported=self.console_state(device),
            reported_ms=told[1] if told else 0,
            agent_version=told[0].agent_version if told else "",
            memberships=tuple((rollouts[one.rollout], one) for one in book.memberships(device)),
        )

    def _layers(self, placed: Placed) -> tuple[Signed, ...]:
        chosen = self._book.grounds() | self._book.turns(placed.device)
        digests = (chosen[one] for one in placed.targets if one in chosen)
        return tuple(one for one in map(self._book.layer, digests) if one is not None)
