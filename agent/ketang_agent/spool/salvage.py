"""A damaged spool is replaced without a person: what can be read goes on, the rest is told as lost.

Invariants:

1. No number of an old store is given out again: a salvage always begins a new store, which names
   the old one as its parent. Lines that are kept keep their old key.
2. Every number known to have been given out waits with its line, has its old fate, or is lost.
3. The damaged file stays where it is until its replacement is complete and on the disk; a salvage
   that was interrupted begins anew, or ends its last step.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

from ketang_agent.spool import carve, damage, quarantine, witness
from ketang_agent.spool.rebuild import SPARE_BYTES, Count, rebuild
from ketang_agent.spool.remains import gather
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Damaged

log = logging.getLogger("ketang.spool")

LONGEST_S = 20.0
"""After that much reading the rest of a damaged file is given up."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of a damaged spool."""

    kept: int
    """Records that wait in the new file."""
    lost: int
    """Numbers declared lost."""
    quarantine: Path | None
    """Where the damaged file is now; None where there was none, or no room to keep it."""
    why: str


def open_spool(
    path: Path, now_ms: int, monotonic: Callable[[], float] = time.monotonic
) -> tuple[Spool, Salvaged | None]:
    """Open the spool whatever happened to its file; say what was salvaged where it was replaced.

    A cheap look decides (see ``books``). Damage that shows later raises ``Damaged`` from the spool
    and leaves a mark beside the file: close it and call this again.

    Raises:
        sqlite3.OperationalError, OSError: the disk is full, failing or read-only. Nothing changed;
            try again later.
    """
    if _healed(path).exists():
        _swap(path, now_ms)
    _keep_log(path)
    why = _read_text(damage.suspicion_for(path))
    if not why:
        new = not path.exists()
        spool = Spool(path)
        try:
            _open(spool)
        except Damaged as problem:
            why = str(problem)
        else:
            carve.kept_log(path).unlink(missing_ok=True)
            if new:
                # A session number must not be lower than any that the centre has seen of us.
                spool.set_meta("session", now_ms)
            return spool, None
    return _replace(path, why, now_ms, monotonic)


def _keep_log(path: Path) -> None:
    """Give the log a second name: SQLite deletes one it has cut short at the first bad frame."""
    with suppress(OSError):  # there is none, one is kept already, or the file system cannot
        carve.kept_log(path).hardlink_to(path.with_name(path.name + "-wal"))


def _open(spool: Spool) -> None:
    """Open it; a full disk gets the reserve, since opening needs a little room."""
    try:
        spool.open()
    except sqlite3.OperationalError:
        reserve = spool.path.with_suffix(".reserve")
        if not reserve.exists():
            raise
        reserve.unlink()
        spool.open()


def _replace(
    path: Path, why: str, now_ms: int, monotonic: Callable[[], float]
) -> tuple[Spool, Salvaged]:
    log.error("spool.damaged why=%s", why)
    ends_s = monotonic() + LONGEST_S
    fresh = path.with_suffix(".new")
    count = _rebuild(path, fresh, now_ms, lambda: monotonic() > ends_s)
    fresh.rename(_healed(path))
    _sync(path.parent)
    aside = _swap(path, now_ms)
    if disk_usage(path.parent).free < SPARE_BYTES:
        quarantine.forget_all(path)
        aside = None
    spool = Spool(path)
    spool.open()
    log.warning("spool.replaced kept=%d lost=%d quarantine=%s", count.kept, count.lost, aside)
    return spool, Salvaged(count.kept, count.lost, aside, why)


def _rebuild(path: Path, fresh: Path, now_ms: int, is_late: Callable[[], bool]) -> Count:
    remains = gather(path)
    reserve = path.with_suffix(".reserve")
    for last_try in (not reserve.exists(), True):
        for part in ("", "-journal"):
            fresh.with_name(fresh.name + part).unlink(missing_ok=True)
        try:
            return rebuild(path, fresh, remains, now_ms, is_late)
        except sqlite3.OperationalError:
            fresh.unlink(missing_ok=True)
            if last_try:
                raise
            reserve.unlink(missing_ok=True)
    raise AssertionError("the last try returns or raises")


def _swap(path: Path, now_ms: int) -> Path | None:
    """The last step: the damaged file goes aside, the healed one takes its place."""
    aside = quarantine.put_aside(path, now_ms)
    # The witness speaks of the old file, and must be gone before the new one is in place.
    witness.path_for(path).unlink(missing_ok=True)
    damage.suspicion_for(path).unlink(missing_ok=True)
    carve.kept_log(path).unlink(missing_ok=True)
    _healed(path).rename(path)
    _sync(path.parent)
    return aside


def _healed(path: Path) -> Path:
    return path.with_suffix(".healed")


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace") or "suspect"
    except FileNotFoundError:
        return ""


def _sync(folder: Path) -> None:
    """Make renames durable."""
    at = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
