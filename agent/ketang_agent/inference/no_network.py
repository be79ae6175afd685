"""Takes the network away from this process, for good: Linux only, standard library only.

A filter in the kernel (seccomp, mode 2) refuses every socket but a local one, every new program and
the asynchronous interface that could make sockets unseen. What a library would like to report, it
cannot. Source: seccomp(2), linux/filter.h, linux/audit.h.
"""

import ctypes
import errno
import os
import socket
import struct
from dataclasses import dataclass

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
"""Offsets in ``struct seccomp_data``; the argument's low half on a little-endian machine."""
_OTHER_NUMBERING = 0x40000000
"""From here on the same calls have a second set of numbers on x86."""


@dataclass(frozen=True, slots=True)
class _Calls:
    audit: int
    socket: int
    programs: tuple[int, int]


_IO_URING_SETUP = 425
_MACHINES = {
    "x86_64": _Calls(0xC000003E, 41, (59, 322)),
    "aarch64": _Calls(0xC00000B7, 198, (221, 281)),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def forgo_network() -> bool:
    """Refuse sockets from now on; False where the machine or the kernel knows no such filter."""
    calls = _MACHINES.get(os.uname().machine)
    if calls is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    code = _code(calls)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _code(calls: _Calls) -> bytes:
    """Write the filter: each step is an operation, two jumps counted in steps, and a value."""
    steps = (
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 0, 9, calls.audit),  # another machine's numbers: refused
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 7, 0, _OTHER_NUMBERING),
        (_EQUAL, 6, 0, calls.programs[0]),
        (_EQUAL, 5, 0, calls.programs[1]),
        (_EQUAL, 4, 0, _IO_URING_SETUP),
        (_EQUAL, 0, 2, calls.socket),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_EQUAL, 0, 1, socket.AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
