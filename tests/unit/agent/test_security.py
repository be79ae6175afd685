import base64
import hashlib
import os
from dataclasses import replace

import pytest
from tests.unit.agent.clocks import MONDAY_MS, FakeClock
from tests.unit.agent.trees import plant

from ketang_agent.collectors.background import Background
from ketang_agent.collectors.integrity import check
from ketang_agent.collectors.security import (
    SecurityCollector,
    disk_encrypted,
    firewall_on,
    patch_age_days,
)
from ketang_contract.limits import Tri
from ketang_contract.records import Integrity, TimeQuality

MOUNTS = "27 1 {number} / {at} rw,relatime - {kind} {source} rw\n"


@pytest.fixture
def now():
    return FakeClock().now()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"etc/ufw/ufw.conf": "# x\nENABLED=yes\n"}, Tri.YES),
        ({"sys/fs/cgroup/system.slice/firewalld.service/x": ""}, Tri.YES),
        ({"etc/ufw/ufw.conf": "ENABLED=no\n", "proc/modules": "ext4 1 1 - Live 0x0\n"}, Tri.NO),
        (
            {"etc/ufw/ufw.conf": "ENABLED=no\n", "proc/modules": "nf_tables 1 1 - Live 0x0\n"},
            Tri.UNKNOWN,
        ),
        ({"proc/modules": ""}, Tri.UNKNOWN),
        ({}, Tri.UNKNOWN),
    ],
)
def test_a_firewall_is_on_off_or_honestly_unknown(tmp_path, files, expected):
    assert firewall_on(plant(tmp_path, files)) is expected


def test_a_root_on_lvm_on_luks_is_encrypted(tmp_path):
    plant(
        tmp_path,
        {
            "proc/self/mountinfo": MOUNTS.format(
                number="254:1", at="/", kind="ext4", source="/dev/x"
            ),
            "sys/dev/block/254:1/dm/uuid": "LVM-abc",
            "sys/dev/block/254:1/slaves/dm-0/dm/uuid": "CRYPT-LUKS2-abc",
        },
    )
    assert disk_encrypted(tmp_path) is Tri.YES


def test_a_root_on_a_plain_partition_is_not(tmp_path):
    plant(
        tmp_path,
        {
            "proc/self/mountinfo": MOUNTS.format(
                number="0:20", at="/data", kind="tmpfs", source="t"
            )
            + MOUNTS.format(number="8:2", at="/", kind="ext4", source="/dev/sda2"),
            "sys/dev/block/8:2/size": "1",
        },
    )
    assert disk_encrypted(tmp_path) is Tri.NO


def test_btrfs_on_luks_is_found_by_its_mapper_name(tmp_path):
    plant(
        tmp_path,
        {
            "proc/self/mountinfo": MOUNTS.format(
                number="0:21", at="/", kind="btrfs", source="/dev/mapper/luks-1"
            ),
            "sys/block/dm-0/dm/name": "luks-1",
            "sys/block/dm-0/dm/uuid": "CRYPT-LUKS2-abc",
        },
    )
    assert disk_encrypted(tmp_path) is Tri.YES


def test_an_overlay_as_root_is_unknown(tmp_path):
    plant(
        tmp_path,
        {
            "proc/self/mountinfo": MOUNTS.format(
                number="0:9", at="/", kind="overlay", source="overlay"
            )
        },
    )
    assert disk_encrypted(tmp_path) is Tri.UNKNOWN


def test_patch_age_counts_from_the_last_change_of_the_packages(tmp_path, now):
    assert patch_age_days(tmp_path, now) is None
    plant(tmp_path, {"var/lib/dpkg/status": "", "var/log/apt/history.log": ""})
    for name, days in (("var/lib/dpkg/status", 40), ("var/log/apt/history.log", 12)):
        os.utime(tmp_path / name, (0, MONDAY_MS / 1000 - days * 86_400 - 60))
    assert patch_age_days(tmp_path, now) == 12
    assert patch_age_days(tmp_path, replace(now, wall_ms=0)) == 0
    assert patch_age_days(tmp_path, replace(now, time=TimeQuality.BAD)) is None


def test_a_posture_comes_at_once_and_the_integrity_when_it_is_known(tmp_path, now):
    background = Background(lambda: Integrity.OK, Integrity.UNKNOWN, "integrity")
    collector = SecurityCollector(background, tmp_path)
    (first,) = collector.sample(now)
    background.wait(30)
    (second,) = collector.sample(now)
    assert second.integrity is Integrity.OK
    assert first.clock_synced is Tri.YES
    assert SecurityCollector(None, tmp_path).sample(now).__next__().integrity is Integrity.UNKNOWN


def install(site, *, editable=False):
    """Lay out an installed wheel of the agent, as an installer does."""
    package = site / "ketang_agent"
    plant(site, {"ketang_agent/a.py": "a = 1\n", "ketang_agent/b.py": "b = 2\n"})
    listed = ["ketang.pth"] if editable else ["ketang_agent/a.py", "ketang_agent/b.py"]
    plant(site, {"ketang.pth": "x"})
    lines = []
    for name in listed:
        digest = hashlib.sha256((site / name).read_bytes()).digest()
        lines.append(f"{name},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},6")
    lines.append("ketang-0.1.0.dist-info/RECORD,,")
    plant(site, {"ketang-0.1.0.dist-info/RECORD": "\n".join(lines) + "\n"})
    return package


def looked(package):
    pauses = []
    return check(package, pause=pauses.append), len(pauses)


def test_files_that_match_their_list_are_ok_and_pauses_lie_between(tmp_path):
    assert looked(install(tmp_path)) == (Integrity.OK, 2)


def test_a_changed_or_a_missing_file_is_seen(tmp_path):
    package = install(tmp_path)
    (package / "b.py").write_text("b = 3\n")
    assert looked(package)[0] is Integrity.CHANGED
    (package / "b.py").unlink()
    assert looked(package)[0] is Integrity.CHANGED


def test_an_editable_checkout_or_no_list_at_all_is_unknown(tmp_path):
    assert looked(install(tmp_path / "one", editable=True))[0] is Integrity.UNKNOWN
    plant(tmp_path, {"two/ketang_agent/a.py": ""})
    assert looked(tmp_path / "two/ketang_agent")[0] is Integrity.UNKNOWN


def test_a_list_that_is_damaged_is_unknown(tmp_path):
    package = install(tmp_path)
    plant(tmp_path, {"ketang-0.1.0.dist-info/RECORD": "ketang_agent/a.py,sha256=abcde,6\n"})
    assert looked(package)[0] is Integrity.UNKNOWN
