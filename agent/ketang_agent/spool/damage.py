"""Tells a damaged file from a disk in trouble, and leaves word of it beside the file."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ketang_agent.spool.values import Damaged

_PRIMARY = 0xFF
_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # a table or a column that is not there
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
    }
)
_DAMAGE_EXTENDED = frozenset(
    {
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_READ,  # a bad sector: what can still be read is moved elsewhere
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,  # the file holds a number we believe to be new
        sqlite3.SQLITE_CONSTRAINT_ROWID,
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    }
)


def is_damage(problem: sqlite3.Error) -> bool:
    """Tell a file that is not what was written from a disk that is full, busy or read-only."""
    if isinstance(problem, Damaged):
        return True
    code = int(getattr(problem, "sqlite_errorcode", 0))
    return code in _DAMAGE_EXTENDED or code & _PRIMARY in _DAMAGE


def suspicion_for(path: Path) -> Path:
    """Where a spool's file leaves word that it was found damaged while in use."""
    return path.with_suffix(".suspect")


@contextlib.contextmanager
def watched(path: Path) -> Iterator[None]:
    """Turn what means damage into ``Damaged``, and leave a mark so that the next open looks too."""
    try:
        yield
    except sqlite3.Error as problem:
        if not is_damage(problem):
            raise
        with contextlib.suppress(OSError):
            suspicion_for(path).write_text(str(problem), "utf-8")
        if isinstance(problem, Damaged):
            raise
        raise Damaged(str(problem)) from problem
