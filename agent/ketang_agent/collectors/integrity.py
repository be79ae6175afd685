"""Whether the agent's installed files are still the ones that were installed.

The wheel's own list (RECORD) holds a SHA-256 of each file; an editable checkout has none for the
code, and the answer is unknown.

Source: https://packaging.python.org/specifications/recording-installed-packages/
"""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ketang_contract.records import Integrity

_PAUSE_S = 0.05
"""Between two files: a check of the whole must not be felt on an old panel."""
_CHUNK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a RECORD."""

    path: Path
    sha256: bytes


def check(package: Path, *, pause: Callable[[float], None] = time.sleep) -> Integrity:
    """Compare every listed file of the distribution that ``package`` (a folder) belongs to."""
    record = _record_of(package)
    if record is None:
        return Integrity.UNKNOWN
    try:
        listed = list(_listed(record))
    except (OSError, ValueError):  # unreadable, or a digest that is none
        return Integrity.UNKNOWN
    if not any(package in one.path.parents for one in listed):
        return Integrity.UNKNOWN  # editable: the list does not speak of the code
    for one in listed:
        state = _compare(one)
        if state is not Integrity.OK:
            return state
        pause(_PAUSE_S)
    return Integrity.OK


def _compare(listed: Listed) -> Integrity:
    try:
        same = _sha256(listed.path) == listed.sha256
    except FileNotFoundError:
        return Integrity.CHANGED
    except OSError:
        return Integrity.UNKNOWN
    return Integrity.OK if same else Integrity.CHANGED


def _record_of(package: Path) -> Path | None:
    found = sorted(package.parent.glob("ketang-*.dist-info/RECORD"))
    return found[0] if len(found) == 1 else None


def _listed(record: Path) -> Iterator[Listed]:
    site = record.parent.parent
    for line in record.read_text("utf-8").splitlines():
        name, mark, digest = line.rpartition(",")[0].rpartition(",sha256=")
        if mark:  # RECORD itself and compiled files have no digest
            padded = digest + "=" * (-len(digest) % 4)
            yield Listed(site / name.strip('"'), base64.urlsafe_b64decode(padded))


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()
