"""The watcher: what the service manager starts, and what starts the agent.

It is the installed release's and is never updated with the agent, so it stays small: it starts the
release of the agent that is in use, starts it again when it dies, starts another one when the agent
asks for that, and goes back by itself when that one does not come up (``watching``). It reads no
settings and opens no connection: a mistake in either leaves it running.

It says that it runs as soon as it does, before it looks at any release: on Windows a service has
half a minute for that. There a service host has to start it, which passes the stop on; it has not
been run there yet.

An agent outlives a watcher that was killed: it goes on with its work until the next watcher comes,
ends it, and starts one of its own (``watch_locks``).
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from ketang_agent import VERSION, versions, watching
from ketang_agent.versions import INSTALLED, UPDATE, Standing
from ketang_agent.watch_locks import Locks
from ketang_agent.watching import Moment
from ketang_contract.errors import BadInput

_FIRST_WAIT_S, _MOST_WAIT_S, _MOST_TRIAL_WAIT_S = 1.0, 60.0, 4.0
_STEADY_S = 60.0
"""An agent that lived so long did not die for what it is."""
_LOOK_S = 0.5
_STOP_S = 12.0
"""It says good-bye for three seconds at most; the service manager waits fifteen for us."""
_GIVEN_UP_STOP_S = 5.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is watched. ``words`` follow an interpreter, e.g. ``-m ketang_cli.main agent run``."""

    folder: Path
    words: tuple[str, ...]
    installed: str
    """Version of the release that the watcher itself belongs to."""
    trial_ms: int = watching.TRIAL_MS


def moment() -> Moment:
    """Return now; sleep does not count."""
    try:
        boot_id = _BOOT_ID.read_text("ascii").strip()
    except OSError:
        boot_id = ""  # not Linux: a trial that a reboot breaks off is counted by its deaths
    return Moment(time.monotonic_ns() // 1_000_000, boot_id)


class Watcher:
    """``run`` until a signal says stop. One thread."""

    def __init__(self, watched: Watched, clock: Callable[[], Moment] = moment) -> None:
        self._watched, self._clock = watched, clock
        self._standing = Standing(installed=watched.installed)
        self._child: subprocess.Popen[bytes] | None = None
        self._began_s = 0.0
        self._deaths = 0
        self._stopping = False
        self._locks = Locks(watched.folder)
        self._bell = _Bell()

    def run(self) -> int:
        """Watch; return the exit status.

        Raises:
            BadInput: another watcher is at work in this folder, or it cannot be written.
        """
        _say("started", version=self._watched.installed, folder=self._watched.folder)
        try:
            self._watched.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._locks.take()
        except OSError as problem:
            raise BadInput(f"{self._watched.folder}: {problem.strerror or problem}") from None
        with self._bell.heard(self._stop):
            found = versions.standing(self._watched.folder, self._watched.installed)
            self._keep(watching.resume(found, self._clock(), self._watched.trial_ms), always=True)
            while not self._stopping:
                self._round()
            self._end(_STOP_S)
        return 0

    def _stop(self) -> None:
        self._stopping = True

    def _round(self) -> None:
        child = self._child
        if child is None:
            self._start()
        elif child.poll() is not None:
            self._ended(child.returncode)
        elif self._standing.trial is None:
            self._bell.wait(None, child)
        elif not self._look():
            self._bell.wait(_LOOK_S, child)

    # One agent.

    def _start(self) -> None:
        folder, version = self._watched.folder, self._standing.current
        if version != INSTALLED and not versions.is_laid(folder, version):
            self._keep(watching.lose(self._standing), always=True)
            return
        python, said = sys.executable, dict(os.environ)
        if version != INSTALLED:
            python = str(versions.python_of(versions.home_of(folder, version)))
            # Its own modules and no others, in its children too.
            said = {name: value for name, value in said.items() if name not in _LEADING_ASTRAY}
        said |= {versions.FOLDER_VARIABLE: str(folder), "PYTHONSAFEPATH": "1"}
        self._began_s = time.monotonic()
        try:
            self._child = self._locks.start([python, *self._watched.words], said)
        except OSError as problem:
            _say("not_started", version=version or "installed", why=problem)
            self._count_death()
            return
        _say("agent_started", version=version or "installed", pid=self._child.pid)

    def _ended(self, status: int) -> None:
        self._child = None
        if status == UPDATE and self._change():
            self._deaths = 0
            return
        _say("agent_ended", version=self._standing.current or "installed", status=status)
        self._count_death()

    def _change(self) -> bool:
        """Start what the agent asks for; False where that is not done."""
        wish = versions.wish(self._watched.folder)
        if wish.version == self._watched.installed:
            wish = replace(wish, version=INSTALLED)
        if wish.version != INSTALLED and not versions.is_laid(self._watched.folder, wish.version):
            _say("not_there", version=wish.version)
            return False
        following = watching.ask(
            self._standing, wish, self._clock(), trial_ms=self._watched.trial_ms
        )
        if following is self._standing:
            _say("not_changed", version=wish.version or "installed")
            return False
        # Kept before it is done; where the disk does not take that, nothing is tried.
        return self._keep(following)

    def _look(self) -> bool:
        """Judge the release on trial; True when that changed anything."""
        before = self._standing
        following = watching.look(before, versions.wish(self._watched.folder), self._clock())
        if following is before:
            return False
        if following.current != before.current:
            # The agent first: a watcher that is killed here finds the deadline over again.
            self._end(_GIVEN_UP_STOP_S)
        self._keep(following, always=True)
        return True

    def _count_death(self) -> None:
        before = self._standing
        if time.monotonic() - self._began_s >= _STEADY_S:
            self._deaths = 0
        self._deaths += 1
        following = watching.die(before)
        if before.trial is None and self._deaths >= watching.MOST_DEATHS_IN_A_ROW:
            following = watching.lose(before)
        self._keep(following, always=True)
        if following.current != before.current:
            self._deaths = 0
            return
        most_s = _MOST_WAIT_S if self._standing.trial is None else _MOST_TRIAL_WAIT_S
        self._pause(min(_FIRST_WAIT_S * 2.0 ** (self._deaths - 1), most_s))

    def _pause(self, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
            self._bell.wait(left_s, None)

    def _end(self, patience_s: float) -> None:
        """End the agent: in order, and if that takes too long, at once."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(patience_s)
        except subprocess.TimeoutExpired:
            _say("agent_hangs", pid=child.pid)
            child.kill()
            child.wait()

    def _keep(self, following: Standing, *, always: bool = False) -> bool:
        """Keep a standing on disk, then go by it; ``always``: even where the disk takes nothing."""
        before = self._standing
        if following.current != before.current:
            _say(
                "going_over",
                to=following.current or "installed",
                trial="yes" if following.trial else "no",
                given_up=following.given_up[-1].reason
                if following.given_up != before.given_up
                else "-",
            )
        try:
            versions.keep_standing(self._watched.folder, following)
        except OSError as problem:
            _say("not_kept", why=problem)
            if not always:
                return False
        self._standing = following
        return True


_LEADING_ASTRAY = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"})


class _Bell:
    """Wakes the watcher when a signal came or the agent ended; it sleeps without an end between."""

    def __init__(self) -> None:
        self._ears = self._mouth = -1
        self._on_stop: Callable[[], None] = lambda: None

    def heard(self, on_stop: Callable[[], None]) -> "_Bell":
        """Say what a stop does."""
        self._on_stop = on_stop
        return self

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ring)
        if os.name == "nt":
            return
        self._ears, self._mouth = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)

    def __exit__(self, *_: object) -> None:
        if os.name != "nt":
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._on_stop()

    def wait(self, most_s: float | None, child: "subprocess.Popen[bytes] | None") -> None:
        """Return when anything happened, or after ``most_s``."""
        if os.name == "nt":
            self._wait_on_windows(_LOOK_S if most_s is None else most_s, child)
            return
        ready, _, _ = select.select([self._ears], [], [], most_s)
        if ready:
            os.read(self._ears, 512)

    @staticmethod
    def _wait_on_windows(most_s: float, child: "subprocess.Popen[bytes] | None") -> None:
        """Wait for the agent; a stop comes between two waits."""
        if child is None:
            time.sleep(min(most_s, _LOOK_S))
            return
        try:
            child.wait(most_s)
        except subprocess.TimeoutExpired:
            return


def _note(number: int, frame: FrameType | None) -> None:
    """Have a handler, so that the signal is told at all."""
    del number, frame


def _say(what: str, **more: object) -> None:
    told = "".join(f" {name}={value}" for name, value in more.items())
    sys.stderr.write(f"ketang.watch {what}{told}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str]) -> int:
    """Watch the agent with the settings in one file, its releases in a folder: FOLDER AGENT.TOML.

    ``ketang agent watch`` reads a person's words, then puts this in its own place, which carries
    nothing but the watcher.

    Raises:
        BadInput: another watcher is at work in this folder, or it cannot be written.
    """
    folder, settings = arguments
    words = ("-m", "ketang_cli.main", "agent", "run", "--settings", settings)
    return Watcher(Watched(folder=Path(folder), words=words, installed=VERSION)).run()


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except BadInput as problem:
        _say("refused", why=problem)
        code = 2
    sys.exit(code)
