import time
from itertools import count
from pathlib import Path

import pytest

from ketang_agent.clock import SystemClock, quality
from ketang_contract.records import TimeQuality


@pytest.mark.parametrize(
    ("wall_ms", "synced", "expected"),
    [
        (0, True, TimeQuality.BAD),
        (1_704_067_199_999, True, TimeQuality.BAD),
        (1_704_067_200_000, True, TimeQuality.SYNCED),
        (1_704_067_200_000, False, TimeQuality.FREE),
        (4_102_444_799_999, False, TimeQuality.FREE),
        (4_102_444_800_000, True, TimeQuality.BAD),
    ],
)
def test_time_outside_2024_to_2099_is_bad_whoever_vouches_for_it(wall_ms, synced, expected):
    assert quality(wall_ms, synced=synced) is expected


def test_the_real_clock_runs_forward_and_names_the_boot():
    clock = SystemClock()
    first, second = clock.now(), clock.now()
    assert first.boottime_ms <= second.boottime_ms
    assert first.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert first.suspended_ms >= 0


def test_systemds_mark_decides_only_where_the_kernel_may_not_be_asked(tmp_path: Path, monkeypatch):
    boot = tmp_path / "proc/sys/kernel/random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text("b\n")
    clock = SystemClock(tmp_path)
    monkeypatch.setattr(clock, "_kernel_synced", lambda: None)
    assert not clock.synced()
    mark = tmp_path / "run/systemd/timesync"
    mark.mkdir(parents=True)
    (mark / "synchronized").touch()
    assert clock.synced()
    monkeypatch.setattr(clock, "_kernel_synced", lambda: False)
    assert not clock.synced()


def test_a_millisecond_that_begins_between_two_clocks_is_no_negative_sleep(monkeypatch):
    clock = SystemClock()
    read = count(1)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: 1_000_000 * next(read))
    assert clock.now().suspended_ms >= 0
