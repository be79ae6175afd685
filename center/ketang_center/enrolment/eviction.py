"""Throwing out who is connected: within seconds of the bar, and again whenever one is heard.

A revocation list keeps the revoked from coming in, not from staying. So the centre comes in under
the barred device's own name, which cuts the old connection, and shows by a delivered message that
the name is nobody else's. Ingest has stopped listening to it before that.
"""

import logging
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ketang_center.enrolment.book import Book
from ketang_center.ingest.subscriber import Ear
from ketang_center.security import SecurityLog
from ketang_contract import topics
from ketang_provisioning.broker_probe import Address
from ketang_provisioning.ca import Identity
from ketang_provisioning.certificates import Authority, certificate_pem
from ketang_provisioning.keys import make_ec, private_pem, write_private
from ketang_provisioning.takeover import evict

log = logging.getLogger("ketang.enrolment")

PROBE = "dn/probe"
_PATIENCE_S = 3.0
_AGAIN_MS = 10_000
_RECENT_MS = 60_000
"""A bar this fresh is enforced at once; an older one when its device is heard of."""
_LASTS = timedelta(minutes=10)
_MOST_HEARD = 1000


class Evictor:
    """``heard`` from any thread; ``keep`` from the warden's, often.

    Args:
        ear: where the broker is.
        authority: makes the certificate, good for minutes, that takes a name over.
        say: publishes as the centre: ``(topic, payload)``.
    """

    def __init__(
        self,
        ear: Ear,
        book: Book,
        authority: Authority,
        security: SecurityLog,
        say: Callable[[str, bytes], None],
    ) -> None:
        self._ear, self._book, self._authority = ear, book, authority
        self._security, self._say = security, say
        self._lock = threading.Lock()
        self._heard: set[str] = set()
        self._done_ms: dict[str, int] = {}
        self._version = -1

    def heard(self, device: str) -> None:
        """A barred device has said something: it is still, or again, connected."""
        with self._lock:
            if len(self._heard) < _MOST_HEARD:
                self._heard.add(device)

    def keep(self, at_ms: int) -> None:
        """Throw out everybody who was barred just now, or was heard since.

        Raises:
            OSError: a certificate cannot be written.
        """
        for device in sorted(self._fresh(at_ms) | self._taken()):
            if at_ms - self._done_ms.get(device, 0) >= _AGAIN_MS:
                self._done_ms[device] = at_ms
                self._throw_out(device, at_ms)

    def _fresh(self, at_ms: int) -> set[str]:
        version = self._book.rows.version()
        if version == self._version:
            return set()
        self._version = version
        return {
            one.device
            for one in self._book.revocations()
            if at_ms - one.at_ms < _RECENT_MS and one.device not in self._done_ms
        }

    def _taken(self) -> set[str]:
        with self._lock:
            taken, self._heard = self._heard, set()
        return taken

    def _throw_out(self, device: str, at_ms: int) -> None:
        with tempfile.TemporaryDirectory(prefix="ketang-") as folder:
            done = evict(
                Address(self._ear.host, self._ear.port),
                self._ear.ca_file,
                self._identity(Path(folder), device, at_ms),
                device,
                lambda: self._say(topics.of(device, PROBE), b"{}"),
                _PATIENCE_S,
            )
        if done:
            log.info("device.evicted device=%s", device)
        else:
            # Tried again when it is heard, which is the only harm it could do.
            log.warning("device.not_evicted device=%s", device)
        self._security.note(at_ms, "evicted" if done else "not_evicted", device)

    def _identity(self, folder: Path, device: str, at_ms: int) -> Identity:
        key = make_ec()
        now = datetime.fromtimestamp(at_ms / 1000, UTC)
        made = self._authority.issue_client(device, key.public_key(), now=now, lasts=_LASTS)
        pair = folder / "pair.pem"
        write_private(pair, private_pem(key, None) + certificate_pem(made))
        return Identity(self._ear.ca_file, pair, pair)
