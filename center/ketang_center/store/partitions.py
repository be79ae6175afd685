"""Raw rows: one SQLite file per day of the record's own time, one for suspect times.

``slot`` is a pure function of the record's bytes, so that a resend lands in the same place and is
recognised there. Each file also keeps a small journal of marks: what was written and not yet
merged into the control database, so that a crash between the two leaves no row without its mark.
"""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from ketang_contract.ranges import RangeSet
from ketang_contract.records import Record, TimeQuality

SLOT_MS = 900_000
_SLOTS_PER_DAY = 96
_SANE_SLOTS = range(1_704_067_200_000 // SLOT_MS, 4_102_444_800_000 // SLOT_MS)
SUSPECT = -1
"""The slot, and the day, of records whose own time cannot be true."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS row (
  slot INTEGER, device TEXT, store TEXT, stream TEXT, seq INTEGER, subject TEXT NOT NULL,
  true_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL, clock_suspect INTEGER NOT NULL,
  digest BLOB NOT NULL, line BLOB NOT NULL,
  PRIMARY KEY (slot, device, store, stream, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark (
  no INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT, store TEXT, stream TEXT,
  first INTEGER, last INTEGER);
"""
_INSERT = "INSERT INTO row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class Key:
    """One stream of one store of one device."""

    device: str
    store_id: str
    stream: str


class Row(NamedTuple):
    """One record on its way into a partition. Times are UTC milliseconds.

    A tuple, since one is made for each record and a frozen dataclass costs three times as much.
    From ``subject`` on the order is that of the table's columns.
    """

    seq: int
    slot: int
    subject: str
    true_ms: int
    received_ms: int
    clock_suspect: bool
    digest: bytes
    line: bytes


def slot_of(record: Record) -> int:
    """15-minute slot of a record's own time; SUSPECT when that cannot be true. Pure."""
    slot = record.wall_ms // SLOT_MS
    return slot if record.time is not TimeQuality.BAD and slot in _SANE_SLOTS else SUSPECT


def day_of(slot: int) -> int:
    """Days since 1970 (UTC) of a slot; SUSPECT stays SUSPECT."""
    return slot // _SLOTS_PER_DAY if slot != SUSPECT else SUSPECT


def slots_of(day: int) -> range:
    """Return the slots of a day's file; SUSPECT has the one of that name."""
    if day == SUSPECT:
        return range(SUSPECT, SUSPECT + 1)
    return range(day * _SLOTS_PER_DAY, (day + 1) * _SLOTS_PER_DAY)


class Partitions:
    """The day files of one directory. One thread, one connection per open day."""

    def __init__(self, folder: Path, most_open: int = 40) -> None:
        self._folder = folder
        self._most_open = most_open
        self._open: dict[int, sqlite3.Connection] = {}
        self._touched: set[int] = set()
        self._fresh_marks: dict[int, list[int]] = {}
        self._merged_marks: dict[int, list[int]] = {}

    def close(self) -> None:
        """Close every file, dropping what was not committed."""
        for db in self._open.values():
            db.close()
        self._open.clear()
        self._touched.clear()
        self._fresh_marks.clear()
        self._merged_marks.clear()

    def days(self) -> list[int]:
        """Days that have a file, oldest first; SUSPECT first of all."""
        return sorted(self._day(path) for path in self._folder.glob("rows-*.db"))

    def exists(self, day: int) -> bool:
        """Whether a day's file is still there."""
        return day in self._open or self._path(day).exists()

    def begin(self, day: int) -> sqlite3.Connection:
        """Return the day's connection inside a write transaction."""
        if day not in self._touched and len(self._touched) >= self._most_open:
            # A batch may name a thousand days, each a file held open. What is durable early has its
            # journal entry, so it is completed whatever becomes of the rest.
            self.commit()
        db = self.connection(day)
        if day not in self._touched:
            db.execute("BEGIN IMMEDIATE")
            self._touched.add(day)
            db.executemany(
                "DELETE FROM mark WHERE no = ?", [(no,) for no in self._merged_marks.pop(day, ())]
            )
        return db

    def insert(self, key: Key, rows: list[Row]) -> tuple[int, list[Row]]:
        """Write rows of one day; say how many were new, and which places hold other content.

        The same content already there, a row without its mark, counts as written.
        """
        day = day_of(rows[0].slot)
        db = self.begin(day)
        before = db.total_changes
        name = (key.device, key.store_id, key.stream)
        db.executemany(_INSERT, [(row.slot, *name, row.seq, *row[2:]) for row in rows])
        different: list[Row] = []
        inserted = db.total_changes - before
        if inserted < len(rows):
            different = [row for row in rows if self.digest_at(key, row) != row.digest]
        marks = self._fresh_marks.setdefault(day, [])
        for first, last in RangeSet.of_numbers(row.seq for row in rows).ranges:
            made = db.execute(
                "INSERT INTO mark (device, store, stream, first, last) VALUES (?, ?, ?, ?, ?)",
                (*name, first, last),
            )
            marks.append(int(made.lastrowid or 0))
        return inserted, different

    def digest_at(self, key: Key, row: Row) -> bytes | None:
        """Digest of what stands in a row's own place, or None."""
        found = (
            self.connection(day_of(row.slot))
            .execute(
                "SELECT digest FROM row WHERE slot = ? AND device = ? AND store = ? AND stream = ?"
                " AND seq = ?",
                (row.slot, key.device, key.store_id, key.stream, row.seq),
            )
            .fetchone()
        )
        return bytes(found[0]) if found else None

    def holds_content(self, key: Key, row: Row) -> bool:
        """Whether the same content of the same device stands in its slot under another number.

        Under another store's, or of the same one: clones that share a fork move into it both.
        """
        return (
            self.exists(day_of(row.slot))
            and self.connection(day_of(row.slot))
            .execute(
                "SELECT 1 FROM row WHERE slot = ? AND device = ? AND digest = ?"
                " AND (store, stream, seq) != (?, ?, ?)",
                (row.slot, key.device, row.digest, key.store_id, key.stream, row.seq),
            )
            .fetchone()
            is not None
        )

    def commit(self) -> None:
        """Make everything written since the last commit durable, file by file."""
        for day in sorted(self._touched):
            self._open[day].execute("COMMIT")
        self._touched.clear()

    def rollback(self) -> None:
        """Forget everything written since the last commit."""
        for day in self._touched:
            # a full disk ends a transaction by itself; an earlier file's may be committed by now
            if self._open[day].in_transaction:
                self._open[day].execute("ROLLBACK")
        self._touched.clear()
        self._fresh_marks.clear()

    def merged(self) -> None:
        """The control database has all that was committed: its marks go with the next commit."""
        for day, numbers in self._fresh_marks.items():
            self._merged_marks.setdefault(day, []).extend(numbers)
        self._fresh_marks.clear()

    def leave_marks(self) -> None:
        """The control database refused what was committed: its marks wait for ``unmerged``."""
        self._fresh_marks.clear()

    def unmerged(self) -> list[tuple[int, int, Key, RangeSet]]:
        """Return ``(day, mark, key, seqs)`` written and not known to be in the control database.

        It waits for each day's writer, who may have begun under an earlier lease.
        """
        merged = {(day, no) for day, numbers in self._merged_marks.items() for no in numbers}
        return [
            (day, no, Key(device, store, stream), RangeSet.span(first, last))
            for day in self.days()
            for no, device, store, stream, first, last in self._journal(day)
            if (day, no) not in merged
        ]

    def numbers(self, day: int) -> dict[Key, RangeSet]:
        """Return what stands in a day's file, by key."""
        found: dict[Key, list[tuple[int, int]]] = {}
        for device, store, stream, seq in self.connection(day).execute(
            "SELECT device, store, stream, seq FROM row"
        ):
            spans = found.setdefault(Key(device, store, stream), [])
            if spans and spans[-1][1] == seq - 1:
                spans[-1] = (spans[-1][0], seq)
            else:
                spans.append((seq, seq))
        return {key: RangeSet.of(spans) for key, spans in found.items()}

    def _journal(self, day: int) -> list[tuple[int, str, str, str, int, int]]:
        db = self.connection(day)
        db.execute("BEGIN IMMEDIATE")
        found = db.execute("SELECT no, device, store, stream, first, last FROM mark").fetchall()
        db.execute("COMMIT")
        return found

    def forget(self, marks: list[tuple[int, int]]) -> None:
        """Remove ``(day, mark)`` entries that the control database has by now."""
        for day, no in marks:
            self._merged_marks.setdefault(day, []).append(no)
        for day in {day for day, _ in marks}:
            self.begin(day)
        self.commit()

    def hours(self, day: int, key: Key, seqs: RangeSet) -> set[tuple[str, int, int]]:
        """Return ``(subject, true hour, slot)`` of the rows of a key."""
        return {
            (subject, true_ms // 3_600_000, slot)
            for slot, seq, subject, true_ms in self.connection(day).execute(
                "SELECT slot, seq, subject, true_ms FROM row"
                " WHERE device = ? AND store = ? AND stream = ?",
                (key.device, key.store_id, key.stream),
            )
            if seq in seqs
        }

    def all_hours(self, day: int) -> dict[str, set[tuple[str, int, int]]]:
        """Return ``(subject, true hour, slot)`` of all rows of a day, by device."""
        found: dict[str, set[tuple[str, int, int]]] = {}
        for device, *hour in self.connection(day).execute(
            "SELECT DISTINCT device, subject, true_ms / 3600000, slot FROM row"
        ):
            found.setdefault(device, set()).add(tuple(hour))
        return found

    def connection(self, day: int) -> sqlite3.Connection:
        """Return the day's connection, opened when needed; the least recent idle one is closed."""
        db = self._open.pop(day, None)
        if db is None:
            self._close_idle()
            db = sqlite3.connect(
                self._path(day),
                isolation_level=None,
                timeout=10,
                check_same_thread=False,
            )
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -8192")
            db.executescript(_SCHEMA)
        self._open[day] = db
        return db

    def _close_idle(self) -> None:
        for day in [day for day in self._open if day not in self._touched]:
            if len(self._open) < self._most_open:
                return
            self._open.pop(day).close()

    def _path(self, day: int) -> Path:
        if day == SUSPECT:
            return self._folder / "rows-suspect.db"
        date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        return self._folder / f"rows-{date:%Y-%m-%d}.db"

    @staticmethod
    def _day(path: Path) -> int:
        name = path.stem.removeprefix("rows-")
        if name == "suspect":
            return SUSPECT
        return datetime.fromisoformat(name).replace(tzinfo=UTC).toordinal() - 719_163
