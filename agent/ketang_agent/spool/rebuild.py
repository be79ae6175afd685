"""Writes a new spool from what remains of an old one."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shutil import disk_usage

from ketang_agent.spool import carve, fates, rows
from ketang_agent.spool.remains import Remains
from ketang_agent.spool.rows import SEQ_BITS, SEQ_MASK, STREAMS
from ketang_agent.spool.values import Fate
from ketang_contract.batch import DropReason
from ketang_contract.ids import new_store_id
from ketang_contract.ranges import NOTHING, RangeSet

_CHUNK = 1000
_MOST_STORES = 32
_NAMELESS = "unknown"
"""A parent nobody can name. Any parent makes the centre look for content it holds elsewhere, so
that adopted lines it has had under their old key are not stored twice."""
SPARE_BYTES = 1 << 20
"""Left free on a short disk: a spool needs a log, and somewhat more, to be opened at all."""
Line = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Count:
    """Records that wait, and numbers declared lost."""

    kept: int
    lost: int


def rebuild(
    path: Path, fresh: Path, remains: Remains, now_ms: int, is_late: Callable[[], bool]
) -> Count:
    """Write the new file ``fresh`` from the pages of ``path``; it is on the disk on return.

    Memory holds a chunk of lines and the ranges. Where the disk has no room for all, the more
    important streams go first; what does not fit, or is not read in time, is lost.

    Raises:
        sqlite3.OperationalError, OSError: no room even for the books.
    """
    db = sqlite3.connect(fresh, isolation_level=None)
    try:
        db.execute(f"PRAGMA page_size = {rows.PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = MEMORY")
        db.execute("PRAGMA synchronous = OFF")  # synced as a whole, below
        db.execute("BEGIN")
        rows.create_tables(db)
        db.execute("COMMIT")
        _copy_lines(db, path, remains, is_late)
        db.execute("BEGIN")
        count = _write_books(db, remains, now_ms)
        db.execute("COMMIT")
    finally:
        db.close()
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    return count


def _copy_lines(
    db: sqlite3.Connection, path: Path, remains: Remains, is_late: Callable[[], bool]
) -> None:
    """Copy every line that may still matter, under its own key."""
    finished = _finished(remains)
    size = sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*") if one.is_file())
    short = _free(path) < size + SPARE_BYTES
    for wanted in [(at,) for at in range(len(STREAMS))] if short else [tuple(range(len(STREAMS)))]:
        lines = _lines(path, finished, wanted)
        while (
            not is_late()
            and not (short and _free(path) < SPARE_BYTES)
            and (chunk := list(islice(lines, _CHUNK)))
        ):
            db.execute("BEGIN")
            try:
                db.executemany(
                    "INSERT OR IGNORE INTO record VALUES (?, ?, ?)",
                    [(key, line, rows.record_sum(key, line)) for key, line in chunk],
                )
                db.execute("COMMIT")
            except sqlite3.OperationalError:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                path.with_suffix(".reserve").unlink(missing_ok=True)  # the books need it more
                return


def _free(path: Path) -> int:
    return disk_usage(path.parent).free


def _lines(path: Path, finished: dict[int, RangeSet], wanted: tuple[int, ...]) -> Iterator[Line]:
    for page in carve.pages(path):
        for cell in carve.cells(page):
            line = carve.record_of(cell)
            if line is None:
                continue
            no, seq = cell[0] >> SEQ_BITS, cell[0] & SEQ_MASK
            if no % len(STREAMS) in wanted and seq not in finished.get(no, NOTHING):
                yield cell[0], line


def _finished(remains: Remains) -> dict[int, RangeSet]:
    """Numbers whose lines are not wanted any more: pages that were freed may still hold them."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    for row in remains.fates:
        if row.what != Fate.ACKED:
            ranges.setdefault(row.lane, []).append((row.first, row.last))
    return {no: RangeSet.of(many) for no, many in ranges.items()}


def _write_books(db: sqlite3.Connection, remains: Remains, now_ms: int) -> Count:
    held = _held(db)
    kept = lost = 0
    nos = _stores_worth_keeping(remains, held)
    for no in nos:
        rows.insert_store(db, no, *remains.stores[no])
        for lane in range(no * len(STREAMS), (no + 1) * len(STREAMS)):
            waiting, gone = _settle_lane(db, remains, lane, held.get(lane, NOTHING), now_ms)
            kept, lost = kept + waiting, lost + gone
    numbers = [*remains.stores, *(lane // len(STREAMS) for lane in (*held, *remains.heads))]
    new = max(numbers, default=0) + 1
    parent = remains.stores[nos[-1]][0] if nos else _NAMELESS
    rows.insert_store(db, new, new_store_id(), parent)
    kept += _adopt(db, held, nos, new)
    # A session number that repeats would be taken for an old one; the clock's is beyond any count.
    meta = {**remains.meta, "session": remains.session or now_ms}
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
    return Count(kept, lost)


def _settle_lane(
    db: sqlite3.Connection, remains: Remains, lane: int, lines: RangeSet, now_ms: int
) -> tuple[int, int]:
    """Give every number of an old lane a line or a fate; return how many wait, and are lost."""
    head = max(remains.heads.get(lane, 0), lines.last if lines else 0)
    rows.set_lane(db, lane, head, remains.epochs.get(lane, 0))
    free = RangeSet.span(1, head)
    acked_lines = NOTHING
    for what in (Fate.LOST, Fate.MOVED, Fate.GONE, Fate.ACKED):
        for row in (one for one in remains.fates if one.lane == lane and one.what == what):
            part = RangeSet.span(row.first, row.last) & free
            free -= part
            here = part & lines if what == Fate.ACKED else part
            fates.insert(db, [row._replace(first=low, last=high) for low, high in here.ranges])
            acked_lines |= here if what == Fate.ACKED else NOTHING
            fates.settle(db, lane, part - here, Fate.GONE, 0)
    if not remains.whole:
        done = remains.settled.get(lane, NOTHING) & free - lines
        fates.settle(db, lane, done, Fate.GONE, 0)
        free -= done
    waiting = lines & free
    fates.settle(db, lane, free - lines, Fate.LOST, now_ms, DropReason.DAMAGED)
    return len(waiting), len(free - lines)


def _held(db: sqlite3.Connection) -> dict[int, RangeSet]:
    """Numbers whose lines are in the new file, by lane."""
    ranges: dict[int, list[list[int]]] = {}
    for (key,) in db.execute("SELECT id FROM record ORDER BY id"):
        no, seq = key >> SEQ_BITS, key & SEQ_MASK
        many = ranges.setdefault(no, [[seq, seq - 1]])
        if many[-1][1] == seq - 1:
            many[-1][1] = seq
        else:
            many.append([seq, seq])
    return {no: RangeSet(tuple((low, high) for low, high in many)) for no, many in ranges.items()}


def _adopt(db: sqlite3.Connection, held: dict[int, RangeSet], nos: list[int], new: int) -> int:
    """Give lines of stores that nobody can name any more a number of the new store."""
    count = 0
    heads = [0] * len(STREAMS)
    for lane in sorted(held):
        if lane // len(STREAMS) in nos:
            continue
        at = lane % len(STREAMS)
        target = new * len(STREAMS) + at
        for seq in held[lane]:
            key = (lane << SEQ_BITS) + seq
            line = db.execute("SELECT line FROM record WHERE id = ?", (key,)).fetchone()[0]
            db.execute("DELETE FROM record WHERE id = ?", (key,))
            heads[at] += 1
            rows.insert_lines(db, [((target << SEQ_BITS) + heads[at], line)])
            count += 1
        rows.set_lane(db, target, heads[at], 0)
    return count


def _stores_worth_keeping(remains: Remains, held: dict[int, RangeSet]) -> list[int]:
    """The newest stores, and older ones with lines: a disk that fails daily must not add up."""
    newest = sorted(remains.stores)[-_MOST_STORES:]
    with_lines = {lane // len(STREAMS) for lane in held}
    return sorted(no for no in remains.stores if no in newest or no in with_lines)
