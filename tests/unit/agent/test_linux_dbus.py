"""A real, private bus; logind and GNOME are played by the test."""

import select
import subprocess
import threading
from collections.abc import Callable

import pytest
from jeepney import (
    DBusAddress,
    HeaderFields,
    MessageType,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection
from tests.unit.agent.clocks import FakeClock

from ketang_agent.collectors.base import Gatherer, NotApplicable
from ketang_agent.collectors.usage import UsageCollector
from ketang_agent.platforms import linux_dbus
from ketang_agent.platforms.base import Desktop, Power
from ketang_agent.platforms.linux_dbus import (
    Bus,
    DesktopInhibitors,
    Logind,
    Mutter,
    PowerSignals,
)
from ketang_contract.records import IdleSource

pytestmark = pytest.mark.dbus
PATIENCE_S = 30
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/>
<allow own="*"/></policy></busconfig>
"""
LOGIND = "org.freedesktop.login1"
SEAT = "org.freedesktop.login1.Seat"
SESSION = "org.freedesktop.login1.Session"
MANAGER = DBusAddress("/org/freedesktop/login1", LOGIND, "org.freedesktop.login1.Manager")


class Service:
    """Owns names on the bus and answers calls from a table, on a thread of its own."""

    def __init__(self, address, names, answers: dict[tuple[str, ...], Callable]):
        self.answers, self.connection = answers, open_dbus_connection(address)
        for name in names:
            self.connection.send_and_get_reply(message_bus.RequestName(name), timeout=PATIENCE_S)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while not self._stopping.is_set():
            try:
                call = self.connection.receive(timeout=0.05)
            except TimeoutError:
                continue
            if call.header.message_type is not MessageType.method_call:
                continue
            self.connection.send(self._answer(call))

    def _answer(self, call):
        fields = call.header.fields
        key = (fields[HeaderFields.interface], fields[HeaderFields.member])
        if key[1] == "Get":
            key = tuple(call.body)
        if key not in self.answers:
            return new_error(call, "org.freedesktop.DBus.Error.UnknownMethod")
        said = self.answers[key]
        if isinstance(said, str):
            return new_error(call, said)
        signature, value = said
        if call.header.fields[HeaderFields.member] == "Get":
            return new_method_return(call, "v", ((signature, value),))
        return new_method_return(call, signature, (value,))

    def says(self, member, *, starts):
        self.connection.send(new_signal(MANAGER, member, "b", (starts,)))

    def stop(self):
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        self.connection.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """How slowly a busy machine answers says nothing about what is tested."""
    monkeypatch.setattr(linux_dbus, "_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def address(tmp_path):
    path = tmp_path / "bus"
    config = tmp_path / "bus.conf"
    config.write_text(CONFIG.format(path=path))
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    said = process.stdout.readline().strip()
    yield said.partition(",")[0]
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def answers():
    """What logind says of one unlocked graphical session; tests change it."""
    return {
        (SEAT, "ActiveSession"): ("(so)", ("2", "/org/freedesktop/login1/session/_32")),
        (SESSION, "Class"): ("s", "user"),
        (SESSION, "LockedHint"): ("b", False),
        (SESSION, "IdleHint"): ("b", False),
        (SESSION, "IdleSinceHintMonotonic"): ("t", 900_000_000),
        (MANAGER.interface, "ListInhibitors"): ("a(ssssuu)", []),
    }


@pytest.fixture
def service(address, answers):
    running = Service(address, [LOGIND, "org.gnome.Mutter.IdleMonitor"], answers)
    yield running
    running.stop()


@pytest.fixture
def logind(address, service):
    bus = Bus(address)
    yield Logind(bus, monotonic_s=lambda: 1000.0)
    bus.close()


def test_mutter_tells_the_time_since_the_last_input(address, service, answers):
    answers["org.gnome.Mutter.IdleMonitor", "GetIdletime"] = ("t", 187_250)
    bus = Bus(address)
    assert Mutter(bus).idle_s() == 187.25
    bus.close()


def test_a_session_is_locked_by_its_hint_or_by_being_a_log_in_screen(logind, answers):
    assert not logind.locked()
    answers[SESSION, "LockedHint"] = ("b", True)
    assert logind.locked()
    answers[SESSION, "LockedHint"] = ("b", False)
    answers[SESSION, "Class"] = ("s", "greeter")
    assert logind.locked()


def test_logind_counts_idleness_from_its_hint(logind, answers):
    assert logind.idle_s() == 0
    answers[SESSION, "IdleHint"] = ("b", True)
    assert logind.idle_s() == 100


def test_a_desktop_that_never_gave_the_hint_does_not_pass_for_use(logind, answers):
    answers[SESSION, "IdleSinceHintMonotonic"] = ("t", 0)
    with pytest.raises(NotApplicable, match="does not tell"):
        logind.idle_s()


def test_nobody_logged_in_does_not_apply(logind, answers):
    answers[SEAT, "ActiveSession"] = ("(so)", ("", "/"))
    with pytest.raises(NotApplicable, match="nobody"):
        logind.locked()


@pytest.mark.parametrize(
    ("what", "mode", "held"),
    [
        ("idle", "block", True),
        ("sleep:idle", "block", True),
        ("idle", "delay", False),
        ("sleep:shutdown", "block", False),
    ],
)
def test_a_block_on_idling_holds_the_display_awake(logind, answers, what, mode, held):
    listed = [(what, "Film", "playing", mode, 1000, 77)]
    answers[MANAGER.interface, "ListInhibitors"] = ("a(ssssuu)", listed)
    assert logind.held_awake() is held


def test_desktop_programs_hold_the_display_by_gnome_or_else_by_the_others(address, answers):
    gnome = ("org.gnome.SessionManager", "IsInhibited")
    others = ("org.freedesktop.PowerManagement.Inhibit", "HasInhibit")
    bus = Bus(address)
    with pytest.raises(NotApplicable):
        DesktopInhibitors(bus).held_awake()
    kde = Service(address, [others[0]], {others: ("b", True)})
    assert DesktopInhibitors(bus).held_awake()
    shell = Service(address, [gnome[0]], {gnome: ("b", False)})
    assert not DesktopInhibitors(bus).held_awake()
    shell.stop()
    kde.stop()
    bus.close()


def test_a_service_that_answers_with_an_error_has_failed(logind, answers):
    answers[SESSION, "LockedHint"] = "org.freedesktop.DBus.Error.AccessDenied"
    with pytest.raises(OSError, match="AccessDenied"):
        logind.locked()


def test_a_desktop_without_the_service_does_not_apply(address):
    bus = Bus(address)
    for ask in (Mutter(bus).idle_s, Logind(bus).locked, Logind(bus).idle_s):
        with pytest.raises(NotApplicable):
            ask()
    bus.close()


def test_a_machine_without_a_bus_does_not_apply(tmp_path):
    with pytest.raises(NotApplicable, match="bus"):
        Mutter(Bus(f"unix:path={tmp_path}/none")).idle_s()


def test_a_service_that_hangs_is_given_up_and_asked_anew(address, answers, monkeypatch):
    def nobody_answers(_):
        hanging.wait(PATIENCE_S)
        return real(_)

    hanging = threading.Event()
    running = Service(
        address,
        ["org.gnome.Mutter.IdleMonitor"],
        {("org.gnome.Mutter.IdleMonitor", "GetIdletime"): ("t", 1000)},
    )
    real, running._answer = running._answer, nobody_answers
    bus = Bus(address)
    bus.open()
    monkeypatch.setattr(linux_dbus, "_TIMEOUT_S", 0.1)
    with pytest.raises(TimeoutError):
        Mutter(bus).idle_s()
    monkeypatch.setattr(linux_dbus, "_TIMEOUT_S", PATIENCE_S)
    hanging.set()
    assert Mutter(bus).idle_s() == 1
    running.stop()
    bus.close()


def test_sleep_wake_and_shutdown_are_heard_as_logind_announces_them(address, service):
    signals = PowerSignals(Bus(address))
    assert signals.changes() == []
    for member, starts in (
        ("PrepareForSleep", True),
        ("PrepareForSleep", False),
        ("PrepareForShutdown", True),
        ("PrepareForShutdown", False),
    ):
        service.says(member, starts=starts)
    heard = []
    while len(heard) < 3:
        assert select.select([signals.fileno()], [], [], PATIENCE_S)[0]
        heard += signals.changes()
    assert heard == [Power.SLEEPING, Power.WOKEN, Power.SHUTTING_DOWN]
    signals.close()


def test_a_signal_from_anyone_but_logind_is_not_heard(address, service):
    stranger = open_dbus_connection(address)
    signals = PowerSignals(Bus(address))
    assert signals.changes() == []
    stranger.send(new_signal(MANAGER, "PrepareForShutdown", "b", (True,)))
    service.says("PrepareForSleep", starts=True)
    assert select.select([signals.fileno()], [], [], PATIENCE_S)[0]
    assert signals.changes() == [Power.SLEEPING]
    signals.close()
    stranger.close()


def test_a_whole_look_at_a_locked_session(logind, answers):
    answers[SESSION, "LockedHint"] = ("b", True)
    answers[SESSION, "IdleHint"] = ("b", True)
    collector = UsageCollector(Desktop(idle=(logind,), lock=logind, awake=(logind,)), {})
    (reading,) = Gatherer().gather(collector, FakeClock().now())
    assert (reading.locked, reading.idle_s, reading.idle_source) == (
        True,
        100,
        IdleSource.LOGIND,
    )
