"""A broker of our own for the demo and the flow tests: private files, a free port, one process."""

import getpass
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ketang_contract.errors import BadInput
from ketang_provisioning import brokers
from ketang_provisioning.ca import Identity

_START_S = 10.0


class LocalBroker:
    """A mosquitto that listens on 127.0.0.1. ``with LocalBroker(folder, identity) as broker``."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, identity: Identity) -> None:
        self._folder = folder
        self._identity = identity
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

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

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            BadInput: there is no mosquitto, or it does not start.
        """
        program = find_mosquitto()
        user = "root" if getpass.getuser() == "root" else ""
        file = brokers.mosquitto(self._folder, self.port, self._identity, user=user)
        self._process = subprocess.Popen(
            [program, "-c", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "broker.log").open("ab"),
        )
        if not self._listens():
            self.stop()
            raise BadInput(f"mosquitto did not start; see {self._folder / 'broker.log'}")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in order."""
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def wipe_store(self) -> None:
        """Throw away all it kept; only while it does not run."""
        shutil.rmtree(self._folder / "store", ignore_errors=True)

    def _listens(self) -> bool:
        deadline = time.monotonic() + _START_S
        while self._process and self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection((self.host, self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return True
        return False


def find_mosquitto() -> str:
    """Return mosquitto's path.

    Raises:
        BadInput: it is not installed.
    """
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        raise BadInput("no MQTT broker found: install one with 'apt install mosquitto'")
    return found


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
