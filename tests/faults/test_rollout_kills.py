"""The centre killed in mid-rollout, again and again: nobody is skipped, nobody tries twice.

``KETANG_ROLLOUT_KILLS`` says how often; half of the kills come at a moment of chance, half right
after a transaction of the book, before anything it decided was sent.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from ketang_center.rollouts.office import open_office
from ketang_center.rollouts.plan import Rules
from ketang_center.settings import read
from ketang_contract.config import Config
from ketang_contract.releases import write
from tests.configs import Signers
from tests.faults.rollout_devices import Fleet, path_of, register, wait_for
from tests.regions import Region, _wait_for_port

KILLS = int(os.environ.get("KETANG_ROLLOUT_KILLS", "6"))
COUNT = 40
AT_ONCE = 5
RULES = Rules(groups=(10,), percents=(50, 100), unresolved=AT_ONCE, silence_s=120)


class Centre:
    """A real centre that can be killed, and what its people do."""

    def __init__(self, region):
        self.region, self.settings = region, region.settings()
        self.signers, self.process, self.last, self.numbers = Signers(region), None, None, []

    def start(self, die_at=0):
        command = [sys.executable, "-m", "tests.faults.dying_center", str(die_at)]
        with (self.region.folder / "center.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.settings)], stdout=subprocess.DEVNULL, stderr=log
            )
        with suppress(AssertionError):  # killed before it listens
            _wait_for_port(self.region.host, self.region.enrol_port, self.process)

    def kill(self):
        self.process.kill()
        return self.process.wait()

    def office(self):
        return open_office(read(self.settings))

    def place(self, names):
        with self.office() as office:
            made = [self.signers.placement(name, path_of(at)) for at, name in enumerate(names)]
            assert not office.take_placements(made, "publisher").refused

    def trust(self, holder):
        """Lay the next trust document beside those that lead to it; no hash tells of it."""
        file = self.region.center_folder / "trust.json"
        file.rename(file.with_name(f"trust-{self.signers.trust.version}.json"))
        file.write_bytes(self.signers.add_key("s1", holder)[1])

    def push(self):
        """Begin the next release; the fields change, so that each is another configuration."""
        content = Config(host_s=100 + len(self.numbers))
        self.last = self.signers.release("lan", "region", content, previous=self.last)
        with self.office() as office:
            one = office.admit(write(self.last), "publisher")
            no = office.begin(one.name, "publisher", RULES)
            if one.widens:
                office.approve(no, "approver")
        self.numbers.append(no)

    def state(self):
        with self.office() as office:
            return office.look.rollout(self.numbers[-1]).state.value

    def counts(self, no):
        with self.office() as office:
            return {one.value: count for one, count in office.look.status(no).counts.items()}


def _rage(centre, kills, chance):
    """Start the centre and kill it, until that was done often enough in mid-rollout."""
    while sum(kills.values()) < KILLS:
        if not centre.numbers or centre.state() == "finished":
            centre.push()
        how = "chance" if sum(kills.values()) % 2 else "commit"
        centre.start(die_at=chance.randint(1, 12) if how == "commit" else 0)
        if how == "commit":
            wait_for(
                lambda: centre.process.poll() is not None or centre.state() == "finished",
                "it neither died nor finished",
            )
        else:
            time.sleep(chance.uniform(0.0, 2.0))
        was = centre.state()
        assert was in {"running", "finished"}, was
        if centre.kill() == -signal.SIGKILL and was == "running":
            kills[how] += 1


@pytest.mark.slow
@pytest.mark.mosquitto
def test_a_centre_killed_in_mid_rollout_skips_nobody_and_has_nobody_try_twice(tmp_path):
    names = [f"d{at}" for at in range(COUNT)]
    region, kills = Region(tmp_path), {"chance": 0, "commit": 0}
    register(region, names)
    centre = Centre(region)
    centre.place(names)
    with region.broker(), Fleet(region, tmp_path / "identities", names) as fleet:
        try:
            _rage(centre, kills, random.Random(11))
            centre.start()
            wait_for(lambda: centre.state() == "finished", "it never finished")
            wait_for(lambda: not fleet.at_hand, "a device is still at it")
        finally:
            centre.kill()
        _check(centre, fleet)
    print(f"{kills} kills, {len(centre.numbers)} rollouts to {COUNT} devices")  # noqa: T201


@pytest.mark.slow
@pytest.mark.mosquitto
def test_a_centre_killed_while_it_brings_new_trust_documents_leaves_nobody_with_the_old(tmp_path):
    names = [f"d{at}" for at in range(COUNT)]
    region, chance, kills = Region(tmp_path), random.Random(5), 0
    register(region, names)
    centre = Centre(region)
    centre.place(names)
    with region.broker(), Fleet(region, tmp_path / "identities", names) as fleet:
        for one in fleet.devices.values():
            one.fake.report = replace(one.fake.report, trust_version=centre.signers.trust.version)
        try:
            centre.push()
            centre.start()
            wait_for(lambda: centre.state() == "finished", "it never finished")
            centre.kill()
            while kills < max(3, KILLS // 4):
                centre.trust(f"head-{kills}-{centre.signers.trust.version}")
                centre.start(die_at=chance.randint(1, 4))
                wait_for(
                    lambda: centre.process.poll() is not None or _all_led(centre, fleet),
                    "it neither died nor told everybody",
                )
                kills += centre.kill() == -signal.SIGKILL
            centre.start()
            wait_for(lambda: _all_led(centre, fleet), "a device was left behind")
        finally:
            centre.kill()
    assert max(fleet.tried()) == 1, "a device tried twice"
    assert fleet.attempts() == {0}


def _all_led(centre, fleet):
    latest = centre.signers.trust.version
    return all(one.fake.report.trust_version == latest for one in fleet.devices.values())


def _check(centre, fleet):
    for no in centre.numbers:
        assert centre.counts(no) == {"committed": COUNT}, "a device was skipped"
    assert fleet.tried() == {1: COUNT * len(centre.numbers)}, "a device tried twice, or never"
    assert fleet.attempts() == {0}
    assert fleet.most_at_once <= AT_ONCE
    with centre.office() as office:
        for name, one in fleet.devices.items():
            assert office.look.console_state(name) == one.fake.report
