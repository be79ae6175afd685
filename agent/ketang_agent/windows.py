"""Window arithmetic: pure, on boot time, aligned to the wall clock.

A window begins at a wall-clock multiple of five minutes, or where something began: the agent, or
the time after a clock jump. Its length is measured on boot time, so no wall clock can bend it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ketang_agent.clock import Instant
from ketang_contract import config

WINDOW_MS = 300_000
_MINUTE_MS = 60_000
JUMP_MS = 2_000
"""The wall clock moved against the boot clock by more than this: a jump, no rounding."""
MAX_GAP_WINDOWS = 288
"""After a longer silence (a day) windows stop: the wake event tells its length instead."""


@dataclass(frozen=True, slots=True)
class Window:
    """From ``opened`` to ``ends_ms`` of boot time, at most five minutes."""

    opened: Instant
    ends_ms: int

    @property
    def length_s(self) -> int:
        """Whole seconds from start to end, 0 to 300."""
        return min(WINDOW_MS, max(0, self.ends_ms - self.opened.boottime_ms)) // 1000

    def overlap_ms(self, from_ms: int, until_ms: int) -> int:
        """Milliseconds that a span of boot time has in common with this window."""
        return max(0, min(until_ms, self.ends_ms) - max(from_ms, self.opened.boottime_ms))

    def cut(self, at_ms: int) -> "Window":
        """Return the same window, ended no later than ``at_ms`` of boot time."""
        return replace(self, ends_ms=max(self.opened.boottime_ms, min(self.ends_ms, at_ms)))


def shifted(at: Instant, to_ms: int) -> Instant:
    """Return the moment at another boot time, by the same relation of the clocks."""
    return replace(at, wall_ms=at.wall_ms + to_ms - at.boottime_ms, boottime_ms=to_ms)


def open_window(at: Instant) -> Window:
    """Open the window that begins at ``at`` and ends at the wall clock's next five minutes.

    Where those are less than ``JUMP_MS`` away, it begins there and lasts a full five minutes: a
    small correction of the clock must not leave a window of one second.
    """
    left_ms = WINDOW_MS - at.wall_ms % WINDOW_MS
    if left_ms < JUMP_MS:
        return Window(shifted(at, at.boottime_ms + left_ms), at.boottime_ms + left_ms + WINDOW_MS)
    return Window(at, at.boottime_ms + left_ms)


def following(window: Window, clocks: Instant, until_ms: int) -> Iterator[Window]:
    """Yield the windows after ``window`` up to the one that holds ``until_ms``, a day's at most.

    ``clocks`` says how wall and boot time relate from the end of ``window`` on. When a day is not
    enough the last one begins at ``until_ms``.
    """
    for _ in range(MAX_GAP_WINDOWS):
        if window.ends_ms > until_ms:
            return
        window = open_window(shifted(clocks, window.ends_ms))
        yield window
    if window.ends_ms <= until_ms:
        yield open_window(shifted(clocks, until_ms))


def is_counted(window: Window, every_s: int) -> bool:
    """Tell whether people are counted in a window, where that is done in one of every ``every_s``.

    Its middle decides: a correction of the clock by a second must not make it another window.
    """
    middle_ms = window.opened.wall_ms + (window.ends_ms - window.opened.boottime_ms) // 2
    return middle_ms % (every_s * 1000) < WINDOW_MS


def in_hours(window: Window, hours: Sequence[config.Span] | None) -> list[Window]:
    """Return the parts of a window that lie in hours, in order; all of it where none are set."""
    if hours is None:
        return [window]
    parts: list[Window] = []
    at = window.opened
    while at.boottime_ms < window.ends_ms:
        left_ms = _MINUTE_MS - at.wall_ms % _MINUTE_MS
        until_ms = min(window.ends_ms, at.boottime_ms + left_ms)
        if config.holds_at(hours, at.wall_ms):
            if parts and parts[-1].ends_ms == at.boottime_ms:
                parts[-1] = replace(parts[-1], ends_ms=until_ms)
            else:
                parts.append(Window(at, until_ms))
        at = shifted(at, until_ms)
    return parts


def jump_ms(before: Instant, now: Instant) -> int:
    """How far the wall clock moved against the boot clock; 0 within ``JUMP_MS``."""
    moved_ms = (now.wall_ms - before.wall_ms) - (now.boottime_ms - before.boottime_ms)
    return moved_ms if abs(moved_ms) > JUMP_MS else 0


def same_run(before: Instant, now: Instant) -> bool:
    """Tell whether both moments lie on one boot clock that runs forward."""
    return before.boot_id == now.boot_id and before.boottime_ms <= now.boottime_ms


def apportion(parts_ms: Sequence[int], most_s: int, *, exact: bool = False) -> list[int]:
    """Round milliseconds to whole seconds that add up to the rounded sum, ``most_s`` at most.

    Largest remainder first, so that no part is off by a second or more unless the cap bites.
    ``exact``: they add up to ``most_s``, which was itself rounded among other parts.
    """
    goal_s = most_s if exact else min(most_s, (sum(parts_ms) + 500) // 1000)
    whole = [part // 1000 for part in parts_ms]
    by_remainder = sorted(range(len(parts_ms)), key=lambda at: -(parts_ms[at] % 1000))
    for at in by_remainder[: max(0, goal_s - sum(whole))]:
        whole[at] += 1
    for at in reversed(by_remainder):
        excess = sum(whole) - goal_s
        whole[at] -= max(0, min(excess, whole[at]))
    return whole
