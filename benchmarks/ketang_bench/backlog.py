"""What waits in a spool after a long time off line: a gateway with twenty subjects, sixty days.

The records are of the kinds and sizes that really occur, written by the contract's own writer.
"""

from collections.abc import Iterator
from pathlib import Path

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_contract.limits import Tri
from ketang_contract.records import (
    Body,
    Categories,
    Host,
    IdleSource,
    Network,
    Record,
    TimeQuality,
    Usage,
    stream_of,
    to_line,
)

SUBJECTS = 20
WINDOW_S = 300
_CHUNK = 5_000


def fill(path: Path, count: int, device: str, now: Instant) -> None:
    """Put ``count`` records into a new spool file, the newest a window old."""
    with Spool(path) as spool:
        chunk: list[tuple[Lane, bytes]] = []
        for record in records(count, device, now):
            chunk.append((Lane(spool.current_store, stream_of(record.body)), to_line(record)))
            if len(chunk) == _CHUNK:
                spool.append_lines(chunk)
                chunk.clear()
        if chunk:
            spool.append_lines(chunk)


def records(count: int, device: str, now: Instant) -> Iterator[Record]:
    """Yield records oldest first: use, host and network of every subject, window after window.

    They bear the boot before this one, since the boot clock may be younger than the backlog.
    """
    kinds = 3
    windows = -(-count // (SUBJECTS * kinds))
    for number in range(count):
        window, place = divmod(number, SUBJECTS * kinds)
        subject, kind = divmod(place, kinds)
        yield Record(
            subject=device if subject == 0 else f"{device}-child-{subject}",
            wall_ms=now.wall_ms - (windows - window) * WINDOW_S * 1000,
            boot_id="boot-before",
            boottime_ms=1_000 + window * WINDOW_S * 1000,
            time=TimeQuality.SYNCED,
            body=_body(kind, window, subject),
        )


def _body(kind: int, window: int, subject: int) -> Body:
    turn = window * 7 + subject * 13
    if kind == 0:
        return Usage(
            window_s=WINDOW_S,
            active_s=turn % 200,
            idle_s=100,
            idle_source=IdleSource.XSCREENSAVER,
            categories=Categories(browser=turn % 120, office=turn % 80),
        )
    if kind == 1:
        return Host(
            window_s=WINDOW_S,
            cpu_mean_pct=turn % 60,
            cpu_max_pct=60 + turn % 40,
            memory_used_pct=30 + turn % 50,
            disk_free_pct=40,
            disk_free_mb=100_000 - turn % 977,
            temperature_max_c=40 + turn % 30,
            on_mains=Tri.YES,
            uptime_s=window * WINDOW_S,
        )
    return Network(
        window_s=WINDOW_S,
        link_mbps=1000,
        rtt_ms=5 + turn % 40,
        received_kbps=turn % 20_000,
        sent_kbps=turn % 3_000,
    )
