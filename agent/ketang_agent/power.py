"""Whether logind lets the agent's account switch this machine off, for the doctor.

Asked as that account, in a child where somebody else runs the doctor: logind answers for whoever
asks, and root may always. Source: org.freedesktop.login1(5), Manager.CanPowerOff.
"""

import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

from ketang_agent.collectors.base import NotApplicable
from ketang_agent.platforms.linux_dbus import SYSTEM, Bus, Target

_LOGIND = Target(
    "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
)
_CHILD_S = 15


class Power(StrEnum):
    """What logind says."""

    YES = "yes"
    NO = "no"
    """Refused, or only for somebody who types a password: nobody does at night."""
    BLOCKED = "blocked"
    """Allowed, but a program blocks it now."""
    NO_LOGIND = "no_logind"
    UNKNOWN = "unknown"
    """It could not be asked as the agent's account."""


def can_power_off(bus: Bus) -> Power:
    """Ask logind what it would let the account that runs this do."""
    try:
        (said,) = bus.call(_LOGIND, "CanPowerOff")
    except NotApplicable:
        return Power.NO_LOGIND
    except (OSError, ValueError):
        return Power.UNKNOWN
    finally:
        bus.close()
    return read(str(said))


def read(said: str) -> Power:
    """Read logind's word."""
    if said == "yes":
        return Power.YES
    if said == "na":
        return Power.NO_LOGIND
    return Power.BLOCKED if said == "inhibitor-blocked" else Power.NO


def as_owner_of(data_dir: Path) -> Power:
    """Ask as the account that owns the agent's folder; UNKNOWN where nobody here can be it."""
    try:
        owner = data_dir.stat()
    except OSError:
        return Power.UNKNOWN
    if owner.st_uid == os.geteuid():
        return can_power_off(Bus(SYSTEM))
    if os.geteuid() != 0:
        return Power.UNKNOWN
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=_CHILD_S,
        )
        return Power(done.stdout.strip())
    except (OSError, ValueError, subprocess.SubprocessError):
        return Power.UNKNOWN


if __name__ == "__main__":
    sys.stdout.write(f"{can_power_off(Bus(SYSTEM))}\n")
