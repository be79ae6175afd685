"""The reading side of the embedded store, for rollups and views; a connection of its own."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ketang_center.store.base import Account, Change, Dirty, Presence, StoredRow
from ketang_center.store.control import Control, ledger_from_row
from ketang_center.store.partitions import Partitions, day_of, slots_of
from ketang_center.store.sightings import Boot, Ruling, counts, read_boots, read_rulings
from ketang_contract import validate
from ketang_contract.records import Stream
from ketang_contract.state import Camera

ROWS = (
    "SELECT line, true_ms, received_ms, clock_suspect FROM row"
    " WHERE slot = ? AND device = ? AND subject = ?"
)
"""One slot at a time: a span of slots would walk the rows of every device in it."""
_ROWS_OF = "SELECT slot, subject, true_ms, received_ms, line FROM row WHERE slot = ? AND device = ?"
_MOST_NAMED = 500


class RowOf(NamedTuple):
    """A raw row of a device, as it stands in its day's file. Times are UTC milliseconds."""

    slot: int
    subject: str
    true_ms: int
    received_ms: int
    line: bytes


class StoreReader:
    """``with StoreReader(folder) as reading``: implements ``base.Reading``. One thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._control = Control(self._folder / "control.db")
        self._partitions = Partitions(self._folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._partitions.close()
        self._control.close()

    @property
    def control(self) -> Control:
        """The control database, for the few who write to it besides ingest."""
        return self._control

    def take_dirty(self, limit: int) -> list[Dirty]:
        """Return up to ``limit`` buckets to recompute, longest waiting first; they stay marked."""
        self._mark_what_is_ruled()
        return [
            Dirty(*row)
            for row in self._db.execute(
                "SELECT device, subject, hour, mark FROM dirty ORDER BY mark LIMIT ?",
                (limit,),
            )
        ]

    def clear_dirty(self, done: Iterable[Dirty]) -> None:
        """Unmark buckets whose rollup is durable, unless they changed again meanwhile."""
        with self._control.transaction():
            self._db.executemany(
                "DELETE FROM dirty WHERE device = ? AND subject = ? AND hour = ? AND mark = ?",
                [(one.device, one.subject, one.hour, one.mark) for one in done],
            )

    def bucket(self, device: str, subject: str, hour: int) -> list[StoredRow]:
        """Return every raw row that counts and whose ``true_ms`` lies in the hour, in its order.

        Left out is what came while two machines used the device's id, until a person lets it in.
        """
        slots = [
            slot
            for (slot,) in self._db.execute(
                "SELECT slot FROM stray WHERE device = ? AND subject = ? AND hour = ?",
                (device, subject, hour),
            )
        ]
        found: list[tuple[bytes, int, int, int]] = []
        for slot in (*range(hour * 4, hour * 4 + 4), *slots):
            found += self._rows(slot, device, subject)
        first_ms = hour * 3_600_000
        inside = [row for row in found if first_ms <= row[1] < first_ms + 3_600_000]
        inside.sort(key=lambda row: (row[1], row[0]))
        rows = [
            StoredRow(validate.record(line), true_ms, received_ms, bool(suspect))
            for line, true_ms, received_ms, suspect in inside
        ]
        rulings = read_rulings(self._db, device)
        return [row for row in rows if counts(rulings, row.record.boot_id, row.received_ms)]

    def presence(self, devices: Sequence[str] | None = None) -> list[Presence]:
        """Return the presence of the named devices, or of all; the never-seen are left out."""
        return [
            Presence(
                device=row[0],
                session=row[1],
                connected=bool(row[2]),
                orderly=bool(row[3]),
                since_ms=row[4],
                last_seen_ms=row[5],
                agent_version=row[6],
                faults=tuple(json.loads(row[7])),
                camera=Camera(row[8]),
            )
            for row in self._named("SELECT * FROM presence", devices)
        ]

    def doubted(self) -> frozenset[str]:
        """Return the devices that are two machines, while no person has decided."""
        found = self._db.execute("SELECT device FROM clone WHERE decided_ms IS NULL")
        return frozenset(device for (device,) in found)

    def rulings(self) -> list[Ruling]:
        """Return every case of two machines under one id, oldest first."""
        return read_rulings(self._db)

    def boots(self, device: str) -> list[Boot]:
        """Return a device's boots in the order in which they were first heard."""
        return read_boots(self._db, device)

    def rows_of(self, device: str) -> Iterator[RowOf]:
        """Return all a device told, of itself and of others; a look into each slot kept."""
        for day in self._partitions.days():
            rows = self._partitions.connection(day)
            for slot in slots_of(day):
                yield from (RowOf(*row) for row in rows.execute(_ROWS_OF, (slot, device)))

    def listening_ms(self) -> int:
        """Return since when the centre has heard its devices without a break; 0: never yet."""
        return self._control.listening_ms

    def changes(self, after: int, limit: int = 500) -> list[Change]:
        """Return the live feed after a number, oldest first."""
        return [
            Change(*row)
            for row in self._db.execute(
                "SELECT no, device, what, at_ms FROM change WHERE no > ? ORDER BY no LIMIT ?",
                (after, limit),
            )
        ]

    def accounts(self, devices: Sequence[str] | None = None) -> list[Account]:
        """Return the ledgers of the named devices, or of all."""
        return [
            Account(row[0], row[1], Stream(row[2]), ledger_from_row(row[3:]))
            for row in self._named("SELECT * FROM account", devices)
        ]

    def _mark_what_is_ruled(self) -> None:
        """Mark the buckets whose rows a case, opened or decided since, takes out or lets in."""
        waiting = self._db.execute(
            "SELECT no, device, since_ms FROM clone WHERE restate"
        ).fetchall()
        for no, device, since_ms in waiting:
            hours = {
                (row.subject, row.true_ms // 3_600_000, row.slot)
                for row in self.rows_of(device)
                if row.received_ms >= since_ms
            }
            with self._control.transaction():
                self._control.mark_dirty(device, hours)
                self._db.execute("UPDATE clone SET restate = 0 WHERE no = ?", (no,))

    @property
    def _db(self) -> sqlite3.Connection:
        return self._control.db

    def _named(self, query: str, devices: Sequence[str] | None) -> Iterator[Any]:
        if devices is None:
            yield from self._db.execute(query)
            return
        for at in range(0, len(devices), _MOST_NAMED):
            some = devices[at : at + _MOST_NAMED]
            marks = ",".join("?" * len(some))
            yield from self._db.execute(f"{query} WHERE device IN ({marks})", some)

    def _rows(self, slot: int, device: str, subject: str) -> Iterator[tuple[bytes, int, int, int]]:
        day = day_of(slot)
        if self._partitions.exists(day):
            yield from self._partitions.connection(day).execute(ROWS, (slot, device, subject))
