"""One SQLite file of the centre: opened, brought up to date, and shared by threads and processes.

A transaction is durable when it ends. The file says which shape it has (``PRAGMA user_version``):
an older one becomes today's in one transaction, and a newer one is left as it is.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_contract.errors import BadInput

Cell = str | int | bytes | None

log = logging.getLogger("ketang.center")


@dataclass(frozen=True, slots=True)
class Shape:
    """The tables of a file, and how a file of an older version comes to have them.

    Attributes:
        tables: makes a new file; each statement leaves alone what is there (``IF NOT EXISTS``).
        steps: one for each version after the first, oldest first: what ``tables`` cannot do to a
            table that is there, such as a new column. Only ever added to. ``tables`` runs after
            them, so a table that is new altogether needs no words in its step.
    """

    tables: str
    steps: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """The version of a file with all these steps."""
        return 1 + len(self.steps)


class RowsFile:
    """One connection behind one lock; any thread, several processes. For its owner alone, 0600.

    Marks are numbers under a name, in a table ``meta (key, value)`` where the shape has one.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        """Open the file, or make it.

        Raises:
            BadInput: a newer version of the program has written it.
        """
        self._lock = threading.RLock()
        if not path.exists():
            path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._bring_up_to(shape, path)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends; joins the one that this thread has open."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def run(self, statement: str, *values: Cell) -> int:
        """Run a statement of ours; return the number of the row it made, or of rows it touched.

        Only ``INSERT INTO`` says which row it made: ``INSERT OR …`` may have made none.
        """
        with self._lock:
            done = self._db.execute(statement, values)
            return int(done.lastrowid or 0) if _makes_a_row(statement) else done.rowcount

    def run_many(self, statement: str, rows: Iterable[Sequence[Cell]]) -> None:
        """Run a statement of ours for each row."""
        with self._lock:
            self._db.executemany(statement, rows)

    def table(self, query: str, *values: Cell) -> list[tuple[Any, ...]]:
        """Return the rows of a query of ours."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def number(self, query: str, *values: Cell) -> int:
        """Return the one number a query gives."""
        with self._lock:
            (found,) = self._db.execute(query, values).fetchone()
        return int(found)

    def mark(self, name: str) -> int:
        """Return a number that is kept under a name; 0 at first."""
        return self.number("SELECT coalesce(max(value), 0) FROM meta WHERE key = ?", name)

    def set_mark(self, name: str, value: int) -> None:
        """Keep a number under a name."""
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

    def raise_mark(self, name: str) -> None:
        """Make a number that is kept under a name grow."""
        self.run("INSERT INTO meta VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1", name)

    def _bring_up_to(self, shape: Shape, path: Path) -> None:
        """Make the file's tables those of a shape.

        Raises:
            BadInput: they are those of a later one.
        """
        if self._version() == shape.version:
            return
        with self.transaction():
            found = self._version()  # another process may have done it meanwhile
            if found == shape.version:
                return
            if found > shape.version:
                raise BadInput(
                    f"{path}: a newer version of Ketang has written it (its tables: {found}, this"
                    f" version's: {shape.version}); install that version again, or put back the"
                    " backup that was made before it"
                )
            before = found or int(self._has_tables())
            for script in (*(shape.steps[before - 1 :] if before else ()), shape.tables):
                for statement in _statements(script):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {shape.version}")
        if 0 < before < shape.version:
            log.info("center.migrated file=%s from=%d to=%d", path, before, shape.version)

    def _version(self) -> int:
        return self.number("PRAGMA user_version")

    def _has_tables(self) -> bool:
        """Tell a new file from one of the first version, which had no number yet."""
        return bool(self.number("SELECT count(*) FROM sqlite_master"))


def _makes_a_row(statement: str) -> bool:
    return statement.startswith("INSERT INTO")


def _statements(script: str) -> Iterator[str]:
    """Cut a script; ``executescript`` would end the transaction it is run in."""
    held = ""
    for piece in script.split(";"):
        held = f"{held}{piece};".lstrip()
        if sqlite3.complete_statement(held):
            yield held
            held = ""
