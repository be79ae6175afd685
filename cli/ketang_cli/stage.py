"""The demo's stage: one folder, a region of its own, a broker, and three programs as children.

Everything a person would run apart stands apart here too: ``ketang center serve``, ``ketang
simulate`` and ``ketang agent run`` are processes of their own, started with settings files that lie
in the folder for anyone to read.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from ketang_center.ingest.subscriber import Ear
from ketang_center.registry.calendars import DAY_MS, day_of, day_starts_ms
from ketang_center.registry.database import Registry
from ketang_center.service import center_id
from ketang_center.settings import Settings as CenterSettings
from ketang_center.settings import read as read_settings
from ketang_cli import fiction, stage_release
from ketang_cli.local_broker import LocalBroker, Program, find_broker, free_port
from ketang_cli.stage_region import OWN_SERIAL, StageRegion
from ketang_contract.errors import KetangError
from ketang_provisioning.ca import Identity

_START_S = 60.0
_STOP_S = 90.0
_POLL_S = 0.05
_REGISTERED_DAYS = 60
_KEYS = {
    "certificate": "center.pem",
    "key": "center.key",
    "clients_ca": "clients-ca.pem",
    "clients_ca_key": "clients-ca.key",
    "clients_ca_passphrase_file": "clients-ca.passphrase",
    "code_key": "code.key",
    "kit_key": "kit.key",
    "trust": "trust.json",
}
"""Settings of ``[enrolment]`` that name a file in the region's folder for the centre."""


class DidNotStart(KetangError):
    """A part of the demo ended or did not answer; the message names its log."""


class Part:
    """One child: started with a settings file, its messages in a log, its last words kept."""

    def __init__(self, name: str, words: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._said = folder / f"{name}.said"
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, or None while it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and running else None

    def start(self) -> None:
        """Start it; nothing to do if it runs."""
        if self.pid is not None:
            return
        with self.log.open("ab") as log, self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ketang_cli.main", *self._words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
                # Ctrl-C in the terminal is for the demo alone, which ends its parts in order.
                start_new_session=True,
            )

    def ask_to_stop(self) -> None:
        """Send SIGTERM; ``stop`` waits."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it in order, or by force when it does not."""
        self.ask_to_stop()
        if self._process is None:
            return
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> dict[str, Any]:
        """Return the JSON object it printed last; empty when it printed none."""
        with suppress(OSError, ValueError, IndexError):
            said: dict[str, Any] = json.loads(self._said.read_text("utf-8").splitlines()[-1])
            return said
        return {}


class Stage:
    """``with Stage(folder) as stage``: nothing runs until ``open``; everything ends on leaving."""

    def __init__(
        self, folder: Path, *, program: Program | None = None, days: int, web_port: int
    ) -> None:
        self.folder = folder
        self._days = days
        self._web_port = web_port if _is_free(web_port) else free_port()
        self._enrol_port = free_port()
        self._run = folder / "run"
        self._center_file = self._run / "center.toml"
        self._stack = ExitStack()
        self._program = program or find_broker()
        self.center_data = folder / "center"
        self._region = StageRegion(folder / "region", self.center_data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in (self.simulate, self.agent) if hasattr(self, "agent") else ():
            part.ask_to_stop()
        self._stack.close()

    @property
    def url(self) -> str:
        """The console's first page."""
        return f"http://127.0.0.1:{self._web_port}/"

    def open(self) -> Iterator[str]:
        """Start part after part; yields what was done, for a person who waits.

        Raises:
            DidNotStart: a part did not come up.
            BadInput: no broker is installed; the line says what to install.
        """
        self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._load_registry()
        region = self._region
        made = region.prepare(datetime.now(UTC))
        yield f"region: keys, authorities and trust document {'made' if made else 'as before'}"
        self.broker = self._stack.enter_context(
            LocalBroker(
                self._run / "broker",
                region.broker_identity,
                program=self._program,
                crl_file=region.crl,
            )
        )
        yield f"broker: {self.broker.kind} on 127.0.0.1:{self.broker.port}, mutual TLS"
        self.center = self._part("center", ("center", "serve"), self._center_toml())
        self.center.start()
        center = center_id(self._center_settings(region.service_identity))
        self.simulate = self._part("simulate", ("simulate",), self._simulate_toml(center))
        self.simulate.start()
        self._enrol()
        yield "this machine: enrolled by a code, over HTTPS; its key never left it"
        self.agent = self._part("agent", ("agent", "run"), region.own / "agent.toml")
        self.agent.start()
        yield "devices: 30 simulated ones, and this machine's own agent, which counts in a film"
        self._wait_for_page()
        yield f"centre: {self.url}"
        stage_release.send(region.folder, read_settings(self._center_file))
        yield "configuration: a first release, signed by two, is on its way to every device"

    def release(self) -> stage_release.Progress:
        """Tell how far the first release has come."""
        return stage_release.progress(read_settings(self._center_file))

    def spools(self) -> list[Path]:
        """Return the spool files there are; who ended before it made its own recorded nothing."""
        return [
            *sorted((self.folder / "devices").glob("*/spool.db")),
            *(self.folder / "agent" / fiction.OWN).glob("spool.db"),
        ]

    def fallen(self) -> list[Part]:
        """Return the devices' programs that ended though nobody asked them to."""
        return [part for part in (self.agent, self.simulate) if part.pid is None]

    def stop_devices(self) -> None:
        """End agent and simulation in order: each ends its window and delivers it."""
        self.agent.ask_to_stop()
        self.simulate.ask_to_stop()
        self.agent.stop()
        self.simulate.stop()

    def _part(self, name: str, words: Sequence[str], settings: Path) -> Part:
        part = Part(name, (*words, "--settings", str(settings)), self._run)
        self._stack.callback(part.stop)
        return part

    def _load_registry(self) -> None:
        self.center_data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Registry(self.center_data / "registry.db") as registry:
            if not registry.tree().roots():
                now_ms = time.time_ns() // 10**6
                since_ms = day_starts_ms(day_of(now_ms)) - _REGISTERED_DAYS * DAY_MS
                registry.load(fiction.registry_data(since_ms))

    def _center_settings(self, identity: Identity) -> CenterSettings:
        return CenterSettings(
            data_dir=self.center_data,
            ear=Ear(
                self.broker.host,
                self.broker.port,
                identity.ca_file,
                identity.certificate_file,
                identity.key_file,
            ),
            web_host="127.0.0.1",
            web_port=self._web_port,
        )

    def _center_toml(self) -> Path:
        center, broker = self._region.center, self.broker
        enrolment: dict[str, str | int] = {
            "host": "127.0.0.1",
            "port": self._enrol_port,
            "url": f"https://127.0.0.1:{self._enrol_port}",
            "broker_host": broker.host,
            "broker_port": broker.port,
            "fingerprint": (self._region.own / "root.fingerprint").read_text("ascii").strip(),
            "crl": str(self._region.crl),
        }
        enrolment |= {key: str(center / name) for key, name in _KEYS.items()}
        return self._write(
            "center.toml",
            {
                "data_dir": str(self.center_data),
                **self._broker_keys(self._region.service_identity),
                "web_port": self._web_port,
                "home": fiction.SCHOOLS[0].id,
                "demo": True,
                "own_device": fiction.OWN,
                "broker_refusals": str(self.broker.refusals),
            },
            "[enrolment]\n" + _toml(enrolment),
        )

    def _simulate_toml(self, center: str) -> Path:
        return self._write(
            "simulate.toml",
            {
                "data_dir": str(self.folder / "devices"),
                "broker_host": self.broker.host,
                "broker_port": self.broker.port,
                "center_id": center,
                "identities": str(self._region.identities),
                "days": self._days,
            },
        )

    def _enrol(self) -> None:
        """Let this machine enrol as a technician would; has it an identity, nothing happens."""
        own = self._region.own
        if not (own / "identity.pem").exists():
            # What a person sets beforehand stays as it is when the identity comes.
            before: dict[str, str | int] = {
                "data_dir": str(self.folder / "agent" / fiction.OWN),
                "local_port": 0,
            }
            film = f"[occupancy]\nsource = {json.dumps(str(self._film()))}\n"
            (own / "agent.toml").write_text(_toml(before) + film, "utf-8")
        words = ["--dir", str(own), "--serial", OWN_SERIAL, "--wait", str(_START_S)]
        words += ["--url", f"https://127.0.0.1:{self._enrol_port}"]
        words += ["--code", self._region.make_code(datetime.now(UTC))]
        done = subprocess.run(
            [sys.executable, "-m", "ketang_cli.main", "enroll", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DidNotStart(f"this machine did not enrol: {done.stderr.strip()}")
        point_at_broker(own / "agent.toml", self.broker.port)

    def _film(self) -> Path:
        """A film with known truth instead of a camera: one needs a grant signed by a school."""
        # Imported here: OpenCV and the portraits' packages take longer to load than all the rest.
        from ketang_cli.clip import compose

        return compose(self.folder / "film").path

    def _broker_keys(self, identity: Identity) -> dict[str, str | int]:
        return {
            "broker_host": self.broker.host,
            "broker_port": self.broker.port,
            "ca": str(identity.ca_file),
            "certificate": str(identity.certificate_file),
            "key": str(identity.key_file),
        }

    def _write(self, name: str, values: Mapping[str, str | int | bool], more: str = "") -> Path:
        path = self._run / name
        path.write_text(_toml(values) + more, "utf-8")
        return path

    def _wait_for_page(self) -> None:
        opener = build_opener(ProxyHandler({}))
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self.center.pid is None:
                raise DidNotStart(f"the centre ended; see {self.center.log}")
            with suppress(URLError, OSError), opener.open(self.url, timeout=5) as answer:
                if answer.status == 200:  # noqa: PLR2004  (HTTP's own number)
                    return
            time.sleep(_POLL_S)
        raise DidNotStart(f"the centre does not answer at {self.url}; see {self.center.log}")


def point_at_broker(settings: Path, port: int) -> None:
    """Tell an agent the broker's port, which is another in every run; it enrolled in the first."""
    said = settings.read_text("utf-8")
    settings.write_text(re.sub(r"(?m)^broker_port = \d+$", f"broker_port = {port}", said), "utf-8")


def _toml(values: Mapping[str, str | int | bool]) -> str:
    # A JSON scalar is a TOML scalar too, of the kinds used here.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def default_folder() -> Path:
    """Return where a demo keeps its data between runs, by the XDG base directory rules."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "ketang" / "demo"


def _is_free(port: int) -> bool:
    if not port:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
