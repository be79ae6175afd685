"""What a process costs, read from the kernel; Linux only, standard library only."""

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12
"""Places in ``/proc/PID/stat`` counted from behind the command's closing bracket; proc(5)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Memory now, processor time since the process began."""

    rss_bytes: int
    cpu_s: float


def cost_of(pid: int, proc: Path = Path("/proc")) -> Cost:
    """Read what a process costs.

    Raises:
        OSError: it is gone, or the system hides it.
    """
    resident = int((proc / str(pid) / "statm").read_text("ascii").split()[1])
    # a command's name may hold anything, brackets and spaces too: count from its last bracket
    stat = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    ticks = int(stat[_UTIME]) + int(stat[_STIME])
    return Cost(resident * _PAGE_BYTES, ticks / _TICKS_PER_S)


class CpuMeter:
    """Share of one core over the last ``over_s`` seconds; nothing before so much was seen."""

    def __init__(self, over_s: float) -> None:
        self._over_ms = round(over_s * 1000)
        self._seen: deque[tuple[int, float]] = deque()

    def share(self, cpu_s: float, now_ms: int) -> float | None:
        """Take a reading; return the share, or None while the span is still shorter."""
        self._seen.append((now_ms, cpu_s))
        while len(self._seen) > 1 and now_ms - self._seen[1][0] >= self._over_ms:
            self._seen.popleft()
        since_ms, before_s = self._seen[0]
        span_ms = now_ms - since_ms
        if span_ms < self._over_ms:
            return None
        return (cpu_s - before_s) * 1000 / span_ms
