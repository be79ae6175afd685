"""A device that empties its spool, as a process: the agent's own spool, sender and link.

The agent makes a record every five minutes; here ``--rate`` come every second, for ``--seconds`` or
until the backlog has gone, so that the wait of fresh records behind an old backlog can be seen.
Each quarter second one JSON line tells how it stands. ``python -m ketang_bench.device_process -h``
"""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ketang_agent.clock import SystemClock
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_agent.uplink.client import Broker, Connection, tls_context
from ketang_agent.uplink.link import Link
from ketang_agent.uplink.sender import Sender
from ketang_bench.process import peak_mb
from ketang_contract.records import Body, Host, Record, Usage

Numbered = dict[tuple[Lane, int], float]
TELL_S = 0.25
_MOST_AT_ONCE = 500


class TrustingSender(Sender):
    """What a simpler uplink would do: it takes the broker's word for the centre's.

    Kept here, and only here, so that the cost of that belief is measured rather than argued.
    """

    def confirm(self, digest: str) -> None:
        """Mark on PUBACK."""
        flight = self._flights.get(digest)
        super().confirm(digest)
        if flight is not None:
            self._land(digest)
            self._spool.mark_acked(flight.lane, flight.seqs, time.time_ns() // 10**6)


class Device:
    """One device and what it measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        host, port, ca, certificate, key, spool, device, center = options.words
        self._rate, self._seconds = options.rate, options.seconds
        broker = Broker(host, int(port), Path(ca), Path(certificate), Path(key))
        context, self._bell = tls_context(broker), threading.Event()
        self._clock = SystemClock()
        self._device = device
        self._spool = Spool(Path(spool))
        self._spool.open()
        self._heads = {lane: self._spool.head(lane) for lane in self._spool.lanes()}
        self._link = Link(
            self._spool,
            (TrustingSender if options.puback else Sender)(self._spool, device, center),
            device,
            lambda will: Connection(broker, context, device, will, self._bell.set),
            "bench",
            jitter=lambda: 0.5,
        )
        self._live: Numbered = {}
        self._made = 0
        self._latencies_s: list[float] = []
        self._connected_s = 0.0
        self._drained_s = 0.0

    def run(self) -> None:
        """Drain, with a live record a second, until nothing waits; tell at the end."""
        told_s = 0.0
        base_mb = peak_mb(os.getpid())
        while True:
            self._link.poll(self._clock.now())
            now_s = time.monotonic()
            if self._link.connected:
                self._connected_s = self._connected_s or now_s
            if self._connected_s and not self._done(now_s):
                due = int((now_s - self._connected_s) * self._rate) + 1
                self._make_live(min(due - self._made, _MOST_AT_ONCE), now_s)
            self._look(now_s)
            if now_s - told_s >= TELL_S:
                told_s = now_s
                self._tell(final=False)
            if self._done(now_s) and not self._live:
                break
            self._bell.wait(0.02)
            self._bell.clear()
        self._link.stop()
        self._tell(final=True, peak_growth_mb=round(peak_mb(os.getpid()) - base_mb, 2))
        self._spool.close()

    def _done(self, now_s: float) -> bool:
        """Tell whether the old has gone, and no more is to be made."""
        return bool(self._drained_s) and now_s - self._connected_s >= self._seconds

    def _make_live(self, count: int, now_s: float) -> None:
        if count <= 0:
            return
        now = self._clock.now()
        bodies: list[Body] = [
            Usage(window_s=300, active_s=number % 300) if number % 2 else Host(window_s=300)
            for number in range(self._made, self._made + count)
        ]
        before = {lane: self._spool.head(lane) for lane in self._spool.lanes()}
        self._spool.append(
            [
                Record(
                    subject=self._device,
                    wall_ms=now.wall_ms,
                    boot_id=now.boot_id,
                    boottime_ms=now.boottime_ms,
                    time=now.time,
                    body=body,
                )
                for body in bodies
            ]
        )
        for lane, head in before.items():
            for seq in range(head + 1, self._spool.head(lane) + 1):
                self._live[lane, seq] = now_s
        self._made += count

    def _look(self, now_s: float) -> None:
        for lane, seq in list(self._live):
            if seq not in self._spool.pending(lane):
                self._latencies_s.append(now_s - self._live.pop((lane, seq)))
        if self._connected_s and not self._drained_s and not self._backlog_waits():
            self._drained_s = now_s

    def _backlog_waits(self) -> bool:
        return any(
            waiting.first <= head
            for lane, head in self._heads.items()
            if (waiting := self._spool.pending(lane))
        )

    def _tell(self, *, final: bool, **more: Any) -> None:
        said = {
            "final": final,
            "waiting": sum(len(self._spool.pending(lane)) for lane in self._spool.lanes()),
            "created": sum(self._spool.head(lane) for lane in self._spool.lanes()),
            "connected_s": time.monotonic() - self._connected_s if self._connected_s else 0.0,
            "drain_s": self._drained_s - self._connected_s if self._drained_s else None,
            "live": len(self._latencies_s),
            "live_max_s": round(max(self._latencies_s, default=0.0), 3),
            **more,
        }
        print(json.dumps(said), flush=True)


def main() -> int:
    """Empty the spool and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "words",
        nargs=8,
        metavar="WORD",
        help="HOST PORT CA CERTIFICATE KEY SPOOL DEVICE CENTER",
    )
    parser.add_argument("--puback", action="store_true", help="take the broker's word")
    parser.add_argument("--rate", type=float, default=1.0, help="live records a second")
    parser.add_argument("--seconds", type=float, default=0.0, help="make live records so long")
    Device(parser.parse_args()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
