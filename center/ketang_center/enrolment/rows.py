"""The book's file: rows that are frozen values, and a journal of every row that must survive.

The journal holds row images, written in the transaction of the change itself, so that what is kept
off the machine can put back what a restored backup forgot.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
)
from ketang_center.registry.values import Kind
from ketang_contract.errors import BadInput

T = TypeVar("T")
Cell = str | int | None

_SCHEMA = """
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
  from_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, revoked_ms INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS certificate_by_device ON certificate (device);
CREATE INDEX IF NOT EXISTS certificate_by_key ON certificate (key_id);
CREATE TABLE IF NOT EXISTS barred (
  device TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, why TEXT NOT NULL, by TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS barred_stays BEFORE DELETE ON barred
  BEGIN SELECT raise(ABORT, 'a bar is for ever'); END;
CREATE TABLE IF NOT EXISTS waiting (
  no INTEGER PRIMARY KEY AUTOINCREMENT, key_id TEXT NOT NULL UNIQUE, school TEXT NOT NULL,
  code_id TEXT NOT NULL, serial TEXT NOT NULL, asset TEXT NOT NULL, source TEXT NOT NULL,
  reason TEXT NOT NULL, asked_ms INTEGER NOT NULL, device TEXT NOT NULL, verdict TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS journal (no INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_READ: dict[Any, Callable[[Any], Any]] = {
    Kind: Kind,
    Reason: Reason,
    bool: bool,
    bytes: bytes.fromhex,
}


class Rows:
    """One connection behind one lock; any thread."""

    KINDS: ClassVar[dict[type, tuple[str, tuple[str, ...]]]] = {
        Asset: ("asset", ("school", "asset")),
        Code: ("code", ("id",)),
        Certificate: ("certificate", ("serial",)),
        Revocation: ("barred", ("device",)),
        Waiting: ("waiting", ("no",)),
    }
    """Table and key of each value; its columns are the value's fields, in their order."""
    JOURNALED: ClassVar[dict[str, type]] = {
        "asset": Asset,
        "code": Code,
        "certificate": Certificate,
        "barred": Revocation,
    }

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends; joins the one that this thread has open."""
        with self._lock:
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

    def run(self, statement: str, *values: Cell) -> int:
        """Run a statement of ours; return how many rows it touched."""
        with self._lock:
            return self._db.execute(statement, values).rowcount

    def number(self, query: str, *values: Cell) -> int:
        """Return the one number a query gives."""
        with self._lock:
            (found,) = self._db.execute(query, values).fetchone()
        return int(found)

    def table(self, query: str, *values: Cell) -> list[tuple[Any, ...]]:
        """Return the rows of a query of ours, for counts over many."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def next_number(self, name: str) -> int:
        """Return a number of this name greater than all before."""
        with self.transaction():
            self.run(
                "INSERT INTO meta VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1", name
            )
            return self.number("SELECT value FROM meta WHERE key = ?", name)

    def read(self, kind: type[T], rest: str, *values: Cell) -> list[T]:
        """Return the values a ``WHERE …`` or ``ORDER BY …`` of ours picks."""
        table, _ = self.KINDS[kind]
        with self._lock:
            rows = self._db.execute(f"SELECT * FROM {table} {rest}", values).fetchall()  # nosec B608  # noqa: S608  (text of ours)
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
        return self.number("SELECT coalesce(max(no), 0) FROM journal")

    def journal(self, after: int, limit: int = 1000) -> list[tuple[int, str]]:
        """Return journal lines after a number: ``(no, JSON {"table", "row"})``."""
        with self._lock:
            return self._db.execute(
                "SELECT no, body FROM journal WHERE no > ? ORDER BY no LIMIT ?", (after, limit)
            ).fetchall()

    def replay(self, lines: Sequence[tuple[int, str]]) -> int:
        """Put back what a restored backup forgot; return how many lines were new.

        Raises:
            BadInput: a line is none of ours.
        """
        with self.transaction():
            known = self.version()
            fresh = [(no, body) for no, body in lines if no > known]
            for no, body in fresh:
                table, row = self._parse(body)
                verb = "OR IGNORE" if table == "barred" else "OR REPLACE"
                self._db.execute(f"INSERT {verb} INTO {table} VALUES ({_marks(row)})", row)  # nosec B608  # noqa: S608  (names of ours)
                self._db.execute("INSERT INTO journal VALUES (?, ?)", (no, body))
        return len(fresh)

    def _parse(self, body: str) -> tuple[str, tuple[Cell, ...]]:
        try:
            said = json.loads(body)
            table, row = str(said["table"]), tuple(said["row"])
            _made(self.JOURNALED[table], row)
        except (ValueError, KeyError, TypeError) as problem:
            raise BadInput(f"journal: a line cannot be read: {problem!r}") from None
        return table, row

    def _journal(self, table: str, row: tuple[Cell, ...]) -> None:
        if table in self.JOURNALED:
            body = json.dumps({"table": table, "row": row}, ensure_ascii=False)
            self._db.execute("INSERT INTO journal (body) VALUES (?)", (body,))


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
