"""Keeps rollups true: takes dirty buckets, recomputes them whole from raw, and their days.

An hour is a pure function of its raw rows, a day of its hours, the placement and the calendar;
doing it again changes nothing. Marks are cleared only when the rollup is durable.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Self

from ketang_center.metrics.figures import DayUse, day_use
from ketang_center.metrics.windows import HOUR_MS, Hour, from_text, larger, summarise, to_text
from ketang_center.registry.calendars import day_of, day_starts_ms, lesson_spans_ms
from ketang_center.registry.database import Registry
from ketang_center.store.base import Reading

_HOURS = 24
_COLUMNS = tuple(one.name for one in fields(DayUse))
_TEXT = {"subject", "day", "school", "window_state", "window_source", "health"}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS hour (
  subject TEXT, hour INTEGER, device TEXT, body TEXT NOT NULL,
  PRIMARY KEY (subject, hour, device)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS day (
  COLUMNS,
  PRIMARY KEY (subject, day, school)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hour_by_teller ON hour (device) WHERE device != subject;
CREATE INDEX IF NOT EXISTS day_by_school ON day (day, school);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('generation', 0), ('revision', 0);
""".replace(
    "COLUMNS",
    ", ".join(f"{one} {'TEXT' if one in _TEXT else 'INTEGER'} NOT NULL" for one in _COLUMNS),
)


def open_rollups(path: Path) -> sqlite3.Connection:
    """Open the rollups' file, made if it is not there."""
    db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(_SCHEMA)
    return db


class Rollup:
    """The one writer of the rollups. Needs its own ``Registry`` if it runs on its own thread."""

    def __init__(self, reading: Reading, path: Path, registry: Registry) -> None:
        self._reading = reading
        self._registry = registry
        self._db = open_rollups(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def step(self, limit: int = 500) -> int:
        """Recompute up to ``limit`` dirty buckets and what a registry change restates.

        Returns:
            How many buckets were done; 0 means there is nothing to do for now.
        """
        dirty = self._reading.take_dirty(limit)
        revision = self._registry.revision()
        moved = self._moved_since(revision)
        if not dirty and not moved:
            return 0
        bodies = [
            (
                one.subject,
                one.hour,
                one.device,
                summarise(one.hour, self._reading.bucket(one.device, one.subject, one.hour)),
            )
            for one in dirty
        ]
        with self._transaction():
            for subject, hour, device, body in bodies:
                self._put(subject, hour, device, body)
            days = {(one.subject, day_of(one.hour * HOUR_MS)) for one in dirty}
            for subject in moved:
                days |= self._known_days(subject)
            self._restate(days)
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (revision,))
            self._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
        self._reading.clear_dirty(dirty)
        return len(dirty)

    def _moved_since(self, revision: int) -> set[str]:
        known = self._db.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0]
        return self._registry.touched_since(known) if revision != known else set()

    def _put(self, subject: str, hour: int, device: str, body: Hour) -> None:
        if body.first_ms is None:
            self._db.execute(
                "DELETE FROM hour WHERE subject = ? AND hour = ? AND device = ?",
                (subject, hour, device),
            )
        else:
            self._db.execute(
                "INSERT OR REPLACE INTO hour VALUES (?, ?, ?, ?)",
                (subject, hour, device, to_text(body)),
            )

    def _known_days(self, device: str) -> set[tuple[str, date]]:
        """Return the days told of a device, and those it told of others."""
        rows = self._db.execute(
            "SELECT subject, hour FROM hour WHERE subject = ? UNION"
            " SELECT subject, hour FROM hour WHERE device = ? AND device != subject",
            (device, device),
        )
        return {(subject, day_of(hour * HOUR_MS)) for subject, hour in rows}

    def _restate(self, days: Iterable[tuple[str, date]]) -> None:
        calendars = self._registry.calendars()
        marks = ", ".join("?" * len(_COLUMNS))
        for subject, day in sorted(days):
            self._db.execute(
                "DELETE FROM day WHERE subject = ? AND day = ?", (subject, day.isoformat())
            )
            start = day_starts_ms(day) // HOUR_MS
            by_school: dict[str, list[Hour]] = {}
            for hour in read_hours(
                self._db, subject, start, start + _HOURS, self._registry.may_tell_of
            ):
                # An hour belongs to the school the device was at when it began reporting in it.
                school = self._registry.school_of(subject, hour.first_ms or hour.starts_ms) or ""
                by_school.setdefault(school, []).append(hour)
            for school, hours in by_school.items():
                made = day_use(
                    subject,
                    day.isoformat(),
                    school,
                    hours,
                    lesson_spans_ms(calendars.get(school), day),
                )
                self._db.execute(
                    f"INSERT INTO day VALUES ({marks})",  # nosec B608  # noqa: S608  (question marks)
                    [getattr(made, column) for column in _COLUMNS],
                )

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


def read_hours(
    db: sqlite3.Connection,
    subject: str,
    first: int,
    until: int,
    may_tell_of: Callable[[str, str, int], bool] | None,
) -> list[Hour]:
    """Return a subject's hours from ``first`` until before ``until``, in order, agents joined.

    Anybody with a certificate can name any subject; ``may_tell_of`` says whose word counts.
    """
    found: dict[int, Hour] = {}
    for hour, device, text in db.execute(
        "SELECT hour, device, body FROM hour WHERE subject = ? AND hour >= ? AND hour < ?"
        " ORDER BY hour, device",
        (subject, first, until),
    ):
        one = from_text(hour, text)
        at_ms = one.first_ms or one.starts_ms
        if device != subject and not (may_tell_of and may_tell_of(device, subject, at_ms)):
            continue
        found[hour] = larger(found[hour], one) if hour in found else one
    return list(found.values())


class RollupReader:
    """What pages read: its own connection, which never writes."""

    def __init__(self, path: Path) -> None:
        self._db = open_rollups(path)
        self._db.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def generation(self) -> int:
        """Return a number that grows whenever a figure may have changed."""
        return int(
            self._db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()[0]
        )

    def days(self, day: date) -> dict[tuple[str, str], DayUse]:
        """Return a day of everyone, by ``(subject, school)``."""
        rows = self._db.execute("SELECT * FROM day WHERE day = ?", (day.isoformat(),))
        return {(one.subject, one.school): one for one in map(_day, rows)}

    def latest(self, day: date) -> dict[str, DayUse]:
        """Return each subject's last day with data, up to and with ``day``."""
        rows = self._db.execute(
            "WITH last AS (SELECT subject, max(day) AS at FROM day WHERE day <= ? GROUP BY subject)"
            " SELECT day.* FROM last JOIN day ON day.subject = last.subject AND day.day = last.at"
            " ORDER BY day.last_ms",
            (day.isoformat(),),
        )
        return {one.subject: one for one in map(_day, rows)}

    def next_boots(self, day: date) -> dict[str, int]:
        """Return, by subject, when the machine had started that reported next after ``day``."""
        return dict(
            self._db.execute(
                "WITH next AS"
                " (SELECT subject, min(day) AS at FROM day WHERE day > ? GROUP BY subject)"
                " SELECT day.subject, min(day.booted_ms) FROM next"
                " JOIN day ON day.subject = next.subject AND day.day = next.at"
                " GROUP BY day.subject",
                (day.isoformat(),),
            ).fetchall()
        )

    def hours(
        self, subject: str, day: date, may_tell_of: Callable[[str, str, int], bool] | None = None
    ) -> list[Hour]:
        """Return a subject's hours of a local day; without ``may_tell_of`` its own word alone."""
        start = day_starts_ms(day) // HOUR_MS
        return read_hours(self._db, subject, start, start + _HOURS, may_tell_of)

    def first_day(self) -> date | None:
        """Return the first day with data."""
        found = self._db.execute("SELECT min(day) FROM day").fetchone()[0]
        return date.fromisoformat(found) if found else None


def _day(row: tuple[str | int, ...]) -> DayUse:
    return DayUse(**dict(zip(_COLUMNS, row, strict=True)))  # type: ignore[arg-type]  # columns are the fields
