"""Who did what: append-only, each entry chained to the one before by SHA-256.

A changed or missing entry breaks the chain; only cutting off the end, or writing everything anew,
goes unseen, which is why the head is kept off the machine (PRIVACY rule 14): ``send_head`` keeps
it there, ``verify`` compares.
"""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_contract.errors import BadInput

HEADS = "ketang-audit-heads.jsonl"
"""The file in the off-machine folder that heads are appended to."""
_GENESIS = "0" * 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
  no INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
  subject TEXT NOT NULL, hash TEXT NOT NULL, unit TEXT NOT NULL DEFAULT '');
CREATE TRIGGER IF NOT EXISTS audit_keeps BEFORE UPDATE ON audit
  BEGIN SELECT raise(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE DELETE ON audit
  BEGIN SELECT raise(ABORT, 'the audit log only grows'); END;
"""
_INDEXES = """
CREATE INDEX IF NOT EXISTS audit_by_unit ON audit (unit, no);
CREATE INDEX IF NOT EXISTS audit_by_action ON audit (action, no);
"""
_FIELDS = "no, at_ms, who, action, subject, hash, unit"


@dataclass(frozen=True, slots=True)
class Entry:
    """One act. ``unit`` is the part of the tree it concerned; empty: the centre as a whole."""

    no: int
    at_ms: int
    who: str
    action: str
    subject: str
    hash: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain at a moment; number 0 of an empty log."""

    no: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a walk over the whole chain found; ``broken`` names the first entry that is wrong."""

    count: int
    head: Head
    broken: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a look at the log is narrowed to. ``units`` None: everything, the centre's own too."""

    who: str = ""
    action: str = ""
    units: frozenset[str] | None = None


class Audit:
    """The log, in its own file. Any thread; several processes may write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(audit)")}
        if "unit" not in columns:
            # A log begun by release 0.1.0; its entries' hashes are over five values, and stay so.
            self._db.execute("ALTER TABLE audit ADD COLUMN unit TEXT NOT NULL DEFAULT ''")
        self._db.executescript(_INDEXES)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def note(self, at_ms: int, who: str, action: str, subject: str, unit: str = "") -> None:
        """Add an entry; durable when this returns."""
        self.note_all(at_ms, who, action, [(subject, unit)])

    def note_all(
        self, at_ms: int, who: str, action: str, subjects: Iterable[tuple[str, str]]
    ) -> None:
        """Add an entry for each subject with its unit, or none; durable when this returns."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for subject, unit in subjects:
                    self._add(at_ms, who, action, subject, unit)
                self._db.execute("COMMIT")
            except BaseException:
                # Left open, no later look could begin its own.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _add(self, at_ms: int, who: str, action: str, subject: str, unit: str) -> None:
        last = self._db.execute("SELECT no, hash FROM audit ORDER BY no DESC LIMIT 1").fetchone()
        no, before = (last[0] + 1, last[1]) if last else (1, _GENESIS)
        made = _chain(before, Entry(no, at_ms, who, action, subject, "", unit))
        self._db.execute(
            f"INSERT INTO audit ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # nosec B608  # noqa: S608  (names of ours)
            (no, at_ms, who, action, subject, made, unit),
        )

    def head(self) -> Head:
        """Return the end of the chain."""
        with self._lock:
            row = self._db.execute("SELECT no, hash FROM audit ORDER BY no DESC LIMIT 1").fetchone()
        return Head(*row) if row else Head(0, _GENESIS)

    def __iter__(self) -> Iterator[Entry]:
        """Yield every entry, oldest first, on a connection of its own."""
        return walk(self._path)

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first."""
        return list(self)

    def page(self, asked: Asked, *, limit: int, skip: int = 0) -> list[Entry]:
        """Return entries, the newest first."""
        where, values = _where(asked)
        rows = self._read(
            f"SELECT {_FIELDS} FROM audit{where} ORDER BY no DESC LIMIT ? OFFSET ?",  # nosec B608  # noqa: S608  (names of ours)
            (*values, limit, skip),
        )
        return [Entry(*row) for row in rows]

    def count(self, asked: Asked) -> int:
        """Count the entries that ``page`` would give."""
        where, values = _where(asked)
        [row] = self._read(f"SELECT count(*) FROM audit{where}", values)  # nosec B608  # noqa: S608  (names of ours)
        return int(row[0])

    def actions(self, units: frozenset[str] | None = None) -> list[str]:
        """Return the actions that occur, on these units alone unless None."""
        where, values = _where(Asked(units=units))
        rows = self._read(f"SELECT DISTINCT action FROM audit{where} ORDER BY action", values)  # nosec B608  # noqa: S608  (names of ours)
        return [row[0] for row in rows]

    def _read(self, query: str, values: tuple[str | int, ...]) -> list[tuple[Any, ...]]:
        """Ask on a connection of its own, so that nobody waits to add an entry meanwhile."""
        with closing(sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchall()

    def verify(self, heads: Iterable[Head] = ()) -> Verdict:
        """Walk the whole chain, on a connection of its own: slow, for another thread."""
        return verify(walk(self._path), heads)

    def first_broken(self) -> int | None:
        """Return the number of the first entry that does not follow from those before it."""
        return self.verify().broken


def walk(path: Path) -> Iterator[Entry]:
    """Yield a log's entries, oldest first; reads only.

    Raises:
        BadInput: there is no such log, or it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            known = {row[1] for row in db.execute("PRAGMA table_info(audit)")}
            fields = _FIELDS if "unit" in known else _FIELDS.removesuffix(", unit")
            for row in db.execute(f"SELECT {fields} FROM audit ORDER BY no"):  # nosec B608  # noqa: S608  (names of ours)
                yield Entry(*row)
    except sqlite3.Error as problem:
        raise BadInput(f"{path}: cannot be read as an audit log: {problem}") from problem


def verify(entries: Iterable[Entry], heads: Iterable[Head] = ()) -> Verdict:
    """Check that every entry follows from those before, and that kept heads are still there."""
    kept = {one.no: one.hash for one in heads if one.no}
    count, before, broken = 0, _GENESIS, None
    for count, one in enumerate(entries, start=1):
        follows = one.no == count and one.hash == _chain(before, one)
        if not follows or kept.pop(count, one.hash) != one.hash:
            broken = count
            break
        before = one.hash
    if broken is None and kept:
        # What a kept head names is gone: the end was cut off.
        broken = count + 1
    return Verdict(count, Head(count, before), broken)


def send_head(audit: Audit, folder: Path, at_ms: int) -> Head:
    """Append the head, as one line of JSON, to a file in a folder off the machine.

    Raises:
        OSError: the folder cannot be written to; the head is sent with the next call.
    """
    head = audit.head()
    line = json.dumps({"at_ms": at_ms, "no": head.no, "hash": head.hash}) + "\n"
    with (folder / HEADS).open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return head


def read_heads(path: Path) -> list[Head]:
    """Read the heads kept off the machine; a last line cut short by a full disk is passed over.

    Raises:
        BadInput: the file cannot be read, or holds no head.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise BadInput(f"{path}: cannot be read: {problem}") from problem
    found: list[Head] = []
    for no, line in enumerate(lines, start=1):
        try:
            said = json.loads(line)
            found.append(Head(int(said["no"]), str(said["hash"])))
        except (ValueError, KeyError, TypeError) as problem:
            if no < len(lines):
                raise BadInput(f"{path}: line {no} is no head of an audit log") from problem
    if not found:
        raise BadInput(f"{path}: holds no head of an audit log")
    return found


def _where(asked: Asked) -> tuple[str, tuple[str, ...]]:
    parts = [
        ("who = ?", asked.who),
        ("action = ?", asked.action),
        (
            "unit IN (SELECT value FROM json_each(?))",
            json.dumps(sorted(asked.units)) if asked.units is not None else "",
        ),
    ]
    used = [(sql, value) for sql, value in parts if value]
    where = " AND ".join(sql for sql, _ in used)
    return (f" WHERE {where}" if where else "", tuple(value for _, value in used))


def _chain(before: str, one: Entry) -> str:
    said: list[int | str] = [before, one.no, one.at_ms, one.who, one.action, one.subject]
    if one.unit:
        said.append(one.unit)
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()
