"""The table of fates: what became of the numbers that no longer wait, as few rows as will do."""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from ketang_agent.spool.rows import row_sum
from ketang_agent.spool.values import Damaged, Fate, Loss
from ketang_contract.batch import DropReason
from ketang_contract.ranges import RangeSet

_HOUR_MS = 3_600_000
_COLUMNS = "lane, first, last, what, reason, at_ms, told"


class FateRow(NamedTuple):
    """One range of numbers of one lane, with one fate."""

    lane: int
    first: int
    last: int
    what: str
    reason: str | None
    at_ms: int
    told: int

    def is_sound(self) -> bool:
        """Whether these values can have been written by us."""
        reason = self.reason in tuple(DropReason) if self.what == Fate.LOST else self.reason is None
        return self.what in tuple(Fate) and reason and 0 < self.first <= self.last


def read_all(db: sqlite3.Connection) -> list[FateRow]:
    """Return every row, by lane and number.

    Raises:
        Damaged: a row's sum is wrong, or it says what cannot be.
        sqlite3.Error: the table cannot be read.
    """
    return _rows(db, "TRUE ORDER BY lane, first")


def sum_of(row: FateRow) -> int:
    """The sum that a row must carry."""
    return row_sum("fate", *row)


def insert(db: sqlite3.Connection, rows: Iterable[FateRow]) -> None:
    """Write rows as they are."""
    db.executemany(
        f"INSERT INTO fate ({_COLUMNS}, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # nosec B608  # noqa: S608  (ours)
        [(*row, sum_of(row)) for row in rows],
    )


def settle(
    db: sqlite3.Connection,
    lane: int,
    seqs: RangeSet,
    what: Fate,
    at_ms: int,
    reason: DropReason | None = None,
) -> None:
    """Give numbers that have none a fate; neighbours of the same fate become one row."""
    for first, last in seqs.ranges:
        _merge(db, FateRow(lane, first, last, what, reason, at_ms, 0))


def unsettle(db: sqlite3.Connection, lane: int, seqs: RangeSet) -> None:
    """Take a fate back; ranges that reach beyond ``seqs`` keep their other part."""
    if not seqs:
        return
    for row in _rows(db, "lane = ? AND first <= ? AND last >= ?", lane, seqs.last, seqs.first):
        whole = RangeSet.span(row.first, row.last)
        rest = whole - seqs
        if rest != whole:
            _delete(db, row)
            insert(db, [row._replace(first=first, last=last) for first, last in rest.ranges])


def with_fate(
    db: sqlite3.Connection, lane: int, what: Fate, before_ms: int | None = None
) -> RangeSet:
    """Numbers of a lane with one fate, given to them before a moment where one is named."""
    rows = _rows(db, "lane = ? AND what = ?", lane, what)
    return RangeSet.of(
        (row.first, row.last) for row in rows if before_ms is None or row.at_ms < before_ms
    )


def untold(db: sqlite3.Connection, lane: int) -> list[Loss]:
    """Losses of a lane that the centre has not acknowledged."""
    rows = _rows(db, "lane = ? AND what = 'lost' AND told = 0", lane)
    return [Loss(row.first, row.last, DropReason(str(row.reason))) for row in rows]


def mark_told(db: sqlite3.Connection, lane: int, losses: Iterable[Loss]) -> None:
    """Note that the centre has these losses; one that has grown since is told again, whole."""
    for one in losses:
        row = _at(db, lane, one.first)
        if row and row.what == Fate.LOST and not row.told and row.last == one.last:
            _delete(db, row)
            _merge(db, row._replace(told=1))


def mark_untold(db: sqlite3.Connection, lane: int) -> None:
    """Have every loss of a lane told anew."""
    rows = _rows(db, "lane = ? AND what = 'lost' AND told = 1", lane)
    for row in rows:
        _delete(db, row)
    insert(db, [row._replace(told=0) for row in rows])


def _merge(db: sqlite3.Connection, row: FateRow) -> None:
    before = _rows(db, "lane = ? AND first < ? ORDER BY first DESC LIMIT 1", row.lane, row.first)
    after = _at(db, row.lane, row.last + 1)
    for near in (*before, after):
        if near and _alike(near, row) and (near.last + 1 == row.first or near.first > row.last):
            _delete(db, near)
            row = row._replace(
                first=min(near.first, row.first),
                last=max(near.last, row.last),
                at_ms=max(near.at_ms, row.at_ms),
            )
    insert(db, [row])


def _alike(one: FateRow, other: FateRow) -> bool:
    """Whether two rows may be one. Acknowledged lines stay seven days, give or take an hour."""
    if (one.what, one.reason, one.told) != (other.what, other.reason, other.told):
        return False
    return one.what != Fate.ACKED or one.at_ms // _HOUR_MS == other.at_ms // _HOUR_MS


def _at(db: sqlite3.Connection, lane: int, first: int) -> FateRow | None:
    rows = _rows(db, "lane = ? AND first = ?", lane, first)
    return rows[0] if rows else None


def _rows(db: sqlite3.Connection, where: str, *values: object) -> list[FateRow]:
    found = db.execute(f"SELECT {_COLUMNS}, sum FROM fate WHERE {where}", values)  # nosec B608  # noqa: S608  (ours)
    return [_checked(FateRow(*row), said) for *row, said in found]


def _checked(row: FateRow, said: int) -> FateRow:
    if said != sum_of(row) or not row.is_sound():
        raise Damaged(f"fate {row.lane}/{row.first}")
    return row


def _delete(db: sqlite3.Connection, row: FateRow) -> None:
    db.execute("DELETE FROM fate WHERE lane = ? AND first = ?", (row.lane, row.first))
