"""Identifiers and digests."""

import hashlib
import re
import secrets
import string

_ID = re.compile(r"[a-z0-9-]{1,36}")
_ALPHABET = string.digits + string.ascii_lowercase
RECORD_DIGEST_BYTES = 8


def is_identifier(text: str) -> bool:
    """Tell whether a text may name a device, store or subject: no dot, space or wildcard."""
    return _ID.fullmatch(text) is not None


def new_store_id() -> str:
    """Make a store id: 16 random characters, some 82 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(16))


def shard_of(device: str) -> str:
    """First two hex digits of SHA-256(device id)."""
    return hashlib.sha256(device.encode()).hexdigest()[:2]


def frame_digest(frame: bytes) -> str:
    """Name a batch by the SHA-256 of its bytes on the wire, 64 hex digits."""
    return hashlib.sha256(frame).hexdigest()


def record_digest(line: bytes) -> bytes:
    """Eight bytes of SHA-256 over a record's line, for telling two contents of one key apart."""
    return hashlib.sha256(line).digest()[:RECORD_DIGEST_BYTES]
