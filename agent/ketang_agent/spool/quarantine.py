"""Where damaged files go: aside, under a dated name, a few at most and none of them large."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

KEPT = 3
MAX_BYTES = 32 << 20
"""Of one file; what is beyond it is cut off. A person can still see what happened."""
_PARTS = ("", "-wal", "-shm")


def put_aside(path: Path, now_ms: int) -> Path | None:
    """Move a spool's files aside; return the new name, or None where there was nothing to move.

    May be called again after it was interrupted: what is left then follows under a name of its own.
    """
    there = [part for part in _PARTS if path.with_name(path.name + part).exists()]
    if not there:
        return None
    before = _numbers(path)
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.stem}.damaged-{max(before, default=0) + 1:04}-{stamp}.db")
    for part in there:
        target = aside.with_name(aside.name + part)
        path.with_name(path.name + part).rename(target)
        with suppress(OSError):
            if target.stat().st_size > MAX_BYTES:
                os.truncate(target, MAX_BYTES)
    _forget(path, sorted(_numbers(path))[:-KEPT])
    return aside


def forget_all(path: Path) -> None:
    """Delete everything that was put aside: the disk has no room for it."""
    _forget(path, sorted(_numbers(path)))


def _numbers(path: Path) -> set[int]:
    """Numbers of what is kept; a clock may be wrong, so they and not the dates give the order."""
    names = (one.name.split("-")[1] for one in path.parent.glob(f"{path.stem}.damaged-*-*"))
    return {int(number) for number in names if number.isdigit()}


def _forget(path: Path, numbers: list[int]) -> None:
    for number in numbers:
        for old in path.parent.glob(f"{path.stem}.damaged-{number:04}-*"):
            with suppress(OSError):
                old.unlink()
