"""What a shutdown needs of the desktop: a notice with Cancel, whether it is in use, and the switch.

Sources: Desktop Notifications Specification 1.2 (org.freedesktop.Notifications);
org.freedesktop.login1(5), Manager.PowerOff.
"""

from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ketang_agent.collectors.base import NotApplicable
from ketang_agent.platforms.base import Desktop
from ketang_agent.platforms.linux_dbus import Bus, Target

if TYPE_CHECKING:
    from jeepney import Message

TOUCHED_WITHIN_S = 180.0
"""As long as a device counts as active after its last input, by the definition of use."""
_CANCEL = "cancel"
_CRITICAL = 2
_NEVER = 0
_NOTICES = Target(
    "org.freedesktop.Notifications",
    "/org/freedesktop/Notifications",
    "org.freedesktop.Notifications",
)
_LOGIND = Target(
    "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
)
_DAEMON = Target("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_POWER_OFF_S = 10.0
_NOT_THERE = ("ServiceUnknown", "NameHasNoOwner", "UnknownMethod", "UnknownObject")
_REFUSED = ("AccessDenied", "InteractiveAuthorizationRequired", "AuthFailed", "NotAuthorized")


class DesktopNotice:
    """A notification on the session bus, replaced as time passes. Any failure means: not shown.

    Servers without actions show the text, which names the page on this device; there, or by
    touching the device, it is cancelled as well. A notice that a person closes is no Cancel.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._number = 0
        self._actions: bool | None = None
        self._pressed: deque[Message] = deque(maxlen=16)
        self._listening = ExitStack()

    def show(self, who: str, seconds: int) -> bool:
        """Show it, or bring it up to date; False where there is no desktop to show it."""
        try:
            if self._actions is None:
                self._listen()
                self._actions = "actions" in self._bus.call(_NOTICES, "GetCapabilities")[0]
            actions = [_CANCEL, "取消关机 Cancel"] if self._actions else []
            said = self._bus.call(
                _NOTICES,
                "Notify",
                "susssasa{sv}i",
                "Ketang 课堂",
                self._number,
                "system-shutdown",
                "本机即将关机 · This device is about to shut down",
                _text(who, seconds),
                actions,
                {"urgency": ("y", _CRITICAL)},
                _NEVER,
            )
            self._number = int(said[0])
        except (NotApplicable, OSError):
            self._forget()
            return False
        return True

    def cancelled(self) -> bool:
        """Tell whether somebody pressed Cancel since it was shown."""
        if not self._number:
            return False
        try:
            self._receive()
        except (NotApplicable, OSError):
            self._forget()
            return False
        return any(tuple(one.body) == (self._number, _CANCEL) for one in self._pressed if one.body)

    def close(self) -> None:
        """Take it away."""
        if self._number:
            with suppress(NotApplicable, OSError):  # it is gone, or the desktop is
                self._bus.call(_NOTICES, "CloseNotification", "u", self._number)
        self._forget()

    def _listen(self) -> None:
        """Hear the buttons on this very connection: some desktops tell nobody else."""
        from jeepney import MatchRule  # noqa: PLC0415  (lazy: see linux_dbus)

        rule = MatchRule(
            type="signal", interface=_NOTICES.interface, member="ActionInvoked", path=_NOTICES.path
        )
        self._bus.call(_DAEMON, "AddMatch", "s", rule.serialise())
        self._listening.enter_context(self._bus.open().filter(rule, queue=self._pressed))

    def _receive(self) -> None:
        connection = self._bus.open()
        try:
            while True:
                connection.recv_messages(timeout=0)
        except TimeoutError:
            return

    def _forget(self) -> None:
        self._listening.close()
        self._listening = ExitStack()
        self._pressed.clear()
        self._number, self._actions = 0, None
        self._bus.close()


def _text(who: str, seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return (
        f"{minutes}:{rest:02} 后关机（上课时间之外，由 {who} 发出）。"
        "动一下设备，或点“取消”，就不会关机。\n"
        f"In {minutes}:{rest:02}, asked for by {who} after hours. "
        "Touch the device or press Cancel, and it stays on."
    )


def power_off(bus: Bus) -> None:
    """Have logind switch the machine off; it asks nobody, and overrides no inhibitor.

    It may wait for polkit some seconds, unlike anything else that is asked here.

    Raises:
        NotApplicable: there is no system bus, or no logind on it.
        PermissionError: polkit says no.
        OSError: it failed, or a program blocks it.
    """
    from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call  # noqa: PLC0415

    address = DBusAddress(_LOGIND.path, bus_name=_LOGIND.name, interface=_LOGIND.interface)
    interactive = False
    message = new_method_call(address, "PowerOff", "b", (interactive,))
    try:
        reply = bus.open().send_and_get_reply(message, timeout=_POWER_OFF_S)
    finally:
        bus.close()
    if reply.header.message_type is not MessageType.error:
        return
    name = str(reply.header.fields.get(HeaderFields.error_name, ""))
    if name.endswith(_NOT_THERE):
        raise NotApplicable("no logind")
    raise PermissionError(name) if name.endswith(_REFUSED) else OSError(name)


def in_use(desktop: Desktop, within_s: float = TOUCHED_WITHIN_S) -> bool | None:
    """Tell whether somebody touched the device lately, or it is kept awake for a film or a lesson.

    None: nothing on this device can tell.
    """
    known: bool | None = None
    for probe in desktop.idle:
        try:
            known = probe.idle_s() < within_s
        except (NotApplicable, OSError):
            continue
        break
    if known:
        return True
    for awake in desktop.awake:
        try:
            if awake.held_awake():
                return True
        except (NotApplicable, OSError):
            continue
    return known
