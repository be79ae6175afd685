"""The revocation list that a broker obeys: read, judged, and kept in a copy of its own.

What mosquitto 2.0.11 does with its ``crlfile``, found by experiment:

- SIGHUP builds the listener's TLS context anew: new connections are judged by the new list at once,
  and sessions of before cannot be resumed. Who is connected stays connected.
- A list that is missing or damaged at SIGHUP switches checking off: the revoked come in again. And
  every client that is connected goes deaf, since the ACL was dropped and not loaded again.
- A list past its ``nextUpdate``, or one from the future, refuses everybody new (OpenSSL's rule).
- At its start it refuses to run without the file.

So it never sees the file that others write. It sees a copy, replaced only by a list that is whole,
signed by an authority it trusts, not from the future, and with no lower number (CRLNumber, RFC 5280
5.2.3) than the one in force; then it is told. NATS has no revocation list: the doorkeeper asks
``is_revoked`` at each connection.

Decisions. No list at all: nobody comes in, because a broker that cannot tell the revoked from the
rest has lost what was asked of it. The file is gone or damaged later: the last good list stays in
force, over restarts too. A list past its ``nextUpdate`` stays in force and is complained of every
hour: it is made daily and lasts 30 days, so 27 days of warnings come first. Behind NATS everybody
else goes on; mosquitto refuses new connections from that moment, and no setting changes that.

Clocks. The day on which a list was made says nothing about which is newer: numbers alone do. A list
begins an hour before it was made, so one that begins in the future was made by a clock more than an
hour ahead of ours: it waits until its time has come. Should the one in force be such a list, then
our own clock was ahead too, and was put right: any valid list replaces it, whatever its number,
since mosquitto refuses everybody by a list from the future.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from ketang_contract.errors import BadInput
from ketang_provisioning.keys import write_private

log = logging.getLogger(__name__)

_END = b"-----END X509 CRL-----"
_MOST_BYTES = 64 << 20
_REMIND = timedelta(hours=1)
_STALE = timedelta(days=3)
"""A list is made daily: one this old means that nobody makes it any more."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a file of lists says; times are UTC.

    Attributes:
        serials: of every authority; they are random and long, so they need no name beside them.
        made: when the oldest of the lists was made.
        number: of the newest (CRLNumber); 0 if it has none.
        until: when the first of them ends.
    """

    serials: frozenset[int]
    made: datetime
    number: int
    until: datetime


def read(raw: bytes, authorities: Sequence[x509.Certificate], name: str = "CRL") -> Revoked:
    """Read a file of one PEM list for each authority.

    Raises:
        BadInput: no list, not PEM, not signed by one of the authorities, or one authority has none:
            OpenSSL would refuse all its clients.
    """
    try:
        lists = [
            x509.load_pem_x509_crl(part + _END) for part in raw.split(_END)[:-1] if part.strip()
        ]
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise BadInput(f"{name}: not a revocation list in PEM: {problem}") from None
    if not lists:
        raise BadInput(f"{name}: holds no revocation list in PEM")
    without = [one for one in authorities if not any(_is_signed(each, one) for each in lists)]
    if without or any(not any(_is_signed(each, one) for one in authorities) for each in lists):
        raise BadInput(f"{name}: needs one list from each of the clients' authorities, no others")
    ends = [one.next_update_utc for one in lists if one.next_update_utc is not None]
    if len(ends) != len(lists):
        raise BadInput(f"{name}: a list without an end (nextUpdate)")
    return Revoked(
        frozenset(each.serial_number for one in lists for each in one),
        min(one.last_update_utc for one in lists),
        max(_number(one) for one in lists),
        min(ends),
    )


class Revocations:
    """The list in force. ``poll`` from one thread, ``is_revoked`` from any.

    Args:
        source: the file that the centre, or whoever carries it, replaces.
        ca_file: the authorities of the clients, PEM.
        copy: the broker's own.
    """

    def __init__(self, source: Path, ca_file: Path, copy: Path) -> None:
        self._source, self._ca_file, self._copy = source, ca_file, copy
        self._seen: tuple[int, ...] | None = None
        self._told = ""
        self._reminded: datetime | None = None
        self.in_force: Revoked | None = None

    def open(self, now: datetime) -> None:
        """Put a list in force: the copy of before, then the source if it is as new.

        Raises:
            BadInput: there is neither; no broker may start without.
        """
        try:
            self.in_force = read(self._copy.read_bytes(), self._authorities(), str(self._copy))
        except (OSError, BadInput):
            self.in_force = None  # the first start, or another authority since
        self._seen = None
        self.poll(now)
        if self.in_force is None:
            raise BadInput(f"{self._source}: no revocation list, so nobody may come in")

    def poll(self, now: datetime) -> bool:
        """Look for a newer list; true when one came into force and the broker must be told."""
        changed = False
        try:
            about = self._source.stat()
            mark = (about.st_mtime_ns, about.st_ino, about.st_size)
            if mark != self._seen:
                changed = self._take(now)
                self._seen = mark
                self._told = ""
        except OSError as problem:
            self._complain(f"{self._source}: {problem.strerror}")
            self._seen = None
        except BadInput as problem:
            self._complain(str(problem))
        self._remind(now)
        return changed

    def is_revoked(self, serial: int) -> bool:
        """Tell whether a certificate may not come in; with no list in force, none may."""
        held = self.in_force
        return held is None or serial in held.serials

    def _take(self, now: datetime) -> bool:
        if self._source.stat().st_size > _MOST_BYTES:
            raise BadInput(f"{self._source}: larger than {_MOST_BYTES} bytes")
        raw = self._source.read_bytes()
        found, held = read(raw, self._authorities(), str(self._source)), self.in_force
        if found.made > now:
            raise BadInput(f"{self._source}: made at {found.made:%F %T}, which is in the future")
        if held is not None and held.made > now:
            log.error("revocations.from_the_future made=%s replaced by any other", held.made)
        elif held is not None and found.number < held.number:
            raise BadInput(
                f"{self._source}: number {found.number}, older than the list in force"
                f" ({held.number})"
            )
        if self._copy.is_file() and self._copy.read_bytes() == raw:
            self.in_force = found
            return False
        write_private(self._copy, raw)
        self.in_force = found
        log.info("revocations.loaded count=%d until=%s", len(found.serials), found.until)
        return held is not None

    def _authorities(self) -> list[x509.Certificate]:
        """Those that make certificates for clients: a throwaway file names servers' too."""
        try:
            found = x509.load_pem_x509_certificates(self._ca_file.read_bytes())
        except (OSError, ValueError) as problem:
            raise BadInput(f"{self._ca_file}: cannot be read: {problem}") from None
        return [one for one in found if _makes_clients(one)]

    def _complain(self, what: str) -> None:
        if what != self._told:
            log.error("revocations.refused %s; the list of before stays in force", what)
            self._told = what

    def _remind(self, now: datetime) -> None:
        held = self.in_force
        if held is None or (self._reminded is not None and now - self._reminded < _REMIND):
            return
        if now > held.until:
            log.critical(
                "revocations.expired since=%s: mosquitto refuses every new connection; start the"
                " centre, which makes a list daily",
                held.until,
            )
        elif now - held.made > _STALE:
            log.error("revocations.stale made=%s until=%s", held.made, held.until)
        else:
            return
        self._reminded = now


def _is_signed(one: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    if one.issuer != authority.subject or not isinstance(key, EllipticCurvePublicKey):
        return False
    return one.is_signature_valid(key)


def _makes_clients(authority: x509.Certificate) -> bool:
    try:
        usage = authority.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


def _number(one: x509.CertificateRevocationList) -> int:
    try:
        return one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0
