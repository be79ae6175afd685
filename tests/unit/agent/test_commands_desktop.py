"""The desktop's notice and logind's switch, on a real private bus; both are played by the test."""

import time

import pytest
from jeepney import DBusAddress, HeaderFields, new_error, new_method_return, new_signal
from tests.unit.agent.test_linux_dbus import PATIENCE_S, Service, _patient, address  # noqa: F401

from ketang_agent.collectors.base import NotApplicable
from ketang_agent.platforms.base import Desktop
from ketang_agent.platforms.linux_dbus import Bus
from ketang_agent.remote.commands_desktop import DesktopNotice, in_use, power_off

pytestmark = pytest.mark.dbus
NOTES = "org.freedesktop.Notifications"
HERE = DBusAddress("/org/freedesktop/Notifications", NOTES, NOTES)


class Desk(Service):
    """A notification server that remembers what it was told."""

    def __init__(self, where, capabilities=("actions", "body")):
        self.notes, self.capabilities, self.asked, self.sender = [], list(capabilities), [], ""
        self.refuses = ""
        super().__init__(where, [NOTES, "org.freedesktop.login1"], {})

    def _answer(self, call):
        member, body = call.header.fields[HeaderFields.member], call.body
        self.asked.append((member, body))
        self.sender = call.header.fields[HeaderFields.sender]
        if member == "GetCapabilities":
            return new_method_return(call, "as", (self.capabilities,))
        if member == "Notify":
            self.notes.append(body)
            return new_method_return(call, "u", (7,))
        if member == "PowerOff" and self.refuses:
            return new_error(call, self.refuses)
        return new_method_return(call)

    def press(self, number=7, action="cancel"):
        made = new_signal(HERE, "ActionInvoked", "us", (number, action))
        made.header.fields[HeaderFields.destination] = self.sender  # as GNOME does
        self.connection.send(made)


def waits_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def desk(address):  # noqa: F811  (the other module's fixture)
    running = Desk(address)
    yield running
    running.stop()


@pytest.fixture
def bus(address):  # noqa: F811
    made = Bus(address)
    yield made
    made.close()


def test_a_notice_says_who_and_how_long_in_both_languages_and_is_replaced_not_piled_up(desk, bus):
    notice = DesktopNotice(bus)
    assert notice.show("yunxi-it", 125)
    assert notice.show("yunxi-it", 110)
    first, second = desk.notes
    assert (first[1], second[1]) == (0, 7)
    for part in ("yunxi-it", "2:05", "关机", "shut"):
        assert part in f"{first[3]} {first[4]}"
    assert first[5] == ["cancel", "取消关机 Cancel"]
    assert first[7] == 0, "it stays until it is taken away"
    notice.close()
    assert desk.asked[-1] == ("CloseNotification", (7,))


def test_cancel_is_heard_and_other_buttons_are_not(desk, bus):
    notice = DesktopNotice(bus)
    notice.show("yunxi-it", 60)
    desk.press(number=8)
    desk.press(action="default")
    notice.show("yunxi-it", 45)
    assert not notice.cancelled()
    desk.press()
    assert waits_for(notice.cancelled)


def test_a_cancel_that_comes_in_the_middle_of_another_call_is_heard(desk, bus):
    notice = DesktopNotice(bus)
    notice.show("yunxi-it", 60)
    desk.press()
    notice.show("yunxi-it", 45)
    assert waits_for(notice.cancelled)


def test_a_desktop_without_buttons_still_shows_it(address):  # noqa: F811
    desk, bus = Desk(address, capabilities=["body"]), Bus(address)
    assert DesktopNotice(bus).show("yunxi-it", 60)
    assert desk.notes[0][5] == []
    bus.close()
    desk.stop()


def test_without_a_desktop_nothing_is_shown_and_nothing_fails(address, tmp_path):  # noqa: F811
    for where in (address, f"unix:path={tmp_path / 'nobody'}"):
        notice = DesktopNotice(Bus(where))
        assert not notice.show("yunxi-it", 60)
        assert not notice.cancelled()
        notice.close()


def test_the_switch_asks_nobody_and_says_what_it_was_told(desk, bus):
    power_off(bus)
    assert desk.asked[-1] == ("PowerOff", (False,))
    for name, error in (
        ("org.freedesktop.DBus.Error.AccessDenied", PermissionError),
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", PermissionError),
        ("org.freedesktop.DBus.Error.UnknownMethod", NotApplicable),
        ("org.freedesktop.login1.BlockedByInhibitorLock", OSError),
    ):
        desk.refuses = name
        with pytest.raises(error):
            power_off(bus)


def test_a_machine_without_logind_cannot_be_switched_off(address, tmp_path):  # noqa: F811
    for where in (address, f"unix:path={tmp_path / 'nobody'}"):
        with pytest.raises(NotApplicable):
            power_off(Bus(where))


class Probe:
    """Says what a test wants."""

    def __init__(self, said):
        self.said = said

    def idle_s(self):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    held_awake = idle_s


@pytest.mark.parametrize(
    ("idle", "awake", "found"),
    [
        ([], [], None),
        ([NotApplicable("x")], [], None),
        ([NotApplicable("x"), 500.0], [], False),
        ([OSError("x"), 20.0], [], True),
        ([500.0], [True], True),
        ([500.0], [OSError("x"), False], False),
        ([NotApplicable("x")], [True], True),
    ],
)
def test_a_device_is_in_use_when_it_was_touched_or_is_kept_awake(idle, awake, found):
    desktop = Desktop(idle=tuple(map(Probe, idle)), awake=tuple(map(Probe, awake)))
    assert in_use(desktop) is found
