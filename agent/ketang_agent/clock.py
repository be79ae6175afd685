"""The device's clocks. Intervals come from CLOCK_BOOTTIME, which counts sleep; wall time is a label."""

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


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment by both clocks."""

    wall_ms: int
    boottime_ms: int
    boot_id: str
    time: TimeQuality = TimeQuality.FREE


class Clock(Protocol):
    """Where time comes from; tests pass their own."""

    def now(self) -> Instant:
        """Return this moment."""
        ...


class SystemClock:
    """Linux's own clocks, read together. ``trusted`` turns False after a jump nobody explained."""

    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()

    def now(self) -> Instant:
        """Return this moment."""
        wall_ms = time.time_ns() // 1_000_000
        boottime_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        return Instant(wall_ms, boottime_ms, self._boot_id, quality(wall_ms, kernel_synced))


def quality(wall_ms: int, synced: bool) -> TimeQuality:
    ...
