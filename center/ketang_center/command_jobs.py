"""``commands.db``: what operators asked devices to do, and what became of it.

Several processes write: the command line adds jobs while the centre serves.
"""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from ketang_center.rows_file import RowsFile, Shape
from ketang_contract.commands import LASTS_MOST_S, What
from ketang_contract.errors import BadInput

MOST_A_MINUTE = 6
"""Jobs of one device that may be asked for in a minute."""
_MINUTE_MS = 60_000
_KEPT_MS = 180 * 24 * 3_600_000
_TABLES = """
CREATE TABLE IF NOT EXISTS job (
  job TEXT PRIMARY KEY, device TEXT NOT NULL, what TEXT NOT NULL, who TEXT NOT NULL,
  unit TEXT NOT NULL, countdown_s INTEGER, asked_ms INTEGER NOT NULL, state TEXT NOT NULL,
  reason TEXT NOT NULL DEFAULT '', result TEXT NOT NULL DEFAULT '',
  expires_ms INTEGER NOT NULL DEFAULT 0, said_ms INTEGER NOT NULL DEFAULT 0,
  changed_ms INTEGER NOT NULL, envelope BLOB, request TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_by_state ON job (state, asked_ms);
CREATE INDEX IF NOT EXISTS job_of_device ON job (device, asked_ms);
CREATE INDEX IF NOT EXISTS job_of_request ON job (request);
"""
_WITH_REQUESTS = """
ALTER TABLE job ADD COLUMN request TEXT NOT NULL DEFAULT '';
UPDATE job SET request = job;
"""
_SHAPE = Shape(_TABLES, (_WITH_REQUESTS,))
_FIELDS = (
    "job, device, what, who, unit, countdown_s, asked_ms, state, reason, result, expires_ms,"
    " said_ms, changed_ms, envelope, request"
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

    ``result`` is the answer's own JSON, or empty. ``request``: what was asked for at one time, of
    however many devices, has one.
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
    request: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return self.state not in OPEN

    def stands_in_the_way(self, now_ms: int) -> bool:
        """Tell whether the same cannot be asked again yet."""
        return not self.is_over and now_ms - self.asked_ms < 3 * LASTS_MOST_S * 1000


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for at one time, and of how many devices. ``asked_ms``: UTC."""

    name: str
    what: What
    who: str
    asked_ms: int
    devices: int


class Jobs:
    """The file. Any thread; one at a time."""

    def __init__(self, path: Path) -> None:
        self._file = RowsFile(path, _SHAPE)

    def __enter__(self) -> Self:
        """Give the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def add(self, jobs: Sequence[Job], note: Callable[[], None] = lambda: None) -> None:
        """Add jobs that are to be sent: all of them or, where one may not be, none.

        Args:
            jobs: for a device each.
            note: called when all of them may be added and none is: what cannot be noted is not
                asked, and what is asked was noted before.

        Raises:
            BadInput: a device was asked too often just now, or for the same thing already.
        """
        with self.transaction():
            for job in jobs:
                self._require_room(job)
            for job in jobs:
                self._write(job)
            note()

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

    def of_request(self, request: str) -> list[Job]:
        """Return what was asked for at one time, device by device."""
        return self._rows("request = ? ORDER BY unit, device", request)

    def requests(self, units: Collection[str], limit: int, skip: int = 0) -> list[Request]:
        """Return what was asked for of devices in these units, the latest first."""
        rows = self._file.table(
            "SELECT request, min(what), min(who), min(asked_ms), count(*) FROM job"
            " WHERE unit IN (SELECT value FROM json_each(?))"
            " GROUP BY request ORDER BY min(asked_ms) DESC, request LIMIT ? OFFSET ?",
            json.dumps(sorted(units)),
            limit,
            skip,
        )
        return [Request(name, What(what), who, at_ms, n) for name, what, who, at_ms, n in rows]

    def forget(self, now_ms: int) -> list[str]:
        """Take jobs away that are half a year old; return their names."""
        with self.transaction():
            old = [one.job for one in self._all("asked_ms < ?", now_ms - _KEPT_MS)]
            self._file.run_many("DELETE FROM job WHERE job = ?", [(one,) for one in old])
        return old

    def transaction(self) -> AbstractContextManager[None]:
        """All of it, or nothing."""
        return self._file.transaction()

    def _require_room(self, job: Job) -> None:
        of_late = self._all("device = ? AND asked_ms > ?", job.device, job.asked_ms - _MINUTE_MS)
        if len(of_late) >= MOST_A_MINUTE:
            raise BadInput(
                f"{job.device}: was asked {len(of_late)} times in a minute; wait a little"
            )
        for one in self._all("device = ? AND what = ?", job.device, job.what):
            if one.stands_in_the_way(job.asked_ms):
                raise BadInput(f"{job.device}: job {one.job} asks for the same and is not over yet")

    def _write(self, job: Job) -> None:
        values = [getattr(job, name) for name in _FIELDS.split(", ")]
        marks = ", ".join("?" * len(values))
        self._file.run(
            f"INSERT OR REPLACE INTO job ({_FIELDS}) VALUES ({marks})",  # nosec B608  # noqa: S608  (names of ours)
            *values,
        )

    def _all(self, where: str, *values: str | int) -> list[Job]:
        return self._rows(f"{where} ORDER BY asked_ms, job", *values)

    def _rows(self, where: str, *values: str | int) -> list[Job]:
        rows = self._file.table(
            f"SELECT {_FIELDS} FROM job WHERE {where}",  # nosec B608  # noqa: S608  (names of ours)
            *values,
        )
        return [_job(dict(zip(_FIELDS.split(", "), row, strict=True))) for row in rows]


def _job(row: dict[str, object]) -> Job:
    return Job(**{**row, "what": What(row["what"]), "state": JobState(row["state"])})  # type: ignore[arg-type]
