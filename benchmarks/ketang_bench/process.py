"""A process seen from outside: its memory and CPU time, as the kernel counts them."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KB_PER_MB = 1024
_EVERYBODYS = re.compile(r"/(libc\.so|libc-|ld-linux|ld-|locale-archive|gconv)")
"""Files that every process on the machine maps, whether we run or not."""
_FIELD = re.compile(r"^(Rss|Pss|Private_Dirty):\s+(\d+) kB$")
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (2^20).

    ``pss_alone`` is the PSS the process would have if no other Python or OpenSSL process ran: pages
    of its files count in full, save those of the C library, which everything maps.
    """

    pss_mb: float
    pss_alone_mb: float
    private_dirty_mb: float


def memory(pid: int) -> Memory:
    """Read a process's memory. The reader is ``cat``, which shares next to nothing with it."""
    said = subprocess.run(
        ["cat", f"/proc/{pid}/smaps"], capture_output=True, text=True, check=True, timeout=20
    )
    return memory_of(said.stdout)


def memory_of(smaps: str) -> Memory:
    """Add up a ``smaps``. Pure."""
    pss = alone = dirty = 0
    everybodys = False
    for line in smaps.splitlines():
        begins = _MAPPING.match(line)
        if begins:
            everybodys = bool(_EVERYBODYS.search(begins[1]))
            continue
        found = _FIELD.match(line)
        if not found:
            continue
        size = int(found[2])
        if found[1] == "Pss":
            pss += size
            alone += size if everybodys else 0
        elif found[1] == "Rss":
            alone += 0 if everybodys else size
        else:
            dirty += size
    return Memory(
        round(pss / _KB_PER_MB, 2), round(alone / _KB_PER_MB, 2), round(dirty / _KB_PER_MB, 2)
    )


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def busy_s() -> float:
    """CPU seconds the whole machine has worked since it booted, all cores together."""
    first = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, interrupt, soft = (int(one) for one in first[:7])
    return (user + nice + system + interrupt + soft) / _TICKS_PER_S


def peak_mb(pid: int) -> float:
    """Largest resident size so far, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return round(int(found[1]) / _KB_PER_MB, 2) if found else 0.0
