"""A signed, valid configuration that ends the agent or fails: the device is back by itself.

The agent's own process, a real broker, the centre's own ingest. A supervisor restarts the agent as
systemd does, but after one second and not after five; what that adds, three restarts at the most,
is 12 s. In some runs nobody is reachable from the moment the trial began; in some the agent is
killed in its trial, or the power goes and with it all that was not flushed, and the boot is another
one. ``KETANG_BAD_CONFIG_RUNS`` sets how many runs there are, on ``KETANG_BAD_CONFIG_LANES`` devices
at a time; how they went is printed. Trials that hang or fail are hurried here, and take as long as
they take in ``make soak``.
"""

import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import Empty, Queue

import pytest

from ketang_center import settings as center_settings
from ketang_center.ingest.subscriber import Subscriber
from ketang_cli.local_broker import Kind, LocalBroker, find_broker, free_port
from ketang_contract import topics
from ketang_contract.config import Config, Level
from ketang_contract.layers import Desired, write_desired
from tests.configs import PATH, Signers
from tests.faults.spoiled_agent import Breaks, Spoiled
from tests.regions import Region, enroll

pytestmark = pytest.mark.mosquitto

RUNS = int(os.environ.get("KETANG_BAD_CONFIG_RUNS", "4"))
LANES = int(os.environ.get("KETANG_BAD_CONFIG_LANES", "2"))
PATIENCE_S = 120
RESTART_S = 1.0
BACK_S, RESTARTS = 60, 3
GOOD = Config(host_s=60, network_s=30)
AT_ONCE = (Breaks.EXIT, Breaks.EXIT_AT_ONCE, Breaks.ABORT, Breaks.SEGFAULT)


def wait_for(condition, what, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)
    return found


class Centre(Subscriber):
    """The centre's ingest, in a thread; what devices report is kept for the test."""

    def __init__(self, ear, folder):
        super().__init__(ear, folder)
        self.reported = {}
        self.thread = threading.Thread(target=self.run)

    def _take(self, worker, group):
        for one, _ in group:
            if one.topic.endswith(topics.REPORTED):
                self.reported[topics.parse(one.topic).device] = json.loads(one.payload)["config"]
        super()._take(worker, group)

    def bring(self, device, raw):
        self._client.publish(topics.of(device, topics.DESIRED), raw, qos=1, retain=True)


class Agent:
    """The agent under a supervisor that restarts it; its lives are counted."""

    def __init__(self, lane, *, hurries=False, cuts=()):
        self.lane, self.hurries, self.cuts = lane, hurries, dict(cuts)
        self.lives = self.boots = self.cut = 0
        self._killed = False
        self._at = 0.0
        self._start()

    def look(self):
        """Do what systemd would do now."""
        code = self.process.poll()
        if code is None:
            return
        if not self._at:
            cut = code == -signal.SIGKILL and not self._killed
            self.cut += cut
            self.boots += cut
            self._at = time.monotonic() + RESTART_S
        if time.monotonic() >= self._at:
            self._at = 0.0
            self._start()

    @property
    def runs(self):
        return self.process.poll() is None

    def kill(self):
        if self.runs:
            self._killed = True
            self.process.kill()
            self.process.wait()

    def end(self):
        if self.runs:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self):
        folder, lane = self.lane.folder, self.lane
        root = folder / "root"
        boot = root / "proc/sys/kernel/random/boot_id"
        boot.parent.mkdir(parents=True, exist_ok=True)
        boot.write_text(f"boot-{self.boots}\n", "ascii")
        said = folder / "spoiled.json"
        Spoiled(
            root=str(root),
            data_dir=str(lane.device_folder / "data"),
            hurries=self.hurries,
            cut_at=self.cuts.pop(self.lives, 0),
        ).write(said)
        words = "agent", "run", "--settings", str(lane.device_folder / "agent.toml")
        with lane.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.spoiled_agent", str(said), *words],
                stderr=log,
            )
        self.lives += 1
        self._killed, self.since = False, time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run does to a device."""

    breaks: Breaks
    alone: bool = False
    """The broker is gone from the moment the trial began until the device is back."""
    kills: dict[int, float] = field(default_factory=dict)
    """By life, the trial's first being 0: how long after its begin it is killed."""
    cuts: dict[int, int] = field(default_factory=dict)
    """By life: at which call to the disk in a trial the power goes."""
    hurries: bool = False


@dataclass(frozen=True, kw_only=True)
class Went:
    """How a run went. ``back_s``: from the trial's begin to the good one in force."""

    plan: Plan
    back_s: float
    restarts: int
    kills: int
    cuts: int
    state: str
    reason: str

    @property
    def own(self):
        """Restarts that were not made by killing it, or cutting its power."""
        return self.restarts - self.kills - self.cuts


class Lane:
    """One device with a broker and an ingest of its own."""

    def __init__(self, scene, number, asset):
        self.scene, self.device = scene, asset.device
        self.folder = scene.folder / f"lane-{number}"
        self.folder.mkdir()
        self.enrolled = scene.region.device_folder(self.folder / "enrolled")
        kit = scene.region.kit(self.folder / "kit", scene.code)
        made = enroll(self.enrolled, "--kit", str(kit), "--serial", asset.serial)
        assert made.returncode == 0, made.stderr
        self.port = free_port()
        settings = self.enrolled / "agent.toml"
        said = re.sub(r"broker_port = \d+", f"broker_port = {self.port}", settings.read_text())
        said = re.sub(r"local_port = \d+\n", "", said)
        settings.write_text(f"local_port = 0\n{said}")
        self.device_folder = self.folder / "device"
        self.log = self.folder / "agent.log"
        self.data, self.known = self.folder / "center", self.folder / "center-before"
        self.good = self.bundle(scene.good)

    def bundle(self, release):
        place = self.scene.signers.placement(self.device, PATH)
        return write_desired(Desired(placement=place, layers=(release.layer,)))

    @contextmanager
    def broker(self):
        region = self.scene.region
        made = LocalBroker(
            self.folder / "broker",
            region.broker_identity,
            program=find_broker(Kind.MOSQUITTO),
            port=self.port,
            host=region.host,
            crl_file=region.crl,
        )
        with made:
            centre = Centre(self.scene.ear(self.port), self.data)
            centre.thread.start()
            try:
                wait_for(centre._client.is_connected, "the centre's ear")
                yield centre
            finally:
                centre.stop()
                centre.thread.join()

    @property
    def held(self):
        """What the device has on disk."""
        try:
            said = (self.device_folder / "data" / "remote" / "remote.json").read_bytes()
            self._seen = json.loads(said)["machine"]
        except FileNotFoundError:
            return {"state": "factory", "running": None, "candidate": None}
        except ValueError:
            pass  # the power is just going, and what was lost is being put back
        return self._seen

    def in_trial(self):
        one = self.held["candidate"]
        return one is not None and one["phase"] == "trial"

    def prepare(self):
        """Have the good configuration committed once; every run begins from there."""
        shutil.copytree(self.enrolled, self.device_folder)
        with self.broker() as centre:
            agent = Agent(self)
            try:
                centre.bring(self.device, self.good)
                wait_for(lambda: self.held["state"] == "committed", "the good one")
            finally:
                agent.end()
        shutil.rmtree(self.enrolled)
        self.device_folder.rename(self.enrolled)
        self.data.rename(self.known)

    def run(self, plan):
        """Bring the bad one, do what is planned, and wait for the good one."""
        with self.started(plan) as (agent, broker, centre):
            good = self.held["running"]
            centre.bring(self.device, self.bundle(self.scene.bad[plan.breaks]))
            wait_for(lambda: agent.look() or self.in_trial(), f"a trial of {plan}")
            began, life, cut = time.monotonic(), agent.lives, agent.cut
            if plan.alone:
                broker.close()
            back_s, kills = self._wait_until_back(plan, agent, good, began)
            restarts = agent.lives - life
            broker.close()
            with self.broker() as listening:
                said = self._reported(agent, listening, good)
        return Went(
            plan=plan,
            back_s=back_s,
            restarts=restarts,
            kills=kills,
            cuts=agent.cut - cut,
            state=said["state"],
            reason=said.get("reason", ""),
        )

    @contextmanager
    def started(self, plan):
        """The device with its good configuration, connected; its broker and centre."""
        shutil.rmtree(self.device_folder, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.enrolled, self.device_folder)
        shutil.copytree(self.known, self.data)
        self.log.write_bytes(b"")
        with ExitStack() as broker:
            centre = broker.enter_context(self.broker())
            centre.bring(self.device, self.good)
            agent = Agent(self, hurries=plan.hurries, cuts=plan.cuts)
            try:
                wait_for(lambda: centre.reported.get(self.device), "the device is there")
                wait_for(lambda: self.held["state"] == "committed", "still good")
                yield agent, broker, centre
            finally:
                agent.end()

    def _wait_until_back(self, plan, agent, good, began):
        kills, left, first = 0, dict(plan.kills), agent.lives

        def is_back():
            nonlocal kills
            agent.look()
            held = self.held
            if held["candidate"] is None or held["candidate"]["phase"] != "trial":
                assert held["running"] == good
                return agent.runs
            life = agent.lives - first
            lasted_s = time.monotonic() - max(agent.since, began)
            if agent.runs and lasted_s > left.get(life, PATIENCE_S):
                del left[life]
                agent.kill()
                kills += 1
            return False

        wait_for(is_back, f"back from {plan}: {self.held}")
        return time.monotonic() - began, kills

    def _reported(self, agent, centre, good):
        """Wait until the centre heard what the device holds, and hold the device to it."""

        def agrees():
            agent.look()
            held, said = self.held, centre.reported.get(self.device)
            if said is None or not agent.runs:
                return None
            if held["state"] not in {"rolled_back", "inconclusive"}:
                return None  # the broker showed it the same once more, and that is being judged
            same = all(said.get(name) == held[name] for name in ("state", "running", "desired"))
            return said if same else None

        said = wait_for(agrees, f"reported: {self.held}")
        assert said["running"] == good
        assert self.held["in_force"]["host_s"] == GOOD.host_s
        return said


class Scene:
    """A region whose devices run a good configuration, and releases that break them."""

    def __init__(self, folder):
        self.folder, self.region = folder, Region(folder)
        assets = self.region.register(LANES)
        self.code = self.region.code()
        self.signers = Signers(self.region)
        self.good = self.signers.release("lan", Level.REGION, GOOD)
        self.also_good = self.signers.release(
            "lan", Level.REGION, Config(host_s=60, network_s=20), previous=self.good
        )
        self.bad = {
            one: self.signers.release(
                "lan", Level.REGION, Config(host_s=one, network_s=30), previous=self.good
            )
            for one in Breaks
        }
        with self.region.center():
            self.lanes = [Lane(self, number, one) for number, one in enumerate(assets)]
        for one in self.lanes:
            shutil.copytree(self.region.data_dir, one.data)

    def ear(self, port):
        made = center_settings.read(self.region.center_folder / "center-test.toml").ear
        return type(made)(
            made.host, port, made.ca_file, made.certificate_file, made.key_file, made.name
        )

    def run(self, plans):
        """Run every plan, as many at a time as there are lanes."""
        waiting, went, troubles = Queue(), [], []
        for one in plans:
            waiting.put(one)

        def work(lane):
            try:
                while True:
                    went.append(lane.run(waiting.get_nowait()))
            except Empty:
                return
            except BaseException as problem:  # noqa: BLE001  (told by the test)
                troubles.append((problem, lane.log.read_text("utf-8", "replace")[-3000:]))

        threads = [threading.Thread(target=work, args=(one,)) for one in self.lanes]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert not troubles, troubles
        return went


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Scene(tmp_path_factory.mktemp("bad-config"))
    for one in made.lanes:
        one.prepare()
    return made


def drawn(count, seed=5):
    """Draw so many runs, every third with a kill, every third with a power cut."""
    chance = random.Random(seed)
    for at in range(count):
        cuts, kills = {}, {}
        if at % 3 == 1:
            # a life of a restarted one ends by itself within half a second
            kills = {one: chance.uniform(0, 0.5) for one in range(1, chance.randint(2, 4))}
        elif at % 3 == 2:
            cuts = {chance.randint(0, 2): chance.randint(1, 8)}
        yield Plan(
            breaks=AT_ONCE[at % len(AT_ONCE)],
            alone=at % 2 == 1,
            kills=kills,
            cuts=cuts,
        )


def told(went):
    """Print how runs went."""
    back_s = sorted(one.back_s for one in went)
    p95_s = (
        statistics.quantiles(back_s, n=20, method="inclusive")[-1] if len(back_s) > 1 else back_s[0]
    )
    print(  # noqa: T201
        f"\n{len(went)} runs: back in {min(back_s):.1f} to {max(back_s):.1f} s, p95 {p95_s:.1f} s;"
        f" restarts {sorted({one.own for one in went})} besides"
        f" kills {sum(one.kills for one in went)}, power cuts {sum(one.cuts for one in went)},"
        f" alone {sum(one.plan.alone for one in went)}, told as"
        f" {sorted({(one.state, one.reason) for one in went})}"
    )


def test_a_config_that_ends_the_agent_is_given_up_and_the_last_good_one_is_back(scene):
    went = scene.run(drawn(RUNS))
    told(went)
    assert len(went) == RUNS
    late = [one for one in went if one.back_s > BACK_S or one.own > RESTARTS]
    assert not late
    assert {(one.state, one.reason) for one in went} == {("rolled_back", "crashed")}


HURRIED = pytest.param(True, id="hurried")
AS_IT_IS = pytest.param(False, id="as it is", marks=pytest.mark.soak)


@pytest.mark.parametrize("hurries", [HURRIED, AS_IT_IS])
def test_a_config_that_hangs_or_fails_is_given_up_too(scene, hurries):
    plans = (
        Plan(breaks=Breaks.HANG, alone=True, hurries=hurries),
        Plan(breaks=Breaks.FAIL, kills={0: 1.0}, hurries=hurries),
    )
    went = scene.run(plans)
    told(went)
    assert not [one for one in went if one.back_s > BACK_S or one.own > RESTARTS]
    assert {(one.plan.breaks, one.state, one.reason) for one in went} == {
        (Breaks.HANG, "rolled_back", "crashed"),
        (Breaks.FAIL, "rolled_back", "collector_failing"),
    }
    assert any("Timeout (" in lane.log.read_text("utf-8", "replace") for lane in scene.lanes)


def test_a_config_that_only_narrows_and_ends_the_agent_leaves_one_that_can_still_be_told(scene):
    lane, bad = scene.lanes[0], scene.bad[Breaks.EXIT_NARROWED]
    with lane.started(Plan(breaks=Breaks.EXIT_NARROWED)) as (agent, _, centre):
        centre.bring(lane.device, lane.bundle(bad))
        began = time.monotonic()
        wait_for(lambda: agent.look() or lane.held["in_force"]["host_s"] == 0, "the last resort")
        assert time.monotonic() - began < BACK_S
        assert agent.lives - 1 <= 2 * RESTARTS
        wait_for(
            lambda: agent.look() or centre.reported[lane.device]["state"] == "rolled_back",
            "told of it",
        )
        assert agent.runs
        mended = scene.signers.release("lan", Level.REGION, GOOD, previous=bad)
        centre.bring(lane.device, lane.bundle(mended))
        wait_for(lambda: agent.look() or lane.held["state"] == "committed", "the mended one")
        assert lane.held["in_force"]["host_s"] == GOOD.host_s
        assert agent.runs


@pytest.mark.parametrize("cuts", [{0: 8}, {1: 5}], ids=["cut", "killed and cut"])
def test_a_good_config_is_committed_though_its_trial_was_interrupted(scene, cuts):
    lane, chance = scene.lanes[0], random.Random(len(cuts))
    with lane.started(Plan(breaks=Breaks.FAIL, cuts=cuts)) as (agent, _, centre):
        centre.bring(lane.device, lane.bundle(scene.also_good))
        wait_for(lambda: agent.look() or lane.in_trial(), "its trial")
        if 0 not in cuts:
            time.sleep(chance.uniform(0, 0.3))
            agent.kill()
        wait_for(lambda: agent.look() or lane.held["state"] == "committed", "its commit")
        assert lane.held["in_force"]["network_s"] == 20
        wait_for(
            lambda: agent.look() or centre.reported[lane.device]["state"] == "committed", "told"
        )
        assert agent.lives == 1 + len(cuts) + (0 not in cuts)


@pytest.mark.soak
def test_a_config_that_ends_the_agent_after_its_commit_is_given_up_too(scene):
    lane = scene.lanes[0]
    with lane.started(Plan(breaks=Breaks.EXIT_LATER)) as (agent, _, centre):
        centre.bring(lane.device, lane.bundle(scene.bad[Breaks.EXIT_LATER]))
        good = lane.held["running"]
        wait_for(lambda: agent.look() or lane.held["running"] != good, "its commit")
        began = time.monotonic()
        wait_for(lambda: agent.look() or lane.held["running"] == good, "the good one again")
        print(f"\nback {time.monotonic() - began:.1f} s after its commit")  # noqa: T201
        assert agent.lives - 1 == RESTARTS
        wait_for(
            lambda: agent.look() or centre.reported[lane.device].get("reason") == "crashed_later",
            "told of it",
        )
