"""One config's walk: signed, admitted, sent, judged, tried, committed, reported, shown.

Real broker, centre and agent processes. What the console shows is what the device holds at rest.
"""

import json
import subprocess
import time
from contextlib import contextmanager

import pytest
from tests.configs import PATH, Signers
from tests.regions import KETANG, Region, enroll

from ketang_center import settings as center_settings
from ketang_center.rollouts.office import open_office
from ketang_contract.config import Config, Level
from ketang_contract.releases import write
from ketang_contract.state import ConfigState

pytestmark = pytest.mark.mosquitto
PATIENCE_S = 120


def wait_for(condition, what, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)
    return found


class Site:
    """One device of a region with its broker and centre; ``office`` is what an operator has."""

    def __init__(self, folder):
        self.region = Region(folder)
        (self.asset,) = self.region.register(1)
        self.device = self.asset.device
        self.folder = self.region.device_folder(folder / "device")
        self.kit = self.region.kit(folder / "kit", self.region.code())
        self.signers = Signers(self.region)

    def enroll(self):
        made = enroll(self.folder, "--kit", str(self.kit), "--serial", self.asset.serial)
        assert made.returncode == 0, made.stderr

    @contextmanager
    def agent(self):
        with (self.folder / "agent.log").open("ab") as log:
            process = subprocess.Popen(
                [*KETANG, "agent", "run", "--settings", str(self.folder / "agent.toml")],
                stderr=log,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)

    @contextmanager
    def office(self):
        file = self.region.center_folder / "center-test.toml"
        with open_office(center_settings.read(file)) as office:
            yield office

    def place(self, *least):
        with self.office() as office:
            path = (*PATH,)
            taken = office.take_placements([self.signers.placement(self.device, path, least)], "li")
            assert not taken.refused

    def trust_published(self, raw):
        """Lay the next trust document where the centre hands documents out."""
        (self.region.center_folder / "trust.json").write_bytes(raw)

    def roll_out(self, release, who="li", approver="wang"):
        with self.office() as office:
            admitted = office.admit(write(release), who)
            number = office.begin(admitted.name, who)
            if office.look.status(number).rollout.state == "awaiting":
                office.approve(number, approver)
            return number

    @property
    def held(self):
        """What the device itself has on disk."""
        try:
            said = json.loads((self.folder / "data" / "remote" / "remote.json").read_bytes())
        except FileNotFoundError:
            return {"state": None, "running": None, "in_force": {}}
        return said["machine"]

    def shown(self):
        with self.office() as office:
            return office.look.console_state(self.device)

    def settled(self, state, of=""):
        """Wait until the console says so; the device must hold the same."""

        def agrees():
            shown = self.shown()
            return shown if shown is not None and shown.state == state else None

        shown = wait_for(agrees, f"{state} {of}: {self.held['state']}")
        held = self.held
        assert (shown.running, shown.desired, shown.state.value) == (
            held["running"],
            held["desired"],
            held["state"],
        )
        return shown


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    with made.region.broker(), made.region.center():
        made.enroll()
        yield made
    assert "Traceback" not in made.region.log()
    log = made.folder / "agent.log"
    assert not log.exists() or "Traceback" not in log.read_text()


def test_a_release_is_tried_committed_and_shown_and_its_undo_brings_back_all_but_the_narrowing(
    site,
):
    with site.agent():
        site.place()
        wider = Config(host_s=30, network_s=120, log_level="debug")
        first = site.signers.release("lan", Level.REGION, wider)
        site.roll_out(first)
        shown = site.settled(ConfigState.COMMITTED)
        assert site.held["in_force"]["host_s"] == 30
        assert [(one.target, one.version) for one in shown.layers] == [("lan", 1)]
        # A school narrows by its own key, and nobody else's.
        key, trust = site.signers.add_key("s1")
        site.trust_published(trust)
        narrow = site.signers.release("s1", Level.SCHOOL, Config(usage_s=0), keys=[key])
        number = site.roll_out(narrow, who="head")
        wait_for(lambda: len(site.shown().layers) == 2, "two layers")
        site.settled(ConfigState.COMMITTED)
        assert site.held["in_force"]["usage_s"] == 0
        # What one person narrowed, taking it back does not widen.
        with site.office() as office:
            office.roll_back(number, "head")
        wait_for(
            lambda: ("s1", 2) in {(one.target, one.version) for one in site.shown().layers},
            "the undo",
        )
        site.settled(ConfigState.COMMITTED)
        assert site.held["in_force"]["usage_s"] == 0
        assert site.held["in_force"]["host_s"] == 30


def test_a_device_that_was_away_converges_when_it_is_back_and_a_dead_centre_loses_nothing(site):
    site.place()
    first = site.signers.release("lan", Level.REGION, Config(host_s=120))
    site.roll_out(first)
    with site.agent():
        site.settled(ConfigState.COMMITTED)
        assert site.held["in_force"]["host_s"] == 120
    second = site.signers.release("lan", Level.REGION, Config(host_s=240), previous=first)
    site.roll_out(second)
    with site.agent():
        wait_for(lambda: site.held["in_force"].get("host_s") == 240, "the second release")
        shown = site.settled(ConfigState.COMMITTED)
        assert [(one.target, one.version) for one in shown.layers] == [("lan", 3)]


def test_what_one_holder_signed_widens_nothing_and_is_told(site):
    """The centre refuses to relay it. What a device does with it: tests/security."""
    site.place()
    one = site.signers.release("lan", Level.REGION, Config(host_s=5), holders=1)
    with pytest.raises(Exception, match="two"):
        site.roll_out(one)
