"""Signed documents: a payload and its signatures in a DSSE envelope (JSON).

The signature arithmetic is ``securesystemslib``'s and ``cryptography``'s. This is the contract's
only importer of either: a device's supervisor must not load this module.

What it keeps to:
- A key's name is computed from the key, never believed: one key under two names counts once.
- ``open_sealed`` gives out nothing of the payload before enough different keys have signed it.
- Whatever the bytes are, the answer is the payload or ``Refused``.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from ketang_contract.errors import Refused

PrivateKey: TypeAlias = EllipticCurvePrivateKey | Ed25519PrivateKey
PublicKey: TypeAlias = EllipticCurvePublicKey | Ed25519PublicKey

MAX_SEALED_BYTES = 64 << 10
MAX_SIGNATURES = 32
_MAX_SIGNATURE_TEXT = 256
_MAX_KEY_TEXT = 4096


def key_id(pem: str) -> str:
    """Name a public key in PEM: SHA-256 of its SubjectPublicKeyInfo in DER, 64 hex digits.

    Raises:
        Refused: ``bad_key``: not a P-256 or Ed25519 public key.
    """
    return _key_id(_load(pem))


def seal(payload: bytes, payload_type: str, keys: Sequence[PrivateKey]) -> bytes:
    """Sign a payload with each of the keys; with none, make a draft to be signed elsewhere."""
    return _write(payload, payload_type, _sign(payload, payload_type, keys))


def add_signatures(raw: bytes, payload_type: str, keys: Sequence[PrivateKey]) -> bytes:
    """Sign what an envelope holds, beside the signatures that are there.

    Raises:
        Refused: ``bad_envelope``.
    """
    payload, there = _read(raw, payload_type)
    return _write(payload, payload_type, {**dict(there), **_sign(payload, payload_type, keys)})


def unverified(raw: bytes, payload_type: str) -> bytes:
    """Return a payload that nobody has vouched for: a draft, to be shown to who is to sign it.

    Raises:
        Refused: ``bad_envelope``.
    """
    return _read(raw, payload_type)[0]


def signed_by(raw: bytes, payload_type: str, keys: Sequence[str]) -> frozenset[str]:
    """Names of those of these public keys (PEM) that have signed what the envelope holds.

    Raises:
        Refused: ``bad_envelope``, or ``bad_key`` for a key of no accepted kind.
    """
    payload, there = _read(raw, payload_type)
    signed = Envelope(payload, payload_type, {}).pae()
    wanted = {_key_id(key): key for key in map(_load, keys)}
    return frozenset(
        name for name, text in there if name in wanted and _verifies(wanted[name], text, signed)
    )


def claimed_signers(raw: bytes, payload_type: str) -> tuple[str, ...]:
    """Names of the keys that an envelope says have signed it: to look one up, never to believe.

    Raises:
        Refused: ``bad_envelope``.
    """
    return tuple(name for name, _ in _read(raw, payload_type)[1])


def open_sealed(raw: bytes, payload_type: str, keys: Sequence[str], threshold: int = 1) -> bytes:
    """Return the payload, if ``threshold`` different ones of the keys (public, PEM) signed it.

    Raises:
        Refused: ``bad_envelope``: no envelope of this type, or a cap; ``bad_signature``: too few of
            these keys signed it; ``bad_key``: one of them is no P-256 or Ed25519 key.
        ValueError: a threshold below 1; that is the caller's mistake, not the document's.
    """
    if threshold < 1:
        raise ValueError(f"threshold {threshold}")
    count = len(signed_by(raw, payload_type, keys))
    if count < threshold:
        raise Refused("bad_signature", f"signed by {count} of the {threshold} keys needed")
    return _read(raw, payload_type)[0]


def _key_id(public: PublicKey) -> str:
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _load(pem: str) -> PublicKey:
    try:
        if len(pem) > _MAX_KEY_TEXT:
            raise Refused("bad_key", f"longer than {_MAX_KEY_TEXT} characters")
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise Refused("bad_key", "not a public key in PEM") from problem
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    raise Refused("bad_key", "neither P-256 nor Ed25519")


def _sign(payload: bytes, payload_type: str, keys: Sequence[PrivateKey]) -> dict[str, bytes]:
    signed = Envelope(payload, payload_type, {}).pae()
    made = {}
    for key in keys:
        public = key.public_key()
        signer = CryptoSigner(key, SSlibKey.from_crypto(public, keyid=_key_id(public)))
        made[signer.public_key.keyid] = bytes.fromhex(signer.sign(signed).signature)
    return made


def _verifies(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    name = _key_id(key)
    try:
        SSlibKey.from_crypto(key, keyid=name).verify_signature(
            Signature(name, signature.hex()), signed
        )
    except UnverifiedSignatureError:
        return False
    return True


def _write(payload: bytes, payload_type: str, signatures: Mapping[str, bytes]) -> bytes:
    envelope = Envelope(
        payload,
        payload_type,
        {name: Signature(name, one.hex()) for name, one in signatures.items()},
    )
    raw = json.dumps(envelope.to_dict(), separators=(",", ":")).encode()
    if len(raw) > MAX_SEALED_BYTES or len(signatures) > MAX_SIGNATURES:
        raise Refused("bad_envelope", f"larger than {MAX_SEALED_BYTES} bytes when signed")
    return raw


def _read(raw: bytes, payload_type: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Take an envelope apart, strictly; nothing in it is believed yet."""
    if len(raw) > MAX_SEALED_BYTES:
        raise Refused("bad_envelope", f"larger than {MAX_SEALED_BYTES} bytes")
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError) as problem:
        raise Refused("bad_envelope", "not JSON") from problem
    if not isinstance(said, dict) or set(said) != {"payload", "payloadType", "signatures"}:
        raise Refused("bad_envelope", "not an object of payload, payloadType and signatures")
    if said["payloadType"] != payload_type:
        raise Refused("bad_envelope", f"not of the type {payload_type}")
    listed = said["signatures"]
    if not isinstance(listed, list) or len(listed) > MAX_SIGNATURES:
        raise Refused("bad_envelope", f"not a list of at most {MAX_SIGNATURES} signatures")
    return _bytes(said["payload"], MAX_SEALED_BYTES), [_signature(one) for one in listed]


def _signature(said: Any) -> tuple[str, bytes]:
    if (
        not isinstance(said, dict)
        or set(said) != {"keyid", "sig"}
        or not isinstance(said["keyid"], str)
        or re.fullmatch("[0-9a-f]{64}", said["keyid"]) is None
    ):
        raise Refused("bad_envelope", "a signature is not an object of keyid and sig")
    return said["keyid"], _bytes(said["sig"], _MAX_SIGNATURE_TEXT)


def _bytes(text: Any, most: int) -> bytes:
    if not isinstance(text, str) or len(text) > most:
        raise Refused("bad_envelope", "not base64 text of the right size")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise Refused("bad_envelope", "not base64 text") from problem
