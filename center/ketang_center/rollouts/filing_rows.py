"""The file of filings and camera grants, ``filings.db``: rows that are frozen values."""

from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from ketang_center.rollouts.filing_values import FilingEntry, FilingState, GrantEntry
from ketang_center.rows_file import Cell, RowsFile, Shape

T = TypeVar("T", FilingEntry, GrantEntry)

_TABLES = """
CREATE TABLE IF NOT EXISTS filing (
  no INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, name TEXT NOT NULL,
  version TEXT NOT NULL, sha256 TEXT NOT NULL, number TEXT NOT NULL, purpose TEXT NOT NULL,
  data TEXT NOT NULL, scope TEXT NOT NULL, state TEXT NOT NULL, submitted_by TEXT NOT NULL,
  submitted_ms INTEGER NOT NULL, reviewed_by TEXT NOT NULL, reviewed_ms INTEGER NOT NULL,
  note TEXT NOT NULL, closed_by TEXT NOT NULL, closed_ms INTEGER NOT NULL,
  approved_by TEXT NOT NULL, approved_ms INTEGER NOT NULL,
  approver TEXT NOT NULL, issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL,
  digest TEXT NOT NULL, envelope TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS filing_by_state ON filing (state, expires_s);
CREATE TABLE IF NOT EXISTS camera_grant (
  digest TEXT PRIMARY KEY, target TEXT NOT NULL, school TEXT NOT NULL, purpose TEXT NOT NULL,
  holder TEXT NOT NULL, approver TEXT NOT NULL, issued_s INTEGER NOT NULL,
  from_s INTEGER NOT NULL, until_s INTEGER NOT NULL, envelope TEXT NOT NULL,
  taken_by TEXT NOT NULL, taken_ms INTEGER NOT NULL, withdrawn_by TEXT NOT NULL,
  withdrawn_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS camera_grant_by_school ON camera_grant (school);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_SHAPE = Shape(_TABLES)
_VERSION = "version"


class FilingRows(RowsFile):
    """One connection behind one lock; any thread, several processes."""

    KINDS: ClassVar[dict[type, tuple[str, str]]] = {
        FilingEntry: ("filing", "no"),
        GrantEntry: ("camera_grant", "digest"),
    }
    """Table and key of each value; its columns are the value's fields, by name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SHAPE)

    def read(self, kind: type[T], rest: str = "", *values: Cell) -> list[T]:
        """Return the values a ``WHERE …`` or ``ORDER BY …`` of ours picks."""
        table, _ = self.KINDS[kind]
        names = ", ".join(_names(kind))
        rows = self.table(f"SELECT {names} FROM {table} {rest}", *values)  # nosec B608  # noqa: S608  (text of ours)
        return [_made(kind, row) for row in rows]

    def put(self, value: FilingEntry | GrantEntry) -> int:
        """Write a value over the one with its key; return the number of a filing's row.

        A filing of number 0 gets the next one.
        """
        table, key = self.KINDS[type(value)]
        cells = {name: _cell(getattr(value, name)) for name in _names(type(value))}
        if cells.get("no") == 0:
            del cells["no"]
        marks = ", ".join("?" * len(cells))
        changes = ", ".join(f"{name} = excluded.{name}" for name in cells if name != key)
        no = self.run(
            f"INSERT INTO {table} ({', '.join(cells)}) VALUES ({marks})"  # nosec B608  # noqa: S608  (names of ours)
            f" ON CONFLICT ({key}) DO UPDATE SET {changes}",
            *cells.values(),
        )
        return int(cells.get("no") or no)

    def version(self) -> int:
        """Return a number that ``count_change`` makes grow."""
        return self.mark(_VERSION)

    def count_change(self) -> None:
        """Note that what devices are to be brought has changed."""
        self.raise_mark(_VERSION)


def _names(kind: type[Any]) -> list[str]:
    return [one.name for one in fields(kind)]


def _cell(value: object) -> Cell:
    return value.value if isinstance(value, FilingState) else cast("Cell", value)


def _made(kind: type[T], row: tuple[Any, ...]) -> T:
    said = dict(zip(_names(kind), row, strict=True))
    if kind is FilingEntry:
        said["state"] = FilingState(said["state"])
    return kind(**said)
