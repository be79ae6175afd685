"""Throwing out who is connected: within seconds of the bar, and again whenever one is heard.

A revocation list keeps the revoked from coming in, not from staying. So the centre comes in under
the barred device's own name, which cuts the old connection, and shows by a delivered message that
the name is nobody else's. Ingest has stopped listening to it before that. Who is to be thrown out
is tried again until that is shown, whether it says anything or not.
"""

import logging
import tempfile
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
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
_AGAIN_S, _MOST_S = 10.0, 600.0
"""Between two tries at one device, doubled up to the second."""
_A_ROUND = 2
"""The warden writes the revocation list too: it must not stand here for minutes."""
_RECENT_MS = 86_400_000
"""A bar this fresh is enforced at once; an older one where its device is connected or heard of."""
_LASTS = timedelta(minutes=10)
_MOST_HEARD = 1000


@dataclass(slots=True)
class _Try:
    due_s: float
    wait_s: float = _AGAIN_S


class Evictor:
    """``heard`` from any thread; ``keep`` from the warden's, often.

    Args:
        ear: where the broker is.
        authority: makes the certificate, good for minutes, that takes a name over.
        say: publishes as the centre: ``(topic, payload)``.
        connected: picks of some devices those that the centre believes to be connected.
    """

    def __init__(
        self,
        ear: Ear,
        book: Book,
        authority: Authority,
        security: SecurityLog,
        say: Callable[[str, bytes], None],
        *,
        monotonic_s: Callable[[], float],
        connected: Callable[[list[str]], Collection[str]],
    ) -> None:
        self._ear, self._book, self._authority = ear, book, authority
        self._security, self._say = security, say
        self._monotonic_s, self._connected = monotonic_s, connected
        self._lock = threading.Lock()
        self._heard: set[str] = set()
        self._pending: dict[str, _Try] = {}
        self._done_s: dict[str, float] = {}
        self._known: frozenset[str] = frozenset()
        self._version = -1

    def heard(self, device: str) -> None:
        """A barred device has said something: it is still, or again, connected."""
        with self._lock:
            if len(self._heard) < _MOST_HEARD:
                self._heard.add(device)

    def keep(self, at_ms: int) -> None:
        """Throw out one or two of those who were barred or heard since, and not shown to be out.

        Raises:
            OSError: a certificate cannot be written.
        """
        now_s = self._monotonic_s()
        self._done_s = {
            one: done_s for one, done_s in self._done_s.items() if now_s - done_s < _AGAIN_S
        }
        for device in self._fresh(at_ms) | self._taken():
            due_s = self._done_s.get(device, now_s - _AGAIN_S) + _AGAIN_S
            tried = self._pending.setdefault(device, _Try(due_s))
            tried.due_s = min(tried.due_s, now_s + _AGAIN_S)
        due = [(one.due_s, name) for name, one in self._pending.items() if one.due_s <= now_s]
        for _, device in sorted(due)[:_A_ROUND]:
            self._try(device, at_ms)

    def _try(self, device: str, at_ms: int) -> None:
        tried = self._pending[device]
        # Before the try: one that cannot be made must not be made every second.
        tried.due_s = self._monotonic_s() + tried.wait_s
        tried.wait_s = min(2 * tried.wait_s, _MOST_S)
        if self._throw_out(device, at_ms):
            del self._pending[device]
            self._done_s[device] = self._monotonic_s()

    def _fresh(self, at_ms: int) -> set[str]:
        """Pick of the bars that were not seen before, by whatever way they came, who may be in."""
        version = self._book.rows.version()
        if version == self._version:
            return set()
        barred = {one.device: one.at_ms for one in self._book.revocations()}
        fresh = sorted(barred.keys() - self._known)
        found = {one for one in fresh if at_ms - barred[one] < _RECENT_MS}
        found.update(self._connected(fresh) if fresh else ())
        self._known, self._version = frozenset(barred), version
        return found

    def _taken(self) -> set[str]:
        with self._lock:
            taken, self._heard = self._heard, set()
        return taken

    def _throw_out(self, device: str, at_ms: int) -> bool:
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
            log.warning("device.not_evicted device=%s", device)
        self._security.note(at_ms, "evicted" if done else "not_evicted", device)
        return done

    def _identity(self, folder: Path, device: str, at_ms: int) -> Identity:
        key = make_ec()
        now = datetime.fromtimestamp(at_ms / 1000, UTC)
        made = self._authority.issue_client(device, key.public_key(), now=now, lasts=_LASTS)
        pair = folder / "pair.pem"
        write_private(pair, private_pem(key, None) + certificate_pem(made))
        return Identity(self._ear.ca_file, pair, pair)
