"""Enrolment codes: what a technician types, and how the centre knows one without keeping it.

A code is 12 characters of Crockford's base32, 60 random bits. The centre keeps its HMAC-SHA256
(RFC 2104) under a key that lies outside the database, so a stolen database gives no code away.
"""

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes, hmac

from ketang_contract.errors import BadInput
from ketang_contract.kit import ALPHABET, CODE_CHARACTERS, normalise_code, show_code

KEY_BYTES = 32
_ID_HEX = 6
_HEX_LINE = 2 * KEY_BYTES + 1
_WRITABLE_OR_READABLE_BY_OTHERS = 0o077

normalise = normalise_code
show = show_code


def new_code(random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Make a code: 12 characters, without hyphens."""
    # 256 is a multiple of 32, so the remainder favours no character.
    return "".join(ALPHABET[one % len(ALPHABET)] for one in random_bytes(CODE_CHARACTERS))


def fingerprint(code: str, key: bytes) -> bytes:
    """Return the HMAC-SHA256 of a code, 32 bytes.

    Raises:
        BadInput: the text is no code, or the key is too short.
    """
    if len(key) < KEY_BYTES:
        raise BadInput(f"code key: {len(key)} bytes; at least {KEY_BYTES} are accepted")
    made = hmac.HMAC(key, hashes.SHA256())
    made.update(normalise(code).encode())
    return made.finalize()


def code_id(found: bytes) -> str:
    """Return a code's short public name from its HMAC; it tells nothing about the code."""
    return found.hex()[:_ID_HEX]


def read_key(path: Path) -> bytes:
    """Read the key of the codes: 32 bytes as 64 hex digits in one line.

    Raises:
        BadInput: missing, of another form, or readable by others than its owner.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_HEX_LINE + 2)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    if os.name == "posix" and mode & _WRITABLE_OR_READABLE_BY_OTHERS:
        raise BadInput(f"{path}: others may read this key; chmod 600 it")
    try:
        key = bytes.fromhex(raw.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadInput(f"{path}: accepted: {2 * KEY_BYTES} hex digits in one line")
    return key
