import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.clocks import FakeClock
from tests.unit.agent.trees import plant

from ketang_agent.collectors.inventory import InventoryCollector, allowed, disk_gb
from ketang_contract import validate
from ketang_contract.records import Record, TimeQuality, to_line

FILES = {
    "sys/class/dmi/id/sys_vendor": "LENOVO\n",
    "sys/class/dmi/id/product_name": "90T3®  ThinkCentre\n",
    "sys/class/dmi/id/product_serial": "SECRET123\n",
    "etc/os-release": 'NAME="openKylin"\nVERSION_ID="2.0"\nPRETTY_NAME="x"\n',
    "etc/hostname": "teacher-wang\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i5 CPU @ 3.00GHz\n",
    "proc/meminfo": "MemTotal:        8000000 kB\n",
    "sys/block/sda/size": "500118192",
    "sys/block/sda/removable": "0",
    "sys/block/sdb/size": "30000000",
    "sys/block/sdb/removable": "1",
    "sys/block/loop0/size": "9999",
}


def test_a_pc_describes_itself_without_serial_or_host_name(tmp_path):
    (found,) = InventoryCollector("0.1.0", plant(tmp_path, FILES)).sample(FakeClock().now())
    assert (found.vendor, found.model) == ("LENOVO", "90T3 ThinkCentre")
    assert (found.os_name, found.os_version) == ("openKylin", "2.0")
    assert found.cpu_model == "Intel(R) Core(TM) i5 CPU @ 3.00GHz"
    assert (found.memory_mb, found.disk_gb, found.agent_version) == (7812, 256, "0.1.0")
    assert "SECRET" not in repr(found)
    assert "wang" not in repr(found)


def test_a_board_without_firmware_tables_gives_its_device_tree_model(tmp_path):
    plant(tmp_path, {"proc/device-tree/model": "Rockchip RK3588 EVB\0"})
    (found,) = InventoryCollector("", tmp_path).sample(FakeClock().now())
    assert found.model == "Rockchip RK3588 EVB"


@pytest.mark.parametrize(
    "text", ["To Be Filled By O.E.M.", "Default string", "  ", "System manufacturer"]
)
def test_a_makers_placeholder_is_nothing(text):
    assert allowed(text) == ""


@given(st.text(max_size=200))
def test_any_text_fits_the_contracts_form(text):
    assert re.fullmatch(r"[A-Za-z0-9\u4e00-\u9fff ._()/+@,:#\-]{0,64}", allowed(text))


def test_the_centre_takes_an_inventory_made_of_nothing(tmp_path):
    now = FakeClock().now()
    (body,) = InventoryCollector("", tmp_path).sample(now)
    record = Record(
        subject="a",
        wall_ms=now.wall_ms,
        boot_id="b",
        boottime_ms=1,
        time=TimeQuality.FREE,
        body=body,
    )
    assert validate.record(to_line(record)) == record


def test_disks_that_can_be_pulled_out_or_are_none_do_not_count(tmp_path):
    assert disk_gb(plant(tmp_path, FILES)) == 256
