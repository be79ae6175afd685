"""The real watcher with the real agent: started as the service manager does, and stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.flow.test_agent_process import wait_for_kinds, write_settings
from tests.flow.test_one_fact import PATIENCE_S, Classroom

from ketang_center.store.reading import StoreReader
from ketang_cli.local_broker import Kind


def watching(settings, *more, **options):
    words = [sys.executable, "-m", "ketang_cli.main", "agent", "watch", "--settings", settings]
    return subprocess.Popen([*words, *more], **options)


def children_of(pid):
    said = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in said.split()]


def wait_for_child(watcher, other_than=0):
    deadline = time.monotonic() + PATIENCE_S
    while not (there := [one for one in children_of(watcher.pid) if one != other_than]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return there[0]


def test_the_agent_reports_under_its_watcher_and_says_good_bye_with_it(tmp_path):
    room = Classroom(tmp_path, Kind.NATS)
    room.broker.start()
    room.start_center()
    watcher = watching(write_settings(room))
    try:
        wait_for_kinds(room, {"event", "inventory"})
        agent = wait_for_child(watcher)
        words = Path(f"/proc/{watcher.pid}/cmdline").read_bytes()
        assert b"ketang_agent.watch" in words, "nothing of the command line stays with it"
    finally:
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(30) == 0
    assert not Path(f"/proc/{agent}").exists()
    with StoreReader(room.folder / "center") as reading:
        deadline = time.monotonic() + PATIENCE_S
        while reading.presence()[0].connected and time.monotonic() < deadline:
            time.sleep(0.05)
        assert reading.presence()[0].orderly
    room.stop_center()
    room.broker.stop()


@pytest.mark.parametrize("content", ["", "no = toml = at all"])
def test_a_mistake_in_the_settings_leaves_the_watcher_there_for_the_next_try(tmp_path, content):
    settings = tmp_path / "agent.toml"
    settings.write_text(content)
    watcher = watching(settings, "--versions", tmp_path / "side", stderr=subprocess.PIPE)
    try:
        first = wait_for_child(watcher)
        wait_for_child(watcher, other_than=first)
    finally:
        watcher.send_signal(signal.SIGTERM)
        _, said = watcher.communicate(timeout=30)
    assert watcher.returncode == 0
    assert b"agent.toml" in said, "the agent's own line is in the same log"
    assert (tmp_path / "side" / "watch.json").exists()
