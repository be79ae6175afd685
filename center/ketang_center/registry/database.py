"""The registry's own SQLite file. Writes are rare and made by people; reads come in bulk.

Every change notes the devices it touches, so that the rollups can restate exactly those.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ketang_center.registry.tree import Tree
from ketang_center.registry.values import (
    Calendar,
    Data,
    Device,
    Kind,
    Level,
    Placement,
    Posted,
    Service,
    ServiceState,
    Span,
    Unit,
)
from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier

_SCHEMA = """
CREATE TABLE IF NOT EXISTS unit (
  id TEXT PRIMARY KEY, level TEXT NOT NULL, parent TEXT REFERENCES unit (id),
  name_zh TEXT NOT NULL, name_en TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calendar (
  school TEXT PRIMARY KEY REFERENCES unit (id), always_in_lesson INTEGER NOT NULL,
  timezone TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lesson (
  school TEXT NOT NULL REFERENCES calendar (school), weekday INTEGER NOT NULL,
  from_minute INTEGER NOT NULL, until_minute INTEGER NOT NULL,
  PRIMARY KEY (school, weekday, from_minute)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS device (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, name_en TEXT NOT NULL,
  shared INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS placement (
  device TEXT NOT NULL REFERENCES device (id), room TEXT NOT NULL REFERENCES unit (id),
  from_ms INTEGER NOT NULL, until_ms INTEGER, PRIMARY KEY (device, from_ms)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS service (
  device TEXT NOT NULL REFERENCES device (id), state TEXT NOT NULL,
  from_ms INTEGER NOT NULL, until_ms INTEGER, PRIMARY KEY (device, from_ms)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revision (no INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL);
"""
_IN_SERVICE = """
SELECT d.id, d.kind, d.name, d.name_en, d.shared, p.room, u.parent, p.from_ms
FROM device d
JOIN placement p ON p.device = d.id
JOIN unit u ON u.id = p.room
WHERE p.from_ms < :until AND coalesce(p.until_ms, :until) > :from
  AND p.from_ms = (SELECT max(x.from_ms) FROM placement x
                   WHERE x.device = d.id AND x.from_ms < :until)
  AND EXISTS (SELECT 1 FROM service s WHERE s.device = d.id AND s.state = 'in_service'
              AND s.from_ms < :until AND coalesce(s.until_ms, :until) > :from)
ORDER BY p.room, d.id
"""


class Registry:
    """One connection; use it from one thread at a time. A context manager closes it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)
        self._tree: tuple[int, Tree] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def load(self, data: Data) -> None:
        """Add everything in one transaction: all of it, or nothing.

        Raises:
            BadInput: an entry contradicts what is there; the message names it.
        """
        steps: tuple[tuple[Iterable[object], Callable[..., None]], ...] = (
            (data.units, self.add_unit),
            (data.calendars, self.set_calendar),
            (data.devices, self.add_device),
            (data.services, self.set_service),
            (data.placements, self.place),
        )
        with self._transaction():
            for values, add in steps:
                for value in values:
                    add(value)

    def add_unit(self, unit: Unit) -> None:
        """Add a unit below a parent that is there, or rename the one that is there."""
        if unit.parent is not None:
            above = self._db.execute(
                "SELECT level FROM unit WHERE id = ?", (unit.parent,)
            ).fetchone()
            if above is None or above[0] != unit.level.above:
                raise BadInput(f"{unit.id}: a {unit.level} needs a {unit.level.above} above it")
        with self._transaction():
            self._db.execute(
                "INSERT INTO unit VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " name_zh = excluded.name_zh, name_en = excluded.name_en",
                (unit.id, unit.level, unit.parent, unit.name_zh, unit.name_en),
            )
            self._note([""])

    def set_calendar(self, calendar: Calendar) -> None:
        """Set when a school is in lesson, in place of what was set before."""
        with self._transaction():
            self._db.execute("DELETE FROM lesson WHERE school = ?", (calendar.school,))
            self._db.execute(
                "INSERT INTO calendar VALUES (?, ?, ?) ON CONFLICT (school) DO UPDATE SET"
                " always_in_lesson = excluded.always_in_lesson, timezone = excluded.timezone",
                (calendar.school, calendar.always_in_lesson, calendar.timezone),
            )
            self._db.executemany(
                "INSERT INTO lesson VALUES (?, ?, ?, ?)",
                [
                    (calendar.school, one.weekday, one.from_minute, one.until_minute)
                    for one in calendar.spans
                ],
            )
            self._note(
                row[0]
                for row in self._db.execute(
                    "SELECT DISTINCT p.device FROM placement p JOIN unit u ON u.id = p.room"
                    " WHERE u.parent = ?",
                    (calendar.school,),
                ).fetchall()
            )

    def add_device(self, device: Device) -> None:
        """Add a device, or change its name and kind."""
        if not is_identifier(device.id):
            raise BadInput(f"{device.id!r} is no device id: use a-z, 0-9 and -, at most 36")
        with self._transaction():
            self._db.execute(
                "INSERT INTO device VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " kind = excluded.kind, name = excluded.name, name_en = excluded.name_en,"
                " shared = excluded.shared",
                (device.id, device.kind, device.name, device.name_en, device.shared),
            )
            self._note([device.id])

    def place(self, placement: Placement) -> None:
        """Put a device into a room from a time on; its stay before ends there."""
        room = self._db.execute("SELECT level FROM unit WHERE id = ?", (placement.room,)).fetchone()
        if room is None or room[0] != Level.ROOM:
            raise BadInput(f"{placement.device}: there is no room {placement.room}")
        self._since(
            "placement", placement.device, placement.room, placement.from_ms, placement.until_ms
        )

    def set_service(self, service: Service) -> None:
        """Set a device's service state from a time on; the state before ends there."""
        self._since("service", service.device, service.state, service.from_ms, service.until_ms)

    def _since(
        self, table: str, device: str, value: str, from_ms: int, until_ms: int | None
    ) -> None:
        if self.device(device) is None:
            raise BadInput(f"there is no device {device}")
        if until_ms is not None and until_ms <= from_ms:
            raise BadInput(f"{device}: ends before it begins")
        with self._transaction():
            later = self._db.execute(
                f"SELECT min(from_ms) FROM {table} WHERE device = ? AND from_ms > ?",  # nosec B608  # noqa: S608  (one of two names above)
                (device, from_ms),
            ).fetchone()[0]
            if later is not None and (until_ms is None or until_ms > later):
                until_ms = later
            self._db.execute(
                f"UPDATE {table} SET until_ms = ? WHERE device = ? AND from_ms < ?"  # nosec B608  # noqa: S608  (as above)
                " AND (until_ms IS NULL OR until_ms > ?)",
                (from_ms, device, from_ms, from_ms),
            )
            self._db.execute(
                f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)",  # noqa: S608  (as above)
                (device, value, from_ms, until_ms),
            )
            self._note([device])

    # Reads.

    def revision(self) -> int:
        """Return a number that grows with every change."""
        return int(self._db.execute("SELECT coalesce(max(no), 0) FROM revision").fetchone()[0])

    def touched_since(self, revision: int) -> set[str]:
        """Return the devices whose figures a change after ``revision`` may restate."""
        rows = self._db.execute(
            "SELECT DISTINCT device FROM revision WHERE no > ? AND device != ''",
            (revision,),
        )
        return {row[0] for row in rows}

    def tree(self) -> Tree:
        """Return the organisation as it is now."""
        at = self.revision()
        if self._tree is None or self._tree[0] != at:
            rows = self._db.execute(
                "SELECT id, level, parent, name_zh, name_en FROM unit ORDER BY rowid"
            )
            self._tree = (
                at,
                Tree(
                    Unit(id=one, level=Level(level), parent=parent, name_zh=zh, name_en=en)
                    for one, level, parent, zh, en in rows
                ),
            )
        return self._tree[1]

    def device(self, device: str) -> Device | None:
        """Return one device."""
        row = self._db.execute(
            "SELECT id, kind, name, name_en, shared FROM device WHERE id = ?",
            (device,),
        ).fetchone()
        return _device(row) if row else None

    def devices(self) -> list[Device]:
        """Return every device that was ever added."""
        rows = self._db.execute("SELECT id, kind, name, name_en, shared FROM device ORDER BY id")
        return [_device(row) for row in rows]

    def in_service(self, from_ms: int, until_ms: int) -> list[Posted]:
        """Return the devices in service in a stretch of time, where they stood at its end."""
        rows = self._db.execute(_IN_SERVICE, {"from": from_ms, "until": until_ms})
        return [
            Posted(device=_device(row[:5]), room=row[5], school=row[6], from_ms=row[7])
            for row in rows
        ]

    def placements(self, device: str) -> list[Placement]:
        """Return where a device stood, oldest first."""
        rows = self._db.execute(
            "SELECT room, from_ms, until_ms FROM placement WHERE device = ? ORDER BY from_ms",
            (device,),
        )
        return [
            Placement(device=device, room=room, from_ms=first, until_ms=last)
            for room, first, last in rows
        ]

    def school_of(self, device: str, at_ms: int) -> str | None:
        """Return the school a device belonged to at a time; None where it stood nowhere."""
        row = self._db.execute(
            "SELECT u.parent FROM placement p JOIN unit u ON u.id = p.room WHERE p.device = ?"
            " AND p.from_ms <= ? AND (p.until_ms IS NULL OR p.until_ms > ?)",
            (device, at_ms, at_ms),
        ).fetchone()
        return str(row[0]) if row else None

    def schools_at(self, at_ms: int) -> dict[str, str]:
        """Return the school of every device that stood somewhere at a time."""
        rows = self._db.execute(
            "SELECT p.device, u.parent FROM placement p JOIN unit u ON u.id = p.room"
            " WHERE p.from_ms <= ? AND (p.until_ms IS NULL OR p.until_ms > ?)",
            (at_ms, at_ms),
        )
        return {str(device): str(school) for device, school in rows}

    def service_state(self, device: str, at_ms: int) -> ServiceState | None:
        """Return a device's service state at a time; None where nobody set one."""
        row = self._db.execute(
            "SELECT state FROM service WHERE device = ?"
            " AND from_ms <= ? AND (until_ms IS NULL OR until_ms > ?)",
            (device, at_ms, at_ms),
        ).fetchone()
        return ServiceState(row[0]) if row else None

    def service_states(self, at_ms: int) -> dict[str, ServiceState]:
        """Return every device's service state at a time, of those that have one."""
        rows = self._db.execute(
            "SELECT device, state FROM service"
            " WHERE from_ms <= ? AND (until_ms IS NULL OR until_ms > ?)",
            (at_ms, at_ms),
        )
        return {device: ServiceState(state) for device, state in rows}

    def may_tell_of(self, device: str, subject: str, at_ms: int) -> bool:
        """Tell whether a device's word on another subject counts: both stood in one school then."""
        school = self.school_of(device, at_ms)
        return school is not None and school == self.school_of(subject, at_ms)

    def calendars(self) -> dict[str, Calendar]:
        """Return every school's lesson time by school."""
        spans: dict[str, list[Span]] = {}
        for school, weekday, first, last in self._db.execute("SELECT * FROM lesson"):
            spans.setdefault(school, []).append(
                Span(weekday=weekday, from_minute=first, until_minute=last)
            )
        return {
            school: Calendar(
                school=school,
                spans=tuple(spans.get(school, ())),
                always_in_lesson=bool(always),
                timezone=zone,
            )
            for school, always, zone in self._db.execute("SELECT * FROM calendar")
        }

    def _note(self, devices: Iterable[str]) -> None:
        self._db.executemany("INSERT INTO revision (device) VALUES (?)", [(d,) for d in devices])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; joins the transaction that is already open."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _device(row: Sequence[str | int]) -> Device:
    one, kind, name, name_en, shared = row
    return Device(
        id=str(one), kind=Kind(str(kind)), name=str(name), name_en=str(name_en), shared=bool(shared)
    )
