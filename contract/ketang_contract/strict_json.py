"""JSON read strictly and written in one form only, for documents that are signed.

Standard library only. Every reader raises ``ValueError`` with one phrase that names no value: the
caller knows which document it is.
"""

import base64
import json
from collections.abc import Iterable
from typing import Any

MAX_NUMBER = (1 << 53) - 1
"""The largest that every reader of JSON holds exactly (RFC 8259, 6)."""
MAX_TEXT = 64
MAX_PEM = 4096


def canonical(said: Any) -> bytes:
    """Write in one form only: sorted names, no spaces, UTF-8."""
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load(raw: bytes) -> Any:
    """Read JSON in which no object names a field twice."""
    try:
        return json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as problem:
        raise ValueError("not JSON, or a field named twice") from problem


def whole(said: Any, fields: Iterable[str], what: str) -> dict[str, Any]:
    """Take an object with exactly these fields."""
    if not isinstance(said, dict) or set(said) != set(fields):
        raise ValueError(f"{what}: not exactly its fields")
    return said


def listed(said: Any, most: int, what: str) -> list[Any]:
    """Take a list with a cap."""
    if not isinstance(said, list) or len(said) > most:
        raise ValueError(f"{what}: not a list of at most {most}")
    return said


def number(said: Any, what: str, least: int = 0) -> int:
    """Take a whole number; true and 1.0 are none."""
    if type(said) is not int or not least <= said <= MAX_NUMBER:
        raise ValueError(f"{what}: not a whole number from {least}")
    return said


def text(said: Any, what: str, *, least: int = 1, most: int = MAX_TEXT) -> str:
    """Take one printable line."""
    if not isinstance(said, str) or not least <= len(said) <= most or not said.isprintable():
        raise ValueError(f"{what}: not a line of {least} to {most} characters")
    return said


def base64_bytes(said: Any, most: int, what: str) -> bytes:
    """Take bytes written as base64 (RFC 4648, 4), at most ``most`` characters of it."""
    if not isinstance(said, str) or len(said) > most:
        raise ValueError(f"{what}: not base64 of at most {most} characters")
    try:
        return base64.b64decode(said, validate=True)
    except ValueError as problem:
        raise ValueError(f"{what}: not base64") from problem


def pem(said: Any, label: str) -> tuple[str, bytes]:
    """Take one PEM block in the one form that we write (RFC 7468, 3); give it and its bytes."""
    head, tail = f"-----BEGIN {label}-----\n", f"-----END {label}-----\n"
    if not isinstance(said, str) or len(said) > MAX_PEM:
        raise ValueError(f"not a {label} in PEM")
    der = base64_bytes(said[len(head) : -len(tail)].replace("\n", ""), MAX_PEM, label)
    body = base64.b64encode(der).decode()
    lines = "".join(f"{body[at : at + 64]}\n" for at in range(0, len(body), 64))
    if not der or said != head + lines + tail:
        raise ValueError(f"not a {label} in PEM")
    return said, der


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a field is there twice")
    return made
