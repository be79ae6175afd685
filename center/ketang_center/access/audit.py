"""Who looked at what: append-only, each entry chained to the one before by SHA-256.

A changed or missing entry breaks the chain; only cutting off the end goes unseen, which is why
the head is to be kept off the machine (PRIVACY rule 14).
"""

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

_GENESIS = "0" * 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
  no INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
  subject TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS audit_keeps BEFORE UPDATE ON audit
  BEGIN SELECT raise(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE DELETE ON audit
  BEGIN SELECT raise(ABORT, 'the audit log only grows'); END;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One look."""

    no: int
    at_ms: int
    who: str
    action: str
    subject: str
    hash: str


class Audit:
    """The log, in its own file. Use it from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def note(self, at_ms: int, who: str, action: str, subject: str) -> None:
        """Add an entry; durable when this returns."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._add(at_ms, who, action, subject)
            self._db.execute("COMMIT")
        except BaseException:
            # Left open, no later look could begin its own.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _add(self, at_ms: int, who: str, action: str, subject: str) -> None:
        last = self._db.execute("SELECT no, hash FROM audit ORDER BY no DESC LIMIT 1").fetchone()
        no, before = (last[0] + 1, last[1]) if last else (1, _GENESIS)
        made = _chain(before, no, at_ms, who, action, subject)
        self._db.execute(
            "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", (no, at_ms, who, action, subject, made)
        )

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first."""
        return [Entry(*row) for row in self._db.execute("SELECT * FROM audit ORDER BY no")]

    def first_broken(self) -> int | None:
        """Return the number of the first entry that does not follow from those before it."""
        before = _GENESIS
        for no, one in enumerate(self.entries(), start=1):
            if one.no != no or one.hash != _chain(
                before,
                one.no,
                one.at_ms,
                one.who,
                one.action,
                one.subject,
            ):
                return no
            before = one.hash
        return None


def _chain(before: str, *entry: int | str) -> str:
    body = json.dumps([before, *entry], ensure_ascii=False)
    return hashlib.sha256(body.encode()).hexdigest()
