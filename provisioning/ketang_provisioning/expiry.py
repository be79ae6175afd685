"""What ends when, under one folder: certificates, revocation lists and the trust document.

Only public files are read, so it needs no passphrase and may be run on every machine.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ketang_contract import trust
from ketang_contract.errors import KetangError
from ketang_contract.ids import is_identifier
from ketang_contract.tables import MAX_PATH, read_table
from ketang_provisioning.certificates import common_name
from ketang_provisioning.trust_changes import OVERLAP_S

Renewal: TypeAlias = Literal[
    "device", "crl", "own", "service", "server", "clients_ca", "servers_ca", "trust", "key"
]
"""How it is renewed; the first three by themselves, the rest by a person. ``own`` is the centre's
certificate at the broker, in one file with its key, as ``center.toml`` beside it says."""

BY_ITSELF: tuple[Renewal, ...] = ("device", "crl", "own")
SOON = timedelta(days=30)
OVERDUE = timedelta(days=7)
"""What renews itself should have done so long before it has only this much left."""

_MONTH = timedelta(days=30)
_AHEAD: dict[Renewal, timedelta] = {
    "device": timedelta(0),
    "crl": timedelta(0),
    "own": timedelta(0),
    "service": _MONTH,
    "server": _MONTH,
    # So early that what the old one made ends before it does.
    "clients_ca": timedelta(seconds=OVERLAP_S) + _MONTH,
    "servers_ca": timedelta(days=397) + _MONTH,
    "trust": 3 * _MONTH,
    "key": 3 * _MONTH,
}
_MOST_BYTES = 64 << 10
_MOST_LIST_BYTES = 64 << 20
"""As much as a broker reads (``revocations``)."""
_SUFFIXES = {".pem", ".crl", ".json"}
_END_OF_LIST = b"-----END X509 CRL-----"


@dataclass(frozen=True, slots=True)
class Ending:
    """One thing that ends.

    Attributes:
        name: common name, number of revoked, version of the document, or purpose and holder.
        files: where it was found.
        ends: from when it is good for nothing.
        renewal: how it is renewed.
        hosts: of a server, as it is reached.
    """

    name: str
    files: tuple[str, ...]
    ends: datetime
    renewal: Renewal
    hosts: tuple[str, ...] = ()

    @property
    def due(self) -> datetime:
        """By when a person must have acted."""
        return self.ends - _AHEAD[self.renewal]

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative when it has."""
        return (self.ends - now) // timedelta(days=1)

    def is_pressing(self, now: datetime) -> bool:
        """Whether somebody must act now: 30 days, or 7 for what should have renewed itself."""
        return self.ends - now <= (OVERDUE if self.renewal in BY_ITSELF else SOON)


def survey(folder: Path, on_unreadable: Callable[[str], None]) -> list[Ending]:
    """Everything under a folder that ends, the soonest first; the same thing twice is one.

    Args:
        folder: of a region, or of one of its machines.
        on_unreadable: told in one line of a file or a folder that could not be read.
    """
    found: dict[str, Ending] = {}

    def complain(problem: OSError) -> None:
        on_unreadable(f"{problem.filename or folder}: cannot be read: {problem.strerror}")

    names = [
        Path(where) / name
        for where, _, files in os.walk(folder, onerror=complain)
        for name in files
    ]
    own = {file for path in names if path.name == "center.toml" for file in _own_pair(path)}
    for path in sorted(one for one in names if one.suffix in _SUFFIXES):
        try:
            if not path.is_file():
                continue
            raw = _read(path)
        except OSError as problem:
            on_unreadable(f"{path}: cannot be read: {problem.strerror}")
            continue
        name = path.relative_to(folder).as_posix()
        for mark, one in _endings(raw, name):
            mine = one.renewal == "service" and path.resolve() in own
            said = replace(one, renewal="own") if mine else one
            known = found.get(mark)
            found[mark] = replace(known, files=(*known.files, name)) if known else said
    return sorted(found.values(), key=lambda one: one.ends)


def _read(path: Path) -> bytes:
    """Read a file; what is larger than such a thing may be is read as nothing."""
    most = _MOST_BYTES
    with path.open("rb") as file:
        raw = file.read(most + 1)
        if len(raw) > most and b"-----BEGIN X509 CRL-----" in raw:
            most = _MOST_LIST_BYTES
            raw += file.read(most + 1 - len(raw))
    return raw if len(raw) <= most else b""


def _own_pair(settings: Path) -> Iterator[Path]:
    """Name the file that the centre renews by itself: it holds key and certificate."""
    try:
        said = read_table(settings)
        pair = {said.text(one, most=MAX_PATH) for one in ("certificate", "key")}
    except KetangError:
        return  # no settings of a centre
    if len(pair) == 1:
        yield (settings.parent / pair.pop()).resolve()


def _endings(raw: bytes, name: str) -> Iterator[tuple[str, Ending]]:
    if name.endswith(".json"):
        yield from _of_trust(raw, name)
    elif b"-----BEGIN X509 CRL-----" in raw:
        yield from _of_list(raw, name)
    elif b"-----BEGIN CERTIFICATE-----" in raw:
        yield from _of_certificates(raw, name)


def _of_certificates(raw: bytes, name: str) -> Iterator[tuple[str, Ending]]:
    try:
        found = x509.load_pem_x509_certificates(raw)
    except ValueError:
        return
    for one in found:
        mark = hashlib.sha256(one.public_bytes(Encoding.DER)).hexdigest()
        ends = one.not_valid_after_utc
        yield mark, Ending(common_name(one), (name,), ends, _renewal(one), _hosts(one))


def _renewal(one: x509.Certificate) -> Renewal:
    try:
        usages = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        limits = one.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return "server"
    for_servers = ExtendedKeyUsageOID.SERVER_AUTH in usages
    if limits.ca:
        return "servers_ca" if for_servers else "clients_ca"
    if for_servers:
        return "server"
    return "device" if is_identifier(common_name(one)) else "service"


def _hosts(one: x509.Certificate) -> tuple[str, ...]:
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))


def _of_list(raw: bytes, name: str) -> Iterator[tuple[str, Ending]]:
    """One file is one thing: brokers refuse its clients when the first of its lists has ended."""
    try:
        lists = [
            x509.load_pem_x509_crl(part + _END_OF_LIST) for part in raw.split(_END_OF_LIST)[:-1]
        ]
    except ValueError:
        return
    ends = [one.next_update_utc for one in lists if one.next_update_utc is not None]
    if ends:
        mark = hashlib.sha256(raw).hexdigest()
        yield mark, Ending(str(sum(map(len, lists))), (name,), min(ends), "crl")


def _of_trust(raw: bytes, name: str) -> Iterator[tuple[str, Ending]]:
    try:
        said = trust.read_accepted(raw)
    except KetangError:
        return  # some other document
    mark = hashlib.sha256(said.payload()).hexdigest()
    yield mark, Ending(str(said.version), (name,), _moment(said.expires_s), "trust")
    gone = {one.key_id for one in said.revoked}
    for key in said.keys:
        if key.key_id not in gone:
            said_name = f"{key.purpose} {key.key_id[:8]} {key.holder}"
            yield f"{mark} {key.key_id}", Ending(said_name, (name,), _moment(key.until_s), "key")


def _moment(moment_s: int) -> datetime:
    try:
        return datetime.fromtimestamp(moment_s, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)
