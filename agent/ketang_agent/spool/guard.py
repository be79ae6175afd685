"""Keeps a foreign reader from filling the disk: it pins the log, and the log grows.

While anybody holds an old snapshot, SQLite cannot begin its log anew, and every transaction makes
it longer. Our own readers hold one 5 s at most; a backup program or a person's shell may hold one
for ever. The drain is most of what is written (each acknowledgement is), so it stops first; new
records are few, and go on until the log is nearly at its limit, then they wait in memory.

The service asks once a minute, and after each ``DRAINED_RECORDS`` acknowledged::

    grip = guard.judge(guard.measure(spool), grip)
    link.draining = grip is Grip.FREE                # no batch is sent, no ack is marked
    keeper.writing = grip is not Grip.CHOKED         # records wait in memory, within their bound

A grip that is not FREE is a sign of the fault ``spool_pinned``.

An ack that comes while the drain stands is left aside: the batch is sent again later.
"""

import sqlite3
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from ketang_agent.spool.store import Spool

MAX_LOG_BYTES = 64 << 20
"""The log never grows beyond this."""
_STOP_DRAIN_BYTES = 40 << 20
_STOP_WRITING_BYTES = 60 << 20
"""Leaves room for one transaction of the largest kind, and for writing down losses."""
_GO_ON_BYTES = 16 << 20
_WORTH_MERGING_BYTES = 8 << 20
DRAINED_RECORDS = 20_000
"""So many records' marks stay far below the distance between two thresholds."""


class Grip(StrEnum):
    """How hard a foreign reader holds the log."""

    FREE = "free"
    PINNED = "pinned"
    """Stop the drain, raise the alarm."""
    CHOKED = "choked"
    """Write nothing at all."""


def measure(spool: Spool) -> int:
    """Return the log's size in bytes, after having tried to begin it anew where it is large.

    Never waits for a reader; takes as long as merging what can be merged.
    """
    log = spool.path.with_name(spool.path.name + "-wal")
    size = _size(log)
    if size < _WORTH_MERGING_BYTES:
        return size
    with suppress(sqlite3.OperationalError):  # others will notice; the size is what counts here
        spool.restart_log()
    return _size(log)


def judge(log_bytes: int, before: Grip) -> Grip:
    """Decide from the log's size; once pinned, only a small log is free again. Pure."""
    if log_bytes >= _STOP_WRITING_BYTES:
        return Grip.CHOKED
    if log_bytes >= _STOP_DRAIN_BYTES:
        return Grip.PINNED
    if before is not Grip.FREE and log_bytes > _GO_ON_BYTES:
        return Grip.PINNED
    return Grip.FREE


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
