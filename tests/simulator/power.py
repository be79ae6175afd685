"""Power that goes at a chosen statement: SQLite connections on a fuse."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from weakref import WeakSet

_connect = sqlite3.connect


class Crash(BaseException):
    """The power went."""


class Fuse:
    """Burns through after a number of steps, and stays dead until it is mended.

    A step is the moment before a statement, and the moment after a COMMIT.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.connections: WeakSet[Wired] = WeakSet()

    def light(self, steps: int) -> None:
        self.left = steps

    def mend(self) -> None:
        self.left = None

    def cut(self, folder: Path) -> None:
        """Every file of the machine is closed as it stands, whoever still holds it."""
        for one in list(self.connections):
            if one.folder == folder:
                one.close()
        self.mend()

    def step(self) -> None:
        if self.left is None:
            return
        self.left = max(0, self.left - 1)
        if self.left == 0:
            raise Crash


class Wired(sqlite3.Connection):
    """A connection that dies with its fuse. What was not committed is gone, as after a power cut.

    SQLite itself writes nothing after the cut: the ROLLBACK of an exception handler fails too.
    """

    fuse: Fuse | None = None
    folder: Path

    def execute(self, statement: str, *more: Any) -> sqlite3.Cursor:
        if self.fuse is None:
            return super().execute(statement, *more)
        self.fuse.step()
        done = super().execute(statement, *more)
        if statement == "COMMIT":
            self.fuse.step()
        return done

    def executescript(self, script: str) -> sqlite3.Cursor:
        if self.fuse is not None:
            self.fuse.step()
        return super().executescript(script)

    def executemany(self, statement: str, *more: Any) -> sqlite3.Cursor:
        if self.fuse is not None:
            self.fuse.step()
        return super().executemany(statement, *more)


@contextmanager
def wired(center: Path, center_fuse: Fuse, device_fuse: Fuse) -> Iterator[None]:
    """Put every connection opened meanwhile on the fuse of its machine."""

    def connect(path: Path | str, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        made = _connect(path, *args, **{"factory": Wired, **kwargs})
        if isinstance(made, Wired):
            made.folder = Path(path).parent
            made.fuse = center_fuse if made.folder == center else device_fuse
            made.fuse.connections.add(made)
        return made

    with mock.patch("sqlite3.connect", connect):
        yield
