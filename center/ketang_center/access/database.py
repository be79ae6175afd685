"""The file of accounts, grants and sessions: one SQLite connection for each thread that asks.

The command line changes accounts while the centre serves; WAL lets both.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (
  name TEXT PRIMARY KEY, display_name TEXT NOT NULL, password_hash TEXT NOT NULL,
  disabled INTEGER NOT NULL, must_change INTEGER NOT NULL,
  issuer TEXT NOT NULL, subject TEXT NOT NULL, made_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS account_linked ON account (issuer, subject) WHERE subject <> '';
CREATE TABLE IF NOT EXISTS granted (
  account TEXT NOT NULL REFERENCES account (name), role TEXT NOT NULL, unit TEXT NOT NULL,
  PRIMARY KEY (account, role, unit)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS session (
  id INTEGER PRIMARY KEY AUTOINCREMENT, token_hash BLOB NOT NULL UNIQUE,
  account TEXT NOT NULL REFERENCES account (name), csrf TEXT NOT NULL, how TEXT NOT NULL,
  made_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL, rotate INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS session_of ON session (account);
"""


class AccountsFile:
    """Connections to ``accounts.db``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        path.touch(mode=0o600)
        self.db.executescript(_SCHEMA)

    @property
    def db(self) -> sqlite3.Connection:
        """This thread's connection."""
        known: sqlite3.Connection | None = getattr(self._own, "db", None)
        if known is None:
            known = sqlite3.connect(
                self._path, isolation_level=None, timeout=10, check_same_thread=False
            )
            known.execute("PRAGMA journal_mode = WAL")
            known.execute("PRAGMA synchronous = FULL")
            known.execute("PRAGMA foreign_keys = ON")
            self._own.db = known
            with self._lock:
                self._all.append(known)
        return known

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it, or nothing; durable when it ends."""
        db = self.db
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close every thread's connection; nobody may be asking any more."""
        with self._lock:
            for one in self._all:
                one.close()
            self._all.clear()
