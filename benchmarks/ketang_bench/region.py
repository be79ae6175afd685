"""What a benchmark runs: an authority, a broker, a centre and a device, each its own process."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ketang_center.ingest.subscriber import Ear
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data, Level, Unit
from ketang_center.store.sqlite import Store
from ketang_cli.local_broker import Kind, LocalBroker, find_broker
from ketang_contract.errors import KetangError
from ketang_provisioning.ca import Identity, ThrowawayAuthority

DEVICE = "bench-gateway"
PROBE = "bench-probe"
CENTER = "center_ingest"
PATIENCE_S = 60.0
_STOP_S = 20.0
_UNITS = (Unit(id="region", level=Level.REGION, name_zh="基准", name_en="Benchmark"),)
"""The devices here are registered nowhere: rollups have to keep their records all the same."""


class DidNotHappen(KetangError):
    """What a benchmark waited for did not come. Caller: no figure; say so."""


class Region:
    """One folder with everything in it; the broker does not run yet."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder = folder
        authority = ThrowawayAuthority(folder / "keys")
        self.device = authority.client(DEVICE)
        self.probe = authority.client(PROBE)
        self.center = authority.client(CENTER)
        self.broker = LocalBroker(folder / "broker", authority.server(), program=find_broker(kind))
        self.center_folder = folder / "center"
        with Store(self.center_folder) as store:
            self.center_id = store.control.center_id

    def ear(self) -> Ear:
        """Where the centre listens."""
        one = self.center
        return Ear(
            self.broker.host, self.broker.port, one.ca_file, one.certificate_file, one.key_file
        )

    def agent_settings(self, profile: str = "teacher_pc") -> Path:
        """Write the ``agent.toml`` of the one device."""
        one = self.device
        file = self.folder / "agent.toml"
        lines = {
            "device": DEVICE,
            "center_id": self.center_id,
            "profile": profile,
            "data_dir": "data",
            "broker_host": self.broker.host,
            "ca": str(one.ca_file),
            "certificate": str(one.certificate_file),
            "key": str(one.key_file),
        }
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        file.write_text(f"{text}broker_port = {self.broker.port}\nlocal_port = 0\n", "utf-8")
        return file

    def agent_command(self) -> list[str]:
        """How a device starts its agent; ``agent_settings`` first."""
        settings = str(self.folder / "agent.toml")
        return [*python("ketang_cli.main"), "agent", "run", "--settings", settings]

    @contextmanager
    def center_process(self, *, alone: bool = False) -> Iterator["subprocess.Popen[bytes]"]:
        """``ketang center serve``: ingest, rollups and console; ``alone``: its ingest only."""
        if alone:
            words = wire_words(self.broker, self.center)
            command = [*python("ketang_bench.ingest_process"), *words, str(self.center_folder)]
        else:
            settings = str(self._center_settings())
            command = [*python("ketang_cli.main"), "center", "serve", "--settings", settings]
        with running(command, self.folder / "center.log") as process:
            yield process

    def _center_settings(self) -> Path:
        one = self.center
        with Registry(self.center_folder / "registry.db") as registry:
            registry.load(Data(units=_UNITS))
        lines = {
            "data_dir": str(self.center_folder),
            "broker_host": self.broker.host,
            "ca": str(one.ca_file),
            "certificate": str(one.certificate_file),
            "key": str(one.key_file),
        }
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        file = self.folder / "center.toml"
        file.write_text(f"{text}broker_port = {self.broker.port}\nweb_port = 0\n", "utf-8")
        return file


def python(module: str) -> list[str]:
    """Command that runs a module with this interpreter."""
    return [sys.executable, "-m", module]


def wire_words(broker: LocalBroker, identity: Identity) -> list[str]:
    """Command-line words that tell a process where the broker is and who it is to it."""
    files = (identity.ca_file, identity.certificate_file, identity.key_file)
    return [broker.host, str(broker.port), *map(str, files)]


@contextmanager
def running(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process, its errors in ``log``; end it in order, or by force when it does not."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def wait_until(
    what: str, so: Callable[[], bool], patience_s: float = PATIENCE_S, every_s: float = 0.05
) -> None:
    """Look again and again.

    Raises:
        DidNotHappen: not within ``patience_s``.
    """
    deadline = time.monotonic() + patience_s
    while not so():
        if time.monotonic() > deadline:
            raise DidNotHappen(f"not within {patience_s:.0f} s: {what}")
        time.sleep(every_s)
