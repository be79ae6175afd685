"""The spool's own values: lanes, losses, what can become of a number, and what a bad file is."""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum

from ketang_contract.batch import DropReason
from ketang_contract.records import Stream


class Damaged(sqlite3.DatabaseError):
    """The file is not what was written. Caller: close, and open again through ``open_spool``."""


class Fate(StrEnum):
    """What became of numbers that no longer wait."""

    ACKED = "acked"
    GONE = "gone"
    LOST = "lost"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Lane:
    """One stream of one store."""

    store_id: str
    stream: Stream


@dataclass(frozen=True, slots=True)
class Loss:
    """Numbers that will never come, and why."""

    first: int
    last: int
    reason: DropReason
