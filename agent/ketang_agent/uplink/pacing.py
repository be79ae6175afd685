"""How much may be sent in the mean: a budget that fills with time. Pure, on the boot clock."""

from ketang_agent.clock import Instant

_FULL_MS = 10_000
"""What was not spent is kept for so long: a batch is no stream."""


class Budget:
    """A token bucket; one that was spent more than it holds is waited for."""

    def __init__(self, kbps: int | None = None) -> None:
        self._kbps = kbps
        self._free_at_ms = 0

    @property
    def allows_at_ms(self) -> int:
        """Boot time from which something may be sent."""
        return self._free_at_ms - _FULL_MS if self._kbps else 0

    def set(self, kbps: int | None) -> None:
        """Change the rate, kbit/s; None: no limit. What was spent before is forgotten."""
        if kbps != self._kbps:
            self._kbps, self._free_at_ms = kbps, 0

    def allows(self, now: Instant) -> bool:
        """Tell whether a message may be sent now, whatever its size."""
        if self._kbps is None:
            return True
        self._free_at_ms = max(self._free_at_ms, now.boottime_ms)
        return self.allows_at_ms <= now.boottime_ms

    def spend(self, sent_bytes: int) -> None:
        """Take in what was sent."""
        if self._kbps is not None:
            self._free_at_ms += sent_bytes * 8 // self._kbps
