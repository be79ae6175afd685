"""The real agent, as its own process, on this machine's real readings."""

import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.flow.test_one_fact import BROKERS, DEVICE, PATIENCE_S, Classroom

import ketang_agent
from ketang_agent import doctor, settings
from ketang_agent.spool.store import Spool
from ketang_center.store.reading import StoreReader
from ketang_cli.local_broker import Kind
from ketang_contract.errors import BadInput

PATIENT = (
    "import sys, ketang_agent.service as service; service._GOOD_BYE_MS = 30_000;"
    "from ketang_cli.main import main; sys.exit(main(sys.argv[1:]))"
)
"""The agent as it is, but that a busy machine may take ten times as long over its good-bye."""
HEAVY = ("numpy", "cv2", "onnxruntime", "cryptography", "pydantic", "sqlite_utils", "asyncio")


def write_settings(room):
    identity = room.device_identity
    file = room.folder / "agent.toml"
    file.write_text(
        f'local_port = 0\nprofile = "teacher_pc"\n'
        f'device = "{DEVICE}"\ncenter_id = "{room.center_id}"\n'
        f'data_dir = "data"\nbroker_host = "127.0.0.1"\nbroker_port = {room.broker.port}\n'
        f'ca = "{identity.ca_file}"\ncertificate = "{identity.certificate_file}"\n'
        f'key = "{identity.key_file}"\n',
        encoding="utf-8",
    )
    return file


@pytest.mark.parametrize("kind", BROKERS)
def test_the_agent_tells_of_itself_and_says_good_bye(tmp_path, kind):
    room = Classroom(tmp_path, kind)
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


class Agent:
    """The agent's process; what it says of itself is asked as the command line asks it."""

    def __init__(self, file, program=("-m", "ketang_cli.main")):
        self.settings = settings.read(file)
        words = [sys.executable, *program, "agent", "run", "--settings", str(file)]
        self._log = file.with_suffix(".log")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(words, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    @property
    def log(self):
        return self._log.read_text()

    def wait_until_it_logs(self, wanted):
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in self.log and time.monotonic() < deadline:
            time.sleep(0.05)
        assert wanted in self.log
        assert self.process.poll() is None

    def wait_for(self, holds):
        said, deadline = None, time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            said, _ = doctor.ask(self.settings)
            if said is not None and holds(said):
                return said
            time.sleep(0.05)
        pytest.fail(f"never came to it: {said}")


@contextmanager
def classroom(folder, kind=Kind.NATS):
    room = Classroom(folder, kind)
    room.broker.start()
    room.start_center()
    try:
        yield room
    finally:
        room.stop_center()
        room.broker.stop()


def test_the_agents_page_tells_that_everything_arrived_and_goes_with_the_agent(tmp_path):
    with classroom(tmp_path) as room, Agent(write_settings(room)) as agent:
        said = agent.wait_for(lambda said: said["uplink"]["acked_at_ms"] is not None)
        assert said["uplink"]["connected"]
        assert said["camera"] == "off"
        checks = doctor.examine(agent.settings, datetime.now(UTC))
        assert not [one for one in checks if one.verdict is doctor.Verdict.WRONG]
        assert agent.end() == 0
    assert "local_page.open" in agent.log
    assert "Traceback" not in agent.log
    assert doctor.ask(agent.settings)[0] is None


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize("moment", ["local_page.open", "broker.connected"])
def test_an_agent_that_is_stopped_leaves_nothing_behind_that_the_centre_could_hear(
    tmp_path, kind, moment
):
    with (
        classroom(tmp_path, kind) as room,
        Agent(write_settings(room), ("-c", PATIENT)) as agent,
    ):
        agent.wait_until_it_logs(moment)
        assert agent.end() == 0
        with Spool(agent.settings.data_dir / "spool.db") as spool:
            assert next(spool.head(lane) for lane in spool.lanes()) >= 2
            assert not [lane for lane in spool.lanes() if spool.pending(lane)]


def test_an_agent_that_is_stopped_without_a_centre_ends_soon_and_keeps_all(tmp_path):
    with classroom(tmp_path) as room, Agent(write_settings(room)) as agent:
        agent.wait_for(lambda said: said["uplink"]["acked_at_ms"] is not None)
        room.stop_center()
        assert agent.end() == 0
        with Spool(agent.settings.data_dir / "spool.db") as spool:
            assert any(spool.pending(lane) for lane in spool.lanes())
        room.start_center()


def test_an_agent_whose_port_is_taken_goes_on_without_a_page(tmp_path):
    with classroom(tmp_path) as room, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        file = write_settings(room)
        port = taken.getsockname()[1]
        file.write_text(file.read_text().replace("local_port = 0", f"local_port = {port}"))
        with Agent(file) as agent:
            assert "event" in wait_for_kinds(room, {"event"})
            assert agent.end() == 0
    assert agent.log.count("local_page.none") == 1


def test_a_fault_and_the_camera_reach_the_centre_at_once_and_as_an_event(tmp_path):
    with classroom(tmp_path) as room:
        file = write_settings(room)
        text = file.read_text().replace("teacher_pc", "ifp")
        file.write_text(text + '[occupancy]\nsource = "gone.mp4"\n')
        with Agent(file) as agent:
            agent.wait_for(lambda said: "worker_failing" in said["faults"])
            deadline = time.monotonic() + PATIENCE_S
            with StoreReader(room.folder / "center") as reading:
                while time.monotonic() < deadline:
                    told = [one for one in reading.presence() if one.faults]
                    if told:
                        break
                    time.sleep(0.05)
            assert [(one.faults, one.camera) for one in told] == [(("worker_failing",), "failed")]
            assert agent.end() == 0
        with StoreReader(room.folder / "center") as reading:
            rows = [
                row.record.body
                for dirty in reading.take_dirty(100)
                for row in reading.bucket(dirty.device, dirty.subject, dirty.hour)
            ]
        raised = [one.fault for one in rows if getattr(one, "name", "") == "fault_raised"]
        assert raised == ["worker_failing"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes; only root may make one."""
    at = tmp_path / "data"
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "ketang-test", at]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield at
    subprocess.run(["umount", at], check=True)


@pytest.mark.slow
def test_an_agent_started_on_a_full_disk_waits_for_room_and_then_tells_everything(
    tmp_path, small_disk
):
    ballast = small_disk / "ballast"
    fill(ballast)
    with classroom(tmp_path) as room, Agent(write_settings(room)) as agent:
        agent.wait_until_it_logs("spool.failing")
        ballast.unlink()
        assert "event" in wait_for_kinds(room, {"event"})
        fill(ballast)
        assert agent.end() == 0, "a disk that is full at the end is no crash either"
    assert "Traceback" not in agent.log


def fill(file):
    """Write until the disk is full to the last block."""
    with file.open("wb", buffering=0) as sink:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    sink.write(b"x" * size)


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
        ('device = "Panel 1"', "device: 'Panel 1' is not accepted; accepted: a-z"),
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
