"""X11: seconds since the last input, and the process in front, over the display's own socket.

The four requests needed are spoken here directly. libX11 ends the whole process when the display
server goes away, cannot be given a deadline, and costs memory; a socket does neither.

Sources: X Window System Protocol, version 11; MIT-SCREEN-SAVER extension; Extended Window Manager
Hints (``_NET_ACTIVE_WINDOW``, ``_NET_WM_PID``).
"""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ketang_agent.collectors.base import NotApplicable
from ketang_contract.records import IdleSource

_TIMEOUT_S = 0.5
_INTERN_ATOM, _GET_PROPERTY, _QUERY_EXTENSION = 16, 20, 98
_SAVER_QUERY_INFO = 1
_ERROR, _REPLY, _GENERIC_EVENT = 0, 1, 35
_PACKET_BYTES = 32
_SETUP_BYTES = 32
_FORMAT_BYTES = 8
_COOKIE = b"MIT-MAGIC-COOKIE-1"
_FAMILY_LOCAL, _FAMILY_WILD = 256, 65535
_MOST_REPLY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Display:
    """An open display: the socket, its root window and the screen saver's opcode."""

    stream: socket.socket
    root: int
    saver: int | None


class X11:
    """One display. It connects when first asked, and again after a failure."""

    source: ClassVar[IdleSource] = IdleSource.XSCREENSAVER

    def __init__(self, display: str, authority: Path) -> None:
        self._number = display_number(display)
        self._authority = authority
        self._display: _Display | None = None
        self._atoms: dict[str, int] = {}

    def close(self) -> None:
        """Let the display go; the next question opens it again."""
        if self._display is not None:
            self._display.stream.close()
        self._display, self._atoms = None, {}

    def idle_s(self) -> float:
        """Return seconds since the last input, by the screen saver extension.

        Raises:
            NotApplicable: the display has no such extension.
            OSError: the display does not answer.
        """
        display = self._open()
        if display.saver is None:
            raise NotApplicable("the display has no screen saver extension")
        reply = self._ask(struct.pack("<BBHI", display.saver, _SAVER_QUERY_INFO, 2, display.root))
        return int.from_bytes(reply[16:20], "little") / 1000

    def foreground_pid(self) -> int | None:
        """Return the process whose window is active, as the window manager says.

        Raises:
            OSError: the display does not answer.
        """
        window = self._number_property(self._open().root, "_NET_ACTIVE_WINDOW")
        return self._number_property(window, "_NET_WM_PID") if window else None

    def _number_property(self, window: int, name: str) -> int | None:
        try:
            atom = self._atom(name)
            reply = self._ask(struct.pack("<BxHIIIII", _GET_PROPERTY, 6, window, atom, 0, 0, 1))
        except _XError:  # the window closed between two questions
            return None
        length = int.from_bytes(reply[16:20], "little")
        return int.from_bytes(reply[32:36], "little") if length == 1 and reply[1] == 32 else None  # noqa: PLR2004  (bits)

    def _atom(self, name: str) -> int:
        if name not in self._atoms:
            text = name.encode("ascii")
            head = struct.pack("<BBHHxx", _INTERN_ATOM, 0, 2 + _words(text), len(text))
            self._atoms[name] = int.from_bytes(self._ask(head + _padded(text))[8:12], "little")
        return self._atoms[name]

    def _ask(self, request: bytes) -> bytes:
        """Send a request and return its reply; a display that fails is let go."""
        display = self._open()
        try:
            display.stream.sendall(request)
            return _reply(display.stream)
        except _XError:
            raise
        except OSError:
            self.close()
            raise

    def _open(self) -> _Display:
        if self._display is None:
            stream = _connect(self._number)
            try:
                root = _set_up(stream, _cookie(self._authority, self._number))
                self._display = _Display(stream, root, _saver_opcode(stream))
            except OSError:
                stream.close()
                raise
        return self._display


class _XError(OSError):
    """The display refused a request; the connection goes on."""


def display_number(display: str) -> int:
    """Read the number in ``:0``, ``:0.0`` or ``unix:0``.

    Raises:
        NotApplicable: a display on another machine, or no display name at all.
    """
    host, _, rest = display.rpartition(":")
    number = rest.partition(".")[0]
    if host not in ("", "unix") or not number.isdecimal():
        raise NotApplicable("not a display of this machine")
    return int(number)


def _connect(number: int) -> socket.socket:
    path = f"/tmp/.X11-unix/X{number}"  # nosec B108  # noqa: S108  (where X servers listen, by convention)
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(_TIMEOUT_S)
    try:
        try:
            stream.connect("\0" + path)
        except ConnectionRefusedError:
            stream.connect(path)
    except OSError:
        stream.close()
        raise
    return stream


def _set_up(stream: socket.socket, cookie: bytes) -> int:
    """Shake hands; return the first screen's root window."""
    name = _COOKIE if cookie else b""
    head = struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(name), len(cookie))
    stream.sendall(head + _padded(name) + _padded(cookie))
    status, words = struct.unpack("<BxxxxxH", _receive(stream, 8))
    body = _receive(stream, words * 4)
    if status != 1:
        raise PermissionError("the display refused the connection")
    vendor_bytes, formats = int.from_bytes(body[16:18], "little"), body[21]
    at = _SETUP_BYTES + vendor_bytes + -vendor_bytes % 4 + formats * _FORMAT_BYTES
    return int.from_bytes(body[at : at + 4], "little")


def _saver_opcode(stream: socket.socket) -> int | None:
    name = b"MIT-SCREEN-SAVER"
    head = struct.pack("<BxHHxx", _QUERY_EXTENSION, 2 + _words(name), len(name))
    stream.sendall(head + _padded(name))
    reply = _reply(stream)
    return reply[9] if reply[8] else None


def _reply(stream: socket.socket) -> bytes:
    """Return the next reply; what the display announces to every client is passed over."""
    while True:
        packet = _receive(stream, _PACKET_BYTES)
        kind = packet[0] & 0x7F
        if kind == _ERROR:
            raise _XError(f"X error {packet[1]}")
        more = int.from_bytes(packet[4:8], "little") * 4
        if kind == _REPLY:
            return packet + _receive(stream, more)
        if kind == _GENERIC_EVENT:
            _receive(stream, more)


def _receive(stream: socket.socket, size: int) -> bytes:
    if size > _MOST_REPLY_BYTES:
        raise OSError(f"a reply of {size} bytes")
    parts = bytearray()
    while len(parts) < size:
        part = stream.recv(size - len(parts))
        if not part:
            raise ConnectionResetError("the display closed the connection")
        parts += part
    return bytes(parts)


def _cookie(authority: Path, number: int) -> bytes:
    """Find the secret for a local display; none where the file has none or is absent."""
    try:
        found = list(_entries(authority.read_bytes()))
    except (OSError, struct.error):
        return b""
    here = os.uname().nodename.encode()
    mine = [
        (address != here, data)
        for family, address, display, name, data in found
        if family in (_FAMILY_LOCAL, _FAMILY_WILD)
        and display in (b"", str(number).encode())
        and name == _COOKIE
    ]
    return min(mine)[1] if mine else b""


def _entries(raw: bytes) -> Iterator[tuple[int, bytes, bytes, bytes, bytes]]:
    """Yield (family, address, display, name, data) of an Xauthority file (Xau, big endian)."""
    at = 0
    while at < len(raw):
        (family,) = struct.unpack_from(">H", raw, at)
        at += 2
        fields: list[bytes] = []
        for _ in range(4):
            (size,) = struct.unpack_from(">H", raw, at)
            fields.append(raw[at + 2 : at + 2 + size])
            at += 2 + size
        yield family, fields[0], fields[1], fields[2], fields[3]


def _words(text: bytes) -> int:
    return (len(text) + 3) // 4


def _padded(text: bytes) -> bytes:
    return text + bytes(-len(text) % 4)
