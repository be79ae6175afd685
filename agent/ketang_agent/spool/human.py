"""The spool as a person reads it: how much waits, the last records, all of them as a table.

Read-only, beside a running agent, and never part of it: this is the only file of the agent that
imports sqlite-utils. Each question to the file is short, so that no snapshot is held for long.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from ketang_agent.spool.rows import SEQ_BITS, SEQ_MASK, STREAMS, VERSION
from ketang_agent.spool.values import Fate
from ketang_contract.errors import BadInput
from ketang_contract.ranges import NOTHING, RangeSet
from ketang_contract.records import Stream

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class LaneStats:
    """One stream of one store, in numbers."""

    store_id: str
    current: bool
    stream: Stream
    head: int
    pending: int
    acked: int
    lost: int
    oldest_waiting_ms: int | None
    """When the longest waiting record happened, by its own clock."""


@dataclass(frozen=True, slots=True)
class Held:
    """One record in the file. ``fields`` is its line, parsed."""

    store_id: str
    stream: Stream
    seq: int
    waiting: bool
    fields: dict[str, Any]

    @property
    def wall_ms(self) -> int:
        """When it happened, by the device's clock; 0 where the line does not say."""
        said = self.fields.get("wall_ms")
        return said if isinstance(said, int) else 0

    @property
    def body(self) -> dict[str, Any]:
        """What it says."""
        said = self.fields.get("body")
        return said if isinstance(said, dict) else {}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are wanted; None: any."""

    stream: Stream | None = None
    kind: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, one: Held) -> bool:
        """Whether a record is wanted."""
        return (
            (self.stream is None or one.stream is self.stream)
            and (self.kind is None or one.body.get("kind") == self.kind)
            and (self.since_ms is None or one.wall_ms >= self.since_ms)
            and (self.until_ms is None or one.wall_ms < self.until_ms)
        )


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    """Open a spool to read it.

    Raises:
        BadInput: there is no such file, it is not a spool, or it cannot be read now.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; name the agent's spool.db")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise BadInput(f"{path}: not a spool of this release (its version is {version})")
            yield Database(connection)
        finally:
            connection.close()
    except sqlite3.Error as problem:
        raise BadInput(
            f"{path}: cannot be read ({problem}); a damaged spool is replaced when the agent starts"
        ) from None


def stats(db: Database) -> list[LaneStats]:
    """Count every lane that gave out a number, the oldest store first."""
    stores = {row["no"]: row["store_id"] for row in db["store"].rows}
    found = []
    for row in db["lane"].rows_where("head > 0", order_by="no"):
        no, head = row["no"], row["head"]
        settled = _with_fate(db, no, *Fate)
        pending = RangeSet.span(1, head) - settled
        oldest = None
        if pending:
            key = (no << SEQ_BITS) + pending.first
            first = next(iter(db["record"].rows_where("id = ?", [key])), None)
            oldest = None if first is None else _held(first, stores, NOTHING).wall_ms
        found.append(
            LaneStats(
                store_id=stores[no // len(STREAMS)],
                current=no // len(STREAMS) == max(stores),
                stream=STREAMS[no % len(STREAMS)],
                head=head,
                pending=len(pending),
                acked=len(_with_fate(db, no, Fate.ACKED, Fate.GONE)),
                lost=len(_with_fate(db, no, Fate.LOST)),
                oldest_waiting_ms=oldest,
            )
        )
    return found


def records(db: Database, wanted: Filter, last_of_lane: int | None = None) -> Iterator[Held]:
    """Yield every wanted record in the file, lane by lane, in order of number.

    With ``last_of_lane`` only so many of each lane, from its end backwards.
    """
    stores = {row["no"]: row["store_id"] for row in db["store"].rows}
    lanes = [row["no"] for row in db["lane"].rows_where("head > 0", order_by="no")]
    for no in lanes:
        if wanted.stream not in (None, STREAMS[no % len(STREAMS)]):
            continue
        acked = _with_fate(db, no, Fate.ACKED)
        rows = _rows(db, no, newest_first=last_of_lane is not None)
        taken = (one for row in rows if wanted.takes(one := _held(row, stores, acked)))
        yield from islice(taken, last_of_lane)


def last(db: Database, count: int, wanted: Filter) -> list[Held]:
    """Return the last ``count`` wanted records by their own time, the latest at the end."""
    found = sorted(records(db, wanted, count), key=lambda one: one.wall_ms)
    return found[-count:] if count > 0 else []


def _rows(db: Database, no: int, *, newest_first: bool) -> Iterator[dict[str, Any]]:
    low, high = no << SEQ_BITS, (no + 1) << SEQ_BITS
    order = "id DESC" if newest_first else "id"
    while True:
        where = "id > ? AND id < ?"
        chunk = list(db["record"].rows_where(where, [low, high], order_by=order, limit=_CHUNK))
        yield from chunk
        if len(chunk) < _CHUNK:
            return
        low, high = (low, chunk[-1]["id"]) if newest_first else (chunk[-1]["id"], high)


def _held(row: dict[str, Any], stores: dict[int, str], acked: RangeSet) -> Held:
    no, seq = row["id"] >> SEQ_BITS, row["id"] & SEQ_MASK
    try:
        fields = json.loads(row["line"])
    except ValueError:
        fields = {}
    return Held(
        store_id=stores.get(no // len(STREAMS), "?"),
        stream=STREAMS[no % len(STREAMS)],
        seq=seq,
        waiting=seq not in acked,
        fields=fields if isinstance(fields, dict) else {},
    )


def _with_fate(db: Database, no: int, *fates: Fate) -> RangeSet:
    marks = ", ".join("?" * len(fates))
    rows = db["fate"].rows_where(f"lane = ? AND what IN ({marks})", [no, *map(str, fates)])
    return RangeSet.of((row["first"], row["last"]) for row in rows)
