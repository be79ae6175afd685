"""Which probes this Linux machine has, by its environment; nothing is opened here."""

from collections.abc import Mapping
from pathlib import Path

from ketang_agent.collectors.base import NotApplicable
from ketang_agent.platforms.base import AwakeProbe, Desktop, IdleProbe
from ketang_agent.platforms.linux_dbus import (
    SESSION,
    SYSTEM,
    Bus,
    DesktopInhibitors,
    Logind,
    Mutter,
    PowerSignals,
)
from ketang_agent.platforms.linux_proc import AlsaPlayback
from ketang_agent.platforms.linux_x11 import X11


def desktop(environ: Mapping[str, str], root: Path = Path("/")) -> Desktop:
    """Put together the probes that may work here, the most truthful idle source first.

    Under Wayland the X display sees input to X programs only, so it is left out.
    """
    logind = Logind(Bus(SYSTEM))
    idle: list[IdleProbe] = [logind]
    awake: list[AwakeProbe] = [AlsaPlayback(root), logind]
    if "DBUS_SESSION_BUS_ADDRESS" in environ:
        session = Bus(SESSION)
        idle.insert(0, Mutter(session))
        awake.append(DesktopInhibitors(session))
    x11 = _x11(environ)
    if x11 is not None:
        idle.insert(0, x11)
    return Desktop(idle=tuple(idle), foreground=x11, lock=logind, awake=tuple(awake))


def power_signals() -> PowerSignals:
    """Return the listener for sleep and shutdown, on a connection of its own."""
    return PowerSignals(Bus(SYSTEM))


def _x11(environ: Mapping[str, str]) -> X11 | None:
    wayland = "WAYLAND_DISPLAY" in environ or environ.get("XDG_SESSION_TYPE") == "wayland"
    if wayland or not environ.get("DISPLAY"):
        return None
    fallback = Path(environ.get("HOME", "/")) / ".Xauthority"
    try:
        return X11(environ["DISPLAY"], Path(environ.get("XAUTHORITY", fallback)))
    except NotApplicable:
        return None
