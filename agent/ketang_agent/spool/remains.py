"""What can still be known of a damaged spool: its stores, heads, fates, sessions."""

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ketang_agent.spool import carve, witness
from ketang_agent.spool.fates import FateRow, sum_of
from ketang_agent.spool.rows import STREAMS
from ketang_agent.spool.values import Damaged
from ketang_contract.ids import is_identifier
from ketang_contract.ranges import RangeSet

_BOOKS_PAGES = 64
"""Stores and lanes stand in the first pages of the file; of the log every page is looked at."""


@dataclass(slots=True)
class Remains:
    """By store number and lane number; only what carried a right sum."""

    stores: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    heads: dict[int, int] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    fates: list[FateRow] = field(default_factory=list)
    whole: bool = False
    """Every fate was read; else more numbers are settled than are known to be."""
    settled: dict[int, RangeSet] = field(default_factory=dict)
    """Numbers of which only that is known."""
    meta: dict[str, str | int] = field(default_factory=dict)
    session: int = 0


def gather(path: Path) -> Remains:
    """Read everything but the records, from the tables as far as they go and from bare pages.

    Raises nothing for what cannot be read.
    """
    found = Remains()
    _from_witness(found, path)
    with suppress(sqlite3.Error):
        _from_tables(found, path)
    for page in carve.pages(path, most=_BOOKS_PAGES):
        for cell in carve.cells(page):
            if len(cell[1]) == 4:  # noqa: PLR2004  (columns of store and of lane)
                _take(found, cell)
    return found


def _from_witness(found: Remains, path: Path) -> None:
    said = None
    with suppress(Damaged, OSError):
        said = witness.read(witness.path_for(path))
    if said is None:
        return
    found.stores[said.store] = said.store_id, said.parent
    found.session = said.session
    for at in range(len(STREAMS)):
        no = said.store * len(STREAMS) + at
        found.heads[no] = said.heads[at]
        found.settled[no] = RangeSet.span(1, said.settled[at])


def _from_tables(found: Remains, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        with suppress(sqlite3.Error):
            found.whole = _fates(found, db)
        with suppress(sqlite3.Error):
            for key, value in db.execute("SELECT key, value FROM meta"):
                if isinstance(key, str) and isinstance(value, str | int):
                    found.meta[key] = value
    session = found.meta.pop("session", 0)
    if isinstance(session, int) and 0 < session < 2**53:
        found.session = max(found.session, session)


def _fates(found: Remains, db: sqlite3.Connection) -> bool:
    """Take every sound row; whether that was all of them."""
    whole = True
    rows = db.execute("SELECT lane, first, last, what, reason, at_ms, told, sum FROM fate")
    for *values, said in rows:
        row = FateRow(*values)
        if said == sum_of(row) and row.is_sound():
            found.fates.append(row)
        else:
            whole = False
    return whole


def _take(found: Remains, cell: carve.Cell) -> None:
    """Take a store, which never changes, or a lane, of which the furthest state is the last."""
    store = carve.store_of(cell)
    if store is not None and store[0] > 0 and is_identifier(store[1]):
        found.stores.setdefault(store[0], store[1:])
    lane = carve.lane_of(cell)
    if lane is not None:
        no, head, epoch = lane
        found.heads[no] = max(found.heads.get(no, 0), head)
        found.epochs[no] = max(found.epochs.get(no, 0), epoch)
