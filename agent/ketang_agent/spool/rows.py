"""The spool's file: its tables, how a connection is set, and the sum that each row carries.

SQLite does not notice a flipped bit in a value. So every row that matters carries a CRC-32 over its
key and its content, and a row whose sum is wrong counts as not there.
"""

import sqlite3
import zlib
from collections.abc import Iterable
from pathlib import Path

from ketang_contract.ranges import RangeSet
from ketang_contract.records import Stream

VERSION = 2
PAGE_BYTES = 4096
MOST_PAGES = 2**30
"""SQLite's own limit."""
SEQ_BITS = 48
"""A record's row id is its lane's number, then its own in so many bits."""
SEQ_MASK = (1 << SEQ_BITS) - 1
STREAMS = tuple(Stream)
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE store (no INTEGER PRIMARY KEY, store_id TEXT NOT NULL UNIQUE, parent TEXT,
  sum INTEGER NOT NULL);
CREATE TABLE lane (no INTEGER PRIMARY KEY, head INTEGER NOT NULL, epoch INTEGER NOT NULL,
  sum INTEGER NOT NULL);
CREATE TABLE record (id INTEGER PRIMARY KEY, line BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE fate (lane INTEGER, first INTEGER, last INTEGER, what TEXT NOT NULL, reason TEXT,
  at_ms INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, sum INTEGER NOT NULL,
  PRIMARY KEY (lane, first)) WITHOUT ROWID;
"""
_LOW_32 = 0xFFFFFFFF


def record_sum(key: int, line: bytes) -> int:
    """Sum of a record's row: its line, under its key."""
    return zlib.crc32(line, (key ^ (key >> 32)) & _LOW_32)


def row_sum(table: str, *values: object) -> int:
    """Sum of a row of one of the small tables, its values in the table's order."""
    return zlib.crc32("|".join(map(str, (table, *values))).encode())


def connect(path: Path) -> sqlite3.Connection:
    """Open the file as the spool's one writer."""
    db = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -512")
        # The log begins anew at a quarter of the usual size and keeps its blocks: on a full disk it
        # can be written and merged within the reserve, and then in place.
        db.execute("PRAGMA wal_autocheckpoint = 256")
        db.execute("PRAGMA journal_size_limit = 1048576")
        # Zeroing freed pages would log each of them: deleting must need next to no room.
        db.execute("PRAGMA secure_delete = OFF")
    except BaseException:
        db.close()
        raise
    return db


def create_tables(db: sqlite3.Connection) -> None:
    """Make the empty tables, within the caller's transaction."""
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")


def insert_store(db: sqlite3.Connection, no: int, store_id: str, parent: str | None) -> None:
    """Add a store and its lanes, nothing given out yet."""
    db.execute(
        "INSERT INTO store VALUES (?, ?, ?, ?)",
        (no, store_id, parent, row_sum("store", no, store_id, parent)),
    )
    lanes = [no * len(STREAMS) + at for at in range(len(STREAMS))]
    db.executemany(
        "INSERT INTO lane VALUES (?, 0, 0, ?)", [(one, row_sum("lane", one, 0, 0)) for one in lanes]
    )


def set_lane(db: sqlite3.Connection, no: int, head: int, epoch: int) -> None:
    """Write how far a lane is."""
    db.execute(
        "UPDATE lane SET head = ?, epoch = ?, sum = ? WHERE no = ?",
        (head, epoch, row_sum("lane", no, head, epoch), no),
    )


def insert_lines(db: sqlite3.Connection, lines: Iterable[tuple[int, bytes]]) -> None:
    """Write records under their keys."""
    db.executemany(
        "INSERT INTO record VALUES (?, ?, ?)",
        [(key, line, record_sum(key, line)) for key, line in lines],
    )


def delete_lines(db: sqlite3.Connection, lane: int, seqs: RangeSet) -> None:
    """Take records out."""
    base = lane << SEQ_BITS
    db.executemany(
        "DELETE FROM record WHERE id BETWEEN ? AND ?",
        [(base + first, base + last) for first, last in seqs.ranges],
    )
