"""From looks to what may leave the worker: pure, and the only place where counts are folded.

A window's counts are the 50th and 90th percentile of its usable looks by nearest rank, so each is
a count that was really seen; then 1 to 4 becomes FEW (PRIVACY rule 4). Raw counts die here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ketang_agent.clock import Instant
from ketang_agent.windows import Window, following, jump_ms, open_window, same_run, shifted
from ketang_contract.limits import FEW, HeadCount
from ketang_contract.records import Occupancy, View

_SMALLEST_COUNT = 5
_MOST_HEADS = 500
_LEAST_WINDOW_S = 10
"""What began so shortly before a window's end says nothing, and could be laid to the next one."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one scan found. ``heads`` only where the view is OK; ``score`` only where heads are."""

    view: View
    heads: int = 0
    score: float | None = None


def summed(looks: Sequence[Look], window_s: int) -> Occupancy:
    """Fold a window's looks, one at least, into what may be said of it.

    The view is OK as soon as one look was usable; else it is the most frequent trouble.
    """
    usable = [look for look in looks if look.view is View.OK]
    if not usable:
        common = Counter(look.view for look in looks).most_common(1)[0][0]
        return Occupancy(window_s=window_s, view=common)
    heads = sorted(look.heads for look in usable)
    scores = [look.score for look in usable if look.score is not None]
    return Occupancy(
        window_s=window_s,
        view=View.OK,
        scans=len(usable),
        median=folded(ranked(heads, 50)),
        p90=folded(ranked(heads, 90)),
        # nobody seen is not the same as sure that nobody is there: then it stays unsaid
        confidence_pct=round(100 * sum(scores) / len(scores)) if scores else None,
    )


def ranked(heads: Sequence[int], percentile: int) -> int:
    """Return a percentile of sorted counts by nearest rank."""
    return heads[max(1, -(-len(heads) * percentile // 100)) - 1]


def folded(heads: int) -> HeadCount:
    """Make a count fit to leave: 0, FEW, or 5 to 500."""
    if heads == 0:
        return 0
    return FEW if heads < _SMALLEST_COUNT else min(heads, _MOST_HEADS)


@dataclass(slots=True)
class Tally:
    """The running window and its looks; a window without any look is not told of."""

    window: Window | None = None
    looks: list[Look] = field(default_factory=list)
    last: Instant | None = None

    def add(self, look: Look) -> None:
        """Take a look whose frame is of the moment last given to ``advance``."""
        self.looks.append(look)

    def advance(self, now: Instant) -> list[Occupancy]:
        """Bring the window up to now; return it when it ended, be it by a jump of the clock."""
        before, self.last = self.last, now
        if self.window is None or before is None:
            self.window = open_window(now)
            return []
        if not same_run(before, now):
            return self._restart(self.window.cut(before.boottime_ms), now)
        if jump_ms(self.window.opened, now):
            return self._restart(self.window.cut(before.boottime_ms), now)
        if now.boottime_ms < self.window.ends_ms:
            return []
        ended = self.window
        later = list(following(ended, now, now.boottime_ms))
        return self._restart(ended, now, later[-1] if later else None)

    def _restart(
        self, ended: Window, now: Instant, opened: Window | None = None
    ) -> list[Occupancy]:
        looks, self.looks = self.looks, []
        self.window = opened or open_window(shifted(now, now.boottime_ms))
        if not looks or ended.length_s < _LEAST_WINDOW_S:
            return []
        return [summed(looks, ended.length_s)]
