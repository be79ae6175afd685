"""Queries for pages, always through a ``Scope``: a fixed number of reads, whatever the fleet."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from ketang_center.access.scope import OutOfScope, SchoolsOwn, Scope
from ketang_center.metrics import figures
from ketang_center.metrics.figures import DayState, DayUse
from ketang_center.metrics.windows import CELL_MS, Cell, Hour
from ketang_center.registry.calendars import DAY_MS, day_of, day_starts_ms, lesson_spans_ms
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Level, Posted, Unit
from ketang_center.states import (
    Connection,
    Freshness,
    believed,
    connection_of,
    freshness_of,
    use_of,
)
from ketang_center.store.base import Presence
from ketang_center.view_values import (
    Branch,
    Context,
    DeviceDay,
    Filters,
    Overview,
    Row,
    Totals,
)

MOST_ACCOUNTS = 500
"""Ledgers are summed on the first page up to this many devices; beyond, device by device."""


@dataclass(frozen=True, slots=True)
class _Fleet:
    """A day of every device in the subtree, read once."""

    tree: Tree
    posted: list[Posted]
    presence: Mapping[str, Presence]
    days: Mapping[tuple[str, str], DayUse]
    latest: Mapping[str, DayUse]
    newest: Mapping[str, DayUse]
    """The last day with data as of now, whatever day is looked at."""
    boots: Mapping[str, int]
    here: frozenset[str]
    """Devices that stand in the subtree now, whatever day is looked at."""
    until_ms: int
    now_ms: int
    listening_ms: int
    doubted: frozenset[str]
    """Devices that are two machines, whose figures wait for a person's decision."""

    @property
    def shared(self) -> list[Posted]:
        return [one for one in self.posted if not one.device.personal]

    @property
    def current(self) -> bool:
        return self.now_ms < self.until_ms

    def state(self, one: Posted) -> DayState:
        device = one.device.id
        presence = self.presence.get(device)
        heard_ms = 0
        if presence is not None and presence.connected:
            # Nobody could be heard before the centre itself was there.
            heard_ms = max(presence.since_ms, presence.last_seen_ms, self.listening_ms)
        return figures.classify(
            self.days.get((device, one.school)),
            self.latest.get(device),
            until_ms=self.until_ms,
            now_ms=self.now_ms,
            next_boot_ms=self.boots.get(device, 0),
            heard_ms=heard_ms,
        )

    def attention(self, scope: Scope, one: Posted) -> tuple[str, ...]:
        """Say why a device needs attention.

        Who may not see its use gets its condition as of now, whatever day is asked for: the
        reasons of a day would tell whether it was on that day.
        """
        device = one.device.id
        dated = scope.sees_use_of(one.device)
        day = self.days.get((device, one.school)) if dated else self.newest.get(device)
        if not dated and device not in self.here:
            return ()
        found = [reason for reason in (day.health if day else "").split(",") if reason]
        presence = self.presence.get(device)
        if presence is not None and (self.current or not dated):
            found += presence.faults
        if device in self.doubted:
            found.append("clone")  # whatever the day: what it told late is missing there too
        return tuple(dict.fromkeys(found))


def overview(context: Context, scope: Scope, day: date, unit: str | None = None) -> Overview:
    """Return the first page of a unit: the scope's root unless another is named.

    Raises:
        OutOfScope: the unit is not the viewer's.
    """
    tree = context.registry.tree()
    top = scope.narrow(tree, unit)
    fleet = _fleet(context, tree, top, day)
    shared = fleet.shared
    # Which cells may be shown is decided over the whole subtree, so that narrowing opens nothing.
    whole = shared if top == scope.root else _fleet(context, tree, scope.root, day).shared
    taught = _taught(context, whole, day)
    rooms = _rooms(_by_unit(tree, scope.root, _counted(whole, taught)))
    states = {
        one.device.id: (fleet.state(one), bool(fleet.attention(scope, one))) for one in shared
    }
    branches = tuple(
        _branches(
            scope,
            tree,
            top,
            posted=shared,
            taught=taught,
            states=states,
            cells=scope.open_cells(tree, rooms),
        )
    )
    own = _own(context, scope, fleet)
    here = [one for one in shared if one.device.id in fleet.here]
    no_lessons = bool(shared) and not any(one.school in taught for one in shared)
    return Overview(
        day=day,
        today=day_of(context.clock()),
        first_day=context.rollups.first_day(),
        unit=tree[top],
        path=_path_within(scope, tree, top),
        in_service=len(shared),
        personal=len(fleet.posted) - len(shared),
        counts=branches[0].counts,
        attention=branches[0].attention,
        branches=branches,
        connections=_connections(here, fleet.presence),
        # How many records came tells how long a device was on: shown where use may be shown.
        totals=_totals(context, here) if branches[0].counts is not None else None,
        own=own,
        own_cells=_cells(_hours(context, own.posted, day), day) if own else {},
        no_lessons=no_lessons,
        uncounted=0 if no_lessons else sum(one.school not in taught for one in shared),
    )


def devices(context: Context, scope: Scope, day: date, filters: Filters) -> list[Row]:
    """Return the devices in the subtree that pass the filters, by school and room.

    Raises:
        OutOfScope: the unit is not the viewer's.
    """
    tree = context.registry.tree()
    fleet = _fleet(context, tree, scope.narrow(tree, filters.unit), day)
    rows = (_row(scope, fleet, one) for one in fleet.posted)
    return [row for row in rows if _passes(row, filters)]


def device_day(context: Context, scope: Scope, device: str, day: date) -> DeviceDay:
    """Return a device's day, the hours it spent at the viewer's school only.

    Raises:
        OutOfScope: no such device, or not the viewer's.
        SchoolsOwn: only the school may look, and at a personal device nobody.
    """
    tree = context.registry.tree()
    fleet = _fleet(context, tree, scope.root, day)
    posted = next((one for one in fleet.posted if one.device.id == device), None)
    if posted is None:
        raise OutOfScope(device)
    if not scope.sees_use_of(posted.device):
        raise SchoolsOwn(device)
    now_ms = context.clock()
    context.audit.note(now_ms, scope.label, "device_day", f"{device}@{day}", posted.school)
    hours = _hours(context, posted, day)
    return DeviceDay(
        row=_row(scope, fleet, posted),
        day=day,
        today=day_of(now_ms),
        first_day=context.rollups.first_day(),
        figures=fleet.days.get((device, posted.school)),
        cells=_cells(hours, day),
        events=tuple(one for hour in hours for one in hour.events),
        lessons=lesson_spans_ms(context.registry.calendars().get(posted.school), day),
        host=_last(hours, lambda hour: hour.host),
        network=_last(hours, lambda hour: hour.network),
        accounts=tuple(context.reading.accounts([device]) if device in fleet.here else ()),
    )


def _hours(context: Context, posted: Posted, day: date) -> list[Hour]:
    """A device's hours of a day, of those it spent at the school it is posted to."""
    device, school_of = posted.device.id, context.registry.school_of
    return [
        hour
        for hour in context.rollups.hours(device, day, context.registry.may_tell_of)
        if school_of(device, hour.first_ms or hour.starts_ms) == posted.school
    ]


def _cells(hours: Iterable[Hour], day: date) -> dict[int, Cell]:
    start_ms = day_starts_ms(day)
    return {
        (hour.starts_ms - start_ms) // CELL_MS + cell.no: cell
        for hour in hours
        for cell in hour.cells
    }


def _fleet(context: Context, tree: Tree, top: str, day: date) -> _Fleet:
    start_ms, now_ms = day_starts_ms(day), context.clock()
    mine = {one.id for one in tree.walk(top)}

    def standing(from_ms: int, until_ms: int) -> list[Posted]:
        found = context.registry.in_service(from_ms, until_ms)
        return [one for one in found if one.school in mine or one.room in mine]

    posted = standing(start_ms, min(start_ms + DAY_MS, now_ms + 1))
    current = now_ms < start_ms + DAY_MS
    now_here = {one.device.id for one in (posted if current else standing(now_ms, now_ms + 1))}
    here = [one.device.id for one in posted if one.device.id in now_here]
    latest = context.rollups.latest(day)
    listening_ms = context.reading.listening_ms()
    return _Fleet(
        tree=tree,
        posted=posted,
        presence={
            one.device: believed(one, listening_ms, now_ms)
            for one in context.reading.presence(here)
        },
        days=context.rollups.days(day),
        latest=latest,
        newest=latest if current else context.rollups.latest(day_of(now_ms)),
        boots=context.rollups.next_boots(day),
        here=frozenset(here),
        until_ms=start_ms + DAY_MS,
        now_ms=now_ms,
        listening_ms=listening_ms,
        doubted=context.reading.doubted(),
    )


def _row(scope: Scope, fleet: _Fleet, one: Posted) -> Row:
    device = one.device
    presence = fleet.presence.get(device.id)
    here, open_use = device.id in fleet.here, scope.sees_use_of(device)
    open_link = here and scope.sees_connection_of(device)
    seen = presence is not None and presence.last_seen_ms > 0
    return Row(
        posted=one,
        path=fleet.tree.path(one.room)[-2:],
        connection=connection_of(presence) if open_link else None,
        since_ms=presence.since_ms if presence and open_link else 0,
        freshness=freshness_of(presence, fleet.now_ms) if open_link else Freshness.NONE,
        age_ms=fleet.now_ms - presence.last_seen_ms if presence and seen and open_link else None,
        use=use_of(presence, fleet.newest.get(device.id), fleet.now_ms)
        if open_use and here
        else None,
        day=fleet.state(one) if open_use else None,
        attention=fleet.attention(scope, one),
        version=presence.agent_version if presence else "",
    )


def _passes(row: Row, filters: Filters) -> bool:
    device = row.posted.device
    words = filters.q.casefold().split()
    text = " ".join(
        (
            device.id,
            device.name,
            device.name_en,
            device.kind,
            *(f"{one.name_zh} {one.name_en}" for one in row.path),
        )
    ).casefold()
    return (
        all(word in text for word in words)
        and (not filters.connection or row.connection == filters.connection)
        and (not filters.freshness or row.freshness == filters.freshness)
        and (not filters.day_state or row.day == filters.day_state)
        and (not filters.attention or bool(row.attention))
    )


def _by_unit(tree: Tree, top: str, posted: Iterable[Posted]) -> dict[str, list[Posted]]:
    found: dict[str, list[Posted]] = {}
    for one in posted:
        inside = False
        for unit in tree.path(one.room):
            inside = inside or unit.id == top
            if inside:
                found.setdefault(unit.id, []).append(one)
    return found


def _taught(context: Context, posted: Iterable[Posted], day: date) -> frozenset[str]:
    """Schools with lessons on a day: the others leave the denominators."""
    calendars = context.registry.calendars()
    schools = {one.school for one in posted}
    return frozenset(one for one in schools if lesson_spans_ms(calendars.get(one), day))


def _counted(posted: Iterable[Posted], taught: frozenset[str]) -> list[Posted]:
    """Keep what has lessons; all of it on a day without lessons anywhere, which has no rate."""
    return [one for one in posted if not taught or one.school in taught]


def _rooms(by_unit: Mapping[str, list[Posted]]) -> dict[str, int]:
    return {unit: len({one.room for one in posted}) for unit, posted in by_unit.items()}


def _branches(
    scope: Scope,
    tree: Tree,
    top: str,
    *,
    posted: list[Posted],
    taught: frozenset[str],
    states: Mapping[str, tuple[DayState, bool]],
    cells: frozenset[str],
) -> Iterable[Branch]:
    base = len(tree.path(top))
    by_unit = _by_unit(tree, top, posted)
    for unit in tree.walk(top):
        inside = by_unit.get(unit.id, [])
        if unit.level not in scope.levels() or (unit.level is Level.ROOM and not inside):
            continue
        counts = figures.count(states[one.device.id] for one in _counted(inside, taught))
        yield Branch(
            unit,
            len(tree.path(unit.id)) - base,
            len(inside),
            sum(states[one.device.id][1] for one in inside),
            counts if unit.id in cells else None,
            any(one.school in taught for one in inside),
        )


def _connections(
    posted: Iterable[Posted], presence: Mapping[str, Presence]
) -> dict[Connection, int]:
    found = dict.fromkeys(Connection, 0)
    for one in posted:
        found[connection_of(presence.get(one.device.id))] += 1
    return found


def _totals(context: Context, posted: list[Posted]) -> Totals | None:
    if len(posted) > MOST_ACCOUNTS:
        return None
    ledgers = [one.ledger for one in context.reading.accounts([one.device.id for one in posted])]
    return Totals(
        sum(one.head for one in ledgers),
        sum(len(one.stored) for one in ledgers),
        sum(len(one.dropped) for one in ledgers),
        sum(len(one.refused) for one in ledgers),
        sum(one.quarantined for one in ledgers),
    )


def _own(context: Context, scope: Scope, fleet: _Fleet) -> Row | None:
    return next(
        (
            _row(scope, fleet, one)
            for one in fleet.posted
            if one.device.id == context.own_device and scope.sees_use_of(one.device)
        ),
        None,
    )


def _path_within(scope: Scope, tree: Tree, unit: str) -> tuple[Unit, ...]:
    path = tree.path(unit)
    return path[[one.id for one in path].index(scope.root) :]


def _last(
    hours: list[Hour],
    pick: Callable[[Hour], Mapping[str, object] | None],
) -> Mapping[str, object] | None:
    return next((found for hour in reversed(hours) if (found := pick(hour))), None)
