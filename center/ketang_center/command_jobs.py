"""``commands.db``: what operators asked devices to do, and what became of it.

Several processes write: the command line adds jobs while the centre serves.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from ketang_contract.commands import LASTS_MOST_S, What
from ketang_contract.errors import BadInput

MOST_A_MINUTE = 6
"""Jobs of one device that may be asked for in a minute."""
_MINUTE_MS = 60_000
_KEPT_MS = 180 * 24 * 3_600_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
  job TEXT PRIMARY KEY, device TEXT NOT NULL, what TEXT NOT NULL, who TEXT NOT NULL,
  unit TEXT NOT NULL, countdown_s INTEGER, asked_ms INTEGER NOT NULL, state TEXT NOT NULL,
  reason TEXT NOT NULL DEFAULT '', result TEXT NOT NULL DEFAULT '',
  expires_ms INTEGER NOT NULL DEFAULT 0, said_ms INTEGER NOT NULL DEFAULT 0,
  changed_ms INTEGER NOT NULL, envelope BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_by_state ON job (state, asked_ms);
CREATE INDEX IF NOT EXISTS job_of_device ON job (device, asked_ms);
"""
_FIELDS = (
    "job, device, what, who, unit, countdown_s, asked_ms, state, reason, result, expires_ms,"
    " said_ms, changed_ms, envelope"
)


class JobState(StrEnum):
    """Where a job stands at the centre: not sent, sent, or what the device says of it."""

    ASKED = "asked"
    SENT = "sent"
    RECEIVED = "received"
    WAITING_CONSENT = "waiting_consent"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"


OPEN = (
    JobState.ASKED,
    JobState.SENT,
    JobState.RECEIVED,
    JobState.WAITING_CONSENT,
    JobState.RUNNING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing asked of one device. Times are UTC ms; ``expires_ms`` 0: not sent yet.

    ``result`` is the answer's own JSON, or empty.
    """

    job: str
    device: str
    what: What
    who: str
    unit: str
    countdown_s: int | None
    asked_ms: int
    state: JobState
    reason: str = ""
    result: str = ""
    expires_ms: int = 0
    said_ms: int = 0
    changed_ms: int = 0
    envelope: bytes | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return self.state not in OPEN


class Jobs:
    """The file. Any thread; one at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        """Give the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def add(self, job: Job) -> None:
        """Add a job that is to be sent.

        Raises:
            BadInput: the device was asked too often just now, or for the same thing already.
        """
        with self.transaction():
            of_late = self._all(
                "device = ? AND asked_ms > ?", job.device, job.asked_ms - _MINUTE_MS
            )
            if len(of_late) >= MOST_A_MINUTE:
                raise BadInput(
                    f"{job.device}: was asked {len(of_late)} times in a minute; wait a little"
                )
            for one in self._all("device = ? AND what = ?", job.device, job.what):
                if not one.is_over and job.asked_ms - one.asked_ms < 3 * LASTS_MOST_S * 1000:
                    raise BadInput(
                        f"{job.device}: job {one.job} asks for the same and is not over yet"
                    )
            self._write(job)

    def put(self, job: Job) -> None:
        """Keep what became of a job; durable when this returns."""
        with self.transaction():
            self._write(job)

    def get(self, job: str) -> Job | None:
        """Return a job."""
        return next(iter(self._all("job = ?", job)), None)

    def open_jobs(self, state: JobState | None = None) -> list[Job]:
        """Return jobs that are not over, the oldest first; in one state where one is named."""
        states = OPEN if state is None else (state,)
        marks = ", ".join("?" * len(states))
        return self._all(f"state IN ({marks})", *states)

    def of(self, devices: Sequence[str] | None = None, limit: int = 100) -> list[Job]:
        """Return jobs of these devices, or of all, the latest first."""
        if devices is None:
            return self._rows("1 ORDER BY asked_ms DESC, job LIMIT ?", limit)
        marks = ", ".join("?" * len(devices))
        return self._rows(
            f"device IN ({marks}) ORDER BY asked_ms DESC, job LIMIT ?", *devices, limit
        )

    def forget(self, now_ms: int) -> list[str]:
        """Take jobs away that are half a year old; return their names."""
        with self.transaction():
            old = [one.job for one in self._all("asked_ms < ?", now_ms - _KEPT_MS)]
            self._db.executemany("DELETE FROM job WHERE job = ?", [(one,) for one in old])
        return old

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it, or nothing."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _write(self, job: Job) -> None:
        values = [getattr(job, name) for name in _FIELDS.split(", ")]
        marks = ", ".join("?" * len(values))
        self._db.execute(
            f"INSERT OR REPLACE INTO job ({_FIELDS}) VALUES ({marks})",  # nosec B608  # noqa: S608  (names of ours)
            values,
        )

    def _all(self, where: str, *values: str | int) -> list[Job]:
        return self._rows(f"{where} ORDER BY asked_ms, job", *values)

    def _rows(self, where: str, *values: str | int) -> list[Job]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_FIELDS} FROM job WHERE {where}",  # nosec B608  # noqa: S608  (names of ours)
                values,
            ).fetchall()
        return [_job(dict(zip(_FIELDS.split(", "), row, strict=True))) for row in rows]


def _job(row: dict[str, object]) -> Job:
    return Job(**{**row, "what": What(row["what"]), "state": JobState(row["state"])})  # type: ignore[arg-type]
