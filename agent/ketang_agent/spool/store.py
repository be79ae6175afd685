"""The spool: records wait here until the centre itself has said that it holds them.

Invariants, each kept by a single transaction:

1. A number of a lane (one stream of one store) is given out once, and ``head`` only grows.
2. Every number up to ``head`` is pending (its line is here) or has one *fate*: acked (its line
   stays seven days), gone (acked, line let go), lost (with a reason), moved.
3. ``pending`` is therefore never stored: it is ``1..head`` less all fates.

One thread owns the connection. Memory does not grow with the backlog: only ranges are held.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from ketang_agent.spool.values import Fate, Lane, Loss
from ketang_contract.batch import DropReason
from ketang_contract.ids import new_store_id
from ketang_contract.ranges import RangeSet
from ketang_contract.records import Record, Stream, stream_of, to_line

_SEQ_BITS = 48
_STREAMS = tuple(Stream)
_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE store (no INTEGER PRIMARY KEY, store_id TEXT NOT NULL UNIQUE, parent TEXT);
CREATE TABLE lane (no INTEGER PRIMARY KEY, head INTEGER NOT NULL, epoch INTEGER NOT NULL);
CREATE TABLE record (id INTEGER PRIMARY KEY, line BLOB NOT NULL);
CREATE TABLE fate (lane INTEGER, first INTEGER, last INTEGER, what TEXT NOT NULL, reason TEXT,
  at_ms INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (lane, first)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class _LaneState:
    no: int
    head: int = 0
    epoch: int = 0
    pending: RangeSet = field(default_factory=RangeSet)
    untold: list[Loss] = field(default_factory=list)


class Spool:
    """Open with ``with Spool(path) as spool``. Every public method is one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lanes: dict[Lane, _LaneState] = {}
        self._parents: dict[str, str | None] = {}
        self._store_nos: dict[str, int] = {}
        self.current_store = ""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Open or create the file and derive what waits.

        Raises:
            sqlite3.DatabaseError: the file is damaged; ``salvage`` replaces it.
        """
        self._db = sqlite3.connect(self.path, isolation_level=None, timeout=5)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA cache_size = -512")
            self._db.execute("PRAGMA journal_size_limit = 1048576")
            if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                with self._transaction():
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._add_store(None)
                    self._db.execute(f"PRAGMA user_version = {_VERSION}")
            self._load()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; nothing is lost by not calling this."""
        self._db.close()

    # What is here.

    def lanes(self) -> list[Lane]:
        """Every lane, the current store's last, the most important stream first within a store."""
        return list(self._lanes)

    def head(self, lane: Lane) -> int:
        """The last number given out."""
        return self._lanes[lane].head

    def epoch(self, lane: Lane) -> int:
        """The centre's epoch this lane was last reconciled with; 0 before the first."""
        return self._lanes[lane].epoch

    def pending(self, lane: Lane) -> RangeSet:
        """Numbers whose lines wait here for the centre."""
        return self._lanes[lane].pending

    def untold(self, lane: Lane) -> list[Loss]:
        """Losses the centre has not acknowledged yet."""
        return list(self._lanes[lane].untold)

    def parent(self, store_id: str) -> str | None:
        """The store this one was forked from, if any."""
        return self._parents[store_id]

    def read(self, lane: Lane, seqs: RangeSet) -> Iterator[tuple[int, bytes]]:
        """Yield ``(number, line)`` in order, one at a time."""
        base = self._lanes[lane].no << _SEQ_BITS
        for first, last in seqs.ranges:
            for key, line in self._db.execute(
                "SELECT id, line FROM record WHERE id BETWEEN ? AND ? ORDER BY id",
                (base + first, base + last),
            ):
                yield key - base, line

    def used_bytes(self) -> int:
        """Bytes the file's live pages take; freed pages are used again and do not count."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    # What happens to it.

    def append(self, records: Sequence[Record]) -> None:
        """Take records in for good: when this returns they survive a power cut.

        Raises:
            TooLarge: a record is over its cap; none was taken.
            sqlite3.OperationalError: the disk is full or failing; none was taken.
        """
        lines = [(Lane(self.current_store, stream_of(one.body)), to_line(one)) for one in records]
        self.append_lines(lines)

    def append_lines(self, lines: Sequence[tuple[Lane, bytes]]) -> None:
        """Like ``append``, for lines already written."""
        heads: dict[Lane, int] = {}
        rows = []
        for lane, line in lines:
            seq = heads.get(lane, self._lanes[lane].head) + 1
            heads[lane] = seq
            rows.append(((self._lanes[lane].no << _SEQ_BITS) + seq, line))
        with self._transaction():
            self._db.executemany("INSERT INTO record VALUES (?, ?)", rows)
            for lane, head in heads.items():
                self._set_head(lane, head)
        for lane, head in heads.items():
            state = self._lanes[lane]
            state.pending |= RangeSet.span(state.head + 1, head)
            state.head = head

    def mark_acked(self, lane: Lane, seqs: RangeSet, now_ms: int) -> None:
        """Remember that the centre holds these; those not pending are left as they are."""
        state = self._lanes[lane]
        acked = seqs & state.pending
        if not acked:
            return
        with self._transaction():
            self._settle(lane, acked, Fate.ACKED, now_ms)
        state.pending -= acked

    def mark_lost(self, lane: Lane, seqs: RangeSet, reason: DropReason, now_ms: int) -> None:
        """Give up pending records: their lines go, the loss is kept and will be told."""
        state = self._lanes[lane]
        lost = seqs & state.pending
        if not lost:
            return
        with self._transaction():
            self._settle(lane, lost, Fate.LOST, now_ms, reason)
            self._delete_lines(lane, lost)
        state.pending -= lost
        state.untold.extend(Loss(first, last, reason) for first, last in lost.ranges)

    def mark_told(self, lane: Lane, losses: Iterable[Loss]) -> None:
        """Remember that the centre has these losses in its ledger."""
        told = set(losses)
        with self._transaction():
            self._db.executemany(
                "UPDATE fate SET told = 1 WHERE lane = ? AND first = ? AND what = 'lost'",
                [(self._lanes[lane].no, one.first) for one in told],
            )
        state = self._lanes[lane]
        state.untold = [one for one in state.untold if one not in told]

    def fork(self, lane: Lane, seqs: RangeSet, now_ms: int) -> None:
        """Move pending records whose numbers another copy of this disk has used already.

        A new store that names its parent takes them, unless a newer one than this exists already.
        """
        moved = seqs & self._lanes[lane].pending
        if not moved:
            return
        lines = [line for _, line in self.read(lane, moved)]
        try:
            self._move(lane, moved, lines, now_ms)
        finally:
            self._load()

    def _move(self, lane: Lane, moved: RangeSet, lines: list[bytes], now_ms: int) -> None:
        with self._transaction():
            if lane.store_id == self.current_store:
                self._add_store(lane.store_id)
            target = Lane(self._newest_store(), lane.stream)
            state = self._lanes[target]
            base = (state.no << _SEQ_BITS) + state.head
            self._db.executemany(
                "INSERT INTO record VALUES (?, ?)",
                [(base + at, line) for at, line in enumerate(lines, 1)],
            )
            self._set_head(target, state.head + len(lines))
            self._settle(lane, moved, Fate.MOVED, now_ms)
            self._delete_lines(lane, moved)

    def reconcile(self, lane: Lane, epoch: int, held: RangeSet, now_ms: int) -> None:
        """Answer a centre that begins a new epoch, perhaps restored from an older backup.

        What it should hold and does not is queued again where the line is still here, and declared
        lost where it is not. What was never acknowledged is pending anyway.
        """
        state = self._lanes[lane]
        back = self._with_fate(lane, Fate.ACKED) - held
        let_go = self._with_fate(lane, Fate.GONE) - held
        with self._transaction():
            self._unsettle(lane, back)
            self._unsettle(lane, let_go)
            if let_go:
                self._settle(lane, let_go, Fate.LOST, now_ms, DropReason.EXPIRED)
            self._db.execute(
                "UPDATE fate SET told = 0 WHERE lane = ? AND what = 'lost'", (state.no,)
            )
            self._db.execute("UPDATE lane SET epoch = ? WHERE no = ?", (epoch, state.no))
        self._load()

    def let_go(self, lane: Lane, acked_before_ms: int) -> int:
        """Drop the lines acknowledged before a moment; return how many. That is no loss."""
        old = RangeSet.of(
            self._db.execute(
                "SELECT first, last FROM fate WHERE lane = ? AND what = 'acked' AND at_ms < ?",
                (self._lanes[lane].no, acked_before_ms),
            )
        )
        if not old:
            return 0
        everything_gone = old | self._with_fate(lane, Fate.GONE)
        with self._transaction():
            self._unsettle(lane, everything_gone)
            self._settle(lane, everything_gone, Fate.GONE, 0)
            self._delete_lines(lane, old)
        return len(old)

    def next_session(self) -> int:
        """Return a session number no earlier connect has had."""
        number = int(self.meta("session") or 0) + 1
        self.set_meta("session", number)
        return number

    def meta(self, key: str) -> str | int | None:
        """Read a small remembered value."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str | int) -> None:
        """Remember a small value for good."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # How it is kept.

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _load(self) -> None:
        self._lanes.clear()
        for no, store_id, parent in self._db.execute("SELECT * FROM store ORDER BY no"):
            self._know_store(no, store_id, parent)
        by_no = {state.no: state for state in self._lanes.values()}
        for no, head, epoch in self._db.execute("SELECT no, head, epoch FROM lane"):
            by_no[no].head, by_no[no].epoch = head, epoch
        fates: dict[int, list[tuple[int, int]]] = {}
        for no, first, last, what, reason, told in self._db.execute(
            "SELECT lane, first, last, what, reason, told FROM fate",
        ):
            fates.setdefault(no, []).append((first, last))
            if what == Fate.LOST and not told:
                by_no[no].untold.append(Loss(first, last, DropReason(reason)))
        for no, state in by_no.items():
            state.pending = RangeSet.span(1, state.head) - RangeSet.of(fates.get(no, ()))

    def _know_store(self, no: int, store_id: str, parent: str | None) -> None:
        self._parents[store_id], self._store_nos[store_id] = parent, no
        self.current_store = store_id
        for at, stream in enumerate(_STREAMS):
            self._lanes[Lane(store_id, stream)] = _LaneState(no * len(_STREAMS) + at)

    def _add_store(self, parent: str | None) -> None:
        made = self._db.execute(
            "INSERT INTO store (store_id, parent) VALUES (?, ?)",
            (new_store_id(), parent),
        )
        no = int(made.lastrowid or 0)
        self._db.executemany(
            "INSERT INTO lane VALUES (?, 0, 0)",
            [(no * len(_STREAMS) + at,) for at in range(len(_STREAMS))],
        )

    def _newest_store(self) -> str:
        no, store_id, parent = self._db.execute(
            "SELECT * FROM store ORDER BY no DESC LIMIT 1",
        ).fetchone()
        if store_id not in self._store_nos:
            self._know_store(no, store_id, parent)
        return str(store_id)

    def _set_head(self, lane: Lane, head: int) -> None:
        self._db.execute("UPDATE lane SET head = ? WHERE no = ?", (head, self._lanes[lane].no))

    def _with_fate(self, lane: Lane, what: Fate) -> RangeSet:
        return RangeSet.of(
            self._db.execute(
                "SELECT first, last FROM fate WHERE lane = ? AND what = ?",
                (self._lanes[lane].no, what),
            )
        )

    def _settle(
        self,
        lane: Lane,
        seqs: RangeSet,
        what: Fate,
        at_ms: int,
        reason: DropReason | None = None,
    ) -> None:
        no = self._lanes[lane].no
        self._db.executemany(
            "INSERT INTO fate (lane, first, last, what, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?)",
            [(no, first, last, what, reason, at_ms) for first, last in seqs.ranges],
        )

    def _unsettle(self, lane: Lane, seqs: RangeSet) -> None:
        """Take a fate back; ranges that reach beyond ``seqs`` keep their other part."""
        no = self._lanes[lane].no
        for low, high in seqs.ranges:
            for first, last, what, reason, at_ms, told in self._db.execute(
                "SELECT first, last, what, reason, at_ms, told FROM fate"
                " WHERE lane = ? AND first <= ? AND last >= ?",
                (no, high, low),
            ).fetchall():
                self._db.execute("DELETE FROM fate WHERE lane = ? AND first = ?", (no, first))
                rest = RangeSet.span(first, last) - RangeSet.span(low, high)
                self._db.executemany(
                    "INSERT INTO fate VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(no, start, end, what, reason, at_ms, told) for start, end in rest.ranges],
                )

    def _delete_lines(self, lane: Lane, seqs: RangeSet) -> None:
        base = self._lanes[lane].no << _SEQ_BITS
        self._db.executemany(
            "DELETE FROM record WHERE id BETWEEN ? AND ?",
            [(base + first, base + last) for first, last in seqs.ranges],
        )
