"""The countdown before a shutdown. Pure: it is told what is so, and says what follows.

Invariants:
1. It is due only when people had the whole time, looked after without a gap: a device that slept or
   stood still meanwhile has shown nobody anything.
2. Whoever cancels, or uses the device, ends it; nothing brings it back.
3. It is due at most once.
"""

from dataclasses import dataclass
from enum import StrEnum

LONGEST_GAP_MS = 15_000


class Turn(StrEnum):
    """Where a countdown stands; all but the first are its end."""

    COUNTING = "counting"
    DUE = "due"
    CANCELLED = "cancelled"
    """By a person who said so."""
    IN_USE = "in_use"
    """Somebody uses the device."""
    IN_HOURS = "in_hours"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is so at a moment of the boot clock. ``in_use`` None: this device cannot tell."""

    now_ms: int
    cancelled: bool
    in_use: bool | None
    after_hours: bool


class Countdown:
    """Of one shutdown. ``from_ms`` is of the boot clock, which nobody sets."""

    def __init__(self, from_ms: int, seconds: int) -> None:
        self._until_ms = from_ms + seconds * 1000
        self._seen_ms = from_ms
        self.turn = Turn.COUNTING

    def left_s(self, now_ms: int) -> int:
        """Whole seconds that are left, rounded up."""
        return max(0, -(-(self._until_ms - now_ms) // 1000))

    def step(self, seen: Seen) -> Turn:
        """Go on by what is seen; ends stay what they are."""
        if self.turn is Turn.COUNTING:
            self.turn = self._next(seen)
            self._seen_ms = seen.now_ms
        return self.turn

    def _next(self, seen: Seen) -> Turn:
        if seen.cancelled:
            return Turn.CANCELLED
        if seen.in_use:
            return Turn.IN_USE
        if not seen.after_hours:
            return Turn.IN_HOURS
        if not 0 <= seen.now_ms - self._seen_ms <= LONGEST_GAP_MS:
            return Turn.INTERRUPTED
        return Turn.DUE if seen.now_ms >= self._until_ms else Turn.COUNTING
