"""What a viewer sees of rollouts, always through a ``Scope``: counts and devices of his own part.

A rollout concerns a viewer whose part of the tree holds its target, or lies below it. Whose part is
the smaller one sees only what became of his own devices: not how many there are elsewhere, nor
where it failed. A rollout's devices stand where their signed placements say, for that decides what
they are sent; a single device is looked for where the register has it.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ketang_center.access.scope import OutOfScope, Scope
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Level
from ketang_center.rollouts.admitting import way_of
from ketang_center.rollouts.book import Rollout, RolloutBook
from ketang_center.rollouts.looking import TROUBLE_FIRST
from ketang_center.rollouts.plan import Rules, State, bounds
from ketang_center.rollouts.values import Event, Member, Release, RolloutState
from ketang_center.store.base import Reading

ENGINE_RESTS_MS = 60_000
"""An engine that works has done all that was due more lately than this."""
MOST_ASKED = 500
"""So many devices' connections are asked for by name; beyond, all are read at once."""
PAGE_DEVICES = 100
_TOLD_OF_DEVICES = "('failed', 'rejected', 'timed_out')"


@dataclass(frozen=True, slots=True)
class Part:
    """One group, as far as the viewer sees it. ``planned``: its size; None: not told him."""

    no: int
    planned: int | None
    counts: Mapping[State, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a rollout stands in the viewer's part. ``whole``: that is all of it.

    ``off_line`` of the pending ones, personal devices not counted: their connection is use.
    """

    rollout: Rollout
    whole: bool
    parts: tuple[Part, ...]
    counts: Mapping[State, int]
    total: int
    off_line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A device of a rollout. ``personal``: told by its id alone, without times and room.

    ``school`` and ``room`` as its signed placement has them now; empty: not known, or not told.
    ``off_line``: it is pending and not connected; None: it is personal, or not pending.
    """

    member: Member
    school: str
    room: str
    personal: bool
    off_line: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a release would do if it began now: ``limits`` as of ``plan.bounds``."""

    total: int
    off_line: int
    limits: tuple[int, ...]
    minutes: int


class RolloutViews:
    """Queries for one viewer. One thread: the registry's.

    Args:
        book: of the rollouts.
        registry: who stands where.
        scope: the viewer's.
        now_ms: the centre's time.
    """

    def __init__(self, book: RolloutBook, registry: Registry, scope: Scope, now_ms: int) -> None:
        self._book, self._registry, self._scope = book, registry, scope
        self._now_ms, self._tree = now_ms, registry.tree()

    # What concerns him.

    def way(self, target: str) -> tuple[str, ...]:
        """Return the units above a target and the target itself; empty: nobody knows it."""
        if target in self._tree:
            return tuple(one.id for one in self._tree.path(target))
        way = way_of(self._registry, target, self._now_ms)
        return (*(one.unit for one in way), target) if way else ()

    def unit_of(self, target: str) -> str:
        """Return the unit in which rights over a target are held; empty: none is known."""
        return next((one for one in reversed(self.way(target)) if one in self._tree), "")

    def is_unit(self, target: str) -> bool:
        """Tell whether a target is a unit, not a device."""
        return target in self._tree

    def holds(self, target: str) -> bool:
        """Tell whether a target lies in the viewer's part."""
        return self._scope.root in self.way(target)

    def concerns(self, target: str) -> bool:
        """Tell whether a target lies in the viewer's part, or around it."""
        return self.holds(target) or self._tree.holds(target, self._scope.root)

    def rollouts(self) -> list[Rollout]:
        """Return the rollouts that concern him, the newest first."""
        known: dict[str, bool] = {}
        found = []
        for one in self._book.rollouts():
            if one.target not in known:
                known[one.target] = self.concerns(one.target)
            if known[one.target]:
                found.append(one)
        return found

    def rollout(self, no: int) -> Rollout:
        """Return a rollout that concerns him.

        Raises:
            OutOfScope: it does not, or there is none.
        """
        found = self._book.rollout(no)
        if found is None or not self.concerns(found.target):
            raise OutOfScope(str(no))
        return found

    def releases(self) -> list[Release]:
        """Return the releases that concern him, the newest first."""
        return [one for one in self._book.releases() if self.concerns(one.target)]

    def release(self, name: str) -> Release:
        """Return a release that concerns him.

        Raises:
            OutOfScope: it does not, or there is none.
        """
        found = self._book.release(name)
        if found is None or not self.concerns(found.target):
            raise OutOfScope(name[:60])
        return found

    # What became of it.

    @property
    def _own(self) -> tuple[str, tuple[str, ...]]:
        """The rest of a query that keeps members of the viewer's part, and its values."""
        root = self._scope.root
        if self._tree[root].parent is None:
            return "", ()
        return "AND device IN (SELECT device FROM step WHERE unit = ?)", (root,)

    def progress(self, rollouts: Collection[Rollout]) -> dict[int, Counter[State]]:
        """Count the devices of some rollouts by state."""
        rest, values = self._own
        found = {one.no: Counter[State]() for one in rollouts}
        for no, counts in found.items():
            for state, count in self._book.rows.table(
                f"SELECT state, count(*) FROM member WHERE rollout = ? {rest} GROUP BY state",  # nosec B608  # noqa: S608  (text of ours)
                no,
                *values,
            ):
                counts[State(state)] += count
        return found

    def standing(self, rollout: Rollout, reading: Reading) -> Standing:
        """Say where a rollout stands in the viewer's part."""
        rest, values = self._own
        groups: dict[int, Counter[State]] = {}
        for group, state, count in self._book.rows.table(
            f"SELECT grp, state, count(*) FROM member WHERE rollout = ? {rest} GROUP BY grp, state",  # nosec B608  # noqa: S608  (text of ours)
            rollout.no,
            *values,
        ):
            groups.setdefault(group, Counter())[State(state)] += count
        counts: Counter[State] = sum(groups.values(), Counter())
        whole = self.holds(rollout.target)
        off_line = self._off_line(rollout, reading) if counts[State.PENDING] else 0
        return Standing(
            rollout=rollout,
            whole=whole,
            parts=_parts(rollout.rules, groups, counts.total(), whole=whole),
            counts=counts,
            total=counts.total(),
            off_line=off_line,
        )

    def mark(self, rollout: Rollout) -> tuple[object, ...]:
        """Return what changes when anything does that a page of a rollout shows him."""
        rest, values = self._own
        found = self._book.rows.table(
            f"SELECT state, count(*), max(updated_ms) FROM member WHERE rollout = ? {rest}"  # nosec B608  # noqa: S608  (text of ours)
            " GROUP BY state",
            rollout.no,
            *values,
        )
        return rollout.state, rollout.updated_ms, *found

    def _off_line(self, rollout: Rollout, reading: Reading) -> int:
        rest, values = self._own
        pending = [
            row[0]
            for row in self._book.rows.table(
                f"SELECT device FROM member WHERE rollout = ? AND state = 'pending' {rest}",  # nosec B608  # noqa: S608  (text of ours)
                rollout.no,
                *values,
            )
        ]
        here = connected(reading, pending)
        away = [one for one in pending if one not in here]
        if len(away) > MOST_ASKED:
            personal = {one.id for one in self._registry.devices() if one.personal}
            return sum(one not in personal for one in away)
        return sum(not self._personal(one) for one in away)

    def _personal(self, device: str) -> bool:
        """Tell whether a device is somebody's own; one nobody knows may be."""
        found = self._registry.device(device)
        return found is None or not Scope.sees_connection_of(found)

    def rows(
        self,
        rollout: Rollout,
        reading: Reading | None,
        state: State | None = None,
        limit: int = PAGE_DEVICES,
        skip: int = 0,
    ) -> list[Row]:
        """Return the devices of a rollout in the viewer's part, those with trouble first.

        Args:
            rollout: which.
            reading: who is connected; None: nobody asks.
            state: only those in it; None: all.
            limit: so many at most.
            skip: leaving so many out before.
        """
        rest, values = self._own
        if state is not None:
            rest, values = f"{rest} AND state = ?", (*values, state.value)
        members = self._book.members(rollout.no, f"{rest} {TROUBLE_FIRST}", *values, limit, skip)
        pending = [one.device for one in members if one.state is State.PENDING]
        here = connected(reading, pending) if reading else frozenset()
        rooms = self._rooms([one.device for one in members])
        return [self._row(one, rooms.get(one.device, ""), here) for one in members]

    def _row(self, one: Member, room: str, here: Collection[str]) -> Row:
        personal, tree = self._personal(one.device), self._tree
        school = tree.above(room, Level.SCHOOL) if room in tree else None
        told = not personal and one.state is State.PENDING
        return Row(
            member=one,
            school=school.id if school else "",
            room="" if personal else room,  # whose it is follows from where it stands
            personal=personal,
            off_line=one.device not in here if told else None,
        )

    def _rooms(self, devices: Sequence[str]) -> dict[str, str]:
        if len(devices) > MOST_ASKED:
            found = self._book.all_placed().items()
            return {device: one.path[-1].unit for device, one in found if one.path}
        placed = ((one, self._book.placed(one)) for one in devices)
        return {device: one.path[-1].unit for device, one in placed if one and one.path}

    def reasons(self, rollout: Rollout) -> list[tuple[str, int]]:
        """Return why devices of the viewer's part failed, as they say: what most say comes first.

        What a person has seen and resumed after is left out.
        """
        rest, values = self._own
        found = self._book.rows.table(
            "SELECT reason, count(*) FROM member WHERE rollout = ? AND NOT excused"  # nosec B608  # noqa: S608  (text of ours)
            f" AND state IN {_TOLD_OF_DEVICES} {rest} GROUP BY reason ORDER BY 2 DESC, 1",
            rollout.no,
            *values,
        )
        return [(reason, int(count)) for reason, count in found]

    def history(self, no: int, limit: int = 200) -> list[Event]:
        """Return who did what with a rollout, the newest first; devices' own are in their list."""
        found = self._book.rows.table(
            "SELECT at_ms, rollout, who, what, detail FROM event"  # nosec B608  # noqa: S608  (text of ours)
            f" WHERE rollout = ? AND what NOT IN {_TOLD_OF_DEVICES} ORDER BY no DESC LIMIT ?",
            no,
            limit,
        )
        return [Event(*row) for row in found]

    def engine_still_ms(self) -> int | None:
        """Return since when the engine stands still while a rollout is to go on; None: it works.

        An engine that never worked stands still since the first such rollout changed last.
        """
        running = [
            one.updated_ms for one in self._book.rollouts() if one.state is RolloutState.RUNNING
        ]
        if not running:
            return None
        seen = self._book.engine_seen()
        since_ms = min(running) if seen is None else seen
        return since_ms if self._now_ms - since_ms > ENGINE_RESTS_MS else None

    def given(self, rollout: Rollout) -> int:
        """Count the devices a taking back would go to: those that were given its layer."""
        found = self._book.rows.table(
            "SELECT count(*) FROM turn JOIN member ON member.device = turn.device"
            " WHERE member.rollout = ? AND turn.target = ? AND turn.layer = ?",
            rollout.no,
            rollout.target,
            rollout.layer,
        )
        return int(found[0][0])

    def reach(self, target: str, rules: Rules, reading: Reading) -> Reach:
        """Say how many devices a release for a target goes to, and in which steps."""
        below = self._book.below(target)
        return Reach(
            total=len(below),
            off_line=len(below) - len(connected(reading, below)),
            limits=bounds(rules, len(below)) if below else (),
            minutes=-(-len(below) // rules.per_minute),
        )


def connected(reading: Reading, devices: Collection[str]) -> frozenset[str]:
    """Return those of some devices that are connected now."""
    if not devices:
        return frozenset()
    asked = list(devices) if len(devices) <= MOST_ASKED else None
    here = frozenset(one.device for one in reading.presence(asked) if one.connected)
    return here & frozenset(devices)


def _parts(
    rules: Rules, groups: Mapping[int, Counter[State]], total: int, *, whole: bool
) -> tuple[Part, ...]:
    if not whole:
        known = sorted(no for no in groups if no)
        return tuple(Part(no, None, groups[no]) for no in known)
    limits = bounds(rules, total) if total else ()
    # What counts neither way takes nobody's room in a group: some are larger than was planned.
    left, parts, before = groups.get(0, Counter()).total(), list[Part](), 0
    for no, limit in enumerate(limits, 1):
        counts = groups.get(no, Counter())
        room = left if no == len(limits) else min(left, max(0, limit - before - counts.total()))
        parts.append(Part(no, counts.total() + room, counts))
        left, before = left - room, limit
    return tuple(parts)
