"""A second, short look into the spool: what was lost, and the very lines that were sent.

Read-only, on a connection of its own that lives for one question. No statement holds a snapshot for
longer than it takes to fetch one batch, and the whole question ends after five seconds.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ketang_agent.spool.rows import SEQ_BITS, STREAMS
from ketang_agent.spool.values import Fate
from ketang_contract.batch import DropReason
from ketang_contract.records import Stream
from ketang_contract.state import Loss

LONGEST_S = 5.0
_CHUNK = 500
"""Lines held in memory at once: an hour's acknowledgements may be all that a month piled up."""
_CHECK_EVERY = 10_000
"""SQLite instructions between two looks at the deadline."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers that neither wait nor were acknowledged, by lane; and the losses among them."""

    settled: dict[tuple[str, Stream], int]
    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True)
class SentLine:
    """One record as the centre got it, byte for byte, and when the centre acknowledged it."""

    acked_ms: int
    line: str


def tally(path: Path) -> Tally:
    """Count what was lost and what was moved to another store.

    Raises:
        sqlite3.Error: the file cannot be read now.
    """
    settled: dict[tuple[str, Stream], int] = {}
    losses: dict[tuple[Stream, DropReason], int] = {}
    with _reading(path) as db:
        for lane, store_id, what, reason, records in db.execute(
            "SELECT f.lane, s.store_id, f.what, f.reason, SUM(f.last - f.first + 1)"
            " FROM fate f JOIN store s ON s.no = f.lane / ? WHERE f.what IN (?, ?)"
            " GROUP BY f.lane, f.what, f.reason",
            (len(STREAMS), Fate.LOST, Fate.MOVED),
        ):
            stream = STREAMS[lane % len(STREAMS)]
            settled[store_id, stream] = settled.get((store_id, stream), 0) + records
            if what == Fate.LOST:
                key = stream, DropReason(reason)
                losses[key] = losses.get(key, 0) + records
    return Tally(
        settled,
        tuple(
            Loss(stream=stream, reason=reason, records=records)
            for (stream, reason), records in sorted(losses.items())
        ),
    )


def sent(
    path: Path, *, acked_from_ms: int, made_from_ms: int, skip: int = 0, most: int = 200
) -> list[SentLine]:
    """Return record lines the centre holds, the last acknowledged first.

    Args:
        path: the spool's file.
        acked_from_ms: acknowledged at this wall time or later.
        made_from_ms: about this wall time or later, so that nobody sees who sat here before.
        skip: so many are left out, to turn pages.
        most: so many are returned.

    Raises:
        sqlite3.Error: the file cannot be read now, or it took too long.
    """
    found: list[SentLine] = []
    with _reading(path) as db:
        for acked_ms, line in _lines(db, acked_from_ms):
            if made_ms(line) < made_from_ms:
                continue
            if skip:
                skip -= 1
                continue
            found.append(SentLine(acked_ms, line.decode("utf-8", "replace")))
            if len(found) == most:
                break
    return found


def made_ms(line: bytes) -> int:
    """Wall time of a record, or -1 where its line does not tell."""
    try:
        wall_ms = json.loads(line)["wall_ms"]
    except (ValueError, LookupError, TypeError):
        return -1
    return wall_ms if isinstance(wall_ms, int) else -1


def _lines(db: sqlite3.Connection, acked_from_ms: int) -> Iterator[tuple[int, bytes]]:
    ranges = db.execute(
        "SELECT lane, first, last, at_ms FROM fate WHERE what = ? AND at_ms >= ?"
        " ORDER BY at_ms DESC, lane, first DESC",
        (Fate.ACKED, acked_from_ms),
    ).fetchall()
    for lane, first, last, at_ms in ranges:
        low, high = (lane << SEQ_BITS) + first, (lane << SEQ_BITS) + last
        while lines := db.execute(
            "SELECT id, line FROM record WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?",
            (low, high, _CHUNK),
        ).fetchall():
            for _, line in lines:
                yield at_ms, line
            high = lines[-1][0] - 1


@contextmanager
def _reading(
    path: Path, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[sqlite3.Connection]:
    ends = monotonic() + LONGEST_S
    where = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(where, uri=True, timeout=1)) as db:
        db.execute("PRAGMA cache_size = -256")
        db.set_progress_handler(lambda: monotonic() > ends, _CHECK_EVERY)
        yield db
