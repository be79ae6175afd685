"""The agent changes its own release, side by side: a bad one, a kill or a power cut ends well.

Watcher, releases, trial and way back are the real ones; the agent is a reduced one
(``updated_agent``) on our own packages. The watcher and the first agent run from a release that
plays the installed one. Deadlines are short, but ``KETANG_REAL_DEADLINES=1`` takes the real ones.
"""

import json
import logging
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from shutil import copytree
from typing import NamedTuple

import pytest

from ketang_agent import versions
from ketang_agent.remote import state_file
from ketang_agent.remote.agent_store import Wanted, lay
from ketang_agent.versions import INSTALLED
from ketang_contract.config import Config
from ketang_contract.state import ConfigState
from tests import releases

log = logging.getLogger(__name__)

REAL = os.environ.get("KETANG_REAL_DEADLINES") == "1"
WATCHER_MS, CONFIG_MS = (90_000, 40_000) if REAL else (9_000, 3_000)
DIES_S = 5.0 if REAL else 0.7
DYING_MS = 40_000 if REAL else 15_000
"""A configuration's deadline that leaves time for every death."""
KILLS = int(os.environ.get("KETANG_UPDATE_KILLS", "4"))
"""Single kills, spread over the writes of an update (100: one at each), and kills in the storm."""
SEED = int(os.environ.get("KETANG_SEED", "1"))
BACK_S = 120
PATIENCE_S = 60
OLD = "0.1.0"
WATCH = """
import sys
from pathlib import Path
from ketang_agent import VERSION
from ketang_agent.watch import Watched, Watcher
from ketang_cli.main import kill_at_a_write
folder = Path(sys.argv[1])
kill_at_a_write(folder)
words = ("-P", "-m", "ketang_cli.main", "agent", "run")
watched = Watched(folder=folder, words=words, installed=VERSION, trial_ms=int(sys.argv[2]))
sys.exit(Watcher(watched).run())
"""


class Release(NamedTuple):
    version: str
    sha256: str
    home: Path


BEHAVIOURS = {
    "0.2.0": "well",
    "0.3.0": "does not import",
    "0.4.0": "dies",
    "0.5.0": "never connects",
    "0.6.0": "hangs",
}


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    """Lay out every release once: those that misbehave do so only when they are started."""
    folder = tmp_path_factory.mktemp("releases")
    made = {}
    for version, behaviour in {OLD: "well", **BEHAVIOURS}.items():
        raw, sha256 = releases.archive_of([releases.reduced(folder, version, behaviour)], version)
        archive = folder / f"{version}.zip"
        archive.write_bytes(raw)
        home = lay(folder / "laid", archive, Wanted(version, sha256))
        made[version] = Release(version, sha256, home)
    return made


class Device:
    """A device with a watcher, and a service manager that starts the watcher again."""

    def __init__(self, folder, laid):
        self.folder, self.laid = folder / "versions", laid
        self.folder.mkdir()
        self.words = [
            versions.python_of(laid[OLD].home),
            *("-P", "-c", WATCH, str(self.folder), str(WATCHER_MS)),
        ]
        self.environment = {
            "PATH": os.environ["PATH"],
            "KETANG_TRIAL_MS": str(CONFIG_MS),
            "KETANG_DIES_S": str(DIES_S),
        }
        self.log = (folder / "log").open("a")
        self.watcher = None

    def bring(self, version):
        copytree(self.laid[version].home, self.folder / version, symlinks=True)

    def order(self, version, name="a" * 64, attempt=0):
        sha256 = self.laid[version].sha256 if version else "0" * 64
        said = {"version": version, "sha256": sha256, "hash": name, "attempt": attempt}
        draft = self.folder / "order.new"
        draft.write_text(json.dumps(said))
        draft.replace(self.folder / "order.json")

    def start(self):
        self.watcher = subprocess.Popen(
            self.words,
            env=self.environment,
            stderr=self.log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def keep_up(self):
        if self.watcher is None or self.watcher.poll() is not None:
            self.start()

    def stop(self):
        if self.watcher is not None and self.watcher.poll() is None:
            self.watcher.terminate()
            self.watcher.wait(PATIENCE_S)
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.log.close()

    @property
    def standing(self):
        return versions.standing(self.folder, OLD)

    @property
    def machine(self):
        return state_file.read(self.folder / "state", Config())

    def lives(self):
        """Every start of an agent: version, process, when."""
        with suppress(FileNotFoundError):
            said = (self.folder / "lives").read_text().splitlines()
            return [(version, int(pid), float(at_s)) for version, pid, at_s in map(str.split, said)]
        return []

    def alive(self):
        return {pid for _, pid, _ in self.lives() if _runs(pid)}

    def running(self):
        """The version that runs, when it is one agent and the last that was started."""
        lives, alive = self.lives(), self.alive()
        return lives[-1][0] if lives and alive == {lives[-1][1]} else None

    def until(self, happened, within_s=PATIENCE_S):
        deadline = time.monotonic() + within_s
        while not happened():
            assert time.monotonic() < deadline, (self.standing, self.machine, self.lives()[-9:])
            self.keep_up()
            time.sleep(0.02)

    def is_settled(self, version):
        now = self.standing
        return (
            self.running() == version
            and now.trial is None
            and now.current == ("" if version == OLD else version)
            and self.machine.candidate is None
        )


def _runs(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def device(tmp_path, laid):
    made = Device(tmp_path, laid)
    yield made
    made.stop()


def test_a_good_release_commits_and_an_order_for_the_old_one_goes_back(device):
    device.bring("0.2.0")
    device.until(lambda: device.running() == OLD)
    device.order("0.2.0")
    device.until(lambda: device.is_settled("0.2.0"))
    assert device.machine.state is ConfigState.COMMITTED
    assert versions.wish(device.folder).healthy == "0.2.0"
    assert device.standing.before == INSTALLED
    device.order("", name="b" * 64)
    device.until(lambda: device.is_settled(OLD))
    assert device.machine.state is ConfigState.COMMITTED
    assert device.machine.running == "b" * 64


@pytest.mark.parametrize(
    ("version", "state", "reason"),
    [
        ("0.3.0", ConfigState.ROLLED_BACK, "agent_crashed"),
        ("0.4.0", ConfigState.ROLLED_BACK, "crashed"),
        ("0.5.0", ConfigState.INCONCLUSIVE, "not_connected"),
        ("0.6.0", ConfigState.ROLLED_BACK, "agent_silent"),
    ],
    ids=["does not import", "dies", "never connects", "hangs"],
)
def test_a_bad_release_gives_way_to_the_old_one(device, version, state, reason):
    device.bring(version)
    if BEHAVIOURS[version] == "dies":
        device.environment["KETANG_TRIAL_MS"] = str(DYING_MS)
        device.words[-1] = str(2 * DYING_MS)
    device.until(lambda: device.running() == OLD)
    device.order(version)
    began_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    device.until(lambda: device.standing.trial is not None)
    device.until(lambda: device.running() == OLD and device.standing.trial is None, BACK_S)
    took_s = device.lives()[-1][2] - began_s
    log.info("version=%s back_s=%.1f", version, took_s)
    assert took_s <= BACK_S
    device.until(lambda: device.machine.state is state)
    assert device.machine.report.reason == reason
    assert device.standing.current == INSTALLED
    pid = device.lives()[-1][1]
    time.sleep(1)
    assert device.alive() == {pid}, "the old one does not ask for the bad one again"


def test_what_failed_is_tried_again_only_for_another_asking(device):
    device.bring("0.3.0")
    device.until(lambda: device.running() == OLD)
    device.order("0.3.0")
    device.until(lambda: device.machine.state is ConfigState.ROLLED_BACK)
    device.until(lambda: device.is_settled(OLD))
    assert len(device.standing.given_up) == 1
    device.order("0.3.0", attempt=1)
    device.until(lambda: len(device.standing.given_up) == 2)
    device.until(lambda: device.is_settled(OLD))


def test_a_stop_ends_watcher_and_agent_in_order(device):
    device.until(lambda: device.running() == OLD)
    device.until((device.folder / "state").exists)
    device.watcher.terminate()
    assert device.watcher.wait(PATIENCE_S) == 0
    assert device.alive() == set()
    assert device.machine.ended


def test_a_second_watcher_is_sent_away(device):
    device.until(lambda: device.running() == OLD)
    second = subprocess.run(
        device.words, env=device.environment, capture_output=True, timeout=30, check=False
    )
    assert second.returncode != 0
    assert b"another watcher is at work" in second.stderr
    assert device.running() == OLD


def test_an_agent_goes_on_without_its_watcher_until_the_next_one_comes(device):
    device.until(lambda: device.running() == OLD)
    [orphan] = device.alive()
    device.watcher.kill()
    device.watcher.wait()
    time.sleep(0.5)
    assert device.alive() == {orphan}
    device.until(lambda: device.running() == OLD and device.alive() != {orphan})


def test_a_release_whose_folder_is_gone_leaves_the_installed_one(device, tmp_path):
    device.bring("0.2.0")
    device.order("0.2.0")
    device.until(lambda: device.is_settled("0.2.0"))
    (device.folder / "0.2.0").rename(tmp_path / "elsewhere")
    for pid in device.alive():
        os.kill(pid, signal.SIGKILL)
    device.until(lambda: device.running() == OLD)


def writes_of_an_update(device):
    device.order("0.2.0")
    device.until(lambda: device.is_settled("0.2.0"))
    return (device.folder / "writes").stat().st_size


@pytest.mark.parametrize("moment", ["before", "after", "before power", "after power"])
def test_an_update_is_done_though_a_kill_falls_on_one_of_its_writes(tmp_path, laid, moment):
    chosen = [0]
    for number in count():
        (tmp_path / str(number)).mkdir()
        device = Device(tmp_path / str(number), laid)
        device.bring("0.2.0")
        device.environment["KETANG_KILL_AT"] = f"{chosen[number]} {moment}"
        try:
            writes = writes_of_an_update(device)
        finally:
            device.stop()
        if number == 0:
            step = max(1, writes // KILLS)
            chosen += range(1 + SEED % step, writes + 1, step)
        if number + 1 == len(chosen):
            break
    assert len(chosen) > min(KILLS, 3)


@pytest.mark.parametrize("version", ["0.2.0", "0.4.0"])
def test_whatever_is_killed_in_an_update_one_agent_runs_in_the_end(device, version):
    chance = random.Random(SEED)
    device.bring(version)
    device.until(lambda: device.running() == OLD)
    device.order(version)
    for _ in range(KILLS):
        until_s = time.monotonic() + chance.uniform(0.05, 2.0)
        device.until(lambda at_s=until_s: time.monotonic() > at_s)
        match chance.choice(["watcher", "agent", "power"]):
            case "watcher":
                device.watcher.kill()
                device.watcher.wait()
            case "agent":
                for pid in device.alive():
                    os.kill(pid, signal.SIGKILL)
            case "power":
                os.killpg(device.watcher.pid, signal.SIGKILL)
                device.watcher.wait()
                for pid in device.alive():  # one that an earlier watcher left has its own group
                    os.kill(pid, signal.SIGKILL)
        device.until(lambda: len(device.alive()) == 1)
    device.until(lambda: any(device.is_settled(one) for one in {OLD, version}))
    if version != "0.2.0":
        assert device.running() == OLD
