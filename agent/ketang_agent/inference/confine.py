"""What the worker gives up before it loads anything: Linux only, standard library only.

It cannot write a file, leave a core, be looked into, or outlive its parent; it yields to all other
work. Where memory may not be locked, ``lock_memory`` says so and the worker goes on.
"""

import ctypes
import os
import resource
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_MCL_CURRENT_FUTURE_ONFAULT = 1 | 2 | 4
"""On fault: only pages really used are locked; else whole mapped libraries would fill memory."""
_CAP_IPC_LOCK = 14
_ENOUGH_BYTES = 4 << 30
NICE = 10


def confine(parent_pid: int) -> bool:
    """Give everything up; False when the parent is gone already and the worker must end.

    Raises:
        OSError: the kernel refused; the worker must not go on.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # no byte can be added to any file, whatever a library would like to cache; pipes are no files
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    # the parent may have died before the kernel was asked to tell
    return os.getppid() == parent_pid


def lock_memory() -> bool:
    """Keep this process's memory from being swapped out; False where that is not permitted."""
    if not _may_lock():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.mlockall(_MCL_CURRENT_FUTURE_ONFAULT) == 0)


def _may_lock() -> bool:
    """A small limit would let the call pass and make a later allocation fail: then rather not."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or soft >= _ENOUGH_BYTES:
        return True
    status = Path("/proc/self/status").read_text("ascii")
    held = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(held >> _CAP_IPC_LOCK & 1)


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
