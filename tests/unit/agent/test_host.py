import pytest
from tests.unit.agent.clocks import FakeClock
from tests.unit.agent.trees import LATER_STAT, laptop, plant

from ketang_agent.collectors.host import HostCollector, hottest_c, memory_used_pct, power_of
from ketang_contract.limits import Tri


@pytest.fixture
def clock():
    return FakeClock(boottime_ms=90_061_000)


def test_a_laptop_tells_of_itself(tmp_path, clock):
    collector = HostCollector(tmp_path, laptop(tmp_path))
    (first,) = collector.sample(clock.now())
    assert first.cpu_pct is None
    plant(tmp_path, {"proc/stat": LATER_STAT})
    (second,) = collector.sample(clock.now())
    assert second.cpu_pct == pytest.approx(50)
    assert second.memory_used_pct == 25
    assert second.temperature_c == 62
    assert (second.battery_pct, second.battery_health_pct) == (88, 60)
    assert second.on_mains is Tri.YES
    assert second.uptime_s == 90_061
    assert 0 <= second.disk_free_pct <= 100
    assert second.disk_free_mb > 0


def test_a_machine_that_tells_nothing_is_unknown_not_zero(tmp_path, clock):
    (reading,) = HostCollector(tmp_path, tmp_path).sample(clock.now())
    assert reading.cpu_pct is None
    assert reading.memory_used_pct is None
    assert reading.temperature_c is None
    assert (reading.battery_pct, reading.on_mains) == (None, Tri.UNKNOWN)


def test_a_data_directory_that_is_gone_is_a_failure(tmp_path, clock):
    with pytest.raises(OSError, match="gone"):
        list(HostCollector(tmp_path / "gone", tmp_path).sample(clock.now()))


@pytest.mark.parametrize("said", ["", "none", "300000", "-99000"])
def test_a_sensor_that_says_nonsense_is_not_believed(tmp_path, said):
    plant(tmp_path, {"sys/class/thermal/thermal_zone0/temp": said})
    assert hottest_c(tmp_path) is None


def test_an_unplugged_laptop_is_not_on_mains(tmp_path):
    laptop(tmp_path)
    plant(tmp_path, {"sys/class/power_supply/AC/online": "0\n"})
    assert power_of(tmp_path)[2] is Tri.NO


def test_a_battery_measured_in_charge_has_a_health_too(tmp_path):
    plant(
        tmp_path,
        {
            "sys/class/power_supply/B/type": "Battery",
            "sys/class/power_supply/B/charge_full": "45",
            "sys/class/power_supply/B/charge_full_design": "60",
        },
    )
    assert power_of(tmp_path) == (None, 75, Tri.UNKNOWN)


def test_a_kernel_without_an_estimate_of_available_memory_is_unknown(tmp_path):
    plant(tmp_path, {"proc/meminfo": "MemTotal: 100 kB\n"})
    assert memory_used_pct(tmp_path) is None
