"""Who is at work in a folder of releases: one watcher, and one agent that a watcher started.

Two locks: the watcher holds one alone; the agent holds the other for as long as it lives, whatever
becomes of its watcher, and its number stands in that file before a line of it has run. So an agent
that was left behind is found and ended, and nobody else ever is.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ketang_contract.errors import BadInput

_ORPHAN_STOP_S = 10.0


class Locks:
    """Who is at work in the folder: one watcher, and one agent that a watcher started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._watcher = self._agent = -1

    def take(self) -> None:
        """Become the watcher, and end an agent that another one left behind.

        Raises:
            BadInput: there is another watcher.
            OSError: the folder cannot be written.
        """
        if os.name == "nt":
            return  # a service host starts one, and ends what that one started
        self._watcher = _open(self._folder / ".watcher.lock")
        if not _locked(self._watcher):
            raise BadInput(f"{self._folder}: another watcher is at work here")
        self._agent = _open(self._folder / ".agent.lock")
        since_s = time.monotonic()
        while not _locked(self._agent):
            pid = _pid_in(self._agent)
            if pid:
                late = time.monotonic() - since_s > _ORPHAN_STOP_S
                _kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            time.sleep(0.1)

    def start(self, words: Sequence[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Start an agent that holds the second lock for as long as it lives.

        Raises:
            OSError: the system does not let us.
        """
        if os.name == "nt":
            return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL)
        # A description of its own, so that the lock is the agent's and not ours as well.
        self.free()
        self._agent = _open(self._folder / ".agent.lock")
        _locked(self._agent)
        lock = self._agent

        def sign() -> None:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)

        try:
            return subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(lock,),
                preexec_fn=sign,  # noqa: PLW1509  (one thread: nothing holds a lock here)
            )
        finally:
            self.free()

    def free(self) -> None:
        """Let go of our hold of the agent's lock; the agent's is its own."""
        if self._agent >= 0:
            os.close(self._agent)
            self._agent = -1


def _open(path: Path) -> int:
    how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, how, 0o600)


def _locked(handle: int) -> bool:
    import fcntl  # noqa: PLC0415  (not on Windows)

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _pid_in(handle: int) -> int:
    said = os.pread(handle, 32, 0)
    return int(said) if said.isdigit() else 0


def _kill(pid: int, how: signal.Signals) -> None:
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return
