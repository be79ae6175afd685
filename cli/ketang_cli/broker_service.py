"""One broker of a region, run as a service: the broker as a child, and all it needs beside it.

``BROKER_TOML`` says what is there; ``ketang broker config`` writes it beside the broker's own
configuration.
"""

import json
import logging
import signal
import ssl
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from ketang_cli.broker_fetch import Fetcher
from ketang_cli.broker_process import BrokerProcess, Rounds, Start, Watch
from ketang_cli.local_broker import REFUSALS, Kind, find_broker
from ketang_contract.errors import BadInput
from ketang_contract.tables import MAX_PATH, MOST_PORT, read_table
from ketang_provisioning import brokers, nats_permits
from ketang_provisioning.broker_lines import lines_of
from ketang_provisioning.broker_log import RefusalFile
from ketang_provisioning.nats_doorkeeper import Door, Doorkeeper
from ketang_provisioning.revocations import Revocations

BROKER_TOML = "broker.toml"
_POLL_S = 0.5

log = logging.getLogger("ketang.broker")


@dataclass(frozen=True, slots=True)
class Settings:
    """Which broker, and the files it does not read itself.

    Attributes:
        kind: ``mosquitto`` or ``nats``.
        crl: the revocation list that the centre, or whoever carries it, replaces.
        clients_ca: authorities of clients.
        certificate: the broker's own, and its ``key``.
        own_host: where NATS takes its doorkeeper, and nobody else.
        own_port: the same.
        refusals: whom the broker refused, for the centre to read; empty: beside ``broker.toml``.
        crl_url: where to fetch the list from, once a minute, on another machine than the centre's.
        servers_ca: authorities of servers, to know the centre by; with ``crl_url``.
    """

    kind: str
    crl: str
    clients_ca: str
    certificate: str
    key: str
    own_host: str = "::1"
    own_port: int = 4222
    refusals: str = ""
    crl_url: str = ""
    servers_ca: str = ""


def write(folder: Path, settings: Settings) -> None:
    """Write them beside the broker's configuration."""
    # a JSON string of printable text is a TOML basic string
    lines = [f"{key} = {json.dumps(value)}" for key, value in asdict(settings).items() if value]
    head = "# Made by: ketang broker config. Run it with: ketang broker run --config FOLDER"
    (folder / BROKER_TOML).write_text("\n".join([head, *lines, ""]), "utf-8")


def read(folder: Path) -> Settings:
    """Read them.

    Raises:
        BadInput: the file, the key, and what is accepted, in one line.
    """
    said = read_table(folder / BROKER_TOML)
    said.allow(*Settings.__dataclass_fields__)
    url = said.text("crl_url", "", most=MAX_PATH)
    if url and not url.startswith("https://"):
        raise said.wrong("crl_url", "has to begin with https://")
    if ("crl_url" in said) != ("servers_ca" in said):
        raise said.wrong("crl_url", "crl_url and servers_ca belong together")
    return Settings(
        kind=said.one_of("kind", Kind),
        crl=str(folder / said.text("crl", most=MAX_PATH)),
        clients_ca=str(folder / said.text("clients_ca", most=MAX_PATH)),
        certificate=str(folder / said.text("certificate", most=MAX_PATH)),
        key=str(folder / said.text("key", most=MAX_PATH)),
        own_host=said.text("own_host", "::1"),
        own_port=said.integer("own_port", 1, MOST_PORT, 4222),
        refusals=str(folder / said.text("refusals", REFUSALS, most=MAX_PATH)),
        crl_url=url,
        servers_ca=str(folder / said.text("servers_ca", most=MAX_PATH)) if url else "",
    )


class BrokerService:
    """``run`` it once; SIGTERM, SIGINT or ``stop`` end it in order."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        self._stopping = threading.Event()
        self._waits = False
        kind = Kind(settings.kind)
        self._watch = Watch(
            lines_of(kind),
            RefusalFile(Path(settings.refusals)),
            lambda line: log.warning("%s", line),
        )
        self._revocations = Revocations(
            Path(settings.crl), Path(settings.clients_ca), folder / brokers.REVOKED
        )
        self._fetcher = (
            Fetcher(settings.crl_url, Path(settings.servers_ca), Path(settings.crl))
            if settings.crl_url
            else None
        )
        self._doorkeeper: Doorkeeper | None = None
        environment: dict[str, str] = {}
        if kind is Kind.NATS:
            self._doorkeeper, environment = self._make_doorkeeper()
        configuration = folder / f"{kind}.conf"
        if not configuration.is_file():
            raise BadInput(
                f"{configuration}: is missing; make it with: ketang broker config {kind}"
            )
        program = find_broker(kind)
        self._process = BrokerProcess(
            Start([str(program.path), "-c", str(configuration)], environment), self._watch
        )
        self._rounds = Rounds(self._revocations, self._tell)

    def run(self) -> int:
        """Run the broker until told to stop; 0, or 1 when the broker ended by itself.

        Raises:
            BadInput: there is no revocation list.
        """
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, self._on_signal)
        if self._fetcher:
            self._fetcher.fetch()  # the first list; without one nobody may come in
            self._fetcher.start()
        self._rounds.start()
        if self._doorkeeper:
            self._doorkeeper.start()
        self._process.start()
        log.info("broker.started kind=%s pid=%s", self._settings.kind, self._process.pid)
        told = False
        while not self._stopping.wait(_POLL_S):
            if self._process.pid is None:
                break
            if not told and self._watch.ready.is_set():
                told = True
                log.info("broker.ready")
        asked = self._stopping.is_set()
        status = self._process.stop()
        if self._doorkeeper:
            self._doorkeeper.stop()
        self._rounds.stop()
        if self._fetcher:
            self._fetcher.stop()
        if not asked:
            log.error("broker.ended status=%s; its last lines stand above", status)
        return 0 if asked else 1

    def stop(self) -> None:
        """End it in order; from any thread."""
        self._stopping.set()

    def _tell(self) -> bool:
        """Let mosquitto load the list. NATS asks the doorkeeper each time.

        It loads its certificates along with it, and one that is half copied would switch checking
        off as surely as a damaged list.
        """
        if self._settings.kind == Kind.MOSQUITTO:
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self._settings.certificate, self._settings.key)
                context.load_verify_locations(self._settings.clients_ca)
            except OSError as problem:
                if not self._waits:
                    log.warning("broker.not_told %s: %s", self._settings.certificate, problem)
                self._waits = True
                return False
            self._process.reload()
        self._waits = False
        held = self._revocations.in_force
        log.info("broker.revocations_renewed until=%s", held and held.until)
        return True

    def _make_doorkeeper(self) -> tuple[Doorkeeper, dict[str, str]]:
        """Make it with keys that live as long as this run; the broker gets their public halves."""
        signer, login = nats_permits.account_key(), nats_permits.user_key()
        door = Door(
            self._settings.own_host,
            self._settings.own_port,
            Path(self._settings.certificate),
            signer,
            login,
            frozenset(brokers.SERVICES),
            self._revocations.is_revoked,
            self._watch.count,
        )
        names = {brokers.NATS_ISSUER: signer.public, brokers.NATS_DOORKEEPER: login.public}
        return Doorkeeper(door), names

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping.set()
