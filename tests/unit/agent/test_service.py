"""The main loop: whatever the disk does to the spool, the agent goes on."""

import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest

from ketang_agent import doctor, service
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.settings import OccupancySettings, Settings
from ketang_agent.spool.values import Damaged
from ketang_agent.uplink.client import Broker
from ketang_contract.errors import BadInput
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


def test_without_its_certificate_it_says_so_in_one_line(tmp_path):
    settings = settings_in(tmp_path)
    settings.broker.certificate_file.unlink()
    with pytest.raises(BadInput, match="certificate"), service.Service(settings, "0.1.0"):
        pass
