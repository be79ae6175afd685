"""A broker as a child: its log read line by line, its refusals written down, its list kept current.

The log comes through a pipe, and a broker that cannot write to it stands still: so the thread that
reads it does nothing else that could wait long. When whoever reads dies, the broker's next line
ends it too.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from ketang_provisioning.broker_lines import Lines, Said
from ketang_provisioning.broker_log import Refusal, RefusalFile
from ketang_provisioning.revocations import Revocations

log = logging.getLogger("ketang.broker")

_LINE_BYTES = 8192
_PIPE_BYTES = 1 << 20
_STOP_S = 10.0
_ROUND_S = 1.0


class Watch:
    """What becomes of each line: a refusal is counted, a message passed on, the rest dropped."""

    def __init__(
        self,
        lines: Lines,
        refusals: RefusalFile,
        pass_on: Callable[[str], None],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
    ) -> None:
        self._lines, self._refusals, self._pass_on = lines, refusals, pass_on
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._failing = False
        self.ready = threading.Event()

    def read(self, stream: BinaryIO) -> None:
        """Read until the broker closes its end."""
        while raw := stream.readline(_LINE_BYTES):
            found = self._lines.take(raw.rstrip(b"\r\n").decode(errors="replace"), self._now_ms())
            if isinstance(found, Refusal):
                self.count(found)
            elif isinstance(found, Said):
                if found.ready:
                    self.ready.set()
                else:
                    self._pass_on(found.text)

    def count(self, refusal: Refusal) -> None:
        """Write a refusal down; from any thread. A full disk costs the line, never the broker."""
        with self._lock:
            try:
                self._refusals.write(refusal)
                self._failing = False
            except OSError as problem:
                if not self._failing:
                    log.warning("broker.refusals_lost reason=%s", problem)
                self._failing = True


@dataclass(frozen=True, slots=True)
class Start:
    """How a broker is started."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class BrokerProcess:
    """One run of a broker. ``start`` once; ``stop`` or ``kill`` ends it."""

    def __init__(self, start: Start, watch: Watch) -> None:
        self._start, self._watch = start, watch
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Its process, or None while it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start it and read its log from now on."""
        self._watch.ready.clear()
        self._process = subprocess.Popen(
            list(self._start.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **self._start.environment},
            # Ctrl-C in a terminal is for us, who end it in order
            start_new_session=True,
        )
        stream = self._process.stderr
        assert stream is not None  # noqa: S101  (asked for above)
        if sys.platform == "linux":
            import fcntl

            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._reader = threading.Thread(
            target=self._read, args=(stream,), name="broker-log", daemon=True
        )
        self._reader.start()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end; its exit status, or None if it runs on."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def reload(self) -> None:
        """Tell it that a file has changed."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def stop(self) -> int | None:
        """End it in order; it writes what it keeps. By force when it does not."""
        if self._process is None:
            return None
        self._process.terminate()
        if self.wait(_STOP_S) is None:
            log.error("broker.killed it did not end in %.0f s", _STOP_S)
        return self.kill()

    def kill(self) -> int | None:
        """End it as a power cut would."""
        if self._process is None:
            return None
        self._process.kill()
        status = self._process.wait()
        if self._reader is not None:
            self._reader.join()
        self._process = self._reader = None
        return status

    def _read(self, stream: BinaryIO) -> None:
        with stream:
            self._watch.read(stream)


class Rounds:
    """Looks every second whether the revocation list changed, and tells the broker if it did.

    ``on_change`` returns false when it could not be told; then it is asked again.
    """

    def __init__(self, revocations: Revocations, on_change: Callable[[], bool]) -> None:
        self._revocations, self._on_change = revocations, on_change
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Put the list in force, and look after it from now on.

        Raises:
            BadInput: there is none.
        """
        self._revocations.open(datetime.now(UTC))
        self._stopping.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="revocations", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, and wait until the thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        due = False
        while not self._stopping.wait(_ROUND_S):
            due = self._revocations.poll(datetime.now(UTC)) or due
            if due:
                due = not self._on_change()
