"""The switch in the room: anyone may stop the counting of people, and stopped it stays.

A file of fixed length, so that stopping overwrites eight bytes in place: it needs no free space on
a full disk. Whatever is not plainly "allowed" counts as stopped.
"""

import os
from contextlib import suppress
from pathlib import Path

_ALLOWED = b"allowed\n"
_STOPPED = b"stopped\n"


class KillSwitch:
    """One file in the data folder. May be asked and turned from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopped_here = False

    @property
    def engaged(self) -> bool:
        """Tell whether nobody may be counted.

        A switch that was never touched is not engaged; one that cannot be read is.
        """
        if self._stopped_here:
            return True
        try:
            return self._path.read_bytes() != _ALLOWED
        except FileNotFoundError:
            return not self._path.parent.is_dir()
        except OSError:
            return True

    def prepare(self) -> None:
        """Lay the file down before anyone needs it, while there is room.

        Raises:
            OSError: it cannot be written now; the switch works all the same, in this process.
        """
        with suppress(FileExistsError):
            self._write(_ALLOWED, os.O_CREAT | os.O_EXCL)

    def engage(self) -> None:
        """Stop the counting, at once here and for good on disk.

        Raises:
            OSError: it could not be written; it holds until this process ends.
        """
        self._stopped_here = True
        self._write(_STOPPED, os.O_CREAT)

    def release(self) -> None:
        """Allow the counting again. Who may do this is the caller's to check.

        Raises:
            OSError: it could not be written; the switch stays engaged.
        """
        self._write(_ALLOWED, os.O_CREAT)
        self._stopped_here = False

    def _write(self, word: bytes, flags: int) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
        try:
            os.pwrite(handle, word, 0)
            os.ftruncate(handle, len(word))  # somebody else's longer text would read as stopped
            os.fsync(handle)
        finally:
            os.close(handle)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
