"""What is said when a device enrols or renews: JSON bodies over HTTPS.

Proof of possession follows RFC 7030, section 3.5: the signed request (PKCS #10, RFC 2986) carries
a challenge password that ties it to this very conversation, here ``binding`` of the centre's nonce
and of everything else that is asked. The request's subject is ignored: the name comes from the
register.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Annotated

from ketang_contract.ack import Reason
from ketang_contract.limits import Between, Count, Identifier, Matches, Text, Value
from ketang_contract.state import ProfileName

ENROL, RENEW, NONCE, TRUST, CRL = (
    f"/enrol/v1/{name}" for name in ("devices", "renewals", "nonce", "trust", "crl")
)
"""Paths at the centre's enrolment service."""
RENEWAL_TYPE = "application/vnd.ketang.renewal+json"
"""DSSE payload type of a renewal, sealed with the key that is being replaced."""
MAX_BODY_BYTES = 16 << 10

Pem = Annotated[str, Matches(r"[A-Za-z0-9+/=\- \r\n]{1,6000}")]
Nonce = Annotated[str, Matches("[A-Za-z0-9_-]{1,120}")]
Told = Annotated[str, Matches(r"[^\x00-\x1f\x7f]{0,64}")]
"""A line the device read from its firmware or a person typed: shown, compared, never trusted."""
Host = Annotated[str, Matches(r"[A-Za-z0-9.:\-]{1,253}")]
Port = Annotated[int, Between(1, 65_535)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Application(Value):
    """A device asks for an identity. ``asset``: the inventory number, where a person typed it."""

    csr: Pem
    nonce: Nonce
    code: Told
    serial: Told = ""
    asset: Told = ""
    agent_version: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal(Value):
    """A device asks for its next certificate, in an envelope sealed with its present key.

    The request is bound to the nonce and to the present key's name (SHA-256 of its
    SubjectPublicKeyInfo).
    """

    csr: Pem
    nonce: Nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued(Value):
    """The identity, and all that the device has to know to go to work."""

    device: Identifier
    certificate: Pem
    center_id: Identifier
    broker_host: Host
    broker_port: Port
    profile: ProfileName


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned(Value):
    """No certificate, or not yet. ``retry_after_s`` 0: asking again will not help by itself."""

    reason: Reason
    retry_after_s: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Value):
    """A nonce for one request, good for some minutes."""

    nonce: Nonce


def binding(nonce: str, *asked: str) -> str:
    """Return the challenge password of a request: 43 characters, base64url of a SHA-256."""
    whole = "\n".join((nonce, *asked)).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(whole).digest()).decode().rstrip("=")
