"""A device for the fault tests: the agent's own spool, sender, link and connection, made to hurry.

``python -m tests.faults.device ORDERS.json [--drain]`` creates records until it is ended; with
``--drain`` it creates none, and ends with 0 once nothing waits and no loss is untold.

Beside the spool it keeps a ledger of its own, fsynced: every nonce is *tried* before
``spool.append`` and *entered* after it returned. Whenever the process is killed, what entered is in
the spool, and what is in the spool was tried.

It prints ``link UP BOOTTIME_MS`` when the connection comes or goes, and ``late MS`` when a group is
made later than any before it.
"""

import argparse
import json
import os
import random
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ketang_agent.clock import Instant, SystemClock
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.client import KEEPALIVE_S, Broker, Connection, tls_context
from ketang_agent.uplink.link import Link
from ketang_agent.uplink.sender import Sender
from ketang_contract.records import Body, Event, EventName, Host, Occupancy, Record, View

SPOOL = "spool.db"
LEDGER = "ledger"
_MOST_GROUP = 12
_JITTER = 0.1
"""Reconnects and resends wait this share of their bound at most: a test has no hours."""
_LONGEST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a device process is told.

    ``rate``: records per second, in small groups. ``trusting``: the broker's confirmation counts as
    the centre's, which is the mistake that the runs must be able to show.
    """

    folder: str
    device: str
    center_id: str
    rate: int
    host: str
    port: int
    ca_file: str
    certificate_file: str
    key_file: str
    keepalive_s: int = KEEPALIVE_S
    trusting: bool = False

    def write(self) -> Path:
        """Leave the orders in the device's folder."""
        file = Path(self.folder) / "orders.json"
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return file


@dataclass(frozen=True, slots=True)
class Told:
    """What a ledger says: ranges of nonces, ``(first, last)``."""

    tried: tuple[tuple[int, int], ...]
    entered: tuple[tuple[int, int], ...]

    @staticmethod
    def numbers(ranges: tuple[tuple[int, int], ...]) -> set[int]:
        """Every nonce of some ranges."""
        return {nonce for first, last in ranges for nonce in range(first, last + 1)}


def read_ledger(folder: Path) -> Told:
    """Read what a device has told; a line that a kill cut short was not told."""
    found: dict[str, list[tuple[int, int]]] = {"tried": [], "entered": []}
    file = folder / LEDGER
    for line in file.read_text("ascii").split("\n")[:-1] if file.exists() else ():
        what, first, last = line.split()
        found[what].append((int(first), int(last)))
    return Told(tuple(found["tried"]), tuple(found["entered"]))


@contextmanager
def ledger(folder: Path) -> Iterator["Ledger"]:
    """Open a device's ledger to go on with it."""
    number = os.open(folder / LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield Ledger(number)
    finally:
        os.close(number)


class Ledger:
    """The outside witness. Each line is one write and one fsync."""

    def __init__(self, number: int) -> None:
        self._number = number

    def say(self, what: str, first: int, last: int) -> None:
        """Note a range of nonces for good."""
        os.write(self._number, b"%s %d %d\n" % (what.encode(), first, last))
        os.fsync(self._number)


def body_of(nonce: int) -> Body:
    """Put a nonce into a fact; the three streams take turns."""
    match nonce % 3:
        case 0:
            return Event(name=EventName.CLOCK_JUMP, seconds=nonce)
        case 1:
            return Occupancy(window_s=300, view=View.OK, scans=nonce)
        case _:
            return Host(window_s=300, uptime_s=nonce)


def nonce_of(body: dict[str, object]) -> int:
    """Take the nonce out of a fact's JSON."""
    return int(str(body.get("seconds") or body.get("scans") or body.get("uptime_s")))


class TrustingSender(Sender):
    """Takes PUBACK for safety."""

    def confirm(self, digest: str) -> None:
        """Mark what the broker took over."""
        flight = self._flights.get(digest)
        super().confirm(digest)
        if flight:
            self._spool.mark_acked(flight.lane, flight.seqs, 0)


class Device:
    """One life of the process, from its start to the kill or to the last acknowledgement."""

    def __init__(self, orders: Orders, spool: Spool, said: Ledger, chance: random.Random) -> None:
        self._orders, self._spool, self._ledger, self._chance = orders, spool, said, chance
        self._clock, self._bell = SystemClock(), threading.Event()
        broker = Broker(
            orders.host,
            orders.port,
            Path(orders.ca_file),
            Path(orders.certificate_file),
            Path(orders.key_file),
        )
        context = tls_context(broker)
        made = TrustingSender if orders.trusting else Sender
        self.link = Link(
            spool,
            made(spool, orders.device, orders.center_id, self._jitter),
            orders.device,
            lambda will: Connection(
                broker, context, orders.device, will, self._bell.set, orders.keepalive_s
            ),
            "0.1.0",
            self._jitter,
        )
        tried = read_ledger(Path(orders.folder)).tried
        self._next = max((last for _, last in tried), default=0) + 1
        self._was_connected, self._latest_ms = False, 0

    def create(self) -> int:
        """Put a small group into the spool; return how many."""
        count, first = self._chance.randint(1, _MOST_GROUP), self._next
        self._next += count
        now = self._clock.now()
        records = [
            Record(
                subject=self._orders.device,
                wall_ms=now.wall_ms,
                boot_id=now.boot_id,
                boottime_ms=now.boottime_ms,
                time=now.time,
                body=body_of(nonce),
            )
            for nonce in range(first, first + count)
        ]
        self._ledger.say("tried", first, first + count - 1)
        self._spool.append(records)
        self._ledger.say("entered", first, first + count - 1)
        return count

    def run(self) -> None:
        """Create and send until the process is ended, as the agent's main loop does."""
        due_ms = self._clock.now().boottime_ms
        while True:
            now = self._clock.now()
            if now.boottime_ms >= due_ms:
                self._tell_late(now.boottime_ms - due_ms)
                due_ms = now.boottime_ms + self.create() * 1000 // self._orders.rate
            self._turn(now, (due_ms - now.boottime_ms) / 1000)

    def drain(self) -> None:
        """Send what waits until the centre has acknowledged all of it."""
        while self.waits():
            self._turn(self._clock.now(), _LONGEST_WAIT_S)
        self.link.stop()

    def waits(self) -> bool:
        """Whether anything here is not at the centre yet."""
        return any(
            self._spool.pending(lane) or self._spool.untold(lane) for lane in self._spool.lanes()
        )

    def _turn(self, now: Instant, wait_s: float) -> None:
        self.link.poll(now)
        if self.link.connected != self._was_connected:
            self._was_connected = self.link.connected
            print("link", int(self.link.connected), now.boottime_ms, flush=True)  # noqa: T201
        wake_ms = self.link.wake_at_ms()
        if wake_ms is not None:
            wait_s = min(wait_s, (wake_ms - now.boottime_ms) / 1000)
        self._bell.wait(max(0.001, min(wait_s, _LONGEST_WAIT_S)))
        self._bell.clear()

    def _tell_late(self, late_ms: int) -> None:
        if late_ms > self._latest_ms:
            self._latest_ms = late_ms
            print("late", late_ms, flush=True)  # noqa: T201

    def _jitter(self) -> float:
        return self._chance.random() * _JITTER


def check(spool: Spool) -> None:
    """Refuse to go on with a spool that a kill has damaged."""
    with sqlite3.connect(spool.path) as db:
        [said] = db.execute("PRAGMA quick_check").fetchone()
    if said != "ok":
        raise SystemExit(f"the spool is damaged: {said}")


def main(arguments: list[str]) -> None:
    """Live one life."""
    parser = argparse.ArgumentParser()
    parser.add_argument("orders", type=Path)
    parser.add_argument("--drain", action="store_true")
    chosen = parser.parse_args(arguments)
    orders = Orders(**json.loads(chosen.orders.read_text("utf-8")))
    folder = Path(orders.folder)
    with Spool(folder / SPOOL) as spool, ledger(folder) as said:
        check(spool)
        device = Device(orders, spool, said, random.Random())
        if chosen.drain:
            device.drain()
        else:
            device.run()


if __name__ == "__main__":
    main(sys.argv[1:])
