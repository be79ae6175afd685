"""Enrolment as a part of the running centre: the HTTPS service, and the warden's rounds."""

import json
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from cryptography import x509

from ketang_center.access.audit import Audit
from ketang_center.enrolment.api import create_app
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.desk import Desk, Rules
from ketang_center.enrolment.office import send_to_work
from ketang_center.enrolment.settings import Enrolment
from ketang_center.enrolment.values import Certificate
from ketang_center.registry.database import Registry
from ketang_center.security import SecurityLog
from ketang_contract.errors import BadInput, Refused
from ketang_contract.trust import read_accepted
from ketang_provisioning import codes
from ketang_provisioning.brokers import REVOKED
from ketang_provisioning.certificates import Authority
from ketang_provisioning.keys import write_private

log = logging.getLogger("ketang.enrolment")

_CRL_EVERY_MS = 86_400_000
_MOST_CONNECTIONS = 512


def now_ms() -> int:
    """Return the centre's time, UTC milliseconds."""
    return time.time_ns() // 10**6


def load_authorities(settings: Enrolment) -> tuple[Authority, ...]:
    """Open the authority that makes devices' certificates, and the one it is replacing, if any.

    Raises:
        BadInput: a file is missing, or a passphrase is wrong.
    """
    return tuple(
        Authority.load(one.certificate, one.key, _passphrase(one.passphrase_file))
        for one in (settings.clients_ca, settings.earlier_clients_ca)
        if one is not None
    )


def load_authority(settings: Enrolment) -> Authority:
    """Open the authority that makes devices' certificates.

    Raises:
        BadInput: a file is missing, or the passphrase is wrong.
    """
    return load_authorities(settings)[0]


def _passphrase(file: Path) -> bytes | None:
    try:
        return file.read_bytes().strip() or None
    except OSError as problem:
        raise BadInput(f"{file}: cannot be read: {problem.strerror}") from None


class RevocationList:
    """The lists of revoked certificates, one of each authority in one file. One thread.

    Made when something changed, and daily; they last 30 days, so a centre may be away for weeks
    before a broker holds an old one. An authority that is being replaced goes on having a list:
    brokers refuse everybody whose authority has none.
    """

    def __init__(self, book: Book, authorities: Sequence[Authority], files: Sequence[Path]) -> None:
        self._book, self._authorities, self._files = book, authorities, files
        self._revoked: tuple[str, ...] | None = None
        self._made_ms = 0
        self._lists = b""
        self._owed: list[Path] = []

    def keep(self, at_ms: int) -> bool:
        """Make them anew where that is due; true when they were.

        Raises:
            OSError: a file cannot be written; it is tried again, the others are not.
        """
        revoked = self._book.revoked_certificates(at_ms)
        named = tuple(one.serial for one in revoked)
        due = named != self._revoked or at_ms - self._made_ms >= _CRL_EVERY_MS
        if due:
            now, number = datetime.fromtimestamp(at_ms / 1000, UTC), self._book.next_crl_number()
            self._lists = b"".join(
                one.revocation_list(_entries(one, revoked), now=now, number=number)
                for one in self._authorities
            )
            self._revoked, self._made_ms, self._owed = named, at_ms, list(self._files)
        while self._owed:
            write_private(self._owed[0], self._lists)
            self._owed.pop(0)
        return due


def _entries(
    authority: Authority, revoked: Sequence[Certificate]
) -> Iterator[tuple[int, datetime]]:
    for one in revoked:
        made = x509.load_pem_x509_certificate(one.pem.encode())
        if made.issuer == authority.certificate.subject:
            yield made.serial_number, datetime.fromtimestamp((one.revoked_ms or 0) / 1000, UTC)


class EnrolmentService:
    """``run`` it in a thread of its own; it has connections of its own."""

    def __init__(
        self, settings: Enrolment, data_dir: Path, center_id: str, clock: Callable[[], int] = now_ms
    ) -> None:
        self._settings, self._data_dir = settings, data_dir
        self.book = Book(data_dir / "enrolment.db")
        self._registry = Registry(data_dir / "registry.db")
        self.audit = Audit(data_dir / "audit.db")
        self.security = SecurityLog(data_dir / "security.db")
        authorities = load_authorities(settings)
        self.authority = authorities[0]
        files = (data_dir / REVOKED, *([settings.crl] if settings.crl else []))
        self.revocation_list = RevocationList(self.book, authorities, files)
        self.desk = Desk(
            self.book,
            self.authority,
            codes.read_key(settings.code_key),
            Rules(
                center_id=center_id,
                broker_host=settings.broker_host,
                broker_port=settings.broker_port,
                always_ask=settings.approval == "always",
                per_s=settings.per_s,
            ),
            posted=lambda asset, at_ms: send_to_work(self._registry, asset, at_ms),
            audit=self.audit,
            security=self.security,
            now_ms=clock,
        )
        self._server = uvicorn.Server(self._config())

    @property
    def port(self) -> int:
        """Where it listens; 0 until it does."""
        for one in getattr(self._server, "servers", []):
            for listening in one.sockets:
                return int(listening.getsockname()[1])
        return 0

    def run(self) -> None:
        """Serve until ``stop``."""
        log.info("enrolment.serving url=%s", self._settings.url)
        with _listening(self._settings.host, self._settings.port) as listener:
            self._server.run(sockets=[listener])

    def stop(self) -> None:
        """Answer what was asked, and return from ``run``. Signal-safe."""
        self._server.should_exit = True

    def close(self) -> None:
        """Close every file; ``run`` has returned."""
        for one in (self.book, self._registry, self.audit, self.security):
            one.close()

    def _config(self) -> uvicorn.Config:
        settings = self._settings
        app = create_app(
            self.desk, trust_documents(settings.trust), (self._data_dir / REVOKED).read_bytes
        )
        config = uvicorn.Config(
            app,
            ssl_certfile=str(settings.certificate),
            ssl_keyfile=str(settings.key),
            log_config=None,
            access_log=False,
            server_header=False,
            # The source is what the lock-outs bind: nobody may name another in a header.
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=5,
            lifespan="off",
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as problem:
            raise BadInput(f"{settings.certificate}: cannot be used: {problem}") from None
        return config


def trust_documents(latest: Path) -> bytes:
    """Return every version of the trust document beside the latest one: a JSON array, oldest first.

    A device that slept through a change of roots is led from the one it holds to the latest, so
    earlier versions stay in the folder, under any name that begins with ``trust``.

    Raises:
        BadInput: the latest cannot be read, or a file is no trust document.
    """
    try:
        found = {file: file.read_bytes() for file in latest.parent.glob("trust*.json")}
        found[latest] = latest.read_bytes()
        versions = {read_accepted(raw).version: raw for raw in found.values()}
        return json.dumps([json.loads(versions[no]) for no in sorted(versions)]).encode()
    except OSError as problem:
        raise BadInput(f"{latest}: cannot be read: {problem.strerror}") from None
    except Refused as why:
        raise BadInput(f"{latest.parent}: a file trust*.json is no trust document: {why}") from None


def _listening(host: str, port: int) -> socket.socket:
    """Open the port; ``::`` takes IPv4 as well, where the machine has both.

    Raises:
        BadInput: it is taken, or the address is not this machine's.
    """
    try:
        if host == "::" and socket.has_dualstack_ipv6():
            return socket.create_server(
                (host, port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as problem:
        raise BadInput(f"enrolment: cannot listen on {host} port {port}: {problem}") from None
