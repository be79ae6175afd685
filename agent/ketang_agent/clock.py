"""The device's clocks.

Intervals come from CLOCK_BOOTTIME, which counts sleep; wall time is a label.
"""

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ketang_contract.records import TimeQuality

SANE_FROM_MS = 1_704_067_200_000
"""2024-01-01 UTC."""
SANE_UNTIL_MS = 4_102_444_800_000
"""2100-01-01 UTC."""
_STA_UNSYNC = 0x0040
"""adjtimex(2): the kernel's clock is not disciplined by anyone."""
_TIMEX_BYTES = 256
"""More than any Linux's ``struct timex`` (208 bytes on 64 bits)."""


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment by every clock the device has.

    ``suspended_ms`` is how much of ``boottime_ms`` the machine slept through, as the kernel counts
    it (CLOCK_BOOTTIME less CLOCK_MONOTONIC).
    """

    wall_ms: int
    boottime_ms: int
    boot_id: str
    time: TimeQuality = TimeQuality.FREE
    suspended_ms: int = 0


class Clock(Protocol):
    """Where time comes from; tests pass their own."""

    def now(self) -> Instant:
        """Return this moment."""
        ...


class SystemClock:
    """Linux's own clocks, read together."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._boot_id = (root / "proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        self._timesync_mark = root / "run/systemd/timesync/synchronized"
        self._libc = ctypes.CDLL(None, use_errno=True)

    def now(self) -> Instant:
        """Return this moment."""
        # In this order: a millisecond that begins in between must not make the sleep negative.
        monotonic_ms = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000
        boottime_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        wall_ms = max(0, time.time_ns() // 1_000_000)
        return Instant(
            wall_ms,
            boottime_ms,
            self._boot_id,
            quality(wall_ms, synced=self.synced()),
            boottime_ms - monotonic_ms,
        )

    def synced(self) -> bool:
        """Tell whether someone disciplines the clock.

        The kernel knows best; systemd's mark, which is never taken back, serves only where a
        sandbox forbids the question.
        """
        said = self._kernel_synced()
        return self._timesync_mark.exists() if said is None else said

    def _kernel_synced(self) -> bool | None:
        """Ask adjtimex(2) in its read-only mode; None where the call is forbidden."""
        buffer = (ctypes.c_long * (_TIMEX_BYTES // ctypes.sizeof(ctypes.c_long)))()
        if self._libc.adjtimex(ctypes.byref(buffer)) < 0:
            return None
        # status is the int after modes (padded to a long) and four longs
        status = ctypes.c_int.from_buffer(buffer, 5 * ctypes.sizeof(ctypes.c_long)).value
        return not status & _STA_UNSYNC


def quality(wall_ms: int, *, synced: bool) -> TimeQuality:
    """Judge a wall time: outside 2024 to 2099 nobody's word for it counts."""
    if not SANE_FROM_MS <= wall_ms < SANE_UNTIL_MS:
        return TimeQuality.BAD
    return TimeQuality.SYNCED if synced else TimeQuality.FREE
