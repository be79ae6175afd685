"""What pictures may be counted from: a file, a folder of pictures, or a stream on this machine.

Standard library only: the supervisor asks before it starts a worker, the worker asks again. A live
camera needs a grant signed by the school; until such grants exist it is refused here, by name.
"""

import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from ketang_contract.errors import BadInput

NO_CAMERA = (
    "no live camera until signed grants exist: name a video file, a folder of pictures, or an "
    "http:// or rtsp:// stream on 127.0.0.1, ::1 or localhost"
)
_SCHEMES = frozenset({"http", "rtsp"})
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})
_MOST_CHARACTERS = 1024


class SourceKind(StrEnum):
    """How frames are had from a source."""

    FILE = "file"
    FOLDER = "folder"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Source:
    """``where`` is an absolute path, or a stream's address."""

    kind: SourceKind
    where: str


def source_of(text: str) -> Source:
    """Judge what a person named as a source.

    Raises:
        BadInput: a camera, another machine, or nothing that can be read; one line says which.
    """
    if not text or len(text) > _MOST_CHARACTERS or not text.isprintable():
        raise BadInput("source: a path or address of printable characters is needed")
    if text.isdecimal() or text.startswith("/dev/"):
        raise BadInput(f"source {text}: {NO_CAMERA}")
    if "://" in text:
        return _stream(text)
    return _path(text)


def _stream(text: str) -> Source:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadInput("source: not an address; " + NO_CAMERA) from None
    if parts.username is not None or parts.password is not None:
        # it would stand in the list of processes for everybody to read
        raise BadInput("source: no user name or password in a stream's address")
    if parts.scheme not in _SCHEMES or host not in _THIS_MACHINE or port == 0:
        raise BadInput(f"source {text}: {NO_CAMERA}")
    return Source(SourceKind.STREAM, text)


def _path(text: str) -> Source:
    # links are followed first, so that no link can name a camera
    path = Path(os.path.realpath(text))
    try:
        mode = path.stat().st_mode
    except OSError as problem:
        raise BadInput(f"source {text}: {problem.strerror}") from None
    if stat.S_ISDIR(mode):
        return Source(SourceKind.FOLDER, str(path))
    if stat.S_ISREG(mode):
        return Source(SourceKind.FILE, str(path))
    raise BadInput(f"source {text}: {NO_CAMERA}")
