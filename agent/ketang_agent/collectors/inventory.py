"""What the device is. Serial numbers and names that people gave are not read."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ketang_agent.clock import Instant
from ketang_agent.collectors.kernel_files import entries_of, fields_of, number_of, text_of
from ketang_contract.records import Inventory

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9\u4e00-\u9fff ._()/+@,:#\-]+")
_LONGEST = 64
_PLACEHOLDERS = frozenset(
    {
        "to be filled by o.e.m.",
        "system manufacturer",
        "system product name",
        "default string",
        "not specified",
        "none",
        "unknown",
        "o.e.m.",
        "oem",
    }
)
"""What makers leave in the firmware when they forget to fill it in."""
_NO_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd")
_SECTOR_BYTES = 512
"""The unit of /sys/block/*/size, whatever the disk's own sectors are."""


class InventoryCollector:
    """Reads the firmware's and the system's description of the machine."""

    name: ClassVar[str] = "inventory"

    def __init__(self, agent_version: str, root: Path = Path("/")) -> None:
        self._agent_version = agent_version
        self._root = root

    def sample(self, now: Instant) -> Iterator[Inventory]:  # noqa: ARG002  (the Protocol's shape)
        """Yield the description."""
        root = self._root
        dmi = root / "sys/class/dmi/id"
        system = fields_of(text_of(root / "etc/os-release") or "", "=")
        processor = fields_of(text_of(root / "proc/cpuinfo") or "", ":")
        memory = fields_of(text_of(root / "proc/meminfo") or "", ":")
        model = text_of(dmi / "product_name") or text_of(root / "proc/device-tree/model") or ""
        yield Inventory(
            vendor=allowed(text_of(dmi / "sys_vendor") or ""),
            model=allowed(model),
            os_name=allowed(system.get("NAME", "")),
            os_version=allowed(system.get("VERSION_ID", "")),
            cpu_model=allowed(processor.get("model name") or processor.get("Hardware", "")),
            cpu_cores=min(4096, os.cpu_count() or 0),
            memory_mb=_first_number(memory.get("MemTotal", "")) // 1024,
            disk_gb=disk_gb(root),
            architecture=allowed(os.uname().machine),
            agent_version=allowed(self._agent_version),
        )


def allowed(text: str) -> str:
    """Bring a text into the contract's form; a maker's placeholder becomes nothing."""
    plain = _NOT_ALLOWED.sub(" ", text)
    short = " ".join(plain.split())[:_LONGEST].strip()
    return "" if short.lower() in _PLACEHOLDERS else short


def disk_gb(root: Path) -> int:
    """Gigabytes (10^9) of all fixed disks together."""
    sectors = 0
    for disk in entries_of(root / "sys/block"):
        if not disk.name.startswith(_NO_DISKS) and number_of(disk / "removable") != 1:
            sectors += number_of(disk / "size") or 0
    return round(sectors * _SECTOR_BYTES / 1e9)


def _first_number(text: str) -> int:
    first = text.split()[:1]
    return int(first[0]) if first and first[0].isdigit() else 0
