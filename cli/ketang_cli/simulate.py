"""``ketang simulate``: act as the thirty devices of the demo's fictitious schools.

Each drives the same recorder, spool and uplink as a real agent, with its own certificate and its
own file on disk, and judges and tries a configuration as one does. What the collectors see is made
up, and of a configuration only the speed of sending is carried out. One process, one loop.
"""

import argparse
import json
import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_contract.tables import MAX_PATH, MOST_PORT, read_table

if TYPE_CHECKING:
    from ketang_cli.simulated_device import SimulatedDevice

log = logging.getLogger("ketang.simulate")

DAYS = 14
_TURN_S = 0.5
_FLUSH_S = 60.0
"""How long a stopping simulation waits for the centre to acknowledge the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One file; paths in it are relative to it.

    ``identities`` holds ``NAME.pem`` and ``.key``, and ``trust.json``: whose signatures count.
    """

    data_dir: Path
    broker_host: str
    broker_port: int
    center_id: str
    identities: Path
    days: int


def read(path: Path) -> Settings:
    """Read a settings file.

    Raises:
        BadInput: the file, the key, and what is accepted, in one line.
    """
    here, said = path.resolve().parent, read_table(path)
    said.allow("data_dir", "broker_host", "broker_port", "center_id", "identities", "days")
    return Settings(
        data_dir=here / said.text("data_dir", most=MAX_PATH),
        broker_host=said.text("broker_host", most=MAX_PATH),
        broker_port=said.integer("broker_port", 1, MOST_PORT),
        center_id=said.text("center_id"),
        identities=here / said.text("identities", most=MAX_PATH),
        days=said.integer("days", 0, 60, DAYS),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the settings file."""
    parser.epilog = (
        "Configurations are judged and tried as by a real agent, over a real connection; but the"
        " collectors are made up, and only upload_kbps is carried out."
    )
    parser.add_argument("--settings", type=Path, required=True, metavar="SIMULATE.TOML")


def run(options: argparse.Namespace) -> int:
    """Simulate until SIGTERM or SIGINT; prints ``{"created": n, "waiting": n}`` when it ends.

    Raises:
        BadInput: the settings are wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    simulation = Simulation(read(options.settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: simulation.stop())
    created, waiting = simulation.run()
    print(json.dumps({"created": created, "waiting": waiting}), flush=True)
    return 0


class Simulation:
    """All devices and the loop that drives them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bell = threading.Event()
        self._stopping = False

    def stop(self) -> None:
        """End every window, deliver what is left, and return from ``run``. Signal-safe."""
        self._stopping = True
        self._bell.set()

    def run(self) -> tuple[int, int]:
        """Return how many records were ever created, and how many of them still wait."""
        devices = self._devices()
        try:
            past = self._told(devices)
            while not self._stopping:
                more = next(past, None)
                self._turn(devices, 0.0 if more else _TURN_S)
            for one in devices:
                one.stop()
            deadline = time.monotonic() + _FLUSH_S
            while not all(one.drained for one in devices) and time.monotonic() < deadline:
                self._turn(devices, 0.1)
            return sum(one.created for one in devices), sum(one.waiting for one in devices)
        finally:
            for one in devices:
                one.close()

    def _turn(self, devices: "Sequence[SimulatedDevice]", wait_s: float) -> None:
        for one in devices:
            one.step()
        self._bell.wait(wait_s)
        self._bell.clear()

    def _told(self, devices: "Sequence[SimulatedDevice]") -> Iterator[str]:
        """Tell today of every device, then the days before, the newest first, a bit at a time."""
        for one in devices:
            one.catch_up()
            yield one.what.id
        log.info("today.told devices=%d", len(devices))
        waiting = deque((one, deque(one.past(self._settings.days))) for one in devices)
        while waiting:
            one, stretches = waiting.popleft()
            if stretches:
                one.tell_past(stretches.popleft())
                waiting.append((one, stretches))
                yield one.what.id
            else:
                one.have_told()
        log.info("past.told days=%d", self._settings.days)

    def _devices(self) -> "list[SimulatedDevice]":
        from ketang_agent.clock import SystemClock
        from ketang_agent.uplink.client import Broker
        from ketang_cli.fiction import simulated
        from ketang_cli.simulated_device import SimulatedDevice

        settings, clock = self._settings, SystemClock()
        return [
            SimulatedDevice(
                one,
                settings.data_dir / one.id,
                Broker(
                    host=settings.broker_host,
                    port=settings.broker_port,
                    ca_file=settings.identities / "ca.pem",
                    certificate_file=settings.identities / f"{one.id}.pem",
                    key_file=settings.identities / f"{one.id}.key",
                ),
                settings.center_id,
                clock,
                self._bell.set,
                settings.identities / "trust.json",
            )
            for one in simulated()
        ]
