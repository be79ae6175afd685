"""The engine of the rollouts over a book: what it sends, what it hears, and what it does then."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from tests.regions import Region
from tests.rollouts import Scene, read_bundle

from ketang_center.registry.values import Placement
from ketang_center.rollouts.plan import Rules, State
from ketang_contract import layers
from ketang_contract.config import Config
from ketang_contract.state import ConfigState

MINUTE_MS = 60_000


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


def brought(scene, device):
    return scene.devices[device].bundles[-1]


def test_a_release_reaches_everybody_and_each_is_sent_it_once(make):
    scene = make(300, schools=7)
    scene.place()
    no = scene.push()
    scene.steps()
    assert scene.counts(no) == {"committed": 300}
    assert scene.state(no) == "finished"
    assert Counter(device for device, _ in scene.published) == dict.fromkeys(scene.devices, 1)
    scene.check_truth()


def test_no_more_than_twenty_have_it_at_hand_at_first(make):
    scene = make(120)
    scene.place()
    for one in scene.devices.values():
        one.answer = ConfigState.TRIAL
    no = scene.push()
    scene.steps()
    assert scene.counts(no) == {"trial": 20, "pending": 100}


@pytest.mark.parametrize("how", ["uniform", "kind", "school"])
@pytest.mark.parametrize("answer", [ConfigState.ROLLED_BACK, ConfigState.REJECTED, None])
def test_a_release_that_breaks_three_of_ten_stops_by_itself(make, how, answer):
    scene = make(400, schools=10)
    scene.place()
    chance = random.Random(how)
    for at, (name, one) in enumerate(scene.devices.items()):
        broken = {
            "uniform": chance.random() < 0.3,
            "kind": at % 3 == 0,
            "school": scene.school(name) in {"s1", "s2", "s3"},
        }[how]
        if broken:
            one.answer = answer
    no = scene.push()
    scene.steps(60, every_ms=10_000)
    assert scene.state(no) == "paused"
    assert "failed" in scene.office.look.rollout(no).reason
    tried = [one for one in scene.devices.values() if one.bundles]
    assert sum(one.answer is answer for one in tried) <= 40
    sent = len(scene.published)
    scene.steps(60, every_ms=10_000)
    assert len(scene.published) == sent, "a paused rollout sends nothing"


def test_after_a_rollback_everybody_has_what_was_before(make):
    scene = make(60)
    scene.place()
    first = scene.admit(Config(host_s=60))
    scene.begin(first)
    scene.steps()
    for name in list(scene.devices)[::4]:
        scene.devices[name].answer = ConfigState.ROLLED_BACK
    no = scene.push(Config(host_s=30), previous=first)
    scene.steps()
    assert scene.state(no) == "paused"
    had_it = {name for name, one in scene.devices.items() if len(one.bundles) > 1}
    for one in scene.devices.values():
        one.answer = ConfigState.COMMITTED
    back = scene.office.roll_back(no, "operator", "too slow")
    scene.steps()
    assert scene.state(no) == "rolled_back"
    assert scene.counts(back) == {"committed": len(had_it)}
    for name, one in scene.devices.items():
        (layer,) = one.report.layers
        assert layer.version == (4 if name in had_it else 1), name
    scene.check_truth()


def test_devices_that_are_off_block_nobody_and_get_it_when_they_come(make):
    scene = make(50)
    scene.place()
    off = [f"d{at}" for at in range(10)]
    for name in off:
        scene.leave(name, orderly=True)
    no = scene.push()
    scene.steps()
    assert scene.counts(no) == {"committed": 40, "pending": 10}
    assert scene.state(no) == "finished"
    for name in off:
        scene.come_back(name)
    scene.steps()
    assert scene.counts(no) == {"committed": 50}


def test_a_new_device_joins_a_rollout_that_has_finished(make):
    scene = make(30)
    scene.place(*(f"d{at}" for at in range(25)))
    no = scene.push()
    scene.steps()
    assert scene.counts(no) == {"committed": 25}
    assert scene.office.look.status(no).not_placed == 5
    scene.place("d27")
    scene.steps()
    assert scene.counts(no) == {"committed": 26}
    assert not scene.devices["d26"].bundles


def test_a_device_that_moved_gets_the_layers_of_its_new_place(make):
    scene = make(12)
    scene.place()
    scene.push(Config(host_s=120), target="s1", level="school", release="school-1")
    scene.steps()
    moved = next(one for one in scene.devices if scene.school(one) == "s2")
    assert not scene.devices[moved].bundles
    scene.registry.place(Placement(device=moved, room="s1-r1", from_ms=scene.now_ms - 1))
    (line,) = scene.office.export_placements()
    said = json.loads(line)
    assert said["device"] == moved
    path = [(one["level"], one["unit"]) for one in said["path"]]
    scene.office.take_placements([scene.signers.placement(moved, path)], "publisher")
    scene.steps()
    assert [one.target for one in scene.devices[moved].report.layers] == ["s1"]
    assert not list(scene.office.export_placements())


def test_an_agent_that_is_too_old_stops_nothing_and_is_listed(make):
    scene = make(60)
    scene.place()
    for at in range(0, 60, 3):
        scene.devices[f"d{at}"].answer = ConfigState.REJECTED
        scene.devices[f"d{at}"].reason = "agent_too_old"
    no = scene.push()
    scene.steps()
    assert scene.counts(no) == {"committed": 40, "too_old": 20}
    assert scene.state(no) == "finished"
    listed = scene.office.look.members(no, State.TOO_OLD)
    assert {one.device for one in listed} == {f"d{at}" for at in range(0, 60, 3)}


def test_a_school_whose_line_fails_in_trial_blames_nobodys_release(make):
    scene = make(120, schools=4)
    scene.place()
    at_school = [one for one in scene.devices if scene.school(one) == "s3"]
    for name in at_school:
        scene.devices[name].answer = ConfigState.TRIAL
    no = scene.push()
    scene.steps(6)
    held = {one.device for one in scene.office.look.members(no, State.TRIAL)}
    assert held
    assert held <= set(at_school)
    for name in at_school:
        scene.leave(name)
    scene.steps(20, every_ms=20_000)
    counts = scene.counts(no)
    assert not counts.keys() & {"failed", "timed_out", "rejected"}
    assert {one.reason for one in scene.office.look.members(no, State.INCONCLUSIVE)} == {
        "line_down"
    }
    assert scene.state(no) == "running"
    scene.steps(120, every_ms=20_000)
    assert scene.counts(no)["waiting"] == len(held)
    assert scene.counts(no)["committed"] == 120 - len(at_school)
    for name in at_school:
        scene.devices[name].answer = ConfigState.COMMITTED
        scene.devices[name].report = replace(scene.devices[name].report, desired=None)
        scene.come_back(name)
    scene.steps()
    assert scene.counts(no) == {"committed": 120}


def test_one_device_that_falls_silent_alone_has_timed_out(make):
    scene = make(30)
    scene.place()
    scene.devices["d4"].answer = None
    no = scene.push()
    scene.steps(10)
    scene.leave("d4")
    scene.steps(40, every_ms=10_000)
    (member,) = scene.office.look.members(no, State.TIMED_OUT)
    assert (member.device, member.reason) == ("d4", "silent")
    assert scene.state(no) != "paused"


def test_who_timed_out_and_commits_later_has_committed(make):
    scene = make(30)
    scene.place()
    scene.devices["d4"].answer = None
    no = scene.push()
    scene.steps(40, every_ms=10_000)
    assert scene.counts(no) == {"committed": 29, "timed_out": 1}
    scene.devices["d4"].answer = ConfigState.COMMITTED
    scene.come_back("d4")
    scene.steps()
    assert scene.counts(no) == {"committed": 30}


def test_time_in_which_the_centre_was_deaf_is_nobodys_silence(make):
    scene = make(30)
    scene.place()
    scene.devices["d4"].answer = None
    no = scene.push()
    scene.steps(10)
    scene.hearing_ms = None
    scene.steps(20, every_ms=MINUTE_MS)
    assert scene.counts(no) == {"committed": 29, "sent": 1}
    scene.devices["d4"].answer = ConfigState.COMMITTED
    scene.hearing_ms = scene.now_ms
    scene.steps(4)
    assert scene.counts(no) == {"committed": 30}, "it was asked again"
    assert [one.attempt for one in scene.devices["d4"].bundles] == [0, 0]


def test_failed_devices_try_again_only_when_a_person_says_so(make):
    scene = make(30)
    scene.place()
    scene.devices["d4"].answer = ConfigState.ROLLED_BACK
    scene.devices["d4"].reason = "not_connected"
    no = scene.push()
    scene.steps()
    assert scene.counts(no) == {"committed": 29, "failed": 1}
    (member,) = scene.office.look.members(no, State.FAILED)
    assert member.reason == "not_connected"
    scene.start()
    scene.come_back("d4")
    scene.steps(100, every_ms=10_000)
    assert {one.attempt for one in scene.devices["d4"].bundles} == {0}
    scene.devices["d4"].answer = ConfigState.COMMITTED
    assert scene.office.retry_failed(no, "operator") == 1
    scene.steps()
    assert scene.counts(no) == {"committed": 30}
    assert [one.attempt for one in scene.devices["d4"].bundles][-1] == 1
    assert set(scene.devices["d4"].tried.values()) == {1}


def test_a_person_may_try_again_four_times_and_no_more(make):
    scene = make(10)
    scene.place()
    scene.devices["d4"].answer = ConfigState.ROLLED_BACK
    no = scene.push(rules=Rules(success_pct=50))
    again = []
    for _ in range(6):
        scene.steps(20)
        again.append(scene.office.retry_failed(no, "operator"))
    assert again == [1, 1, 1, 1, 0, 0]
    assert max(one.attempt for one in scene.devices["d4"].bundles) == 4


def test_pause_and_resume_and_cancel_do_what_they_say(make):
    scene = make(100)
    scene.place()
    for one in scene.devices.values():
        one.answer = ConfigState.TRIAL
    no = scene.push()
    scene.steps(4)
    scene.office.pause(no, "operator", "lunch")
    for name, one in scene.devices.items():
        one.answer = ConfigState.COMMITTED
        if one.bundles:
            one.report = replace(one.report, desired=None)
            scene.inbox.hear(name, one.take(layers.write_desired(one.bundles[0])), scene.now_ms)
    scene.steps()
    assert scene.counts(no) == {"committed": 20, "pending": 80}
    scene.office.resume(no, "operator")
    scene.steps()
    assert scene.counts(no) == {"committed": 100}
    scene.office.cancel(no, "operator")
    scene.steps()
    assert scene.state(no) == "cancelled"


def test_after_a_pause_for_failures_a_person_may_go_on(make):
    scene = make(60)
    scene.place()
    for name in list(scene.devices)[::10]:
        scene.devices[name].answer = ConfigState.ROLLED_BACK
    no = scene.push(rules=Rules(failures_least=2))
    scene.steps()
    assert scene.state(no) == "paused"
    known = scene.counts(no)["failed"]
    scene.office.resume(no, "operator")
    scene.steps()
    while scene.state(no) == "paused":
        assert scene.counts(no)["failed"] > known, "what was known stops nothing again"
        known = scene.counts(no)["failed"]
        scene.office.resume(no, "operator")
        scene.steps()
    assert scene.state(no) == "finished"
    assert scene.counts(no) == {"committed": 54, "failed": 6}


def test_two_releases_at_once_never_meet_on_a_device(make):
    scene = make(60)
    scene.place()
    for one in scene.devices.values():
        one.answer = ConfigState.TRIAL
    region = scene.push(Config(host_s=60))
    scene.steps(4)
    school = scene.push(Config(host_s=120), target="s1", level="school", release="school-1")
    scene.steps(4)
    held = [
        {one.device for one in scene.office.look.members(no, State.TRIAL)}
        for no in (region, school)
    ]
    assert not held[0] & held[1]
    assert all(held)


def test_what_a_device_failed_is_not_tried_again_under_another_release(make):
    scene = make(30)
    scene.place()
    scene.devices["d1"].answer = ConfigState.ROLLED_BACK
    scene.push(Config(host_s=60))
    scene.steps()
    school = scene.push(Config(host_s=120), target="s1", level="school", release="school-1")
    scene.steps()
    assert scene.school("d1") == "s1"
    assert len(scene.devices["d1"].bundles) == 1
    (left,) = scene.office.look.members(school, State.PENDING)
    assert left.device == "d1"


def test_a_device_in_no_rollout_gets_what_it_should_have_when_it_is_born(make):
    scene = make(30)
    scene.place()
    no = scene.push()
    scene.steps()
    wiped = scene.devices["d9"]
    wiped.report = replace(wiped.report, desired=None, running=None, layers=())
    wiped.bundles.clear()
    scene.come_back("d9")
    scene.steps(4)
    assert len(wiped.bundles) == 1
    assert wiped.report.state is ConfigState.COMMITTED
    assert scene.counts(no) == {"committed": 30}


def test_who_comes_back_with_what_it_should_have_is_sent_nothing(make):
    scene = make(30)
    scene.place()
    scene.push()
    scene.steps()
    before = len(scene.published)
    for name in scene.devices:
        scene.come_back(name)
    scene.steps()
    assert len(scene.published) == before


def test_the_bundle_is_the_placement_and_the_layers_on_the_way_as_they_were_signed(make):
    scene = make(6)
    scene.place()
    region = scene.admit(Config(host_s=60))
    school = scene.admit(Config(host_s=120), target="s1", level="school", release="school-1")
    scene.begin(region)
    scene.begin(school)
    scene.steps(200)
    device = next(one for one in scene.devices if scene.school(one) == "s1")
    bundle = brought(scene, device)
    assert [json.loads(one) for one in bundle.layers] == [
        json.loads(one.layer) for one in (region, school)
    ]
    assert read_bundle(bundle)[0] == scene.devices[device].report.running
    shown = scene.office.look.explain(device)
    assert shown.wanted_hash == shown.reported.running
    assert shown.merged.by["host_s"] == "s1"
    other = next(one for one in scene.devices if scene.school(one) == "s2")
    assert len(brought(scene, other).layers) == 1


def test_a_device_with_an_older_trust_document_is_led_to_the_one_in_force(make):
    scene = make(3)
    scene.place()
    scene.devices["d0"].report = replace(scene.devices["d0"].report, trust_version=1)
    scene.greet("d0")
    scene.steps(2)
    _, document = scene.signers.add_key("s1", "head")
    scene.trust_documents = scene.trust_documents[:-1] + b"," + document + b"]"
    scene.push()
    scene.steps()
    assert [json.loads(one) for one in brought(scene, "d0").trust] == [json.loads(document)]
    assert not brought(scene, "d1").trust
    assert len(scene.devices["d0"].bundles) == 1


def test_an_engine_that_is_killed_before_it_publishes_publishes_at_its_next_start(make):
    scene = make(30)
    scene.place()
    no = scene.push()
    scene.failing = True
    with pytest.raises(OSError, match="killed"):
        scene.steps(1)
    assert scene.counts(no)["sent"] == 20
    scene.failing = False
    scene.start()
    scene.steps()
    assert scene.counts(no) == {"committed": 30}
    tried = Counter(count for one in scene.devices.values() for count in one.tried.values())
    assert tried == {1: 30}


def test_a_release_that_has_expired_is_sent_to_nobody_more(make):
    scene = make(60)
    scene.place()
    off = list(scene.devices)[30:]
    for name in off:
        scene.leave(name)
    no = scene.push(lasts_s=7200)
    scene.steps()
    scene.now_ms += 7_200_000
    for name in off:
        scene.come_back(name)
    scene.steps(4)
    assert scene.counts(no) == {"committed": 30, "pending": 30}
    assert scene.state(no) == "paused"
    assert scene.office.look.rollout(no).reason == "the release has expired"
