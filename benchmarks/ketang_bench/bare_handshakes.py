"""The raw limit of an enrolment: TLS 1.3 handshakes in memory, and signatures with P-256."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_ALGORITHM = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds of one core: both ends of a handshake; a signature made and checked."""

    handshake_s: float
    signature_s: float


def measure(certificate: Path, key: Path, host: str, lasts_s: float) -> Costs:
    """Do each again and again for ``lasts_s`` seconds; the certificate is the server's."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cafile=certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    signer = ec.generate_private_key(ec.SECP256R1())
    return Costs(
        _each(lambda: _handshake(server, client, host), lasts_s),
        _each(lambda: _signature(signer), lasts_s),
    )


def _each(work: Callable[[], None], lasts_s: float) -> float:
    until_s, began_s, count = time.monotonic() + lasts_s, time.process_time(), 0
    while time.monotonic() < until_s or not count:
        work()
        count += 1
    return (time.process_time() - began_s) / count


def _signature(signer: ec.EllipticCurvePrivateKey) -> None:
    said = b"a request of some length"
    signer.public_key().verify(signer.sign(said, _ALGORITHM), said, _ALGORITHM)


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname=host),
        server.wrap_bio(up, down, server_side=True),
    )
    open_ends = list(ends)
    while open_ends:
        for end in tuple(open_ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_ends.remove(end)
