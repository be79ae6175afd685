"""A real X server without a screen; the test plays the keyboard and the window manager."""

import os
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from tests.unit.agent.clocks import FakeClock

from ketang_agent.collectors.base import Gatherer, NotApplicable
from ketang_agent.collectors.usage import UsageCollector
from ketang_agent.platforms import linux_x11
from ketang_agent.platforms.base import Desktop
from ketang_agent.platforms.linux import desktop
from ketang_agent.platforms.linux_proc import executable_of
from ketang_agent.platforms.linux_x11 import X11, display_number
from ketang_contract.records import Category, IdleSource

COOKIE = bytes(range(16))
NOBODY = Path("/nonexistent")
PATIENCE_S = 30


def write_authority(path):
    """Write a cookie that holds for every display, as xauth would (Xau, big endian)."""
    fields = (b"", b"", b"MIT-MAGIC-COOKIE-1", COOKIE)
    entry = struct.pack(">H", 65535)
    path.write_bytes(entry + b"".join(struct.pack(">H", len(one)) + one for one in fields))
    return path


def start_server(authority, *arguments):
    """Start Xvfb; return the process and the display it chose (or was told)."""
    reading, writing = os.pipe()
    command = [
        "Xvfb",
        *arguments,
        "-displayfd",
        str(writing),
        "-screen",
        "0",
        "64x64x8",
        "-nolisten",
        "tcp",
        "-auth",
        str(authority),
    ]
    process = subprocess.Popen(
        command, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(writing)
    with os.fdopen(reading) as said:
        number = said.readline().strip()
    if not number:
        process.wait(PATIENCE_S)
        pytest.fail("Xvfb did not start")
    return process, f":{number}"


def stop(process):
    process.terminate()
    process.wait(PATIENCE_S)


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """How slowly a busy machine answers says nothing about what is tested."""
    monkeypatch.setattr(linux_x11, "_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def authority(tmp_path):
    return write_authority(tmp_path / "Xauthority")


@pytest.fixture
def display(authority):
    process, name = start_server(authority)
    yield name
    stop(process)


def be_the_window_manager(x11, pid):
    """Say that the root window is in front and belongs to ``pid``."""
    root = x11._open().root
    for name, kind, value in (("_NET_ACTIVE_WINDOW", 33, root), ("_NET_WM_PID", 6, pid)):
        request = struct.pack("<BBHIIIBxxxII", 18, 0, 7, root, x11._atom(name), kind, 32, 1, value)
        x11._open().stream.sendall(request)


@pytest.mark.xvfb
def test_idle_time_grows_and_a_key_ends_it(display, authority):
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is missing")
    x11 = X11(display, authority)
    while x11.idle_s() < 1:
        time.sleep(0.1)
    began_s = time.monotonic()
    environ = {**os.environ, "DISPLAY": display, "XAUTHORITY": str(authority)}
    subprocess.run(["xdotool", "key", "a"], env=environ, check=True, timeout=20)
    assert x11.idle_s() < time.monotonic() - began_s, "the last input came since"
    x11.close()


@pytest.mark.xvfb
def test_the_program_in_front_is_known_by_its_process(display, authority):
    x11 = X11(display, authority)
    assert x11.foreground_pid() is None
    be_the_window_manager(x11, os.getpid())
    assert x11.foreground_pid() == os.getpid()
    categories = {executable_of(os.getpid()): Category.WHITEBOARD}
    collector = UsageCollector(Desktop(idle=(x11,), foreground=x11), categories)
    (reading,) = Gatherer().gather(collector, FakeClock().now())
    assert (reading.category, reading.idle_source) == (Category.WHITEBOARD, IdleSource.XSCREENSAVER)
    x11.close()


@pytest.mark.xvfb
def test_a_window_that_closed_in_between_is_no_failure(display, authority):
    x11 = X11(display, authority)
    assert x11._number_property(0x7FFFFFF, "_NET_WM_PID") is None
    assert x11.idle_s() >= 0
    x11.close()


@pytest.mark.xvfb
def test_without_the_cookie_the_display_stays_closed(display):
    with pytest.raises(PermissionError):
        X11(display, NOBODY).idle_s()


@pytest.mark.xvfb
def test_a_server_that_dies_is_an_error_and_its_successor_is_found(authority):
    process, name = start_server(authority)
    x11 = X11(name, authority)
    assert x11.idle_s() >= 0
    stop(process)
    with pytest.raises(OSError, match=r".*"):
        x11.idle_s()
    process, _ = start_server(authority, name)
    assert x11.idle_s() >= 0
    x11.close()
    stop(process)


def test_a_server_that_hangs_does_not_hold_the_sampling(monkeypatch, tmp_path):
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / "X0"))
    silent.listen()

    def connect(_):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(0.05)
        stream.connect(str(tmp_path / "X0"))
        return stream

    monkeypatch.setattr(linux_x11, "_connect", connect)
    with pytest.raises(TimeoutError):
        X11(":0", NOBODY).idle_s()
    silent.close()


@pytest.mark.parametrize(("name", "number"), [(":0", 0), (":12.0", 12), ("unix:3", 3)])
def test_displays_of_this_machine_have_a_number(name, number):
    assert display_number(name) == number


@pytest.mark.parametrize("name", ["far:0", "10.0.0.1:0.0", "", ":", ":x", "localhost:10.0"])
def test_displays_of_other_machines_do_not_apply(name):
    with pytest.raises(NotApplicable):
        display_number(name)


def sources(environ):
    return [one.source for one in desktop(environ).idle]


def test_x11_is_asked_only_where_it_sees_all_input():
    x11 = {"DISPLAY": ":0", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}
    assert sources(x11) == [IdleSource.XSCREENSAVER, IdleSource.MUTTER, IdleSource.LOGIND]
    assert sources({**x11, "XDG_SESSION_TYPE": "wayland"})[0] is IdleSource.MUTTER
    assert sources({**x11, "WAYLAND_DISPLAY": "wayland-0"})[0] is IdleSource.MUTTER
    assert sources({}) == [IdleSource.LOGIND]
    assert sources({"DISPLAY": "far:0"}) == [IdleSource.LOGIND]
    assert desktop({}).foreground is None
