"""The embedded store: day files for rows, one control database for what is known about them.

The order is the whole point, and ``admit`` is the only place that has it: rows commit first, each
in its day's file; then one control transaction, under the shard's lease, merges the ledgers and
marks rollups dirty; only then may anything be acknowledged. A crash between the two leaves rows
with a journal entry, which ``complete`` merges when a lease is next taken.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from ketang_center.store.control import Control, LeaseLost
from ketang_center.store.partitions import Key, Partitions, Row, day_of
from ketang_contract.batch import Sent
from ketang_contract.ids import shard_of
from ketang_contract.ledger import Ledger
from ketang_contract.ranges import RangeSet

MAX_LEDGER_RANGES = 20_000
"""Holes one stream may have before further batches wait: a bound on what one device can cost."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Which worker may write for which shards, as they were taken."""

    worker: str
    epochs: dict[str, int]


@dataclass(frozen=True, slots=True)
class Admission:
    """One decoded batch. ``refused`` holds ``(seq, reason, detail, line)``."""

    key: Key
    digest: str
    head: int
    rows: tuple[Row, ...]
    refused: tuple[tuple[int, str, str, bytes], ...]
    dropped: RangeSet
    received_ms: int
    forked: bool
    """Its store was forked from another, so a record may have come under the other's name."""
    sent: Sent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch, durable already."""

    admission: Admission
    fork: RangeSet
    ledger: Ledger
    duplicates: int
    """Rows that stood there already, with the same content."""


class Store:
    """Open with ``with Store(folder) as store``. One thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        """Open or create the files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.control = Control(self.folder / "control.db")
        self.partitions = Partitions(self.folder)
        self._leased: dict[str, int] = {}

    def close(self) -> None:
        """Close the files; what was not committed is dropped."""
        self.partitions.close()
        self.control.close()

    def take_lease(
        self,
        shards: Iterable[str],
        worker: str,
        now_ms: int,
        lasts_ms: int,
    ) -> Lease:
        """Take or keep shards; completes what an earlier holder left half done."""
        lease = Lease(worker, self.control.lease(shards, worker, now_ms, now_ms + lasts_ms))
        if lease.epochs != self._leased:
            self.control.sightings.forget()  # whoever held a shard meanwhile has written of it
        self._leased = lease.epochs
        self.complete()
        return lease

    def complete(self) -> None:
        """Merge rows that were written and never marked: the crash came between the two."""
        left = self.partitions.unmerged()
        if not left:
            return
        with self.control.transaction():
            for day, _, key, seqs in left:
                known = self.control.ledger(key).with_stored(seqs).with_head(seqs.last)
                self.control.set_ledger(key, known)
                self.control.mark_dirty(key.device, self.partitions.hours(day, key, seqs))
        self.partitions.forget([(day, no) for day, no, _, _ in left])

    def begin_epoch(self, unix_s: int) -> None:
        """After a restore, before any lease: every row gets its mark, then devices compare notes.

        The backup took the rows after the control database, so it holds rows that this one never
        heard of; a device that is gone by now will not send them again. The rollups may be of yet
        another time, so every bucket that has raw is marked.
        """
        for day in self.partitions.days():
            with self.control.transaction():
                for key, seqs in self.partitions.numbers(day).items():
                    ledger = self.control.ledger(key)
                    unknown = seqs - ledger.stored
                    if unknown:
                        self.control.set_ledger(
                            key, ledger.with_stored(unknown).with_head(unknown.last)
                        )
                for device, hours in self.partitions.all_hours(day).items():
                    self.control.mark_dirty(device, hours)
        self.control.begin_epoch(unix_s)

    def admit(self, admissions: Sequence[Admission], lease: Lease) -> list[Outcome]:
        """Make batches durable, once each record, and say what became of them.

        Raises:
            LeaseLost: another worker took over; nothing may be acknowledged.
        """
        keys = {one.key for one in admissions}
        before = {key: self.control.ledger(key) for key in keys}
        after = dict(before)
        forks: list[list[Row]] = []
        new: list[int] = []
        try:
            for one in admissions:
                after[one.key], different, count = self._write(one, after[one.key])
                forks.append(different)
                new.append(count)
            # Under the days' locks: a worker that took over passes each of them before it reads.
            self._check_lease(keys, lease)
            self.partitions.commit()
        except BaseException:
            self.partitions.rollback()
            raise
        try:
            with self.control.transaction():
                self._merge(admissions, forks, lease, before, after)
        except BaseException:
            self.partitions.leave_marks()
            raise
        self.partitions.merged()
        return [
            Outcome(
                one,
                RangeSet.of_numbers(row.seq for row in different),
                after[one.key],
                len(one.rows) - len(different) - count,
            )
            for one, different, count in zip(admissions, forks, new, strict=True)
        ]

    def _merge(
        self,
        admissions: Sequence[Admission],
        forks: list[list[Row]],
        lease: Lease,
        before: dict[Key, Ledger],
        after: dict[Key, Ledger],
    ) -> None:
        self._check_lease(before, lease)
        for key, known in before.items():
            if self.control.ledger(key) != known:
                raise LeaseLost(f"the ledger of {key.device} changed meanwhile")
        for one, different in zip(admissions, forks, strict=True):
            after[one.key] = self._account(one, different, after[one.key])
        for key, ledger in after.items():
            self.control.set_ledger(key, ledger)

    def _check_lease(self, keys: Iterable[Key], lease: Lease) -> None:
        for shard in {shard_of(key.device) for key in keys}:
            self.control.check_lease(shard, lease.worker, lease.epochs.get(shard, 0))

    def _write(self, one: Admission, ledger: Ledger) -> tuple[Ledger, list[Row], int]:
        """Insert what is new; return the rows whose number has other content, and how many came."""
        different: list[Row] = []
        new: list[Row] = []
        numbers = RangeSet.of_numbers(row.seq for row in one.rows)
        seen = numbers & ledger.stored
        # After a restore a forked store may be known again before the numbers it was forked from.
        forked = one.forked or self.control.knows_another_store(one.key)
        for row in one.rows:
            if seen and row.seq in seen:
                if self._digest_at(one.key, row) != row.digest:
                    different.append(row)
            elif not (forked and self._stands_elsewhere(one.key, row)):
                new.append(row)
        new.sort(key=lambda row: row.slot)
        inserted = 0
        for _, rows in groupby(new, key=lambda row: day_of(row.slot)):
            came, others = self.partitions.insert(one.key, list(rows))
            inserted += came
            different += others
        return ledger.with_head(one.head).with_stored(numbers), different, inserted

    def _stands_elsewhere(self, key: Key, row: Row) -> bool:
        return self.partitions.holds_content(key, row)

    def _digest_at(self, key: Key, row: Row) -> bytes | None:
        if not self.partitions.exists(day_of(row.slot)):
            return None
        return self.partitions.digest_at(key, row)

    def _account(self, one: Admission, different: list[Row], ledger: Ledger) -> Ledger:
        control = self.control
        for seq, reason, detail, line in one.refused:
            if seq not in ledger.refused:
                control.bury(
                    f"{one.key.device}/{one.key.store_id}/{one.key.stream}/{seq}",
                    reason,
                    detail,
                    line,
                    one.received_ms,
                )
        # What a disk that went back in time had moved to a fork before, or its clone did, is here
        # already. It forks all the same: marked under a number that stands for other content, it
        # would look safe to a device that compares notes with a restored centre.
        quarantined = sum(
            control.quarantine(one.key, row.seq, row.digest, row.line, one.received_ms)
            for row in different
            if not self._stands_elsewhere(one.key, row)
        )
        if quarantined:
            control.note_change(one.key.device, "clone", one.received_ms)
        control.mark_dirty(
            one.key.device, ((row.subject, row.true_ms // 3_600_000, row.slot) for row in one.rows)
        )
        control.note_data(one.key.device, one.received_ms)
        control.note_clocks(one.key.device, one.sent, one.received_ms)
        ledger = ledger.with_refused(RangeSet.of_numbers(seq for seq, *_ in one.refused))
        ledger = ledger.with_dropped(one.dropped)
        return Ledger(
            ledger.head,
            ledger.stored,
            ledger.dropped,
            ledger.refused,
            ledger.quarantined + quarantined,
        )
