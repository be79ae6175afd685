"""One worker process as the supervisor holds it: start, read without waiting, kill."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import IO

from ketang_agent.inference.plan import CountingPlan
from ketang_agent.inference.protocol import MAX_LINE_BYTES, Garbled

_CHUNK_BYTES = 16_384
"""Minutes of beats: more between two steps, which are a second apart, is no honest worker's."""
_KILL_WAIT_S = 0.5
_KEPT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT")
_QUIET = {
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_OPENCL_RUNTIME": "disabled",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 24),
    "LC_ALL": "C.UTF-8",
}

Process = subprocess.Popen[bytes]
Spawn = Callable[[CountingPlan], Process]


def command_of(plan: CountingPlan) -> list[str]:
    """Write the worker's command line; it names this process as the parent it must not outlive."""
    return [
        *(sys.executable, "-B", "-m", "ketang_agent.inference.worker"),
        *("--source", plan.source.where, "--model", plan.model),
        *("--scan-s", str(plan.scan_s), "--every-s", str(plan.every_s)),
        *("--least-pct", str(plan.least_pct)),
        *(("--model-folder", plan.folder) if plan.folder else ()),
        *("--parent", str(os.getpid())),
    ]


def environment() -> dict[str, str]:
    """Return what a worker may know of this process's environment, and what keeps it quiet."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | _QUIET


def start(plan: CountingPlan) -> Process:
    """Start a worker. Its standard error is ours: it writes fixed phrases there and nothing else.

    Raises:
        OSError: the system starts no process now.
    """
    return subprocess.Popen(
        command_of(plan),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
        cwd="/",
        # a Ctrl-C at the terminal is meant for the agent, which stops its worker itself
        start_new_session=True,
    )


class Lines:
    """Whole lines from a pipe, as many as are there; memory stays bounded whatever comes."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._descriptor = pipe.fileno()
        self._rest = b""
        os.set_blocking(self._descriptor, False)

    def take(self) -> list[bytes]:
        """Return the lines that are there now, without their newlines.

        Raises:
            Garbled: more than a worker says, or a line without an end.
        """
        try:
            found = os.read(self._descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return []
        if len(found) == _CHUNK_BYTES:
            raise Garbled("more than a worker says")
        *lines, self._rest = (self._rest + found).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise Garbled("a line without an end")
        return lines


def kill(process: Process) -> bool:
    """Kill a worker; False when the kernel has not let go of it yet, as in a hung device."""
    process.kill()
    try:
        process.wait(_KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.stdout is not None:
            process.stdout.close()
    return True
