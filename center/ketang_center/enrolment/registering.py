"""Pre-registration: a checked device list becomes devices in the registry and assets in the book.

Nothing is written before every row is good. The registry is written first, the book second, each in
one transaction, and device ids depend on school and asset alone: a crash between the two leaves
devices in stock that nobody can claim, and the same list again finishes the work.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.values import Asset
from ketang_center.registry.database import Registry
from ketang_center.registry.imports import (
    MOST_PROBLEMS,
    Problem,
    Problems,
    Row,
    Rows,
    agent_runs_on,
    folded,
    kind_titles,
)
from ketang_center.registry.values import (
    Data,
    Device,
    Level,
    Placement,
    Service,
    ServiceState,
    Unit,
)
from ketang_contract import serials

_MAX_ID = 36
_SUFFIX_HEX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What a list did. Counts are of devices.

    Attributes:
        changed: unclaimed before, with another room, kind or serial now.
        unchanged: there already, or claimed and therefore left as they are.
    """

    added: int
    changed: int
    unchanged: int
    rooms: int
    """Rooms that were made."""
    warnings: tuple[Problem, ...]
    more_warnings: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Everything that is going to be written, and what is to be said of it."""

    data: Data
    assets: tuple[Asset, ...]
    registered: Registered


def register(
    registry: Registry, book: Book, rows: Rows, now_ms: int, *, add_rooms: bool
) -> Registered:
    """Register every device of a list, or none.

    Raises:
        BadRows: rows that the registry contradicts; every one is listed, nothing was written.
    """
    plan = _Planner(registry, book, rows, now_ms, add_rooms=add_rooms).plan()
    registry.load(plan.data)
    book.add_assets(plan.assets)
    return plan.registered


def check(
    registry: Registry, book: Book, rows: Rows, now_ms: int, *, add_rooms: bool
) -> Registered:
    """Tell what ``register`` would do, and write nothing.

    Raises:
        BadRows: as ``register``.
    """
    return _Planner(registry, book, rows, now_ms, add_rooms=add_rooms).plan().registered


def device_id(school: str, asset: str, is_taken: Callable[[str], bool]) -> str:
    """Return the first free id made of school and asset, ``[a-z0-9-]{1,36}``.

    The plain one where it fits and loses nothing, else one that ends in eight hex digits of their
    SHA-256; the same school and asset give the same ids in the same order.
    """
    return next(one for one in _ids(school, asset) if not is_taken(one))


def _ids(school: str, asset: str) -> Iterator[str]:
    whole = f"{school.lower()}-{asset.lower()}"
    plain = _slug(whole)
    if plain == whole and len(plain) <= _MAX_ID:
        yield plain
    no = 0
    while True:
        told = f"{school}\x00{folded(asset)}" + (f"\x00{no}" if no else "")
        suffix = hashlib.sha256(told.encode()).hexdigest()[:_SUFFIX_HEX]
        # A school's name must not push out the asset's, which people look for.
        left = _MAX_ID - _SUFFIX_HEX - 2
        end = _slug(asset)[-(left // 2) :]
        head = _slug(school)[: left - len(end)].strip("-")
        yield "-".join(one for one in (head, end.strip("-"), suffix) if one)
        no += 1


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class _Planner:
    """Holds a list against registry and book; reads only."""

    def __init__(
        self, registry: Registry, book: Book, rows: Rows, now_ms: int, *, add_rooms: bool
    ) -> None:
        self._registry, self._book, self._rows, self._now_ms = registry, book, rows, now_ms
        self._add_rooms = add_rooms
        self._tree = registry.tree()
        self._problems, self._warnings = Problems(rows.file), Problems(rows.file)
        known = book.assets()
        self._known = {(one.school, folded(one.asset)): one for one in known}
        self._holders = {one.device: one for one in known}
        self._given: set[str] = set()
        self._rooms: dict[str, dict[str, list[str]]] = {}
        self._new_rooms: dict[str, Unit] = {}

    def plan(self) -> _Plan:
        """Return what to write.

        Raises:
            BadRows: rows that cannot be registered.
        """
        for header in self._rows.ignored:
            self._warnings.add(0, header, "a column that means nothing here; it was not read")
        self._refuse_repeats()
        assets: list[tuple[Row, Asset, Asset | None]] = []
        for row in self._rows.rows:
            room = self._room(row)
            if room is not None:
                known = self._known.get((row.school, folded(row.asset)))
                assets.append((row, self._asset(row, room, known), known))
        self._problems.refuse()
        self._warn_of_serials([(row, asset) for row, asset, _ in assets])
        return self._planned(assets)

    def _planned(self, assets: Sequence[tuple[Row, Asset, Asset | None]]) -> _Plan:
        devices, placements, services, written = [], [], [], []
        added = changed = 0
        for row, asset, known in assets:
            if known is not None and self._is_settled(row, asset, known):
                continue
            added += known is None
            changed += known is not None and known != asset
            written.append(asset)
            if (device := self._device(row, asset)) is not None:
                devices.append(device)
            stays = self._registry.placements(asset.device)
            if not stays or stays[-1].room != asset.room:
                placements.append(
                    Placement(device=asset.device, room=asset.room, from_ms=self._now_ms)
                )
            if self._registry.device(asset.device) is None:
                services.append(
                    Service(device=asset.device, state=ServiceState.STOCK, from_ms=self._now_ms)
                )
        return _Plan(
            data=Data(
                units=tuple(self._new_rooms.values()),
                devices=tuple(devices),
                placements=tuple(placements),
                services=tuple(services),
            ),
            assets=tuple(one for one in written if one != self._known.get(_key(one))),
            registered=Registered(
                added=added,
                changed=changed,
                unchanged=len(assets) - added - changed,
                rooms=len(self._new_rooms),
                warnings=tuple(self._warnings.found[:MOST_PROBLEMS]),
                more_warnings=self._warnings.more,
            ),
        )

    def _refuse_repeats(self) -> None:
        seen: dict[tuple[str, str], int] = {}
        for row in self._rows.rows:
            first = seen.setdefault((row.school, folded(row.asset)), row.row)
            if first != row.row:
                self._problems.add(
                    row.row,
                    "asset",
                    f"{row.asset} stands in row {first} already; leave one of them",
                )

    def _room(self, row: Row) -> str | None:
        """Return the id of a row's room, one that is to be made included."""
        school = row.school
        if school not in self._tree or self._tree[school].level is not Level.SCHOOL:
            self._problems.add(
                row.row, "school", f"there is no school {school}; check the code, or add the school"
            )
            return None
        found = self._rooms_of(school).get(folded(row.room), [])
        if len(found) == 1:
            return found[0]
        if found:
            what = f"{len(found)} rooms are called {row.room}; give an id: {', '.join(found[:5])}"
            self._problems.add(row.row, "room", what)
        elif self._add_rooms:
            return self._new_room(school, row.room)
        else:
            what = f"the school has no room {row.room}; correct it, or add rooms with --add-rooms"
            self._problems.add(row.row, "room", what)
        return None

    def _rooms_of(self, school: str) -> dict[str, list[str]]:
        if school not in self._rooms:
            rooms = self._rooms[school] = {}
            units = self._tree.children(school)
            for unit in units:
                for name in {folded(unit.name_zh), folded(unit.name_en)}:
                    rooms.setdefault(name, []).append(unit.id)
            # An id is exact, whatever some other room is called.
            rooms.update({folded(unit.id): [unit.id] for unit in units})
        return self._rooms[school]

    def _new_room(self, school: str, name: str) -> str:
        one = device_id(school, name, lambda one: one in self._tree or one in self._new_rooms)
        self._new_rooms[one] = Unit(
            id=one, level=Level.ROOM, parent=school, name_zh=name, name_en=name
        )
        self._rooms_of(school)[folded(name)] = [one]
        return one

    def _asset(self, row: Row, room: str, known: Asset | None) -> Asset:
        serial = serials.normalise(row.serial)
        if known is not None:
            return replace(known, room=room, kind=row.kind, serial=serial)
        device = device_id(row.school, row.asset, lambda one: self._is_taken(one, row.school))
        self._given.add(device)
        return Asset(
            device=device,
            school=row.school,
            asset=row.asset,
            room=room,
            kind=row.kind,
            serial=serial,
        )

    def _is_taken(self, device: str, school: str) -> bool:
        if device in self._given or device in self._holders or self._book.is_barred(device):
            return True
        if self._registry.device(device) is None:
            return False
        # No asset carries it, and it never stood elsewhere: a run that was cut short made it.
        stays = self._registry.placements(device)
        return any(
            one.room not in self._tree or self._tree[one.room].parent != school for one in stays
        )

    def _device(self, row: Row, asset: Asset) -> Device | None:
        """Return what the registry should hold; None where it holds it."""
        known = self._registry.device(asset.device)
        zh, en = kind_titles(row.kind)
        device = Device(
            id=asset.device,
            kind=row.kind,
            name=row.name or (known.name if known else f"{zh} {row.asset}"),
            name_en="" if row.name else (known.name_en if known else f"{en} {row.asset}"),
            shared=row.shared,
        )
        return device if device != known else None

    def _is_settled(self, row: Row, asset: Asset, known: Asset) -> bool:
        """Tell whether a list may no longer change an asset: it is in use, or was thrown out."""
        if self._book.is_barred(known.device):
            what = f"{row.asset} was thrown out; if it is back, approve it when it enrols"
            self._warnings.add(row.row, "asset", what)
            return True
        if known.claimed_ms is not None and asset != known:
            what = f"{row.asset} is in use; nothing of it was changed"
            self._warnings.add(row.row, "asset", what)
        return known.claimed_ms is not None

    def _warn_of_serials(self, assets: Sequence[tuple[Row, Asset]]) -> None:
        after = dict(self._known)
        for _, asset in assets:
            if (now := after.get(_key(asset))) is None or now.claimed_ms is None:
                after[_key(asset)] = asset
        holders: dict[str, list[Asset]] = {}
        for one in after.values():
            holders.setdefault(one.serial, []).append(one)
        for row, asset in assets:
            others = [one for one in holders.get(asset.serial, ()) if _key(one) != _key(asset)]
            what = _doubt(row, asset, others)
            if what:
                self._warnings.add(row.row, "serial", what)


def _doubt(row: Row, asset: Asset, others: Sequence[Asset]) -> str:
    """Say why a device will not be let in on its own; empty where it will."""
    here = [one.asset for one in others if one.school == asset.school]
    there = sorted({one.school for one in others if one.school != asset.school})
    if not agent_runs_on(row.kind):
        return f"no agent runs on {row.kind}: it will not enrol, and needs no serial number"
    if not asset.serial:
        return "empty; the device will wait for approval"
    if serials.is_doubtful(asset.serial):
        return f"'{row.serial}' names no single machine; the device will wait for approval"
    if here:
        return f"{row.serial} is that of {', '.join(here[:3])} too; each will wait for approval"
    if there:
        return f"{row.serial} is registered at {', '.join(there[:3])} too; one of them is wrong"
    return ""


def _key(asset: Asset) -> tuple[str, str]:
    return asset.school, folded(asset.asset)
