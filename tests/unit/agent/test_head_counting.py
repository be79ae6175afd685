"""How often people are counted as a configuration says, and what a trial may ask of a model."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ketang_agent.head_counting import HeadCounting
from ketang_agent.inference import supervise
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.remote.machine import Works
from ketang_agent.settings import OccupancySettings
from ketang_contract.config import Config
from ketang_contract.state import Camera
from ketang_profiles.profile import shipped

COUNTS = Config(inference=True, occupancy_s=300)


class Worker(SimpleNamespace):
    """What ``Counting`` tells of a worker, set by the test."""

    def __init__(self, plan, _switch):
        super().__init__(plan=plan, stopped=False, camera=Camera.COUNTING)
        self.is_blamed, self.looks, self.rests = False, 0, False

    def stop(self):
        self.stopped = True


class Room:
    def __init__(self, folder):
        asked = OccupancySettings(source=str(folder))
        switch = KillSwitch(folder / "counting.switch")
        self.heads = HeadCounting(asked, shipped("ifp"), switch, folder / "models")
        self.workers = []

    def counts(self, config):
        self.heads.use(config)
        self.heads.allow(allowed=True)
        return self.workers[-1]


@pytest.fixture
def room(tmp_path, monkeypatch):
    made = Room(tmp_path)

    def start(plan, switch):
        made.workers.append(Worker(plan, switch))
        return made.workers[-1]

    monkeypatch.setattr(supervise, "Counting", start)
    return made


@pytest.mark.parametrize(("said_s", "every_s"), [(300, 300), (900, 900), (1000, 1200)])
def test_people_are_counted_as_often_as_the_configuration_says(room, said_s, every_s):
    assert room.counts(replace(COUNTS, occupancy_s=said_s)).plan.every_s == every_s


def test_another_interval_begins_with_another_worker_and_the_same_one_does_not(room):
    first = room.counts(COUNTS)
    assert room.counts(replace(COUNTS, usage_s=30)) is first
    other = room.counts(replace(COUNTS, occupancy_s=600))
    assert first.stopped
    assert (other is not first, other.stopped) == (True, False)


def test_a_model_on_trial_is_waited_for_in_a_window_and_not_asked_between_two(room):
    """Else a trial of 40 s could never pass where people are counted once an hour."""
    worker = room.counts(replace(COUNTS, occupancy_s=3600))
    assert room.heads.works is Works.PENDING
    worker.rests = True
    assert room.heads.works is Works.NOT_ASKED
    worker.is_blamed = True
    assert room.heads.works is Works.NO, "it could not even be loaded"
    worker.is_blamed, worker.looks = False, 3
    assert room.heads.works is Works.YES
