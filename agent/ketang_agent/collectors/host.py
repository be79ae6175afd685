"""How the machine is doing: processor, memory, disk, heat, battery."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import HostReading
from ketang_agent.collectors.kernel_files import entries_of, fields_of, number_of, text_of
from ketang_contract.limits import Tri

_SANE_MC = range(-60_000, 150_000)
"""Millidegrees a sensor may say; others are disconnected and say anything."""
_IDLE_FIELDS = (3, 4)
"""``idle`` and ``iowait`` in proc(5)'s ``cpu`` line."""
_COUNTED_FIELDS = 8
"""The rest (guest time) is already in ``user`` and ``nice``."""


class HostCollector:
    """Reads /proc and /sys, and the file system the agent keeps its data on."""

    name: ClassVar[str] = "host"

    def __init__(self, data_dir: Path, root: Path = Path("/")) -> None:
        self._data_dir = data_dir
        self._root = root
        self._ticks: tuple[int, int] | None = None

    def sample(self, now: Instant) -> Iterator[HostReading]:
        """Yield one reading."""
        disk = os.statvfs(self._data_dir)
        percent, health, mains = power_of(self._root)
        yield HostReading(
            cpu_pct=self._busy_pct(),
            memory_used_pct=memory_used_pct(self._root),
            disk_free_pct=100 * disk.f_bavail / disk.f_blocks if disk.f_blocks else None,
            disk_free_mb=disk.f_bavail * disk.f_frsize >> 20,
            temperature_c=hottest_c(self._root),
            battery_pct=percent,
            battery_health_pct=health,
            on_mains=mains,
            uptime_s=now.boottime_ms // 1000,
        )

    def _busy_pct(self) -> float | None:
        """Busy share since the last call; None the first time."""
        before, self._ticks = self._ticks, busy_and_total_ticks(self._root)
        if before is None or self._ticks is None or self._ticks[1] <= before[1]:
            return None
        share = (self._ticks[0] - before[0]) / (self._ticks[1] - before[1])
        return 100 * min(1.0, max(0.0, share))


def busy_and_total_ticks(root: Path) -> tuple[int, int] | None:
    """Clock ticks spent working and altogether since boot, over all processors (proc(5))."""
    first = (text_of(root / "proc/stat") or "").partition("\n")[0].split()
    if not first or first[0] != "cpu":
        return None
    ticks = [int(one) for one in first[1 : 1 + _COUNTED_FIELDS]]
    return sum(ticks) - sum(ticks[at] for at in _IDLE_FIELDS if at < len(ticks)), sum(ticks)


def memory_used_pct(root: Path) -> float | None:
    """Share of memory that no program could get, by the kernel's own estimate."""
    lines = fields_of(text_of(root / "proc/meminfo") or "", ":")
    try:
        total_kb = int(lines["MemTotal"].split()[0])
        available_kb = int(lines["MemAvailable"].split()[0])
    except (KeyError, IndexError, ValueError):
        return None
    return 100 * (total_kb - available_kb) / total_kb if total_kb else None


def hottest_c(root: Path) -> int | None:
    """Degrees of the hottest sensor that says something believable."""
    zones = [zone / "temp" for zone in entries_of(root / "sys/class/thermal")]
    chips = [
        sensor
        for chip in entries_of(root / "sys/class/hwmon")
        for sensor in chip.glob("temp*_input")
    ]
    said = [number_of(one) for one in zones + chips]
    believable = [one for one in said if one is not None and one in _SANE_MC]
    return round(max(believable) / 1000) if believable else None


def power_of(root: Path) -> tuple[int | None, int | None, Tri]:
    """Battery charge, battery health (both percent) and whether mains power is there.

    Health is the full charge against the design's. A mouse's battery (scope ``Device``) is not
    the machine's.
    """
    percent, health, mains = None, None, Tri.UNKNOWN
    for supply in entries_of(root / "sys/class/power_supply"):
        if text_of(supply / "scope") == "Device":
            continue
        if text_of(supply / "type") == "Battery":
            percent = number_of(supply / "capacity") if percent is None else percent
            health = _health_pct(supply) if health is None else health
        elif (online := number_of(supply / "online")) is not None and mains is not Tri.YES:
            mains = Tri.YES if online else Tri.NO
    return percent, health, mains


def _health_pct(battery: Path) -> int | None:
    for unit in ("energy", "charge"):
        full, design = (
            number_of(battery / f"{unit}_full"),
            number_of(battery / f"{unit}_full_design"),
        )
        if full is not None and design:
            return min(100, round(100 * full / design))
    return None
