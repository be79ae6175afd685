"""For tests and benchmarks only: throwaway certificate authorities, P-256, short-lived, one folder.

The demo uses a real region, whose authorities (``region``) are named in a trust document.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from ketang_provisioning import certificates, keys

VALID_DAYS = 30
_LASTS = timedelta(days=VALID_DAYS)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of one certificate: the authority's, its own, and its key (0600)."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


class ThrowawayAuthority:
    """Makes identities under one folder (0700); the authorities' keys never touch the disk.

    There are two, one for clients and one for servers, as in a region; ``ca_file`` names both.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # it may have been there, and wider
        now = datetime.now(UTC)
        self.clients = certificates.make_authority(
            "Ketang throwaway clients CA", keys.make_ec(), "clients", now=now, lasts=_LASTS
        )
        self.servers = certificates.make_authority(
            "Ketang throwaway servers CA", keys.make_ec(), "servers", now=now, lasts=_LASTS
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(
            b"".join(
                certificates.certificate_pem(one.certificate)
                for one in (self.clients, self.servers)
            )
        )

    def server(self, name: str = "broker") -> Identity:
        """Make a server's identity, good for this machine's loopback names."""
        key = keys.make_ec()
        return self.keep(
            name,
            key,
            self.servers.issue_server(
                name, key.public_key(), _LOOPBACK, now=datetime.now(UTC), lasts=_LASTS
            ),
        )

    def client(self, name: str) -> Identity:
        """Make a client's identity; its common name is the device id or the service's name.

        Raises:
            BadInput: neither a device id nor a service's name (which contains ``_``).
        """
        key = keys.make_ec()
        return self.keep(
            name,
            key,
            self.clients.issue_client(name, key.public_key(), now=datetime.now(UTC), lasts=_LASTS),
        )

    def keep(self, name: str, key: keys.PrivateKey, certificate: x509.Certificate) -> Identity:
        """Write a key and its certificate under the folder."""
        made = Identity(self.ca_file, self._folder / f"{name}.pem", self._folder / f"{name}.key")
        keys.save_private(made.key_file, key, None)
        made.certificate_file.write_bytes(certificates.certificate_pem(certificate))
        return made
