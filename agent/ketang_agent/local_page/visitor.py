"""Who is asking: the user that owns the other end of a loopback connection, as the kernel tells it.

Nothing the visitor says is believed. A socket its process has let go of counts as nobody's: the
kernel lists such orphans under uid 0.
"""

import pwd
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED = "01"
_TABLES = ("proc/net/tcp", "proc/net/tcp6")
_MOST_TABLE_BYTES = 4 << 20
_UTMP = struct.Struct("=hxxi32s4s32s256shhiii16s20s")
"""glibc's ``struct utmp``, 384 bytes: type, pid, line, id, user, host, exit, session, seconds, …"""
_USER_PROCESS = 7


@dataclass(frozen=True, slots=True)
class Visitor:
    """``uid`` None: the kernel did not tell. ``since_ms`` None: no login session was found."""

    uid: int | None
    since_ms: int | None
    administrator: bool


NOBODY = Visitor(None, None, administrator=False)


def visitor_of(
    peer: tuple[str, int], here: tuple[str, int], own_uid: int, root: Path = Path("/")
) -> Visitor:
    """Tell who is at the other end of a connection between two addresses of this machine."""
    uid = uid_of(peer, here, root)
    if uid is None:
        return NOBODY
    return Visitor(uid, login_ms(uid, root), administrator=uid in (0, own_uid))


def uid_of(peer: tuple[str, int], here: tuple[str, int], root: Path = Path("/")) -> int | None:
    """Owner of the peer's socket; None unless exactly one live socket fits."""
    peers, ours = _forms(*peer), _forms(*here)
    owners = {
        int(uid)
        for local, remote, state, uid, inode in _sockets(root)
        if local in peers and remote in ours and state == _ESTABLISHED and inode != "0"
    }
    return owners.pop() if len(owners) == 1 else None


def login_ms(uid: int, root: Path = Path("/")) -> int | None:
    """Wall time at which the user's latest login session that is still there began.

    The latest: an account many people share must not show one what the other did.
    """
    starts = [*_logind(uid, root)] or [*_utmp(uid, root)]
    return max(starts, default=None)


def _forms(address: str, port: int) -> frozenset[str]:
    """Write an address as /proc/net/tcp and tcp6 do: words of 32 bits in the machine's order."""
    if ":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
        return frozenset({f"{_words(packed)}:{port:04X}"})
    packed = socket.inet_pton(socket.AF_INET, address)
    mapped = bytes(10) + b"\xff\xff" + packed
    return frozenset({f"{_words(one)}:{port:04X}" for one in (packed, mapped)})


def _words(packed: bytes) -> str:
    return "".join(
        f"{int.from_bytes(packed[at : at + 4], sys.byteorder):08X}"
        for at in range(0, len(packed), 4)
    )


def _sockets(root: Path) -> Iterator[tuple[str, str, str, str, str]]:
    for table in _TABLES:
        try:
            with (root / table).open(encoding="ascii", errors="replace") as file:
                lines = file.read(_MOST_TABLE_BYTES).splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) > 9:  # noqa: PLR2004  (up to and with the inode)
                yield words[1], words[2], words[3], words[7], words[9]


def _logind(uid: int, root: Path) -> Iterator[int]:
    """Read logind's own files: one per session, ``NAME=value`` lines."""
    try:
        files = [one for one in (root / "run/systemd/sessions").iterdir() if one.suffix == ""]
    except OSError:
        return
    for file in files:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        said = dict(line.partition("=")[::2] for line in lines)
        if said.get("UID") == str(uid) and said.get("CLASS") == "user":
            realtime_us = said.get("REALTIME", "")
            if said.get("STATE") != "closing" and realtime_us.isdecimal():
                yield int(realtime_us) // 1000


def _utmp(uid: int, root: Path) -> Iterator[int]:
    try:
        raw = (root / "run/utmp").read_bytes()
        name = pwd.getpwuid(uid).pw_name.encode()
    except (OSError, KeyError):
        return
    whole = len(raw) - len(raw) % _UTMP.size
    for kind, _, _, _, user, _, _, _, _, seconds, *_ in _UTMP.iter_unpack(raw[:whole]):
        if kind == _USER_PROCESS and user.rstrip(b"\0") == name and seconds > 0:
            yield seconds * 1000


__all__ = ["NOBODY", "Visitor", "login_ms", "uid_of", "visitor_of"]
