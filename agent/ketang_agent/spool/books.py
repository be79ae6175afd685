"""What the file says of its stores, lanes and fates, read whole and held against itself."""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from ketang_agent.spool import fates
from ketang_agent.spool.rows import SEQ_BITS, STREAMS, row_sum
from ketang_agent.spool.values import Damaged, Fate, Loss
from ketang_contract.batch import DropReason
from ketang_contract.ids import is_identifier
from ketang_contract.ranges import RangeSet

QUICK_CHECK_BYTES = 32 << 20
"""A file up to this size is checked page by page at each start; a larger one where it is read."""


@dataclass(slots=True)
class Books:
    """By store number and by lane number."""

    stores: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    lanes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Head and epoch."""
    settled: dict[int, RangeSet] = field(default_factory=dict)
    untold: dict[int, list[Loss]] = field(default_factory=dict)


def read(db: sqlite3.Connection) -> Books:
    """Read everything but the records.

    Raises:
        Damaged: a row is not what was written, or the rows cannot all be true.
        sqlite3.Error: something cannot be read.
    """
    books = Books()
    for no, store_id, parent, found in db.execute("SELECT * FROM store ORDER BY no"):
        if found != row_sum("store", no, store_id, parent) or not is_identifier(store_id):
            raise Damaged(f"store {no}")
        books.stores[no] = store_id, parent
    for no, head, epoch, found in db.execute("SELECT * FROM lane"):
        if found != row_sum("lane", no, head, epoch):
            raise Damaged(f"lane {no}")
        books.lanes[no] = head, epoch
    due = {no * len(STREAMS) + at for no in books.stores for at in range(len(STREAMS))}
    if not due or due != set(books.lanes):
        raise Damaged("stores and lanes do not match")
    ranges: dict[int, list[tuple[int, int]]] = {}
    for row in fates.read_all(db):
        before = ranges.setdefault(row.lane, [])
        if row.last > books.lanes.get(row.lane, (0, 0))[0] or (
            before and before[-1][1] >= row.first
        ):
            raise Damaged(f"fate {row.lane}/{row.first} cannot be")
        before.append((row.first, row.last))
        if row.what == Fate.LOST and not row.told:
            loss = Loss(row.first, row.last, DropReason(str(row.reason)))
            books.untold.setdefault(row.lane, []).append(loss)
    books.settled = {no: RangeSet.of(many) for no, many in ranges.items()}
    return books


def look_over(db: sqlite3.Connection, path: Path, pending: dict[int, RangeSet]) -> None:
    """Look for damage where it costs little: the ends of what waits, and all of a small file.

    Raises:
        Damaged, sqlite3.Error: found some.
    """
    for no, waiting in pending.items():
        base = no << SEQ_BITS
        for seq in (waiting.first, waiting.last) if waiting else ():
            if not db.execute("SELECT 1 FROM record WHERE id = ?", (base + seq,)).fetchone():
                raise Damaged(f"record {no}/{seq} is missing")
    if path.stat().st_size <= QUICK_CHECK_BYTES:
        said = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise Damaged(str(said).replace("\n", " ")[:200])
