"""The engine when something else than a release goes wrong: a kill, a clock, a line, a document."""

from collections import Counter
from dataclasses import replace

import pytest
from tests.regions import Region
from tests.rollouts import Scene

from ketang_center.rollouts.plan import State
from ketang_contract.config import Config
from ketang_contract.state import ConfigState

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    return Region(tmp_path_factory.mktemp("region"))


@pytest.fixture
def make(region, tmp_path):
    made = []

    def scene(count=30, schools=2, **more):
        made.append(Scene(region, tmp_path / f"scene-{len(made)}", count, schools, **more))
        return made[-1]

    yield scene
    for one in made:
        one.close()


def rest(scene):
    """Everybody has the same, and nothing is on its way."""
    scene.place()
    no = scene.push()
    scene.steps()
    assert scene.state(no) == "finished"
    scene.published.clear()
    return no


def new_trust(scene):
    """Change what bundles bring besides a configuration: no hash tells of it."""
    for one in scene.devices.values():
        one.report = replace(one.report, trust_version=1)
    scene.greet(*scene.devices)
    scene.steps(1)
    _, document = scene.signers.add_key("s1", f"head-{scene.now_ms}")
    scene.trust_documents = scene.trust_documents[:-1] + b"," + document + b"]"


def test_what_was_noted_and_not_published_is_published_at_the_next_start(make):
    scene = make(30)
    rest(scene)
    new_trust(scene)
    scene.failing = True
    with pytest.raises(OSError, match="killed"):
        scene.steps(1)
    assert not scene.published
    scene.failing = False
    scene.start()
    scene.steps()
    assert Counter(device for device, _ in scene.published) == dict.fromkeys(scene.devices, 1)


def test_what_the_broker_never_took_is_sent_again_when_it_was_away(make):
    scene = make(30)
    rest(scene)
    scene.taken = False
    new_trust(scene)
    scene.steps()
    assert len(scene.published) == 30
    scene.steps()
    assert len(scene.published) == 30, "it is not sent again while it may be on its way"
    scene.taken = True
    scene.hearing_ms = scene.now_ms
    scene.steps()
    assert len(scene.published) == 60
    scene.start()
    scene.hearing_ms = scene.now_ms
    scene.steps()
    assert len(scene.published) == 60


@pytest.mark.parametrize("jump_ms", [6 * HOUR_MS, -6 * HOUR_MS])
def test_a_clock_that_is_set_makes_nobody_silent(make, jump_ms):
    scene = make(30)
    scene.place()
    scene.devices["d4"].answer = None
    no = scene.push()
    scene.steps(10)
    assert scene.counts(no) == {"committed": 29, "sent": 1}
    scene.now_ms += jump_ms
    scene.steps(20)
    assert scene.counts(no) == {"committed": 29, "sent": 1}
    scene.devices["d4"].answer = ConfigState.COMMITTED
    scene.come_back("d4")
    scene.steps(4)
    assert scene.counts(no) == {"committed": 30}


def test_after_the_clock_is_set_back_a_rollout_goes_on(make):
    scene = make(60)
    scene.place()
    for one in scene.devices.values():
        one.answer = None
    no = scene.push()
    scene.steps(4)
    scene.now_ms -= 6 * HOUR_MS
    scene.steps(4)
    for one in scene.devices.values():
        one.answer = ConfigState.COMMITTED
        scene.inbox.hear(one.name, one.reported(), scene.now_ms)
    for one in [name for name, one in scene.devices.items() if one.bundles]:
        scene.come_back(one)
        scene.devices[one].report = replace(scene.devices[one].report, desired=None)
    scene.hearing_ms = scene.now_ms
    scene.steps(4)
    scene.greet(*scene.devices)
    scene.steps()
    assert scene.counts(no) == {"committed": 60}


def test_a_school_that_goes_with_all_its_devices_at_it_blames_nobodys_release(make):
    scene = make(12, schools=3)
    scene.place()
    at_school = [one for one in scene.devices if scene.school(one) == "s3"]
    for name in at_school:
        scene.devices[name].answer = ConfigState.TRIAL
    no = scene.push()
    scene.steps(6)
    assert {one.device for one in scene.office.look.members(no, State.TRIAL)} == set(at_school)
    for name in at_school:
        scene.leave(name)
    scene.steps(30, every_ms=20_000)
    assert scene.counts(no) == {"committed": 9, "inconclusive": 3}
    assert {one.reason for one in scene.office.look.members(no, State.INCONCLUSIVE)} == {
        "line_down"
    }
    assert scene.state(no) == "running"


def test_a_rollout_that_nobody_can_take_comes_to_its_end(make):
    scene = make(30)
    scene.place()
    for one in scene.devices.values():
        one.answer, one.reason = ConfigState.REJECTED, "agent_too_old"
    no = scene.push()
    scene.steps()
    assert scene.counts(no) == {"too_old": 30}
    assert scene.state(no) == "finished"


def test_a_layer_that_cannot_be_read_holds_up_nobody_elses(make):
    scene = make(30)
    scene.place()
    broken = scene.push(Config(host_s=120), target="s1", level="school", release="school-1")
    scene.steps(1)
    layer = scene.office.look.rollout(broken).layer
    scene.book.rows.run("UPDATE layer SET envelope = X'7B' WHERE digest = ?", layer)
    healthy = scene.push(Config(host_s=60))
    scene.start()
    scene.steps()
    school = {one for one in scene.devices if scene.school(one) == "s1"}
    held_up = scene.office.look.members(healthy, State.WAITING)
    assert {one.device for one in held_up} == school
    assert {one.reason for one in held_up} == {"unsendable"}
    assert scene.counts(healthy)["committed"] == len(scene.devices.keys() - school)


def test_the_book_says_when_the_engine_was_last_at_work(make):
    scene = make(3)
    assert scene.book.engine_seen() is None
    scene.steps(1)
    first_ms = scene.book.engine_seen()
    assert first_ms == scene.now_ms
    scene.steps(30, every_ms=1000)
    assert first_ms < scene.book.engine_seen() <= scene.now_ms
    scene.hearing_ms = None
    last_ms = scene.book.engine_seen()
    scene.steps(30, every_ms=1000)
    assert scene.book.engine_seen() > last_ms, "deaf is not dead"
