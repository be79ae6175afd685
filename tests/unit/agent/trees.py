"""Answers of real machines' /proc and /sys, as folders a test can build and change."""

from pathlib import Path

STAT = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 100 0 50 800 50 0 0 0 0 0\n"
LATER_STAT = "cpu  160 0 80 890 60 0 10 0 0 0\n"
MEMINFO = "MemTotal:        8000000 kB\nMemFree:          500000 kB\nMemAvailable:    6000000 kB\n"
ROUTE = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "wlp2s0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
    "enp1s0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "enp1s0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
)
ROUTE6 = (
    f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 27}1 00000064 00000001 00000000 00000003   wwan0\n"
    f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200       lo\n"
)
FIB_TRIE = """Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 192.168.0.0/24 2 0 2
        |-- 192.168.0.0
           /24 link UNICAST
        |-- 192.168.0.17
           /32 host LOCAL
        |-- 192.168.0.255
           /32 link BROADCAST
"""
LOOPBACK6 = f"{'0' * 31}1 01 80 10 80       lo\n"
LINK_LOCAL6 = "fe800000000000000211220000334455 02 40 20 80   enp1s0\n"
UNIQUE6 = "fd000000000000000000000000000002 04 40 00 82   enp1s0\n"
GLOBAL6 = "240e0000000000000000000000000017 02 40 00 80   enp1s0\n"
TENTATIVE6 = "240e0000000000000000000000000018 02 40 00 c0   enp1s0\n"


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write files below ``root``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def laptop(root: Path) -> Path:
    """A teacher's laptop on mains, with a battery that has aged, and a wireless mouse."""
    supply = "sys/class/power_supply"
    return plant(
        root,
        {
            "proc/stat": STAT,
            "proc/meminfo": MEMINFO,
            "sys/class/thermal/thermal_zone0/temp": "47000\n",
            "sys/class/thermal/thermal_zone1/temp": "-273200\n",
            "sys/class/hwmon/hwmon0/temp1_input": "61500\n",
            f"{supply}/AC/type": "Mains\n",
            f"{supply}/AC/online": "1\n",
            f"{supply}/BAT0/type": "Battery\n",
            f"{supply}/BAT0/capacity": "88\n",
            f"{supply}/BAT0/energy_full": "30000000\n",
            f"{supply}/BAT0/energy_full_design": "50000000\n",
            f"{supply}/hidpp_battery_0/type": "Battery\n",
            f"{supply}/hidpp_battery_0/scope": "Device\n",
            f"{supply}/hidpp_battery_0/capacity": "5\n",
        },
    )


def wired(root: Path) -> Path:
    """A panel with a gigabit cable and, as second choice, wireless."""
    net = "sys/class/net"
    plant(
        root,
        {
            "proc/net/route": ROUTE,
            "proc/net/fib_trie": FIB_TRIE,
            "proc/net/if_inet6": LOOPBACK6 + LINK_LOCAL6 + UNIQUE6,
            f"{net}/enp1s0/type": "1\n",
            f"{net}/enp1s0/speed": "1000\n",
            f"{net}/enp1s0/uevent": "INTERFACE=enp1s0\n",
            f"{net}/enp1s0/address": "00:11:22:33:44:55\n",
            f"{net}/enp1s0/statistics/rx_bytes": "1000000\n",
            f"{net}/enp1s0/statistics/tx_bytes": "500000\n",
            f"{net}/wlp2s0/type": "1\n",
            f"{net}/wwan0/type": "1\n",
            f"{net}/wwan0/uevent": "DEVTYPE=wwan\n",
        },
    )
    (root / net / "wlp2s0/wireless").mkdir(parents=True)
    return root
