"""The spool's size cap and its reserve: what goes first when there is no room."""

import os
from dataclasses import dataclass
from pathlib import Path

from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_contract.batch import DropReason
from ketang_contract.records import Stream

KEPT_MS = 7 * 24 * 3_600_000
_HORIZONS_MS = (KEPT_MS, 24 * 3_600_000, 3_600_000, -1)
_CHUNK = 256
RESERVE_BYTES = 2 << 20
"""Room for one large deletion's log: enough to make room on a disk that others have filled."""


def make_room(spool: Spool, max_bytes: int, now_ms: int) -> int:
    """Shrink the spool to its cap; return how many waiting records were given up.

    Acknowledged lines go first and are no loss. Then the least important stream loses its oldest
    records, and each loss is kept as a range with its reason.
    """
    let_go_acked(spool, now_ms, KEPT_MS)
    for age_ms in _HORIZONS_MS[1:]:
        if spool.used_bytes() <= max_bytes:
            return 0
        let_go_acked(spool, now_ms, age_ms)
    lost = 0
    for lane in _least_important_first(spool):
        while spool.used_bytes() > max_bytes and (waiting := spool.pending(lane)):
            oldest = waiting.lowest(_CHUNK)
            spool.mark_lost(lane, oldest, DropReason.EVICTED, now_ms)
            lost += len(oldest)
    return lost


def let_go_acked(spool: Spool, now_ms: int, age_ms: int) -> None:
    """Let go of lines the centre has held for longer than ``age_ms``."""
    for lane in spool.lanes():
        spool.let_go(lane, now_ms - age_ms)


def _least_important_first(spool: Spool) -> list[Lane]:
    order = list(Stream)
    return sorted(spool.lanes(), key=lambda lane: -order.index(lane.stream))


@dataclass(frozen=True, slots=True)
class Reserve:
    """A file that only takes up room, to be given back when the disk is full."""

    path: Path

    def hold(self) -> bool:
        """Take the room; False when the disk has none to spare now."""
        if self.path.exists():
            return True
        try:
            with self.path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the room back, so that deleting works."""
        self.path.unlink(missing_ok=True)
