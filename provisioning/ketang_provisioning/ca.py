"""A throwaway certificate authority for demos and tests: P-256, short-lived, one folder.

A region's real authority, with an offline root, is a different thing and is not made here.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier

VALID_DAYS = 30
_SERVICE = re.compile(r"(?=.{3,64}\Z)[a-z0-9]+(_[a-z0-9]+)+")
_LOOPBACK = (
    x509.DNSName("localhost"),
    x509.IPAddress(ip_address("127.0.0.1")),
    x509.IPAddress(ip_address("::1")),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of one certificate: the authority's, its own, and its key (0600)."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


class ThrowawayAuthority:
    """Makes identities under one folder (0700); the root's key never touches the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # it may have been there, and wider
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ketang throwaway root")])
        root = (
            _builder(self._name, self._name, self._key.public_key(), self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "broker") -> Identity:
        """Make a server's identity, good for this machine's loopback names."""
        return self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, server=True)

    def client(self, name: str) -> Identity:
        """Make a client's identity; its common name is the device id or the service's name.

        Raises:
            BadInput: neither a device id nor a service's name (which contains ``_``).
        """
        if not is_identifier(name) and _SERVICE.fullmatch(name) is None:
            raise BadInput(f"{name[:60]!r}: a device id (a-z, 0-9, '-') or a name like center_x")
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, server=False)

    def _issue(self, name: str, usage: x509.ObjectIdentifier, *, server: bool) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, self._name, key.public_key(), self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if server:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(_LOOPBACK),
                critical=False,
            )
        made = Identity(self.ca_file, self._folder / f"{name}.pem", self._folder / f"{name}.key")
        _write_private(
            made.key_file,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        made.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return made


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    """Begin a certificate. Both key identifiers are there: strict verifiers demand them."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )


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


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
