"""What NATS asks before it lets a client in, and the signed answer: identity by certificate.

NATS 2.15 has no setting that ties an MQTT client id to a certificate: under a plain list of users,
a device with a valid certificate connects under another's client id and throws it out. So the
server asks us at every connection (its "auth callout"). We see the verified certificate and the
client id, and say yes only if they agree.

Invariants: only MQTT; only a chain the server has verified; a serial number that is not revoked;
one common name, equal to the client id; a device reaches its own topics only; everything else is
refused with a reason. A permit ends with its certificate: nats-server 2.15 then closes the
connection, MQTT too (measured).

Formats: NATS JWT, version 2, and NKeys (base32 of prefix, key, CRC-16/XMODEM), Ed25519.
"""

import base64
import binascii
import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from ketang_contract.ids import is_identifier, shard_of
from ketang_provisioning.broker_log import What
from ketang_provisioning.brokers import CHECK

ACCOUNT = "$G"
"""The account that holds everything when none is configured."""

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks to come in.

    Attributes:
        common_names: of the verified leaf; empty if there is none.
        serial: of the verified leaf; 0 if there is none.
        until_s: when the leaf ends, Unix time; 0 if there is none.
        source: address.
        user_key: only travels back in the answer, as does ``server_id``.
    """

    kind: str
    client_id: str
    common_names: tuple[str, ...]
    serial: int
    until_s: int
    source: str
    user_key: str
    server_id: str


@dataclass(frozen=True, slots=True)
class Permit:
    """Subjects a client may publish to and subscribe to."""

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoEntry:
    """Why a client stays outside: in words for the server's log, and as it is counted."""

    reason: str
    what: What


class NKey:
    """A key made for one run of one broker; its secret half never touches the disk."""

    def __init__(self, prefix: bytes) -> None:
        self._key = Ed25519PrivateKey.generate()
        raw = prefix + self._key.public_key().public_bytes_raw()
        check = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
        self.public = base64.b32encode(raw + check).decode().rstrip("=")

    def sign(self, content: bytes) -> str:
        """Sign, in the base64 form that tokens and the server's nonce use."""
        return _base64url(self._key.sign(content))


def account_key() -> NKey:
    """Make a key that may sign permits."""
    return NKey(b"\x00")


def user_key() -> NKey:
    """Make a key to log in with."""
    return NKey(bytes([20 << 3]))


def read_question(token: bytes) -> Question:
    """Read what the server sent. It is not verified: it came over our own TLS connection to it.

    Raises:
        ValueError: not a token of this kind, or a certificate that cannot be read.
        KeyError: a field that every server since 2.10 sends is missing.
    """
    claims = json.loads(_from_base64url(token.split(b".")[1]))
    asked = claims["nats"]
    info = asked["client_info"]
    chains = asked.get("client_tls", {}).get("verified_chains") or [[]]
    leaf = x509.load_pem_x509_certificate(chains[0][0].encode()) if chains[0] else None
    return Question(
        kind=info.get("type", ""),
        client_id=info.get("mqtt_id", ""),
        common_names=_common_names(leaf) if leaf else (),
        serial=leaf.serial_number if leaf else 0,
        until_s=int(leaf.not_valid_after_utc.timestamp()) if leaf else 0,
        source=info.get("host", ""),
        user_key=asked["user_nkey"],
        server_id=asked["server_id"]["id"],
    )


def judge(
    question: Question,
    services: Collection[str],
    is_revoked: Callable[[int], bool] = lambda _: False,
) -> Permit | NoEntry:
    """Decide on one client; pure.

    ``up/#`` in MQTT means ``up`` and all below it, hence two subjects for each subscription. The
    shard must be hash(device): mosquitto's patterns cannot ask that, and leave it to the centre.
    """
    if refused := _refused(question, services, is_revoked):
        return refused
    name = question.common_names[0]
    if name == CHECK and name in services:
        return Permit(name, ("kt.v1.*.*.dn.check",), ("kt.v1.*.*.up.check",))
    if name in services:
        return Permit(name, ("kt.v1.*.*.dn.>",), ("kt.v1.*.*.up", "kt.v1.*.*.up.>"))
    own = f"kt.v1.{shard_of(name)}.{name}"
    return Permit(name, (f"{own}.up.>",), (f"{own}.dn", f"{own}.dn.>"))


def _refused(
    question: Question, services: Collection[str], is_revoked: Callable[[int], bool]
) -> NoEntry | None:
    if question.kind != "mqtt":
        return NoEntry("only MQTT clients are let in", What.BAD_CLIENT)
    if len(question.common_names) != 1:
        return NoEntry("a verified certificate with one common name is needed", What.NO_CERTIFICATE)
    if is_revoked(question.serial):
        return NoEntry("the certificate is revoked", What.REVOKED_CERTIFICATE)
    name = question.common_names[0]
    if question.client_id != name:
        return NoEntry("the client id is not the certificate's common name", What.TAKEOVER_TRIED)
    if name not in services and not is_identifier(name):
        return NoEntry("the common name is no device id and no known service", What.UNKNOWN_NAME)
    return None


def answer(question: Question, verdict: Permit | NoEntry, signer: NKey) -> bytes:
    """Make the signed answer to one question."""
    said = (
        {"error": verdict.reason}
        if isinstance(verdict, NoEntry)
        else {"jwt": _token(signer, _user_claims(question, verdict))}
    )
    claims = {
        "jti": question.user_key,
        "sub": question.user_key,
        "aud": question.server_id,
        "nats": {**said, "type": "authorization_response", "version": 2},
    }
    return _token(signer, claims).encode()


def _token(signer: NKey, claims: dict[str, Any]) -> str:
    full = {"iat": int(time.time()), "iss": signer.public, **claims}
    text = f"{_segment(_HEADER)}.{_segment(full)}"
    return f"{text}.{signer.sign(text.encode())}"


def _user_claims(question: Question, permit: Permit) -> dict[str, Any]:
    return {
        "jti": question.user_key,
        "sub": question.user_key,
        "aud": ACCOUNT,
        "exp": question.until_s,  # the server hangs up then
        "name": permit.name,
        "nats": {
            "pub": {"allow": list(permit.publish)},
            "sub": {"allow": list(permit.subscribe)},
            "subs": -1,
            "data": -1,
            "payload": -1,
            "allowed_connection_types": ["MQTT"],
            "type": "user",
            "version": 2,
        },
    }


def _common_names(leaf: x509.Certificate) -> tuple[str, ...]:
    named = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return tuple(str(one.value) for one in named)


def _segment(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _from_base64url(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
