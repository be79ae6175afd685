"""Certificates and revocation lists, and the authorities that make them (RFC 5280).

An authority makes certificates for clients or for servers, never for both: its own certificate says
so, so OpenSSL and Go refuse what it makes for the other side, whoever holds its key.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier
from ketang_provisioning.keys import load_private

Usage: TypeAlias = Literal["clients", "servers"]
"""Whom an authority makes certificates for."""

SLOW_CLOCK = timedelta(hours=1)
"""How far behind a clock may be that meets a certificate made just now."""
CRL_LASTS = timedelta(days=30)

_USAGES: dict[Usage, x509.ObjectIdentifier] = {
    "clients": ExtendedKeyUsageOID.CLIENT_AUTH,
    "servers": ExtendedKeyUsageOID.SERVER_AUTH,
}
_SERVICE = re.compile(r"(?=.{3,64}\Z)[a-z0-9]+(_[a-z0-9]+)+")
_HOST = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_MAX_COMMON_NAME = 64


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority and its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    @classmethod
    def load(cls, certificate_file: Path, key_file: Path, passphrase: bytes | None) -> "Authority":
        """Read an authority from its two files.

        Raises:
            BadInput: a file cannot be read, a wrong passphrase, or a key of another certificate.
        """
        certificate, key = load_certificate(certificate_file), load_private(key_file, passphrase)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise BadInput(f"{key_file}: not a P-256 key")
        if certificate.public_key() != key.public_key():
            raise BadInput(f"{key_file}: not the key of {certificate_file}")
        return cls(certificate, key)

    def issue_client(
        self, name: str, public_key: EllipticCurvePublicKey, *, now: datetime, lasts: timedelta
    ) -> x509.Certificate:
        """Make a client's certificate; its common name is the device id or the service's name.

        Raises:
            BadInput: neither of the two, or this authority makes none for clients.
        """
        check_name(name)
        return self._issue("clients", name, public_key, None, (now, lasts))

    def issue_server(
        self,
        name: str,
        public_key: EllipticCurvePublicKey,
        hosts: Sequence[str],
        *,
        now: datetime,
        lasts: timedelta,
    ) -> x509.Certificate:
        """Make a server's certificate, good for these DNS names and addresses (IPv4, IPv6).

        Raises:
            BadInput: a host that is neither, none at all, or an authority for clients.
        """
        check_name(name)
        if not hosts:
            raise BadInput("a server's certificate needs one host name or address at least")
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._issue("servers", name, public_key, names, (now, lasts))

    def revocation_list(
        self,
        revoked: Iterable[tuple[int, datetime]],
        *,
        now: datetime,
        lasts: timedelta = CRL_LASTS,
        number: int,
    ) -> bytes:
        """Make the list of revoked certificates (serial number, since when), in PEM.

        Args:
            revoked: in any order; a serial number that is named twice is listed once.
            now: when it is made.
            lasts: until a newer one must be there; brokers refuse everybody after it.
            number: higher than that of every list before (RFC 5280, 5.2.3).
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - SLOW_CLOCK)
            .next_update(now + lasts)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(self._own_identifier(), critical=False)
        )
        for serial, since in sorted(dict(revoked).items()):
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(since)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _issue(
        self,
        usage: Usage,
        name: str,
        public_key: EllipticCurvePublicKey,
        hosts: x509.SubjectAlternativeName | None,
        moment: tuple[datetime, timedelta],
    ) -> x509.Certificate:
        if _USAGES[usage] not in _extended_usage(self.certificate):
            raise BadInput(f"{common_name(self.certificate)}: makes no certificates for {usage}")
        now, lasts = moment
        end = min(now + lasts, self.certificate.not_valid_after_utc)
        if end <= now:
            raise BadInput(f"{common_name(self.certificate)}: this authority has expired")
        builder = _builder(name, self.certificate.subject, public_key, (now, end))
        builder = (
            builder.add_extension(self._own_identifier(), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_USAGES[usage]]), critical=False)
        )
        if hosts is not None:
            builder = builder.add_extension(hosts, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _own_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())


def make_authority(
    name: str, key: EllipticCurvePrivateKey, usage: Usage, *, now: datetime, lasts: timedelta
) -> Authority:
    """Make an authority that vouches for itself; what makes it trusted is being named elsewhere.

    It signs no further authorities (path length 0).

    Raises:
        BadInput: the name is empty, or too long for a common name.
    """
    if not 0 < len(name) <= _MAX_COMMON_NAME:
        raise BadInput(f"{name[:60]!r}: an authority's name has 1 to {_MAX_COMMON_NAME} characters")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, subject, key.public_key(), (now, now + lasts))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[usage]]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def check_name(name: str) -> None:
    """Refuse a name that no client and no service may have.

    Raises:
        BadInput: neither a device id nor a service's name (which contains ``_``).
    """
    if not is_identifier(name) and _SERVICE.fullmatch(name) is None:
        raise BadInput(f"{name[:60]!r}: a device id (a-z, 0-9, '-') or a name like center_x")


def check_host(host: str) -> None:
    """Refuse what no server can be reached by.

    Raises:
        BadInput: neither a DNS name nor an IPv4 or IPv6 address.
    """
    _general_name(host)


def load_certificate(path: Path) -> x509.Certificate:
    """Read one certificate in PEM.

    Raises:
        BadInput: it cannot be read, or is no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    except ValueError as problem:
        raise BadInput(f"{path}: not a certificate in PEM") from problem


def common_name(certificate: x509.Certificate) -> str:
    """Read a certificate's common name; empty if it has none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Write a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def _builder(
    name: str,
    issuer: x509.Name,
    public_key: EllipticCurvePublicKey,
    span: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    """Begin a certificate. Its key's identifier is there: strict verifiers demand it."""
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(span[0] - SLOW_CLOCK)
        .not_valid_after(span[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        if _HOST.fullmatch(host) is None:
            raise BadInput(f"{host[:60]!r}: neither a DNS name nor an IP address") from None
        return x509.DNSName(host)


def _extended_usage(certificate: x509.Certificate) -> x509.ExtendedKeyUsage:
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])  # for neither


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
