"""Rollouts that meet on the same devices: none is forgotten for another's sake."""

import pytest
from tests.regions import Region
from tests.rollouts import Scene

from ketang_contract.config import Config
from ketang_contract.state import ConfigState

QUIET_STEPS = 2000
"""Until the engine has stopped finding out who is there, which would wake everything."""


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    return Region(tmp_path_factory.mktemp("region"))


@pytest.fixture
def scene(region, tmp_path):
    made = Scene(region, tmp_path / "scene", 6, 1)
    made.place()
    yield made
    made.close()


def test_devices_that_were_busy_get_the_other_release_when_they_are_free(scene):
    scene.steps(QUIET_STEPS)
    for one in scene.devices.values():
        one.answer = None
    county = scene.push(Config(host_s=60), target="lan-xian", level="county")
    scene.steps(4)
    region = scene.push(Config(host_s=90))
    scene.steps(4)
    for name, one in scene.devices.items():
        one.answer = ConfigState.COMMITTED
        last = [raw for device, raw in scene.published if device == name][-1]
        scene.inbox.hear(name, one.take(last), scene.now_ms)
    scene.steps(200)
    assert scene.counts(county) == {"committed": 6}
    assert scene.counts(region) == {"committed": 6}


def test_who_failed_one_release_gets_the_other_once_it_was_taken_back(scene):
    for one in scene.devices.values():
        one.answer = ConfigState.ROLLED_BACK
    county = scene.push(Config(host_s=60), target="lan-xian", level="county")
    scene.steps(40)
    region = scene.push(Config(host_s=90))
    scene.steps(QUIET_STEPS)
    for one in scene.devices.values():
        one.answer = ConfigState.COMMITTED
    undo = scene.office.roll_back(county, "li")
    scene.steps(400)
    assert scene.counts(undo) == {"committed": 6}
    assert scene.counts(region) == {"committed": 6}


def test_who_was_off_while_a_release_was_taken_back_loses_it_all_the_same(scene):
    first = scene.admit(Config(host_s=60))
    scene.begin(first)
    scene.steps(60)
    bad = scene.admit(Config(host_s=30), previous=first)
    number = scene.begin(bad)
    scene.steps(60)
    scene.leave("d0", orderly=True)
    scene.steps(2)
    undo = scene.office.roll_back(number, "li")
    scene.steps(60)
    third = scene.push(Config(host_s=45), previous=bad)
    scene.steps(60)
    scene.office.cancel(third, "li")
    scene.come_back("d0")
    scene.steps(200)
    has = {one.target: one.version for one in scene.devices["d0"].report.layers}
    assert has["lan"] == scene.book.layer(scene.book.rollout(undo).layer).version
