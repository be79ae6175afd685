"""Security posture, as far as a process without rights can tell; else it says unknown."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ketang_agent.clock import Instant
from ketang_agent.collectors.background import Background
from ketang_agent.collectors.kernel_files import entries_of, fields_of, text_of
from ketang_contract.limits import Tri
from ketang_contract.records import Integrity, Security, TimeQuality

_DAY_MS = 86_400_000
_MOST_DAYS = 36_500
_PACKAGE_MARKS = (
    "var/lib/dpkg/status",
    "var/log/apt/history.log",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/pacman/local",
)
"""Files that change whenever packages are installed or updated."""
_MOUNT_POINT, _MOUNT_DEVICE = 4, 2
"""Fields of proc(5)'s mountinfo."""
_DEEPEST = 8
"""Device-mapper layers to follow: LVM on LUKS on RAID is three."""


class SecurityCollector:
    """Reads configuration and kernel files; the integrity check runs in the background."""

    name: ClassVar[str] = "security"

    def __init__(
        self, integrity: Background[Integrity] | None = None, root: Path = Path("/")
    ) -> None:
        self._integrity = integrity
        self._root = root
        self._checked_ms: int | None = None

    def sample(self, now: Instant) -> Iterator[Security]:
        """Yield the posture; the first comes before the integrity check has ended."""
        yield Security(
            firewall_on=firewall_on(self._root),
            disk_encrypted=disk_encrypted(self._root),
            clock_synced=Tri.YES if now.time is TimeQuality.SYNCED else Tri.NO,
            patch_age_days=patch_age_days(self._root, now),
            integrity=self._checked(now.boottime_ms),
        )

    def _checked(self, now_ms: int) -> Integrity:
        """Give the last answer; ask again once a day."""
        if self._integrity is None:
            return Integrity.UNKNOWN
        if self._checked_ms is None or now_ms - self._checked_ms >= _DAY_MS:
            self._checked_ms = now_ms
            self._integrity.start()
        return self._integrity.latest


def firewall_on(root: Path) -> Tri:
    """YES when ufw or firewalld is on; NO when the kernel holds no packet filter; else unknown.

    Rules set by hand (nft, iptables) can be listed by root alone.
    """
    ufw = fields_of(text_of(root / "etc/ufw/ufw.conf") or "", "=")
    services = root / "sys/fs/cgroup/system.slice"
    if ufw.get("ENABLED", "").lower() == "yes" or (services / "firewalld.service").exists():
        return Tri.YES
    modules = text_of(root / "proc/modules")
    if modules is None or not ufw:
        return Tri.UNKNOWN
    filters = re.search(r"^(nf_tables|ip_tables|iptable_filter) ", modules, re.MULTILINE)
    return Tri.UNKNOWN if filters else Tri.NO


def disk_encrypted(root: Path) -> Tri:
    """Whether the root file system lies on dm-crypt, however many layers down."""
    device = _root_device(root)
    if device is None:
        return Tri.UNKNOWN
    layer = [device]
    for _ in range(_DEEPEST):
        if any((text_of(one / "dm/uuid") or "").startswith("CRYPT-") for one in layer):
            return Tri.YES
        layer = [slave for one in layer for slave in entries_of(one / "slaves")]
        if not layer:
            return Tri.NO
    return Tri.UNKNOWN


def patch_age_days(root: Path, now: Instant) -> int | None:
    """Days since the system's packages last changed; unknown while the clock is wrong."""
    if now.time is TimeQuality.BAD:
        return None
    changed = [stamp for mark in _PACKAGE_MARKS if (stamp := _changed_ms(root / mark)) is not None]
    if not changed:
        return None
    return min(_MOST_DAYS, max(0, now.wall_ms - max(changed)) // _DAY_MS)


def _root_device(root: Path) -> Path | None:
    """Folder in /sys of the block device that holds ``/``; None for overlays and network roots."""
    for line in (text_of(root / "proc/self/mountinfo") or "").splitlines():
        mount = line.split(" - ")[0].split()
        if len(mount) > _MOUNT_POINT and mount[_MOUNT_POINT] == "/":
            numbered = root / "sys/dev/block" / mount[_MOUNT_DEVICE]
            if numbered.exists():
                return numbered
            return _named_device(root, Path(line.split()[-2]).name)
    return None


def _named_device(root: Path, name: str) -> Path | None:
    """Find a device by its name or its mapper name: btrfs mounts have no device number."""
    named = root / "sys/class/block" / name
    if named.exists():
        return named
    mapped = (root / "sys/block").glob("dm-*")
    return next((one for one in mapped if text_of(one / "dm/name") == name), None)


def _changed_ms(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return None
