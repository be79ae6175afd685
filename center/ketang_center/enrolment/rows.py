"""The book's file: rows that are frozen values, and a journal of every row that must survive.

The journal holds row images, written in the transaction of the change itself, so that what is kept
off the machine can put back what a restored backup forgot.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from ketang_center.enrolment.values import (
    Asset,
    Certificate,
    Code,
    Reason,
    Revocation,
    Waiting,
    Withdrawal,
)
from ketang_center.registry.values import Kind
from ketang_center.rows_file import Cell, RowsFile, Shape
from ketang_contract.errors import BadInput

T = TypeVar("T")
Line = tuple[int, str]
"""Of the journal: its number, and the image of a row."""

_TABLES = """
CREATE TABLE IF NOT EXISTS asset (
  device TEXT NOT NULL UNIQUE, school TEXT, asset TEXT, room TEXT NOT NULL, kind TEXT NOT NULL,
  serial TEXT NOT NULL, claimed_ms INTEGER, PRIMARY KEY (school, asset)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS asset_by_serial ON asset (serial);
CREATE TABLE IF NOT EXISTS code (
  id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, school TEXT NOT NULL,
  uses INTEGER NOT NULL, used INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
  made_ms INTEGER NOT NULL, made_by TEXT NOT NULL, withdrawn INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS certificate (
  serial TEXT PRIMARY KEY, device TEXT NOT NULL, key_id TEXT NOT NULL, pem TEXT NOT NULL,
  from_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, revoked_ms INTEGER,
  parent TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS certificate_by_device ON certificate (device);
CREATE INDEX IF NOT EXISTS certificate_by_key ON certificate (key_id);
CREATE INDEX IF NOT EXISTS certificate_revoked ON certificate (serial)
  WHERE revoked_ms IS NOT NULL;
CREATE INDEX IF NOT EXISTS certificate_by_parent ON certificate (parent);
CREATE TABLE IF NOT EXISTS barred (
  device TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, why TEXT NOT NULL, by TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS barred_stays BEFORE DELETE ON barred
  BEGIN SELECT raise(ABORT, 'a bar is for ever'); END;
CREATE TABLE IF NOT EXISTS withdrawn (
  key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, why TEXT NOT NULL, by TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS withdrawn_stays BEFORE DELETE ON withdrawn
  BEGIN SELECT raise(ABORT, 'what was withdrawn stays so'); END;
CREATE TABLE IF NOT EXISTS waiting (
  no INTEGER PRIMARY KEY AUTOINCREMENT, key_id TEXT NOT NULL UNIQUE, school TEXT NOT NULL,
  code_id TEXT NOT NULL, serial TEXT NOT NULL, asset TEXT NOT NULL, source TEXT NOT NULL,
  reason TEXT NOT NULL, asked_ms INTEGER NOT NULL, device TEXT NOT NULL, verdict TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS journal (no INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS came (no INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_WITH_WITHDRAWALS = ""
_SHAPE = Shape(_TABLES, (_WITH_WITHDRAWALS,))
_READ: dict[Any, Callable[[Any], Any]] = {
    Kind: Kind,
    Reason: Reason,
    bool: bool,
    bytes: bytes.fromhex,
}


class Rows(RowsFile):
    """One connection behind one lock; any thread, several processes."""

    KINDS: ClassVar[dict[type, tuple[str, tuple[str, ...]]]] = {
        Asset: ("asset", ("school", "asset")),
        Code: ("code", ("id",)),
        Certificate: ("certificate", ("serial",)),
        Revocation: ("barred", ("device",)),
        Withdrawal: ("withdrawn", ("key",)),
        Waiting: ("waiting", ("no",)),
    }
    """Table and key of each value; its columns are the value's fields, in their order."""
    JOURNALED: ClassVar[dict[str, type]] = {
        "asset": Asset,
        "code": Code,
        "certificate": Certificate,
        "barred": Revocation,
        "withdrawn": Withdrawal,
    }

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SHAPE)

    def next_number(self, name: str, least: int = 1) -> int:
        """Return a number of this name greater than all before, and not less than ``least``."""
        with self.transaction():
            number = max(self.mark(name) + 1, least)
            self.set_mark(name, number)
            return number

    def read(self, kind: type[T], rest: str, *values: Cell) -> list[T]:
        """Return the values a ``WHERE …`` or ``ORDER BY …`` of ours picks."""
        table, _ = self.KINDS[kind]
        rows = self.table(f"SELECT * FROM {table} {rest}", *values)  # nosec B608  # noqa: S608  (text of ours)
        return [_made(kind, row) for row in rows]

    def put(self, value: object) -> None:
        """Write a value over the one with its key, and into the journal."""
        table, keys = self.KINDS[type(value)]
        row = _flat(value)
        rest = [one.name for one in fields(cast("Any", value)) if one.name not in keys]
        changes = ", ".join(f"{name} = excluded.{name}" for name in rest)
        with self.transaction():
            self._db.execute(
                f"INSERT INTO {table} VALUES ({_marks(row)})"  # nosec B608  # noqa: S608  (names of ours)
                f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}",
                row,
            )
            self._journal(table, row)

    def merge(self, value: object, changes: str) -> None:
        """Write a value over the one with its key as ``changes`` (of ours) say; not journaled."""
        table, keys = self.KINDS[type(value)]
        row = _flat(value)
        self.run(
            f"INSERT INTO {table} VALUES ({_marks(row)})"  # nosec B608  # noqa: S608  (names of ours)
            f" ON CONFLICT ({', '.join(keys)}) DO {changes}",
            *row,
        )

    def add(self, value: object) -> bool:
        """Write a value unless its key is taken; false then."""
        table, _ = self.KINDS[type(value)]
        row = _flat(value)
        with self.transaction():
            done = self._db.execute(
                f"INSERT OR IGNORE INTO {table} VALUES ({_marks(row)})",  # noqa: S608  (names of ours)
                row,
            )
            if done.rowcount > 0:
                self._journal(table, row)
            return done.rowcount > 0

    def version(self) -> int:
        """Return a number that grows with every journaled change, by whichever process."""
        return self.last_no() + self.number("SELECT coalesce(max(no), 0) FROM came")

    def last_no(self) -> int:
        """Return the number of the journal's last line."""
        return self.number("SELECT coalesce(max(no), 0) FROM journal")

    def journal(self, after: int, limit: int = 1000) -> list[Line]:
        """Return journal lines after a number: ``(no, JSON {"table", "row"})``."""
        with self._lock:
            return self._db.execute(
                "SELECT no, body FROM journal WHERE no > ? ORDER BY no LIMIT ?", (after, limit)
            ).fetchall()

    def line(self, no: int) -> str | None:
        """Return what our own journal has under a number."""
        found = self.table("SELECT body FROM journal WHERE no = ?", no)
        return str(found[0][0]) if found else None

    def came(self, line: Line) -> bool:
        """Tell whether a line of another history was taken in, whose number we use for our own."""
        return bool(self.number("SELECT count(*) FROM came WHERE line = ?", _name(line)))

    def keep_line(self, line: Line) -> None:
        """Note that a line was taken in: in our journal, or beside it where the number is taken."""
        if self.run("INSERT OR IGNORE INTO journal VALUES (?, ?)", *line) <= 0:
            self.run("INSERT OR IGNORE INTO came (line) VALUES (?)", _name(line))

    @classmethod
    def value_of(cls, body: str) -> object:
        """Read the body of a journal line.

        Raises:
            BadInput: it is none of ours.
        """
        try:
            said = json.loads(body)
            return _made(cls.JOURNALED[said["table"]], said["row"])
        except (ValueError, KeyError, TypeError) as problem:
            raise BadInput(f"journal: a line cannot be read: {problem!r}") from None

    def _journal(self, table: str, row: tuple[Cell, ...]) -> None:
        if table in self.JOURNALED:
            body = json.dumps({"table": table, "row": row}, ensure_ascii=False)
            self._db.execute("INSERT INTO journal (body) VALUES (?)", (body,))


def _name(line: Line) -> str:
    return hashlib.sha256(f"{line[0]}\n{line[1]}".encode()).hexdigest()


def _marks(row: tuple[Cell, ...]) -> str:
    return ", ".join("?" * len(row))


def _flat(value: object) -> tuple[Cell, ...]:
    return tuple(_cell(getattr(value, one.name)) for one in fields(cast("Any", value)))


def _cell(value: object) -> Cell:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bytes):
        return value.hex()
    return int(value) if isinstance(value, bool) else cast("Cell", value)


def _made(kind: type[T], row: Sequence[Any]) -> T:
    columns = fields(cast("Any", kind))
    return kind(
        **{
            one.name: _READ.get(one.type, lambda cell: cell)(cell)
            for one, cell in zip(columns, row, strict=True)
        }
    )
