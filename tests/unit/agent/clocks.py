"""Clocks that tests set by hand."""

from dataclasses import replace

from ketang_agent.clock import Instant, quality

MONDAY_MS = 1_757_289_600_000
"""2025-09-08 00:00 UTC, a multiple of five minutes."""
BOOT = "boot-1"


class FakeClock:
    """A machine's clocks: time passes, the wall clock is stepped, the machine sleeps."""

    def __init__(self, wall_ms: int = MONDAY_MS, boottime_ms: int = 1_000_000) -> None:
        self._now = Instant(wall_ms, boottime_ms, BOOT)
        self._set(wall_ms=wall_ms)

    def now(self) -> Instant:
        return self._now

    def passes(self, seconds: float) -> Instant:
        ms = round(seconds * 1000)
        self._set(wall_ms=self._now.wall_ms + ms, boottime_ms=self._now.boottime_ms + ms)
        return self._now

    def sleeps(self, seconds: float) -> Instant:
        ms = round(seconds * 1000)
        self._set(suspended_ms=self._now.suspended_ms + ms)
        return self.passes(seconds)

    def is_set(self, by_s: float) -> Instant:
        self._set(wall_ms=max(0, self._now.wall_ms + round(by_s * 1000)))
        return self._now

    def is_set_to(self, wall_ms: int) -> Instant:
        self._set(wall_ms=wall_ms)
        return self._now

    def reboots(self, boot_id: str = "boot-2", boottime_ms: int = 5_000) -> Instant:
        self._set(boot_id=boot_id, boottime_ms=boottime_ms, suspended_ms=0)
        return self._now

    def _set(self, **changes: object) -> None:
        self._now = replace(self._now, **changes)
        self._now = replace(self._now, time=quality(self._now.wall_ms, synced=True))
