"""The spool's size cap and its reserve: what goes first when there is no room."""

import os
from dataclasses import dataclass
from pathlib import Path

from ketang_agent.spool.store import MOST_AT_ONCE, Spool
from ketang_agent.spool.values import Lane
from ketang_contract.batch import DropReason
from ketang_contract.records import Stream

KEPT_MS = 7 * 24 * 3_600_000
_HORIZONS_MS = (KEPT_MS, 24 * 3_600_000, 3_600_000, -1)
_CHUNK = 256
_LARGEST_CHUNK = 16_384
"""Records given up in one transaction: its log stays within the reserve, its time within 0.2 s."""
_WAY_BYTES = 256 << 10
"""Made free at a time where the disk is full: some hundred records, hours of windows."""
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
        let_go_acked(spool, now_ms, age_ms, down_to_bytes=max_bytes)
    return sum(_evict(spool, lane, max_bytes, now_ms) for lane in _least_important_first(spool))


def let_go_acked(spool: Spool, now_ms: int, age_ms: int, down_to_bytes: int = 0) -> None:
    """Let go of lines the centre has held for longer than ``age_ms``, as many as are needed."""
    for lane in spool.lanes():
        while spool.let_go(lane, now_ms - age_ms) == MOST_AT_ONCE:
            if spool.used_bytes() <= down_to_bytes:
                return


def make_way(spool: Spool, reserve: "Reserve", now_ms: int) -> int:
    """The disk is full: make room inside the spool's own file; return how many records that cost.

    The reserve lets the log be merged. From then on the file does not grow, so neither a deletion
    nor the next records need room that others may have taken, until ``hold_reserve`` succeeds.

    Raises:
        sqlite3.OperationalError: not even that is possible now.
    """
    reserve.release()
    spool.restart_log(cut=False)
    spool.hold_size(held=True)
    before_bytes = spool.used_bytes()
    let_go_acked(spool, now_ms, -1)
    return make_room(spool, before_bytes - _WAY_BYTES, now_ms)


def hold_reserve(spool: Spool, reserve: "Reserve") -> bool:
    """Take the reserve if there is room for it; the spool may grow only while it is held."""
    held = reserve.hold()
    spool.hold_size(held=not held)
    return held


def _evict(spool: Spool, lane: Lane, max_bytes: int, now_ms: int) -> int:
    """Give up a lane's oldest records until the cap holds or none waits.

    Each transaction costs a sync. So the second one and those after it take as many records as the
    one before says are needed, rather than a fixed few.
    """
    lost, count = 0, _CHUNK
    used_bytes = spool.used_bytes()
    while used_bytes > max_bytes and (waiting := spool.pending(lane)):
        oldest = waiting.lowest(count)
        spool.mark_lost(lane, oldest, DropReason.EVICTED, now_ms)
        lost += len(oldest)
        freed_bytes = used_bytes - spool.used_bytes()
        used_bytes -= freed_bytes
        needed = len(oldest) * (used_bytes - max_bytes) // max(1, freed_bytes)
        count = min(max(_CHUNK, needed), _LARGEST_CHUNK)
    return lost


def _least_important_first(spool: Spool) -> list[Lane]:
    order = list(Stream)
    return sorted(spool.lanes(), key=lambda lane: -order.index(lane.stream))


@dataclass(frozen=True, slots=True)
class Reserve:
    """A file that only takes up room, to be given back when the disk is full."""

    path: Path

    def hold(self) -> bool:
        """Take the room; False when the disk has none to spare now."""
        try:
            if self.path.exists() and self.path.stat().st_size >= RESERVE_BYTES:
                return True
            with self.path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the room back, so that deleting works. A disk that takes no change keeps it."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            return
