"""D-Bus: what GNOME and logind say of idleness, locks, sleep and shutdown.

jeepney is imported at the first question: a profile without the usage collector never loads it.

Sources: org.freedesktop.login1(5); org.gnome.Mutter.IdleMonitor; org.gnome.SessionManager;
org.freedesktop.PowerManagement.Inhibit.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ketang_agent.collectors.base import NotApplicable
from ketang_agent.platforms.base import Power
from ketang_contract.records import IdleSource

if TYPE_CHECKING:
    from jeepney import Message
    from jeepney.io.blocking import DBusConnection

SYSTEM, SESSION = "SYSTEM", "SESSION"
_TIMEOUT_S = 0.5
_LOGIND = "org.freedesktop.login1"
_MANAGER = "org.freedesktop.login1.Manager"
_SESSION = "org.freedesktop.login1.Session"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_NOBODY_THERE = frozenset(
    f"org.freedesktop.DBus.Error.{name}"
    for name in (
        "ServiceUnknown",
        "NameHasNoOwner",
        "UnknownObject",
        "UnknownMethod",
        "UnknownInterface",
        "UnknownProperty",
    )
) | {"org.freedesktop.login1.NoSuchSeat"}
"""Errors that say: this desktop has no such thing. All others are failures."""
_GNOME_INHIBITS_IDLE = 8


@dataclass(frozen=True, slots=True)
class Target:
    """An object on a bus, and the interface spoken to."""

    name: str
    path: str
    interface: str


class Bus:
    """A connection to one bus, opened when first needed and again after a failure."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: DBusConnection | None = None

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def open(self) -> "DBusConnection":
        """Return the connection.

        Raises:
            NotApplicable: there is no such bus on this machine.
            OSError: there is, and it does not let us in.
        """
        if self._connection is None:
            from jeepney.auth import AuthenticationError  # noqa: PLC0415  (lazy: see module)
            from jeepney.io.blocking import open_dbus_connection  # noqa: PLC0415

            try:
                self._connection = open_dbus_connection(self._address, auth_timeout=_TIMEOUT_S)
            except (FileNotFoundError, KeyError, RuntimeError) as problem:
                raise NotApplicable(f"no {self._address.lower()} bus") from problem
            except AuthenticationError as problem:
                raise PermissionError("the bus refused the connection") from problem
        return self._connection

    def call(self, to: Target, method: str, signature: str = "", *body: Any) -> tuple[Any, ...]:
        """Call a method and return what it answers.

        Raises:
            NotApplicable: nobody on this bus knows the object or the method.
            OSError: no answer in half a second, or an error for one.
        """
        from jeepney import DBusAddress, new_method_call  # noqa: PLC0415  (lazy: see module)

        address = DBusAddress(to.path, bus_name=to.name, interface=to.interface)
        message = new_method_call(address, method, signature, body)
        connection = self.open()
        try:
            reply = connection.send_and_get_reply(message, timeout=_TIMEOUT_S)
        except OSError:
            self.close()  # a late answer must not be taken for the next one's
            raise
        return _answer(reply)

    def get(self, of: Target, name: str) -> Any:
        """Read one property; raises as ``call`` does."""
        properties = Target(of.name, of.path, _PROPERTIES)
        return self.call(properties, "Get", "ss", of.interface, name)[0][1]


class Mutter:
    """GNOME's compositor, on the session bus: true seconds since the last input."""

    source: ClassVar[IdleSource] = IdleSource.MUTTER
    _TARGET = Target(
        "org.gnome.Mutter.IdleMonitor",
        "/org/gnome/Mutter/IdleMonitor/Core",
        "org.gnome.Mutter.IdleMonitor",
    )

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def idle_s(self) -> float:
        """Return seconds since the last input; raises as ``Bus.call`` does."""
        return float(self._bus.call(self._TARGET, "GetIdletime")[0]) / 1000


class DesktopInhibitors:
    """Programs that asked the desktop on the session bus to keep the display on."""

    _GNOME = Target(
        "org.gnome.SessionManager", "/org/gnome/SessionManager", "org.gnome.SessionManager"
    )
    _OTHERS = Target(
        "org.freedesktop.PowerManagement.Inhibit",
        "/org/freedesktop/PowerManagement/Inhibit",
        "org.freedesktop.PowerManagement.Inhibit",
    )

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def held_awake(self) -> bool:
        """Tell whether one did; raises as ``Bus.call`` does."""
        try:
            held = self._bus.call(self._GNOME, "IsInhibited", "u", _GNOME_INHIBITS_IDLE)
        except NotApplicable:
            held = self._bus.call(self._OTHERS, "HasInhibit")
        return bool(held[0])


class Logind:
    """logind, on the system bus: the session at the first seat. The user's name is never read."""

    source: ClassVar[IdleSource] = IdleSource.LOGIND
    _SEAT = Target(_LOGIND, "/org/freedesktop/login1/seat/seat0", "org.freedesktop.login1.Seat")
    _ALL = Target(_LOGIND, "/org/freedesktop/login1", _MANAGER)

    def __init__(self, bus: Bus, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._monotonic_s = monotonic_s

    def locked(self) -> bool:
        """Tell whether the session is locked, or is a log-in screen; raises as ``Bus.call``."""
        session = self._session()
        if self._bus.get(session, "Class") in ("greeter", "lock-screen"):
            return True
        return bool(self._bus.get(session, "LockedHint"))

    def idle_s(self) -> float:
        """Return seconds since the session called itself idle, 0 when it says it is not.

        Raises:
            NotApplicable: no session, or one whose desktop never gives the hint: "not idle" is
                then only a default, and must not pass for use.
            OSError: logind does not answer.
        """
        session = self._session()
        since_us = int(self._bus.get(session, "IdleSinceHintMonotonic"))
        if since_us == 0:
            raise NotApplicable("the desktop does not tell logind when it is idle")
        if not self._bus.get(session, "IdleHint"):
            return 0.0
        return max(0.0, self._monotonic_s() - since_us / 1e6)

    def held_awake(self) -> bool:
        """Tell whether a program blocks idling; raises as ``Bus.call`` does."""
        held = self._bus.call(self._ALL, "ListInhibitors")[0]
        return any("idle" in what.split(":") and mode == "block" for what, _, _, mode, *_ in held)

    def _session(self) -> Target:
        identifier, path = self._bus.get(self._SEAT, "ActiveSession")
        if not identifier:
            raise NotApplicable("nobody has a session at this device")
        return Target(_LOGIND, path, _SESSION)


class PowerSignals:
    """Sleep and shutdown, as logind announces them; its socket can be waited on."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._listening: DBusConnection | None = None

    def fileno(self) -> int:
        """File descriptor that becomes readable when something was announced.

        Raises:
            NotApplicable: there is no system bus.
            OSError: the bus does not let us in.
        """
        return int(self._listen().sock.fileno())

    def changes(self) -> list[Power]:
        """Return what was announced since the last call, without waiting.

        Raises:
            NotApplicable: there is no system bus.
            OSError: the bus is gone; the next call connects anew.
        """
        connection = self._listen()
        found: list[Power] = []
        try:
            while True:
                change = _announced(connection.receive(timeout=0))
                if change is not None:
                    found.append(change)
        except TimeoutError:
            return found
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening."""
        self._listening = None
        self._bus.close()

    def _listen(self) -> "DBusConnection":
        if self._listening is None:
            daemon = Target("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
            for member in ("PrepareForSleep", "PrepareForShutdown"):
                rule = f"type='signal',sender='{_LOGIND}',interface='{_MANAGER}',member='{member}'"
                self._bus.call(daemon, "AddMatch", "s", rule)
            self._listening = self._bus.open()
        return self._listening


def _announced(message: "Message") -> Power | None:
    from jeepney import HeaderFields, MessageType  # noqa: PLC0415  (lazy: see module)

    fields = message.header.fields
    if message.header.message_type is not MessageType.signal:
        return None
    if fields.get(HeaderFields.interface) != _MANAGER or not message.body:
        return None
    match fields.get(HeaderFields.member), bool(message.body[0]):
        case "PrepareForSleep", True:
            return Power.SLEEPING
        case "PrepareForSleep", False:
            return Power.WOKEN
        case "PrepareForShutdown", True:
            return Power.SHUTTING_DOWN
        case _:
            return None


def _answer(reply: "Message") -> tuple[Any, ...]:
    from jeepney import HeaderFields, MessageType  # noqa: PLC0415  (lazy: see module)

    if reply.header.message_type is MessageType.error:
        name = str(reply.header.fields.get(HeaderFields.error_name, ""))
        if name in _NOBODY_THERE:
            raise NotApplicable(f"not on this desktop ({name.rpartition('.')[2]})")
        raise OSError(name)
    return tuple(reply.body)
