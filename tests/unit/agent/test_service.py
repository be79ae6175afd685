"""The main loop: whatever the disk does to the spool, the agent goes on."""

import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ketang_agent import doctor, service
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.platforms.base import Power
from ketang_agent.settings import OccupancySettings, Settings
from ketang_agent.spool import guard
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Damaged
from ketang_agent.uplink.client import Broker
from ketang_contract.config import Config, ModelChoice
from ketang_contract.errors import BadInput
from ketang_contract.records import Stream
from ketang_provisioning.ca import ThrowawayAuthority

PATIENCE_S = 30


def settings_in(folder, **more):
    identity = ThrowawayAuthority(folder / "keys").client("panel-1")
    return Settings(
        **{
            "device": "panel-1",
            "center_id": "center-1",
            "profile": "ifp",
            "data_dir": folder / "data",
            "broker": Broker(
                "127.0.0.1", 1, identity.ca_file, identity.certificate_file, identity.key_file
            ),
            "local_port": 0,
            **more,
        }
    )


@contextmanager
def running(settings):
    """The whole agent on one thread, as the spool's connection wants it."""
    one, problems = service.Service(settings, "0.1.0"), []

    def whole_life():
        try:
            with one:
                one.run()
        except BaseException as problem:
            problems.append(problem)
            raise

    loop = threading.Thread(target=whole_life)
    loop.start()
    try:
        yield one, loop
    finally:
        one.stop()
        loop.join(PATIENCE_S)
        assert not loop.is_alive()
        assert problems == []


def wait_for(settings, holds):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        said, _ = doctor.ask(settings)
        if said is not None and holds(said):
            return said
        time.sleep(0.02)
    pytest.fail(f"never came to it: {said}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(service, "_REOPEN_S", 0.1)
    monkeypatch.setattr(service, "_CLOSE_S", 0.1)


@pytest.mark.parametrize(
    "problem", [sqlite3.OperationalError("disk I/O error"), Damaged("database disk image")]
)
def test_a_spool_that_fails_the_uplink_raises_a_fault_and_does_not_end_the_agent(tmp_path, problem):
    settings = settings_in(tmp_path)
    with running(settings) as (one, loop):
        wait_for(settings, lambda said: said["spool"]["lanes"])

        def fails(now):
            raise problem

        one._link.poll = fails
        said = wait_for(settings, lambda said: "spool_failing" in said["faults"])
        assert loop.is_alive()
        assert said["device"] == "panel-1"
        if isinstance(problem, Damaged):
            deadline = time.monotonic() + PATIENCE_S
            while getattr(one._link, "poll", fails) is fails and time.monotonic() < deadline:
                time.sleep(0.02)
            assert one._link.poll is not fails, "a new link stands on the new spool"
            wait_for(settings, lambda said: not said["spool"]["trouble"])


def test_the_page_goes_on_while_the_spool_cannot_be_opened(tmp_path, monkeypatch):
    settings = settings_in(tmp_path)
    settings.data_dir.mkdir()
    in_the_way = settings.data_dir / "spool.db"
    in_the_way.mkdir()
    with running(settings):
        said = wait_for(settings, lambda said: "spool_failing" in said["faults"])
        assert said["spool"]["trouble"]
        assert said["spool"]["unsaved"] >= 1
        in_the_way.rmdir()
        said = wait_for(settings, lambda said: not said["spool"]["trouble"])
        assert said["spool"]["unsaved"] == 0


def test_a_personal_device_never_counts_people(tmp_path):
    asked = OccupancySettings(source=str(tmp_path))
    settings = settings_in(tmp_path, profile="teacher_pc", occupancy=asked)
    with pytest.raises(BadInput, match="teacher_pc never counts people"):
        service.Service(settings, "0.1.0")


def test_a_source_that_is_gone_is_a_fault_and_the_rest_goes_on(tmp_path):
    asked = OccupancySettings(source=str(tmp_path / "gone.mp4"))
    settings = settings_in(tmp_path, occupancy=asked)
    with running(settings):
        said = wait_for(settings, lambda said: "worker_failing" in said["faults"])
        assert said["camera"] == "failed"
        assert {one["name"]: one["result"] for one in said["collectors"]}["occupancy"] == "failing"
        KillSwitch(settings.data_dir / "counting.switch").engage()
        wait_for(settings, lambda said: said["camera"] == "stopped")


def test_a_model_that_was_lost_is_missed_and_counts_again_once_it_is_back(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    settings = settings_in(tmp_path, occupancy=OccupancySettings(source=str(pictures)))
    one = service.Service(settings, "0.1.0")
    users = one._following._parts.bringing._users
    assert not users.model_fails()
    gone = Config(model=ModelChoice(name="mtcnn", version="9.0.0", sha256="a" * 64))
    one._heads.use(gone)
    one._heads.allow(allowed=True)
    assert users.model_fails()
    users.model_is_back()  # what applies is the profile's again: the model that was shipped
    one._heads.allow(allowed=True)
    assert not users.model_fails()
    one._heads.stop()


def test_a_child_that_is_ended_for_memory_does_not_end_the_service():
    unit = Path(__file__).parents[3] / "deploy" / "systemd" / "ketang-agent.service"
    told = unit.read_text("utf-8").splitlines()
    assert "OOMPolicy=continue" in told
    assert any(line.startswith("MemoryMax=") for line in told)


def test_without_its_certificate_it_says_so_in_one_line(tmp_path):
    settings = settings_in(tmp_path)
    settings.broker.certificate_file.unlink()
    with pytest.raises(BadInput, match="certificate"), service.Service(settings, "0.1.0"):
        pass


def test_damage_met_while_the_log_is_looked_at_has_the_spool_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "_HOUSEKEEPING_S", 0.1)
    settings = settings_in(tmp_path)
    with running(settings) as (one, _):
        wait_for(settings, lambda said: said["spool"]["lanes"])
        before = one._keeper.spool
        good = guard.measure

        def measure(spool):
            if spool is before:
                raise Damaged("database disk image is malformed")
            return good(spool)

        monkeypatch.setattr(guard, "measure", measure)
        deadline = time.monotonic() + PATIENCE_S
        while one._keeper.spool in (before, None) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert one._keeper.spool not in (before, None)


def test_a_shutdown_announced_just_before_the_stop_is_told(tmp_path, monkeypatch):
    class Announced:
        pending, asked = (), 0

        def fileno(self):
            return 0

        def changes(self):
            said, self.pending = self.pending, ()
            self.asked += 1
            return list(said)

    signals = Announced()
    monkeypatch.setattr(service, "power_signals", lambda: signals)
    monkeypatch.setattr(service, "_CLOSE_S", 600)
    settings = settings_in(tmp_path)
    with running(settings):
        deadline = time.monotonic() + PATIENCE_S
        while not signals.asked and time.monotonic() < deadline:
            time.sleep(0.02)
        signals.pending = (Power.SHUTTING_DOWN,)
    with Spool(settings.data_dir / "spool.db") as spool:
        lane = next(one for one in spool.lanes() if one.stream is Stream.EVENT)
        lines = [line for _, line in spool.read(lane, spool.pending(lane))]
    assert [name for name in ("shutdown", "agent_stopped") if name.encode() in b"".join(lines)] == [
        "shutdown",
        "agent_stopped",
    ]


def test_a_session_is_newer_than_the_last_even_when_the_spool_came_back_late(tmp_path, monkeypatch):
    settings = settings_in(tmp_path)
    with running(settings) as (one, _):
        wait_for(settings, lambda said: said["spool"]["lanes"])
        good, tries = one._keeper._open_spool, []

        def opens(path, now_ms):
            tries.append(path)
            if len(tries) == 1:
                raise OSError(28, "No space left on device")
            return good(path, now_ms)

        one._keeper._open_spool = opens
        link = one._link

        def fails(now):
            link.session = 10**15  # one that no disk took
            raise Damaged("database disk image is malformed")

        link.poll = fails
        deadline = time.monotonic() + PATIENCE_S
        while one._link in (link, None) and time.monotonic() < deadline:
            time.sleep(0.02)
        wait_for(settings, lambda said: said["uplink"]["session"] > 10**15)
        assert len(tries) == 2
