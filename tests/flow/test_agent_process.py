"""The real agent, as its own process, on this machine's real readings."""

import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from tests.flow.test_one_fact import DEVICE, PATIENCE_S, Classroom

import ketang_agent
from ketang_agent import settings
from ketang_center.store.reading import StoreReader
from ketang_contract.errors import BadInput

HEAVY = ("numpy", "cv2", "onnxruntime", "cryptography", "pydantic", "sqlite_utils", "asyncio")


def write_settings(room):
    identity = room.device_identity
    file = room.folder / "agent.toml"
    file.write_text(
        f'device = "{DEVICE}"\ncenter_id = "{room.center_id}"\nprofile = "teacher_pc"\n'
        f'data_dir = "data"\nbroker_host = "127.0.0.1"\nbroker_port = {room.broker.port}\n'
        f'ca = "{identity.ca_file}"\ncertificate = "{identity.certificate_file}"\n'
        f'key = "{identity.key_file}"\n',
        encoding="utf-8",
    )
    return file


@pytest.mark.mosquitto
def test_the_agent_tells_of_itself_and_says_good_bye(tmp_path):
    room = Classroom(tmp_path)
    room.broker.start()
    room.start_center()
    agent = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ketang_cli.main",
            "agent",
            "run",
            "--settings",
            write_settings(room),
        ]
    )
    try:
        kinds = wait_for_kinds(room, {"event", "inventory"})
        assert {"event", "inventory"} <= kinds
        status = Path(f"/proc/{agent.pid}/maps").read_text()
        assert not [name for name in ("numpy", "onnxruntime", "pydantic_core") if name in status]
    finally:
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0
    with StoreReader(room.folder / "center") as reading:
        deadline = time.monotonic() + PATIENCE_S
        while reading.presence()[0].connected and time.monotonic() < deadline:
            time.sleep(0.05)
        assert reading.presence()[0].orderly
    room.stop_center()
    room.broker.stop()


def wait_for_kinds(room, wanted):
    kinds = set()
    deadline = time.monotonic() + PATIENCE_S
    with StoreReader(room.folder / "center") as reading:
        while not wanted <= kinds and time.monotonic() < deadline:
            time.sleep(0.1)
            for dirty in reading.take_dirty(100):
                rows = reading.bucket(dirty.device, dirty.subject, dirty.hour)
                kinds |= {row.record.body.kind for row in rows}
    return kinds


def test_the_supervisor_never_loads_what_is_heavy():
    code = (
        "import sys, ketang_agent.service, ketang_cli.agent;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_agents_version_is_the_packages():
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == ketang_agent.VERSION


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("device = ", "not TOML"),
        ('device = "Panel 1"', "center_id: a text is needed"),
        ('colour = "red"', "colour: unknown key"),
    ],
)
def test_wrong_settings_are_told_in_one_line(tmp_path, text, says):
    file = tmp_path / "agent.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=says) as caught:
        settings.read(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
