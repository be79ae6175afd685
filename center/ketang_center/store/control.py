"""The control database: ledgers, leases, dirty buckets, presence, and what was not accepted."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ketang_center.store import sightings
from ketang_center.store.partitions import Key
from ketang_center.store.sightings import Sightings
from ketang_contract.batch import Sent
from ketang_contract.errors import KetangError
from ketang_contract.ids import new_store_id
from ketang_contract.ledger import Ledger
from ketang_contract.ranges import NOTHING, RangeSet

DEAD_LETTERS_KEPT = 10_000
CHANGES_KEPT = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (
  shard TEXT PRIMARY KEY, worker TEXT NOT NULL, epoch INTEGER NOT NULL, until_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS account (
  device TEXT, store TEXT, stream TEXT, head INTEGER NOT NULL, stored TEXT NOT NULL,
  dropped TEXT NOT NULL, refused TEXT NOT NULL, quarantined INTEGER NOT NULL,
  PRIMARY KEY (device, store, stream)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS restored (
  device TEXT, store TEXT, stream TEXT, stored TEXT NOT NULL,
  PRIMARY KEY (device, store, stream)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dirty (
  device TEXT, subject TEXT, hour INTEGER, mark INTEGER NOT NULL,
  PRIMARY KEY (device, subject, hour)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dirty_by_mark ON dirty (mark);
CREATE TABLE IF NOT EXISTS stray (
  device TEXT, subject TEXT, hour INTEGER, slot INTEGER,
  PRIMARY KEY (device, subject, hour, slot)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
  device TEXT, store TEXT, stream TEXT, seq INTEGER, digest BLOB, received_ms INTEGER, line BLOB,
  PRIMARY KEY (device, store, stream, seq, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letter (
  no INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER, topic TEXT, reason TEXT, detail TEXT,
  bytes BLOB);
CREATE TABLE IF NOT EXISTS refusal (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS presence (
  device TEXT PRIMARY KEY, session INTEGER NOT NULL, connected INTEGER NOT NULL,
  orderly INTEGER NOT NULL, since_ms INTEGER NOT NULL, last_seen_ms INTEGER NOT NULL,
  agent_version TEXT NOT NULL, faults TEXT NOT NULL, camera TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS change (
  no INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT, what TEXT, at_ms INTEGER);
"""


class LeaseLost(KetangError):
    """Another worker owns the shard now. Caller: drop the work unacknowledged; it comes again."""


class Control:
    """One connection, one thread. Writers use ``transaction``, which takes the write lock first."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.executescript(_SCHEMA + sightings.SCHEMA)
        self.sightings = Sightings(self.db)
        with self.transaction():
            self._default("center_id", f"center-{new_store_id()}")
            self._default("epoch", 1)
            self._default("mark", 0)
            self._default("listening_ms", 0)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self.sightings.forget()
            raise
        self.sightings.settle()

    @property
    def center_id(self) -> str:
        """The name devices are configured to obey."""
        return str(self._meta("center_id"))

    @property
    def epoch(self) -> int:
        """Grows only when this database was restored from a backup."""
        return int(str(self._meta("epoch")))

    def begin_epoch(self, unix_s: int) -> None:
        """After a restore: make devices compare notes. No epoch given out since is repeated.

        What the backup held is kept apart: what comes from now on may be another copy's content of
        a number, and would keep a device from sending its own again. What came after an earlier
        restore does not count either: a device may have slept through that one.
        """
        with self.transaction():
            kept = self.db.execute("SELECT device, store, stream, stored FROM account").fetchall()
            held = [
                (*name, _text(self._held(Key(*name), _ranges(stored)) & _ranges(stored)))
                for *name, stored in kept
            ]
            self.db.execute("DELETE FROM restored")
            self.db.executemany("INSERT INTO restored VALUES (?, ?, ?, ?)", held)
            self.db.execute(
                "UPDATE meta SET value = ? WHERE key = 'epoch'",
                (max(self.epoch + 1, unix_s),),
            )

    # Leases.

    def lease(
        self, shards: Iterable[str], worker: str, now_ms: int, until_ms: int
    ) -> dict[str, int]:
        """Take or keep the shards that are free, expired or already ours: ``{shard: epoch}``."""
        held: dict[str, int] = {}
        with self.transaction():
            for shard in shards:
                row = self.db.execute(
                    "SELECT worker, epoch, until_ms FROM lease WHERE shard = ?",
                    (shard,),
                ).fetchone()
                if row and row[0] != worker and row[2] > now_ms:
                    continue
                ours = bool(row) and row[0] == worker and row[2] > now_ms
                held[shard] = row[1] if ours else (row[1] if row else 0) + 1
                self.db.execute(
                    "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)",
                    (shard, worker, held[shard], until_ms),
                )
        return held

    def check_lease(self, shard: str, worker: str, epoch: int) -> None:
        """Inside a transaction: raise LeaseLost unless the shard is still held as it was taken."""
        row = self.db.execute(
            "SELECT worker, epoch FROM lease WHERE shard = ?",
            (shard,),
        ).fetchone()
        if row != (worker, epoch):
            raise LeaseLost(f"shard {shard} is no longer held by {worker}")

    # Ledgers.

    def ledger(self, key: Key) -> Ledger:
        """What is known of a key's numbers."""
        row = self.db.execute(
            "SELECT head, stored, dropped, refused, quarantined FROM account"
            " WHERE device = ? AND store = ? AND stream = ?",
            (key.device, key.store_id, key.stream),
        ).fetchone()
        return ledger_from_row(row) if row else Ledger()

    def held(self, key: Key, ledger: Ledger) -> RangeSet:
        """What a device that meets this epoch first need not send again."""
        return self._held(key, ledger.known)

    def _held(self, key: Key, known: RangeSet) -> RangeSet:
        """All that is known, or after a restore what was stored ever since before the first."""
        if self.epoch == 1:
            return known
        row = self.db.execute(
            "SELECT stored FROM restored WHERE device = ? AND store = ? AND stream = ?",
            (key.device, key.store_id, key.stream),
        ).fetchone()
        return _ranges(row[0]) if row else RangeSet()

    def knows_another_store(self, key: Key) -> bool:
        """Whether this database was restored, and has another store of the device."""
        return (
            self.epoch != 1
            and self.db.execute(
                "SELECT 1 FROM account WHERE device = ? AND store != ? LIMIT 1",
                (key.device, key.store_id),
            ).fetchone()
            is not None
        )

    def set_ledger(self, key: Key, ledger: Ledger) -> None:
        """Keep what is known of a key's numbers."""
        self.db.execute(
            "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.device,
                key.store_id,
                key.stream,
                ledger.head,
                _text(ledger.stored),
                _text(ledger.dropped),
                _text(ledger.refused),
                ledger.quarantined,
            ),
        )

    def mark_dirty(self, device: str, hours: Iterable[tuple[str, int, int]]) -> None:
        """Mark ``(subject, hour, slot)`` buckets; remember where a slot is not in its hour."""
        found = set(hours)
        if not found:
            return
        mark = int(str(self._meta("mark"))) + 1
        self.db.execute("UPDATE meta SET value = ? WHERE key = 'mark'", (mark,))
        self.db.executemany(
            "INSERT OR REPLACE INTO dirty VALUES (?, ?, ?, ?)",
            [(device, subject, hour, mark) for subject, hour, _ in found],
        )
        self.db.executemany(
            "INSERT OR IGNORE INTO stray VALUES (?, ?, ?, ?)",
            [(device, subject, hour, slot) for subject, hour, slot in found if slot // 4 != hour],
        )

    # What was not accepted.

    def quarantine(self, key: Key, seq: int, digest: bytes, line: bytes, now_ms: int) -> bool:
        """Keep other content of a used number; False when this content is kept already."""
        done = self.db.execute(
            "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key.device, key.store_id, key.stream, seq, digest, now_ms, line),
        )
        return done.rowcount > 0

    def bury(self, topic: str, reason: str, detail: str, payload: bytes, now_ms: int) -> None:
        """Count a refusal and keep a capped copy of what was refused."""
        self.db.execute(
            "INSERT INTO refusal VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
            (reason,),
        )
        made = self.db.execute(
            "INSERT INTO dead_letter (at_ms, topic, reason, detail, bytes) VALUES (?, ?, ?, ?, ?)",
            (now_ms, topic[:300], reason, detail[:300], payload[:4096]),
        )
        self.db.execute(
            "DELETE FROM dead_letter WHERE no <= ?", (int(made.lastrowid or 0) - DEAD_LETTERS_KEPT,)
        )

    # Presence.

    @property
    def listening_ms(self) -> int:
        """Since when this centre has heard its devices without a break; 0: never yet."""
        return int(str(self._meta("listening_ms")))

    def note_listening(self, since_ms: int) -> None:
        """The broker has begun to deliver; what was said while nobody listened is gone."""
        self.db.execute("UPDATE meta SET value = ? WHERE key = 'listening_ms'", (since_ms,))

    def note_change(self, device: str, what: str, at_ms: int) -> None:
        """Add a line to the live feed."""
        made = self.db.execute(
            "INSERT INTO change (device, what, at_ms) VALUES (?, ?, ?)",
            (device, what, at_ms),
        )
        self.db.execute(
            "DELETE FROM change WHERE no <= ?", (int(made.lastrowid or 0) - CHANGES_KEPT,)
        )

    def note_birth(self, device: str, session: int, version: str, now_ms: int) -> None:
        """A device connected. An older session than the known one changes nothing."""
        done = self.db.execute(
            "INSERT INTO presence VALUES (?, ?, 1, 0, ?, 0, ?, '[]', 'off')"
            " ON CONFLICT DO UPDATE SET session = excluded.session, connected = 1, orderly = 0,"
            " since_ms = excluded.since_ms, agent_version = excluded.agent_version"
            " WHERE excluded.session > session",
            (device, session, now_ms, version),
        )
        if done.rowcount > 0:
            self.note_change(device, "connection", now_ms)

    def note_death(self, device: str, session: int, now_ms: int, *, orderly: bool) -> None:
        """A device went. A death older than the current session is ignored."""
        done = self.db.execute(
            "UPDATE presence SET connected = 0, orderly = ?, since_ms = ?, session = ?"
            " WHERE device = ? AND session <= ? AND (connected OR ? > session)",
            (orderly, now_ms, session, device, session, session),
        )
        if done.rowcount > 0:
            self.note_change(device, "connection", now_ms)

    def note_live(self, device: str, faults: tuple[str, ...], camera: str, now_ms: int) -> None:
        """A fault or the camera's state changed."""
        text = json.dumps(sorted(faults))
        done = self.db.execute(
            "UPDATE presence SET faults = ?, camera = ? WHERE device = ?"
            " AND (faults != ? OR camera != ?)",
            (text, camera, device, text, camera),
        )
        if done.rowcount > 0:
            self.note_change(device, "fault", now_ms)

    def note_clocks(
        self, device: str, sent: Sent, now_ms: int, session: int = 0, version: str = ""
    ) -> None:
        """A message told the device's clocks, which may show that it is two machines."""
        if self.sightings.hear(device, sent, now_ms, session, version):
            self.note_change(device, "clone", now_ms)

    def note_data(self, device: str, now_ms: int) -> None:
        """A batch arrived: last seen."""
        self.db.execute(
            "INSERT INTO presence VALUES (?, 0, 0, 0, ?, ?, '', '[]', 'off')"
            " ON CONFLICT DO UPDATE SET last_seen_ms = max(last_seen_ms, excluded.last_seen_ms)",
            (device, now_ms, now_ms),
        )

    def _meta(self, key: str) -> object:
        return self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0]

    def _default(self, key: str, value: str | int) -> None:
        self.db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))


def ledger_from_row(row: tuple[int, str, str, str, int]) -> Ledger:
    """Read a ledger from ``head, stored, dropped, refused, quarantined``."""
    head, stored, dropped, refused, quarantined = row
    return Ledger(head, _ranges(stored), _ranges(dropped), _ranges(refused), quarantined)


def _text(seqs: RangeSet) -> str:
    return json.dumps(seqs.ranges, separators=(",", ":"))


def _ranges(text: str) -> RangeSet:
    if text == "[]":
        return NOTHING
    return RangeSet(tuple((first, last) for first, last in json.loads(text)))
