"""A second, tiny file that says how far the spool had come: ``spool.heads`` beside ``spool.db``.

A log that was cut short, or one flipped bit in it, makes SQLite go back in time without a word; the
numbers given out since would be given out again. So after each commit the heads are written here
too, in place and without a sync. It may lag behind, after a power cut by seconds; it can never run
ahead. A spool that is behind its witness has lost something.
"""

import contextlib
import errno
import json
import zlib
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from ketang_agent.spool.values import Damaged

_BYTES = 512
_SUM_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Testimony:
    """The current store, by number and name, and how far its streams and the sessions are."""

    store: int
    store_id: str
    parent: str | None
    session: int
    heads: tuple[int, ...]
    """The last number given out, by stream."""
    settled: tuple[int, ...]
    """Up to here no number waits any more, by stream."""


def path_for(spool: Path) -> Path:
    """Where the witness of a spool's file stands."""
    return spool.with_suffix(".heads")


def read(path: Path) -> Testimony | None:
    """Return what was written last; None where nothing was.

    Raises:
        Damaged: something was, and it is not what was written: then nobody can tell how far the
            spool had come.
    """
    try:
        raw = path.read_bytes()[:_BYTES].strip(b"\n\0")
    except FileNotFoundError:
        return None
    except OSError as problem:
        if problem.errno == errno.EIO:  # a bad sector stays bad: trying again would last for ever
            raise Damaged("the witness cannot be read") from problem
        raise
    if not raw:  # a file system may give a file's size before its content, after a power cut
        return None
    try:
        if int(raw[:_SUM_DIGITS], 16) == zlib.crc32(raw[_SUM_DIGITS:]):
            said: dict[str, Any] = json.loads(raw[_SUM_DIGITS:])
            heads, settled = tuple(said.pop("heads")), tuple(said.pop("settled"))
            return Testimony(**said, heads=heads, settled=settled)
    except (ValueError, TypeError, KeyError):
        pass
    raise Damaged("the witness is unreadable")


class Witness:
    """Keeps the file open. That it cannot be written is no fault of the spool's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None

    def write(self, testimony: Testimony) -> None:
        """Say how far it has come, over what was said before."""
        said = json.dumps(asdict(testimony), separators=(",", ":"))
        text = f"{zlib.crc32(said.encode()):08x}{said}".encode()
        with contextlib.suppress(OSError):
            if self._file is None:
                mode = "r+b" if self._path.exists() else "w+b"
                self._file = FileIO(self._path, mode)
            self._file.seek(0)
            self._file.write(text.ljust(_BYTES, b"\n"))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
