"""Nonces without memory: a time and a random part under an HMAC, so a flood of them costs nothing.

One is good for some minutes and may serve twice: the same request asked twice has to get the same
certificate, since the first answer may have been lost.
"""

import base64
import binascii
import secrets
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

LASTS_S = 600
_HEAD = struct.Struct(">Q8s")
_MAC_BYTES = 32


class Nonces:
    """``key``: 32 random bytes; one of this process will do."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, now_s: int) -> str:
        """Return a nonce."""
        head = _HEAD.pack(now_s, secrets.token_bytes(8))
        return base64.urlsafe_b64encode(head + self._mac(head).finalize()).decode().rstrip("=")

    def holds(self, nonce: str, now_s: int) -> bool:
        """Tell whether a nonce is ours, and fresh."""
        try:
            raw = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
            head, mac = raw[: _HEAD.size], raw[_HEAD.size :]
            made_s, _ = _HEAD.unpack(head)
            self._mac(head).verify(mac)
        except (binascii.Error, struct.error, InvalidSignature, ValueError):
            return False
        return 0 <= now_s - int(made_s) <= LASTS_S

    def _mac(self, head: bytes) -> HMAC:
        mac = HMAC(self._key, hashes.SHA256())
        mac.update(b"ketang nonce\n" + head)
        return mac
