"""Refusals at the broker: what they are called, the file they are written to, and its reader.

Neither broker tells the centre whom it refused. What reads the broker's log (``ketang broker run``)
writes one JSON line for each refusal, and the centre follows the file. ``broker_lines`` reads the
logs themselves.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

MOST_BYTES = 4 << 20
"""A file this large is put aside; the one put aside before it goes."""
_AT_ONCE_BYTES = 1 << 20
_TEXT = 200
_ID_BYTES = 8


class What(StrEnum):
    """Every kind of refusal there is."""

    NO_CERTIFICATE = "no_certificate"
    FOREIGN_CERTIFICATE = "foreign_certificate"
    EXPIRED_CERTIFICATE = "expired_certificate"
    REVOKED_CERTIFICATE = "revoked_certificate"
    WRONG_CERTIFICATE = "wrong_certificate"
    """Not for clients: a server's, for one."""
    BAD_CERTIFICATE = "bad_certificate"
    """One of the four above: mosquitto does not log which."""
    UNKNOWN_NAME = "unknown_name"
    """A certificate of ours whose name is no device id and no service."""
    TAKEOVER_TRIED = "takeover_tried"
    """Asked for another's client id."""
    FORBIDDEN_PUBLISH = "forbidden_publish"
    FORBIDDEN_SUBSCRIBE = "forbidden_subscribe"
    OVERSIZED = "oversized"
    BAD_CLIENT = "bad_client"
    """Does not speak the protocol, or is refused for another reason."""
    NOT_TLS = "not_tls"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal. ``who``, ``source`` and ``detail`` may be a stranger's text, cut and printable.

    ``source`` is an address without its port; empty where the broker does not say.
    """

    at_ms: int
    broker: str
    what: What
    who: str = ""
    source: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader has come: the id of the file, and bytes of it. Keep it as ``str``."""

    file: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.file}:{self.bytes}"

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Read what ``str`` wrote; None if it is something else, which means from the beginning."""
        file, _, count = text.partition(":")
        return cls(file, int(count)) if count.isascii() and count.isdigit() else None


class RefusalFile:
    """The file, for one writer. Not flushed to the disk: a power cut may cost the last lines."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path, self._most_bytes = path, most_bytes

    def write(self, refusal: Refusal) -> None:
        """Add a line, in a new file when this one is full.

        Raises:
            OSError: the disk refuses. What was read of the broker's log is lost, never the broker.
        """
        values = {
            key: _printable(value) if isinstance(value, str) else value
            for key, value in asdict(refusal).items()
        }
        line = json.dumps(values, ensure_ascii=False).encode() + b"\n"
        with self._path.open("ab") as file:
            size = file.tell()
            if size == 0:
                file.write(_heading())
            file.write(line)
        if size + len(line) > self._most_bytes:
            self._path.replace(aside(self._path))


def aside(path: Path) -> Path:
    """Where a full file is put."""
    return path.with_name(f"{path.name}.1")


def follow(path: Path, position: Position | None) -> tuple[list[Refusal], Position | None]:
    """Read what came since a position, some thousand lines at most; call it again for more.

    It survives rotation; what was rotated away twice between two calls is lost. A line that is
    half written is left for the next call, one that cannot be read is skipped.

    Raises:
        OSError: the file is there and cannot be read.
    """
    old, new = _identity(aside(path)), _identity(path)
    start = 0
    if position is not None and position.file == new:
        chosen, start = path, position.bytes
    elif position is not None and position.file == old and old:
        chosen, start = aside(path), position.bytes
    else:
        chosen = aside(path) if old else path
    events, reached = _read(chosen, start)
    if chosen != path and not events and new:
        chosen, (events, reached) = path, _read(path, 0)
    identity = new if chosen == path else old
    return events, Position(identity, reached) if identity else position


def _read(path: Path, start: int) -> tuple[list[Refusal], int]:
    try:
        with path.open("rb") as file:
            file.seek(start)
            raw = file.read(_AT_ONCE_BYTES)
    except FileNotFoundError:
        return [], start
    whole = raw[: raw.rfind(b"\n") + 1]
    found = (_refusal(line) for line in whole.splitlines())
    return [one for one in found if one is not None], start + len(whole)


def _refusal(line: bytes) -> Refusal | None:
    try:
        values: dict[str, Any] = json.loads(line)
        return Refusal(**values | {"what": What(values["what"])})
    except (ValueError, TypeError, KeyError):
        return None  # the heading, or damage


def _heading() -> bytes:
    return json.dumps({"file": secrets.token_hex(_ID_BYTES)}).encode() + b"\n"


def _identity(path: Path) -> str:
    """The id in a file's heading; empty while there is none."""
    try:
        with path.open("rb") as file:
            return str(json.loads(file.readline(200))["file"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return ""


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text[:_TEXT])
