"""The spool: records wait here until the centre itself has said that it holds them.

Invariants, each kept by a single transaction:

1. A number of a lane (one stream of one store) is given out once, and ``head`` only grows.
2. Every number up to ``head`` is pending (its line is here) or has one *fate*: acked (its line
   stays seven days), gone (acked, line let go), lost (with a reason), moved.
3. ``pending`` is therefore never stored: it is ``1..head`` less all fates.

One thread owns the connection. Memory does not grow with the backlog: only ranges are held.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from ketang_agent.spool import books, fates, rows, witness
from ketang_agent.spool.damage import watched
from ketang_agent.spool.rows import SEQ_BITS, STREAMS, record_sum
from ketang_agent.spool.values import Damaged, Fate, Lane, Loss
from ketang_contract.batch import DropReason
from ketang_contract.ids import new_store_id
from ketang_contract.ranges import RangeSet
from ketang_contract.records import Record, stream_of, to_line

MOST_AT_ONCE = 50_000
"""Lines that one call lets go of: well under a second."""


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
        self._session = 0
        self._witness = witness.Witness(witness.path_for(path))

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
            Damaged: the file is not what was written; ``salvage.open_spool`` replaces it.
            sqlite3.OperationalError: the disk is full, failing or read-only.
        """
        with watched(self.path):
            self._db = rows.connect(self.path)
            try:
                self._begin(witness.read(witness.path_for(self.path)))
            except BaseException:
                self._db.close()
                raise
        self._testify()

    def close(self) -> None:
        """Close the file; nothing is lost by not calling this."""
        self._witness.close()
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
        """Yield ``(number, line)`` in order, one at a time; numbers without a line are left out.

        Raises:
            Damaged: a line is not what was written, or one that waits is not there.
        """
        state = self._lanes[lane]
        base = state.no << SEQ_BITS
        for first, last in seqs.ranges:
            due = first
            with watched(self.path):
                for key, line, found in self._db.execute(
                    "SELECT id, line, sum FROM record WHERE id BETWEEN ? AND ? ORDER BY id",
                    (base + first, base + last),
                ):
                    self._miss(state, due, key - base - 1)
                    if found != record_sum(key, line):
                        raise Damaged(f"record {state.no}/{key - base}")
                    due = key - base + 1
                    yield key - base, line
                self._miss(state, due, last)

    def used_bytes(self) -> int:
        """Bytes the file's live pages take; freed pages are used again and do not count."""
        with watched(self.path):
            pages, free, size = (
                self._db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    def restart_log(self, *, cut: bool = True) -> bool:
        """Merge the log into the file; False while a reader holds it. Never waits.

        ``cut`` gives its room back to the disk; on a full disk it is better kept.
        """
        with watched(self.path):
            self._db.execute("PRAGMA busy_timeout = 0")
            try:
                how = "TRUNCATE" if cut else "RESTART"
                busy = self._db.execute(f"PRAGMA wal_checkpoint({how})").fetchone()[0]
            finally:
                self._db.execute("PRAGMA busy_timeout = 5000")
        return not busy

    def hold_size(self, *, held: bool) -> None:
        """Let the file grow no more, so that what is new needs room inside it; or let it again."""
        with watched(self.path):
            pages = self._db.execute("PRAGMA page_count").fetchone()[0] if held else rows.MOST_PAGES
            self._db.execute(f"PRAGMA max_page_count = {pages}")

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
        new = []
        for lane, line in lines:
            state = self._lanes[lane]
            seq = heads.get(lane, state.head) + 1
            heads[lane] = seq
            new.append(((state.no << SEQ_BITS) + seq, line))
        with self._transaction():
            rows.insert_lines(self._db, new)
            for lane, head in heads.items():
                self._set_head(lane, head)
        for lane, head in heads.items():
            state = self._lanes[lane]
            state.pending |= RangeSet.span(state.head + 1, head)
            state.head = head
        self._testify()

    def mark_acked(self, lane: Lane, seqs: RangeSet, now_ms: int) -> None:
        """Remember that the centre holds these; those not pending are left as they are."""
        state = self._lanes[lane]
        acked = seqs & state.pending
        if not acked:
            return
        with self._transaction():
            fates.settle(self._db, state.no, acked, Fate.ACKED, now_ms)
        state.pending -= acked

    def mark_lost(self, lane: Lane, seqs: RangeSet, reason: DropReason, now_ms: int) -> None:
        """Give up pending records: their lines go, the loss is kept and will be told."""
        state = self._lanes[lane]
        lost = seqs & state.pending
        if not lost:
            return
        with self._transaction():
            fates.settle(self._db, state.no, lost, Fate.LOST, now_ms, reason)
            rows.delete_lines(self._db, state.no, lost)
            untold = fates.untold(self._db, state.no)
        state.pending -= lost
        state.untold = untold

    def mark_told(self, lane: Lane, losses: Iterable[Loss]) -> None:
        """Remember that the centre has these losses in its ledger."""
        state = self._lanes[lane]
        with self._transaction():
            fates.mark_told(self._db, state.no, losses)
            untold = fates.untold(self._db, state.no)
        state.untold = untold

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
        self._testify()

    def _move(self, lane: Lane, moved: RangeSet, lines: list[bytes], now_ms: int) -> None:
        with self._transaction():
            if lane.store_id == self.current_store:
                self._add_store(lane.store_id)
            target = Lane(self._newest_store(), lane.stream)
            state = self._lanes[target]
            base = (state.no << SEQ_BITS) + state.head
            rows.insert_lines(self._db, enumerate(lines, base + 1))
            self._set_head(target, state.head + len(lines))
            fates.settle(self._db, self._lanes[lane].no, moved, Fate.MOVED, now_ms)
            rows.delete_lines(self._db, self._lanes[lane].no, moved)

    def reconcile(self, lane: Lane, epoch: int, held: RangeSet, now_ms: int) -> None:
        """Answer a centre that begins a new epoch, perhaps restored from an older backup.

        What it should hold and does not is queued again where the line is still here, and declared
        lost where it is not. What was never acknowledged is pending anyway.
        """
        state = self._lanes[lane]
        with self._transaction():
            back = fates.with_fate(self._db, state.no, Fate.ACKED) - held
            let_go = fates.with_fate(self._db, state.no, Fate.GONE) - held
            fates.unsettle(self._db, state.no, back | let_go)
            fates.mark_untold(self._db, state.no)
            fates.settle(self._db, state.no, let_go, Fate.LOST, now_ms, DropReason.EXPIRED)
            rows.set_lane(self._db, state.no, state.head, epoch)
        self._load()

    def let_go(self, lane: Lane, acked_before_ms: int, most: int = MOST_AT_ONCE) -> int:
        """Drop lines acknowledged before a moment, the oldest first; return how many went.

        That is no loss. ``most`` bounds how long it takes: call again while as many went.
        """
        no = self._lanes[lane].no
        with watched(self.path):
            old = fates.with_fate(self._db, no, Fate.ACKED, acked_before_ms).lowest(most)
        if not old:
            return 0
        with self._transaction():
            fates.unsettle(self._db, no, old)
            fates.settle(self._db, no, old, Fate.GONE, 0)
            rows.delete_lines(self._db, no, old)
        return len(old)

    def next_session(self) -> int:
        """Return a session number no earlier connect has had."""
        number = self._session + 1
        self.set_meta("session", number)
        return number

    def meta(self, key: str) -> str | int | None:
        """Read a small remembered value."""
        with watched(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str | int) -> None:
        """Remember a small value for good."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        if key == "session":
            self._session = int(value)
            self._testify()

    # How it is kept.

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with watched(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _begin(self, said: witness.Testimony | None) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, rows.VERSION):
            raise Damaged(f"version {version}")
        if version == 0:
            if said is not None:
                raise Damaged("the file is empty and was not")
            self._create()
        self._load()
        if said is not None:
            self._compare(said)
        pending = {state.no: state.pending for state in self._lanes.values()}
        books.look_over(self._db, self.path, pending)

    def _create(self) -> None:
        with self._transaction():
            rows.create_tables(self._db)
            self._add_store(None)

    def _load(self) -> None:
        """Read stores, lanes and fates anew; what was known stays if that fails."""
        found = books.read(self._db)
        self._session = int(self.meta("session") or 0)
        self._lanes, self._parents, self._store_nos = {}, {}, {}
        for no, (store_id, parent) in found.stores.items():
            self._know_store(no, store_id, parent)
        for state in self._lanes.values():
            state.head, state.epoch = found.lanes[state.no]
            state.untold = found.untold.get(state.no, [])
            settled = found.settled.get(state.no, RangeSet())
            state.pending = RangeSet.span(1, state.head) - settled

    def _compare(self, said: witness.Testimony) -> None:
        """Hold the file against what was said of it at its last commit."""
        lanes = [Lane(said.store_id, stream) for stream in STREAMS]
        if (
            said.store_id not in self._store_nos
            or said.session > self._session
            or any(head > self.head(lane) for lane, head in zip(lanes, said.heads, strict=True))
        ):
            raise Damaged("the file has gone back in time")

    def _testify(self) -> None:
        states = [self._lanes[Lane(self.current_store, stream)] for stream in STREAMS]
        self._witness.write(
            witness.Testimony(
                store=self._store_nos[self.current_store],
                store_id=self.current_store,
                parent=self._parents[self.current_store],
                session=self._session,
                heads=tuple(one.head for one in states),
                settled=tuple(one.pending.first - 1 if one.pending else one.head for one in states),
            )
        )

    def _miss(self, state: _LaneState, first: int, last: int) -> None:
        """Complain where a line that waits is not there."""
        if first <= last and RangeSet.span(first, last) & state.pending:
            raise Damaged(f"records {state.no}/{first}..{last} are missing")

    def _know_store(self, no: int, store_id: str, parent: str | None) -> None:
        self._parents[store_id], self._store_nos[store_id] = parent, no
        self.current_store = store_id
        for at, stream in enumerate(STREAMS):
            self._lanes[Lane(store_id, stream)] = _LaneState(no * len(STREAMS) + at)

    def _add_store(self, parent: str | None) -> None:
        newest = self._db.execute("SELECT max(no) FROM store").fetchone()[0]
        rows.insert_store(self._db, int(newest or 0) + 1, new_store_id(), parent)

    def _newest_store(self) -> str:
        no, store_id, parent = self._db.execute(
            "SELECT no, store_id, parent FROM store ORDER BY no DESC LIMIT 1",
        ).fetchone()
        if store_id not in self._store_nos:
            self._know_store(no, store_id, parent)
        return str(store_id)

    def _set_head(self, lane: Lane, head: int) -> None:
        state = self._lanes[lane]
        rows.set_lane(self._db, state.no, head, state.epoch)
