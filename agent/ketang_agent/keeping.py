"""The way into the spool, over a disk that may be full, failing, or not there at all.

Invariants:

1. ``keep`` never raises for the disk's sake: what the spool does not take waits in memory.
2. What waits is bounded; beyond the bound the oldest goes, and that is counted and told.
3. Waiting records are given up for new ones only where the disk is full, and only for as much as
   they need; if that did not help it is not done again before something was stored.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from ketang_agent.spool.damage import is_damage
from ketang_agent.spool.limits import Reserve, hold_reserve, make_room, make_way
from ketang_agent.spool.salvage import Salvaged, open_spool
from ketang_agent.spool.store import Spool
from ketang_contract.errors import TooLarge
from ketang_contract.records import Record, to_line

log = logging.getLogger("ketang.spool")

MOST_UNSAVED = 1000
"""Records held in memory while the disk takes none: some eight hours of windows."""
_PRIMARY = 0xFF
"""An extended result code's low byte says what kind it is."""


OpenSpool = Callable[[Path, int], tuple[Spool, Salvaged | None]]


class Keeper:
    """Owns the spool's only writing connection; ``spool`` is None while it cannot be opened."""

    def __init__(
        self,
        folder: Path,
        cap_bytes: int,
        open_spool: OpenSpool = open_spool,
        most_unsaved: int = MOST_UNSAVED,
    ) -> None:
        self.path = folder / "spool.db"
        self.cap_bytes = cap_bytes
        self._open_spool = open_spool
        self._most_unsaved = most_unsaved
        self._reserve = Reserve(folder / "spool.reserve")
        self._unsaved: list[Record] = []
        self._in_vain = False
        self.spool: Spool | None = None
        self.salvaged: Salvaged | None = None
        """What became of a damaged spool, until somebody has told it."""
        self.trouble = ""
        """Why the disk takes nothing now; empty when it does."""
        self.writing = True
        """False: the log may not grow, so records wait in memory."""
        self.dropped = 0
        """Records that never reached the disk, since this process began."""
        self.evicted = 0
        """Records given up for lack of room, since this process began."""

    @property
    def unsaved(self) -> int:
        """Records that wait in memory."""
        return len(self._unsaved)

    def open(self, now_ms: int) -> bool:
        """Open the spool unless it is open; False when the disk does not let us."""
        if self.spool is not None:
            return True
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.spool, salvaged = self._open_spool(self.path, now_ms)
        except (OSError, sqlite3.Error) as problem:
            self._is_failing(f"cannot open {self.path.name}: {problem}")
            return False
        self.salvaged = salvaged or self.salvaged
        self._hold_reserve(self.spool)
        return self.spool is not None

    def close(self) -> None:
        """Close the spool. What still waits in memory is lost, and said to be."""
        if self._unsaved:
            log.error("spool.unsaved_lost records=%d", len(self._unsaved))
        self._shut()

    def keep(self, records: Sequence[Record], now_ms: int) -> None:
        """Put records into the spool, or hold them here until it takes them."""
        self._unsaved += records
        beyond = len(self._unsaved) - self._most_unsaved
        if beyond > 0:
            if self.dropped == 0:
                log.error("spool.dropping why=memory_full bound=%d", self._most_unsaved)
            self.dropped += beyond
            del self._unsaved[:beyond]
        if not self._unsaved or self.spool is None or not self.writing:
            return
        try:
            self._store(self.spool)
        except sqlite3.Error as problem:
            if _code(problem) == sqlite3.SQLITE_FULL and self._make_way(self.spool, now_ms):
                self._store_after_all()
            else:
                self.note(problem)

    def tidy(self, now_ms: int) -> None:
        """Hold the spool to its cap and the reserve ready."""
        if self.spool is None or not self.writing:
            return
        try:
            self._count_evicted(make_room(self.spool, self.cap_bytes, now_ms))
        except sqlite3.Error as problem:
            self.note(problem)
        if not self.trouble and self.spool is not None:
            self._hold_reserve(self.spool)

    def note(self, problem: sqlite3.Error) -> None:
        """Take in that the spool failed someone; a damaged one is shut, to be opened anew."""
        self._is_failing(str(problem))
        if is_damage(problem) or not isinstance(problem, sqlite3.OperationalError):
            log.error("spool.damaged why=%s", problem)
            self._shut()

    def _hold_reserve(self, spool: Spool) -> None:
        try:
            hold_reserve(spool, self._reserve)
        except sqlite3.Error as problem:
            self.note(problem)

    def _store(self, spool: Spool) -> None:
        try:
            spool.append(self._unsaved)
        except TooLarge:
            fitting = [one for one in self._unsaved if _fits(one)]
            log.warning("spool.record_too_large records=%d", len(self._unsaved) - len(fitting))
            self.dropped += len(self._unsaved) - len(fitting)
            self._unsaved = fitting
            spool.append(fitting)
        self._unsaved, self._in_vain = [], False
        if self.trouble:
            log.info("spool.back dropped=%d", self.dropped)
        self.trouble = ""

    def _store_after_all(self) -> None:
        if self.spool is None:
            return
        try:
            self._store(self.spool)
        except sqlite3.Error as problem:
            self._in_vain = True
            self.note(problem)

    def _make_way(self, spool: Spool, now_ms: int) -> bool:
        """The disk is full: give the reserve back, and make room inside our own file."""
        if self._in_vain:
            return False
        try:
            self._count_evicted(make_way(spool, self._reserve, now_ms))
        except sqlite3.Error as problem:
            self._in_vain = True
            log.warning("spool.cannot_make_room why=%s", problem)
            return False
        return True

    def _count_evicted(self, records: int) -> None:
        if records:
            log.warning("spool.evicted records=%d", records)
            self.evicted += records

    def _is_failing(self, why: str) -> None:
        if not self.trouble:
            log.error("spool.failing why=%s waiting=%d", why, len(self._unsaved))
        self.trouble = why

    def _shut(self) -> None:
        if self.spool is not None:
            try:
                self.spool.close()
            except sqlite3.Error as problem:
                log.warning("spool.close why=%s", problem)
        self.spool = None


def _code(problem: sqlite3.Error) -> int:
    """Primary result code; 0 where the error did not come from SQLite itself."""
    return int(getattr(problem, "sqlite_errorcode", 0)) & _PRIMARY


def _fits(record: Record) -> bool:
    try:
        to_line(record)
    except TooLarge:
        return False
    return True
