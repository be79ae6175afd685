"""The security log: what was refused, how often, from where. Six months, and bounded.

One line for each minute, kind, name and source, with a count: a flood of refusals costs a few
lines, and the count stays true. Source addresses live here and nowhere else (PRIVACY rule 5). From
the day before yesterday back there is one line for each day, kind, name and source, and a thousand
a day: some 200,000 lines in all, whoever knocks.
"""

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

_MINUTE_MS = 60_000
_DAY, _HOUR = 1440, 60
"""Minutes."""
_KEPT_MS = 183 * 86_400_000
_MOST_A_MINUTE = 500
"""Different lines in one minute; what comes on top is counted together under no name."""
_MOST_A_DAY, _MOST_OF_OLD_DAY = 10_000, 1_000
"""The same for a day; there it is counted by the hour, later by the day."""
_TEXT = 200
_SCHEMA = """
CREATE TABLE IF NOT EXISTS happening (
  minute INTEGER, what TEXT, who TEXT, source TEXT, count INTEGER NOT NULL,
  last_ms INTEGER NOT NULL, detail TEXT NOT NULL,
  PRIMARY KEY (minute, what, who, source)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (
  what TEXT PRIMARY KEY, count INTEGER NOT NULL, last_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_SUMMED = """
WITH named AS (
  SELECT what, who, source, sum(count) AS n, max(last_ms) AS last_ms, max(detail) AS detail
  FROM happening WHERE minute >= ? AND minute < ? GROUP BY what, who, source),
of_kind AS (
  SELECT *, row_number() OVER (PARTITION BY what ORDER BY n DESC, who, source) AS place FROM named),
placed AS (SELECT *, row_number() OVER (ORDER BY place, what) <= ? AS kept FROM of_kind)
SELECT what, iif(kept, who, '') AS whose, iif(kept, source, '') AS whence, sum(n), max(last_ms),
  max(iif(kept, detail, ''))
FROM placed GROUP BY what, whose, whence
"""


@dataclass(frozen=True, slots=True)
class Happening:
    """Refusals of one kind, of one name from one source, within one minute."""

    what: str
    who: str
    source: str
    count: int
    last_ms: int
    detail: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something was refused: ever, and since a moment."""

    what: str
    ever: int
    recent: int
    last_ms: int


class SecurityLog:
    """The log, in its own file. Any thread; several processes may write."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def note(
        self, at_ms: int, what: str, who: str = "", source: str = "", detail: str = "", n: int = 1
    ) -> None:
        """Count a refusal. ``what`` is a short fixed word; the rest may be a stranger's text."""
        minute = at_ms // _MINUTE_MS
        what, who, source, detail = (one[:_TEXT] for one in (what, who, source, detail))
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._add(minute, (what, who, source), n, at_ms, detail)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _add(self, minute: int, key: tuple[str, str, str], n: int, at_ms: int, detail: str) -> None:
        known = self._db.execute(
            "SELECT 1 FROM happening WHERE minute = ? AND what = ? AND who = ? AND source = ?",
            (minute, *key),
        ).fetchone()
        if known is None:
            (lines,) = self._db.execute(
                "SELECT count(*) FROM happening WHERE minute = ?", (minute,)
            ).fetchone()
            if lines >= _MOST_A_MINUTE:
                key, detail = (key[0], "", ""), ""
            if self._lines_of_day(minute) >= _MOST_A_DAY:
                minute, key, detail = minute - minute % _HOUR, (key[0], "", ""), ""
        self._db.execute(
            "INSERT INTO happening VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " count = count + excluded.count, last_ms = excluded.last_ms,"
            " detail = excluded.detail",
            (minute, *key, n, at_ms, detail),
        )
        self._db.execute(
            "INSERT INTO total VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
            " count = count + excluded.count, last_ms = excluded.last_ms",
            (key[0], n, at_ms),
        )

    def tallies(self, since_ms: int) -> list[Tally]:
        """Return every kind that ever happened, the latest first."""
        with self._lock:
            recent = dict(
                self._db.execute(
                    "SELECT what, sum(count) FROM happening WHERE minute >= ? GROUP BY what",
                    (since_ms // _MINUTE_MS,),
                ).fetchall()
            )
            rows = self._db.execute(
                "SELECT what, count, last_ms FROM total ORDER BY last_ms DESC, what"
            ).fetchall()
        return [Tally(what, ever, recent.get(what, 0), last) for what, ever, last in rows]

    def recent(self, limit: int = 200) -> list[Happening]:
        """Return the latest lines."""
        with self._lock:
            rows = self._db.execute(
                "SELECT what, who, source, count, last_ms, detail FROM happening"
                " ORDER BY minute DESC, last_ms DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [Happening(*row) for row in rows]

    def named(self, since_ms: int) -> list[tuple[str, str, int, int]]:
        """Return what had a name since a moment: kind, name, how often, last ms."""
        with self._lock:
            return self._db.execute(
                "SELECT what, who, sum(count), max(last_ms) FROM happening"
                " WHERE minute >= ? AND who <> '' GROUP BY what, who",
                (since_ms // _MINUTE_MS,),
            ).fetchall()

    def count(self, what: str) -> int:
        """Return how often a thing ever happened."""
        with self._lock:
            row = self._db.execute("SELECT count FROM total WHERE what = ?", (what,)).fetchone()
        return int(row[0]) if row else 0

    def mark(self, name: str) -> str:
        """Return how far somebody has come who carries things in here; empty at first."""
        with self._lock:
            row = self._db.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def set_mark(self, name: str, value: str) -> None:
        """Remember how far somebody has come."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))

    def forget(self, now_ms: int) -> None:
        """Drop what is older than six months (PRIVACY rule 12), and sum up what is days old.

        The totals stay.
        """
        yesterday = now_ms // _MINUTE_MS // _DAY - 1
        with self._lock:
            self._db.execute(
                "DELETE FROM happening WHERE minute < ?", ((now_ms - _KEPT_MS) // _MINUTE_MS,)
            )
            days = self._db.execute(
                f"SELECT DISTINCT minute / {_DAY} FROM happening"  # nosec B608  # noqa: S608  (a number of ours)
                f" WHERE minute % {_DAY} <> 0 AND minute < ?",
                (yesterday * _DAY,),
            ).fetchall()
            for (day,) in days:
                self._sum_up(day)

    def _lines_of_day(self, minute: int) -> int:
        first = minute - minute % _DAY
        (lines,) = self._db.execute(
            "SELECT count(*) FROM happening WHERE minute >= ? AND minute < ?", (first, first + _DAY)
        ).fetchone()
        return int(lines)

    def _sum_up(self, day: int) -> None:
        """Make one line of each name in a day; what is over the cap is counted under no name.

        Of each kind those that came most often keep their names, and no kind takes all the room.
        """
        first = day * _DAY
        self._db.execute("BEGIN IMMEDIATE")
        try:
            rows = self._db.execute(_SUMMED, (first, first + _DAY, _MOST_OF_OLD_DAY)).fetchall()
            self._db.execute(
                "DELETE FROM happening WHERE minute >= ? AND minute < ?", (first, first + _DAY)
            )
            self._db.executemany(
                "INSERT INTO happening VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(first, *row) for row in rows],
            )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
