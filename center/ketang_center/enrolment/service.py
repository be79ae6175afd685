"""Enrolment as a part of the running centre: the HTTPS service, and the warden's rounds."""

import logging
import os
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
from ketang_center.enrolment.connections import Doorstep, Patient
from ketang_center.enrolment.desk import Desk, Rules
from ketang_center.enrolment.documents import TrustDocuments
from ketang_center.enrolment.office import heal, send_to_work
from ketang_center.enrolment.settings import Enrolment
from ketang_center.enrolment.values import Certificate
from ketang_center.listening import listening
from ketang_center.registry.database import Registry
from ketang_center.security import SecurityLog
from ketang_center.updates import UPDATES
from ketang_contract.errors import BadInput
from ketang_provisioning import codes
from ketang_provisioning.brokers import REVOKED
from ketang_provisioning.certificates import Authority
from ketang_provisioning.keys import flush_folder

log = logging.getLogger("ketang.enrolment")

_CRL_EVERY_MS = 86_400_000
_NUMBERS_FROM_S = 1_704_067_200
"""2024-01-01."""
_STOP_S = 5


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

    Made when something changed, daily, and when the clock was set back, for a list from the future
    is taken by no broker. They last 30 days, so a centre may be away for weeks before a broker
    holds an old one. An authority that is being replaced goes on having a list: brokers refuse
    everybody whose authority has none.

    A list's number is a count, and at least the seconds since 2024: a centre that was put back from
    a backup does not begin again with numbers that brokers have seen.
    """

    def __init__(self, book: Book, authorities: Sequence[Authority], files: Sequence[Path]) -> None:
        self._book, self._authorities, self._files = book, authorities, files
        self._revoked: tuple[str, ...] | None = None
        self._version = -1
        self._made_ms = 0
        self._lists = b""
        self._owed: list[Path] = []

    def keep(self, at_ms: int) -> bool:
        """Make them anew where that is due; true when they were.

        Raises:
            OSError: a file cannot be written; it is tried again, the others are not.
        """
        version = self._book.rows.version()
        old = not 0 <= at_ms - self._made_ms < _CRL_EVERY_MS
        due = (old or version != self._version) and self._make(at_ms, old=old)
        self._version = version
        while self._owed:
            _publish(self._owed[0], self._lists)
            self._owed.pop(0)
        return due

    def _make(self, at_ms: int, *, old: bool) -> bool:
        revoked = self._book.revoked_certificates(at_ms)
        named = tuple(one.serial for one in revoked)
        if named == self._revoked and not old:
            return False
        now = datetime.fromtimestamp(at_ms / 1000, UTC)
        number = self._book.rows.next_number("crl", at_ms // 1000 - _NUMBERS_FROM_S)
        self._lists = b"".join(
            one.revocation_list(_entries(one, revoked), now=now, number=number)
            for one in self._authorities
        )
        self._revoked, self._made_ms, self._owed = named, at_ms, list(self._files)
        return True


def _publish(path: Path, content: bytes) -> None:
    """Write a file that everybody may read, the broker's account for one: whole, or not at all."""
    draft = path.with_name(f".{path.name}.partial")
    draft.unlink(missing_ok=True)  # left by a crash
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o644)  # whatever the umask is
    draft.replace(path)
    flush_folder(path.parent)


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
            monotonic_s=time.monotonic,
        )
        self._clock = clock
        self._server = uvicorn.Server(self._config())

    @property
    def port(self) -> int:
        """Where it listens; 0 until it does."""
        for one in getattr(self._server, "servers", []):
            for opened in one.sockets:
                return int(opened.getsockname()[1])
        return 0

    def run(self) -> None:
        """Serve until ``stop``."""
        log.info("enrolment.serving url=%s", self._settings.url)
        with listening(self._settings.host, self._settings.port, "enrolment") as opened:
            listener = Doorstep(opened, self._turned_away)
            with listener:
                self._server.run(sockets=[listener])

    def stop(self) -> None:
        """Answer what was asked, and return from ``run``. Signal-safe."""
        self._server.should_exit = True

    def heal(self) -> None:
        """Bring the register up to the book, after a crash or a restore."""
        amiss = heal(self.book, self._registry, self._clock())
        if amiss:
            log.warning("enrolment.healed devices=%d", amiss)

    def close(self) -> None:
        """Close every file; ``run`` has returned."""
        for one in (self.book, self._registry, self.audit, self.security):
            one.close()

    def _turned_away(self, source: str, count: int) -> None:
        self.security.note(self._clock(), "enrol_connections", "", source, n=count)

    def _config(self) -> uvicorn.Config:
        settings = self._settings
        app = create_app(
            self.desk,
            TrustDocuments(settings.trust, settings.fingerprint).get,
            (self._data_dir / REVOKED).read_bytes,
            self._data_dir / UPDATES,
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
            # Who may connect, and for how long, is for both of these to say.
            http=Patient,
            loop="asyncio",
            ws="none",
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_STOP_S,
            lifespan="off",
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as problem:
            raise BadInput(f"{settings.certificate}: cannot be used: {problem}") from None
        return config
