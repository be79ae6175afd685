"""A release from the office to devices at a real broker and back, with a real centre's process."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from tests.configs import Signers
from tests.faults.rollout_devices import Fleet, path_of, register, wait_for
from tests.regions import Region

from ketang_center.rollouts.office import open_office
from ketang_center.rollouts.plan import Rules, State
from ketang_center.settings import read
from ketang_contract.config import Config
from ketang_contract.releases import write
from ketang_contract.state import ConfigState

pytestmark = [pytest.mark.slow, pytest.mark.mosquitto]
COUNT = 60


class Place:
    """A region with a running centre and broker, and its office."""

    def __init__(self, folder, count=COUNT):
        self.folder, self.names = folder, [f"d{at}" for at in range(count)]
        self.region = Region(folder)
        register(self.region, self.names)
        self.settings = self.region.settings()
        self.signers, self.last = Signers(self.region), None

    def office(self):
        return open_office(read(self.settings))

    def place(self, names=()):
        chosen = names or self.names
        made = [self.signers.placement(one, path_of(self.names.index(one))) for one in chosen]
        with self.office() as office:
            assert not office.take_placements(made, "publisher").refused

    def push(self, content, rules=None):
        self.last = self.signers.release("lan", "region", content, previous=self.last)
        with self.office() as office:
            one = office.admit(write(self.last), "publisher")
            no = office.begin(one.name, "publisher", rules)
            if one.widens:
                office.approve(no, "approver")
        return no

    def state(self, no):
        with self.office() as office:
            return office.look.rollout(no).state.value

    def counts(self, no):
        with self.office() as office:
            found = office.look.status(no).counts
        return {one.value: count for one, count in found.items() if count}

    def check_truth(self, fleet):
        with self.office() as office:
            for name, one in fleet.devices.items():
                assert office.look.console_state(name) == one.fake.report, name

    @contextmanager
    def running(self, names=(), **more):
        identities = self.folder / "identities"
        with (
            self.region.broker() as broker,
            self.region.center(),
            Fleet(self.region, identities, list(names or self.names), **more) as fleet,
        ):
            fleet.broker = broker
            yield fleet


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_release_is_committed_by_everybody_and_by_who_comes_late(place):
    place.place()
    with place.running(place.names[:50]) as fleet:
        no = place.push(Config(host_s=60))
        wait_for(lambda: place.counts(no).get("committed") == 50, "not all of them committed")
        wait_for(lambda: place.state(no) == "finished", "it did not finish")
        assert place.counts(no) == {"committed": 50, "pending": 10}
        with Fleet(place.region, place.folder / "late", place.names[50:]) as late:
            wait_for(lambda: place.counts(no) == {"committed": COUNT}, "the late ones lack it")
            assert None not in late.runs()
        assert fleet.tried() == {1: 50}
        place.check_truth(fleet)


def test_a_poisoned_release_stops_breaks_few_and_all_are_well_after_it_is_taken_back(place):
    chance = random.Random(5)
    poisoned = {name for name in place.names if chance.random() < 0.3}
    bad = [False]

    def answer(name):
        broken = bad[0] and name in poisoned
        return ConfigState.ROLLED_BACK if broken else ConfigState.COMMITTED

    place.place()
    with place.running(answer=answer) as fleet:
        good = place.push(Config(host_s=60))
        wait_for(lambda: place.state(good) == "finished", "the good one did not finish")
        before = fleet.runs()
        bad[0] = True
        no = place.push(Config(host_s=30))
        wait_for(lambda: place.state(no) == "paused", "the bad one did not stop")
        wait_for(lambda: not fleet.at_hand, "a device is still at it")
        broken = [
            one
            for one in fleet.devices.values()
            if one.fake.report.state is ConfigState.ROLLED_BACK
        ]
        assert 3 <= len(broken) <= 40
        assert {one.fake.report.running for one in broken} <= before
        bad[0] = False
        with place.office() as office:
            had = office.look.status(no).counts
            back = office.roll_back(no, "operator", "poisoned")
        given = sum(count for state, count in had.items() if state is not State.PENDING)
        wait_for(lambda: place.counts(back) == {"committed": given}, "not all were taken back")
        states = {one.fake.report.state for one in fleet.devices.values()}
        assert states == {ConfigState.COMMITTED}
        place.check_truth(fleet)


def test_a_broker_that_dies_in_mid_rollout_costs_time_alone(place):
    place.place()
    with place.running(trial_s=(0.3, 0.8)) as fleet:
        no = place.push(Config(host_s=60), Rules(groups=(10,), unresolved=6))
        wait_for(lambda: place.counts(no).get("committed", 0) > 8, "it does not move")
        fleet.broker.kill()
        fleet.broker.wipe_store()
        time.sleep(2)
        fleet.broker.start()
        wait_for(lambda: place.counts(no) == {"committed": COUNT}, "it does not go on")
        assert fleet.tried() == {1: COUNT}
        assert fleet.most_at_once <= 6


def test_a_school_whose_line_fails_in_trial_blames_nobodys_release(place):
    holding = [True]
    school = {name for at, name in enumerate(place.names) if _school_of(at) == "s1"}

    def answer(name):
        return None if holding[0] and name in school else ConfigState.COMMITTED

    place.place()
    with place.running(answer=answer) as fleet:
        no = place.push(Config(host_s=60), Rules(silence_s=20, alone_s=3600))
        wait_for(lambda: place.counts(no).get("committed", 0) >= 10, "the others do not commit")
        wait_for(lambda: place.counts(no).get("trial", 0) >= 10, "the school is not at it")
        with ThreadPoolExecutor(len(school)) as all_at_once:
            list(all_at_once.map(lambda name: fleet.devices[name].lose_line(), school))
        wait_for(lambda: place.counts(no).get("inconclusive", 0) >= 10, "it was not noticed")
        assert not place.counts(no).keys() & {"failed", "timed_out", "rejected"}
        assert place.state(no) == "running"
        holding[0] = False
        for name in school:
            fleet.devices[name].find_line()
        wait_for(lambda: place.counts(no) == {"committed": COUNT}, "they did not come back")
        place.check_truth(fleet)


def _school_of(at):
    return dict(path_of(at))["school"]
