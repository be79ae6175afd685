"""What the firmware tells of this machine: its serial number."""

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ketang_contract.serials import is_doubtful

_DMI = ("product_serial", "board_serial", "chassis_serial")
_MOST_CHARACTERS = 64
_ANSWER_S = 30
_ON_WINDOWS = (
    "powershell",
    "-NoProfile",
    "-NonInteractive",
    "-Command",
    "(Get-CimInstance Win32_BIOS).SerialNumber;(Get-CimInstance Win32_BaseBoard).SerialNumber",
)


def serial_of_this_machine(
    root: Path = Path("/"),
    *,
    windows: bool = os.name == "nt",
    ask: Callable[[], str] | None = None,
) -> str:
    """Return the serial number that the firmware tells, rather one that names this machine alone.

    From DMI (Linux, sysfs), from the device tree on boards that have none (Devicetree
    Specification 0.4, 2.3.1: ``serial-number``), from Win32_BIOS on Windows. The latter was tried
    with a recorded answer, and not on Windows yet.

    Args:
        root: where ``sys`` and ``proc`` are.
        windows: whether this is Windows.
        ask: runs the question on Windows and returns its lines; a test passes a recorded answer.

    Returns:
        at most 64 printable characters; empty where it tells none.
    """
    told = (ask or _ask_windows)().splitlines() if windows else _on_linux(root)
    lines = ["".join(one for one in text.strip() if one.isprintable()) for text in told]
    lines = [one[:_MOST_CHARACTERS].strip() for one in lines]
    good = [one for one in lines if not is_doubtful(one)]
    return next((one for one in (*good, *lines) if one), "")


def _on_linux(root: Path) -> list[str]:
    files = [root / "sys/class/dmi/id" / name for name in _DMI]
    # The kernel shows the tree under both names; in it, a text ends with a zero byte.
    files += [root / "proc/device-tree/serial-number"]
    files += [root / "sys/firmware/devicetree/base/serial-number"]
    told = []
    for file in files:
        with suppress(OSError):
            told.append(file.read_text("utf-8", "replace"))
    return told


def _ask_windows() -> str:
    try:
        done = subprocess.run(
            _ON_WINDOWS,
            capture_output=True,
            check=False,
            timeout=_ANSWER_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")
