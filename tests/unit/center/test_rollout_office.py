"""What people do with releases, and what is refused at the centre, in a line."""

import json
import sqlite3
from dataclasses import replace

import pytest
from tests.configs import DAY_S
from tests.regions import Region
from tests.rollouts import CENTER, OTHER, Scene

from ketang_center.registry.values import Placement
from ketang_center.rollouts import taking
from ketang_center.rollouts.plan import State
from ketang_contract import config
from ketang_contract.config import Config, ModelChoice
from ketang_contract.errors import BadInput
from ketang_contract.releases import Release, write


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    return Region(tmp_path_factory.mktemp("region"))


@pytest.fixture
def scene(region, tmp_path):
    made = Scene(region, tmp_path / "scene", 12)
    yield made
    made.close()


SLOWER = Config(host_s=300)
"""Widens nothing on any kind of device."""


def sign(scene, content=SLOWER, target="lan", level="region", **more):
    return scene.signers.release(target, level, content, **more)


def refused(scene, signed, told):
    with pytest.raises(BadInput) as caught:
        scene.office.admit(write(signed), CENTER)
    said = str(caught.value)
    assert told in said
    assert "\n" not in said
    assert not scene.office.look.releases()


def test_a_release_is_admitted_with_who_signed_it_and_what_it_widens(scene):
    one = scene.office.admit(write(sign(scene)), CENTER)
    assert one.holders == ("config-1", "config-2")
    assert (one.version, one.undo_version) == (1, 2)
    assert one.widens == ()
    scene.now_ms += 1
    wide = sign(scene, Config(usage_s=10), previous=sign(scene))
    assert scene.office.admit(write(wide), CENTER).widens == ("usage_s",)
    assert [one.name for one in scene.office.look.releases()] == ["lan-3", "lan-1"]


def test_what_is_no_release_is_refused(scene):
    for raw in (b"", b"{}", b"[1]", b'{"schema": 1, "layer": {}, "undo": {}}'):
        with pytest.raises(BadInput):
            scene.office.admit(raw, CENTER)


def test_a_forged_or_mis_scoped_release_is_refused(scene):
    from ketang_provisioning.keys import make_ed25519

    refused(scene, sign(scene, keys=[make_ed25519()]), "not signed by a key")
    key, document = scene.signers.add_key("s1", "head")
    scene.trust_documents = b"[" + document + b"]"
    refused(scene, sign(scene, keys=[key]), "no authority there")
    elsewhere = sign(scene, target="s2", level="school", keys=[key])
    refused(scene, elsewhere, "no authority there")
    scene.office.admit(write(sign(scene, target="s1", level="school", keys=[key])), CENTER)


def test_an_undo_that_nobody_signed_is_refused(scene):
    from ketang_provisioning.keys import make_ed25519

    good = sign(scene)
    undo = scene.signers.layer(good.undo)
    bad = scene.signers.seal(undo, [make_ed25519()])
    refused(scene, Release(good.layer, bad), "the undo of lan-1")


@pytest.mark.parametrize(
    "changes",
    [
        {"undoes": 7},
        {"undoes": None},
        {"target": "s1", "level": config.Level.SCHOOL},
        {"version": 1},
    ],
)
def test_an_undo_that_takes_back_something_else_is_refused(scene, changes):
    good = sign(scene)
    undo = replace(scene.signers.layer(good.undo), **changes)
    made = Release(good.layer, scene.signers.seal(undo, scene.signers.keys))
    refused(scene, made, "does not take it back")


def test_what_has_expired_or_is_of_another_epoch_is_refused(scene):
    early = scene.now_ms // 1000 - 40 * DAY_S
    refused(scene, sign(scene, issued_s=early), "expired")
    refused(scene, sign(scene, epoch=2), "key epoch 2")


def test_an_unknown_place_is_refused(scene):
    refused(scene, sign(scene, target="nowhere", level="school"), "there is no school nowhere")
    refused(scene, sign(scene, target="s1", level="county"), "there is no county s1")
    refused(scene, sign(scene, target="d99", level="device"), "no device d99")


def test_a_version_that_was_there_is_refused(scene):
    first = scene.admit(SLOWER)
    with pytest.raises(BadInput, match="with these signatures, is here already"):
        scene.office.admit(write(first), CENTER)
    with pytest.raises(BadInput, match="another release of this name"):
        scene.office.admit(write(sign(scene, Config(usage_s=60))), CENTER)
    with pytest.raises(BadInput, match="is here already"):
        scene.office.admit(write(sign(scene, version=2, release="other")), CENTER)


def test_a_release_that_another_holder_has_signed_since_takes_the_place_of_the_first(scene):
    both = sign(scene)
    one = Release(
        *(
            scene.signers.seal(scene.signers.layer(raw), scene.signers.keys[:1])
            for raw in (both.layer, both.undo)
        )
    )
    assert scene.office.admit(write(one), CENTER).holders == ("config-1",)
    assert scene.office.admit(write(both), CENTER).holders == ("config-1", "config-2")
    with pytest.raises(BadInput):
        scene.office.admit(write(one), CENTER)
    (kept,) = scene.office.look.releases()
    assert json.loads(scene.book.layer(kept.layer).envelope) == json.loads(both.layer)


def test_what_is_the_regions_alone_is_refused_below_it(scene):
    inner = Config(scan_s=5)
    assert not config.misplaced(inner)
    choice = ModelChoice(name="mtcnn", version="1", sha256="a" * 64)
    refused(scene, sign(scene, Config(model=choice), "s1", "school"), "only the region may say")


def test_one_holder_alone_widens_nothing(scene):
    refused(scene, sign(scene, Config(usage_s=10), holders=1), "two holders have to sign")
    scene.office.admit(write(sign(scene, holders=1)), CENTER)


def test_a_model_that_is_not_filed_is_refused(scene):
    choice = ModelChoice(name="mtcnn", version="1.0.0", sha256="a" * 64)
    refused(scene, sign(scene, Config(inference=True, model=choice)), "lan-1: ")


def test_what_widens_waits_for_another_person(scene):
    scene.place()
    scene.admit(Config(usage_s=10))
    no = scene.office.begin("lan-1", "beginner")
    scene.steps()
    assert scene.state(no) == "awaiting"
    assert not scene.published
    for who in (CENTER, "beginner"):
        with pytest.raises(BadInput, match="somebody else"):
            scene.office.approve(no, who)
    scene.office.approve(no, OTHER)
    scene.steps()
    assert scene.counts(no) == {"committed": 12}
    assert scene.office.look.rollout(no).approved_by == OTHER
    with pytest.raises(BadInput):
        scene.office.approve(no, OTHER)


def test_who_ever_brought_a_release_is_no_second_person(scene):
    scene.place()
    third, document = scene.signers.add_key("", "third")
    scene.trust_documents = b"[" + document + b"]"
    wide = sign(scene, Config(usage_s=10))
    scene.office.admit(write(wide), "first")
    again = Release(
        *(
            scene.signers.seal(scene.signers.layer(raw), (*scene.signers.keys, third))
            for raw in (wide.layer, wide.undo)
        )
    )
    assert scene.office.admit(write(again), "second").admitted_by == "second"
    no = scene.office.begin("lan-1", "local:third")
    assert scene.office.look.who_admitted("lan-1") == ("first", "second")
    for who in ("first", "second", "local:third", "third"):
        with pytest.raises(BadInput, match="somebody else"):
            scene.office.approve(no, who)
    scene.office.approve(no, OTHER, "local:third")
    assert scene.state(no) == "running"
    (event,) = [one for one in scene.office.look.history() if one.what == "approved"]
    assert (event.who, event.detail) == (OTHER, "local:third")
    assert scene.office.look.rollout(no).reason == ""


def test_what_nobody_could_be_sent_is_not_begun(scene):
    scene.place(*(one for one in scene.devices if scene.school(one) == "s1"))
    scene.admit(SLOWER, target="s2", level="school")
    with pytest.raises(BadInput) as caught:
        scene.office.begin("s2-1", CENTER)
    assert str(caught.value) == (
        "s2-1: nobody below s2 has a signed placement: export, sign and push placements first"
    )
    assert not scene.office.look.rollouts()
    scene.place()
    assert scene.office.begin("s2-1", CENTER)


def test_one_that_was_cancelled_before_it_was_sent_stands_nowhere(scene):
    scene.place()
    no = scene.office.begin(scene.office.admit(write(sign(scene)), CENTER).name, CENTER)
    scene.office.cancel(no, CENTER)
    assert scene.office.look.current("lan") is None
    first = sign(scene)
    no = scene.begin(first)
    scene.steps()
    assert scene.office.look.current("lan").name == "lan-1"
    second = scene.office.admit(
        write(sign(scene, Config(usage_s=10), previous=first, release="wide")), CENTER
    )
    later = scene.office.begin(second.name, CENTER)
    scene.office.cancel(later, OTHER)
    assert scene.office.look.current("lan").name == "lan-1"


MORNING = tuple((day, 480, 720) for day in range(5))
AFTERNOON = tuple((day, 780, 1020) for day in range(5))


def test_it_is_foreseen_who_would_have_no_hours_left(scene):
    scene.place()
    morning, afternoon = Config(hours=MORNING), Config(hours=AFTERNOON)
    school = scene.office.admit(write(sign(scene, morning, "s1", "school")), CENTER)
    assert scene.office.look.without_hours(school) == 0
    scene.office.begin(school.name, CENTER)
    scene.steps()
    region = scene.office.admit(write(sign(scene, afternoon)), CENTER)
    of_school = sum(scene.school(one) == "s1" for one in scene.devices)
    assert scene.office.look.without_hours(region) == of_school > 0
    scene.now_ms += 1
    slower = scene.office.admit(write(sign(scene, previous=sign(scene, afternoon))), CENTER)
    assert scene.office.look.without_hours(slower) == 0, "it says nothing of hours"


def test_what_widens_nothing_begins_at_once(scene):
    scene.place()
    scene.admit(SLOWER)
    no = scene.office.begin("lan-1", CENTER)
    assert scene.state(no) == "running"


def test_a_second_release_waits_until_the_first_has_ended(scene):
    scene.place()
    first = scene.admit(SLOWER)
    no = scene.begin(first)
    second = scene.admit(Config(host_s=240), previous=first)
    with pytest.raises(BadInput, match="rollout 1 of lan-1 is running"):
        scene.begin(second)
    scene.steps()
    later = scene.begin(second)
    assert scene.state(no) == "superseded"
    with pytest.raises(BadInput):
        scene.office.roll_back(no, CENTER)
    scene.steps()
    assert scene.counts(later) == {"committed": 12}
    assert scene.office.look.current("lan").name == "lan-3"


def test_a_cancelled_release_can_be_begun_again_for_the_others(scene):
    scene.place()
    for name in ("d5", "d6"):
        scene.leave(name)
    signed = scene.admit(SLOWER)
    no = scene.begin(signed)
    scene.steps()
    scene.office.cancel(no, CENTER)
    again = scene.begin(signed)
    for name in ("d5", "d6"):
        scene.come_back(name)
    before = len(scene.published)
    scene.steps()
    assert scene.counts(again) == {"committed": 12}
    assert {device for device, _ in scene.published[before:]} == {"d5", "d6"}


def test_a_taken_back_release_is_not_sent_again_and_the_next_one_is(scene):
    scene.place()
    first = scene.admit(SLOWER)
    no = scene.begin(first)
    scene.steps()
    back = scene.office.roll_back(no, CENTER)
    scene.steps()
    with pytest.raises(BadInput):
        scene.begin(first)
    later = scene.begin(scene.admit(Config(host_s=240), previous=first))
    scene.steps()
    assert scene.counts(later) == {"committed": 12}
    assert scene.state(back) == "superseded"


def test_placements_are_exported_signed_taken_and_not_asked_for_again(scene):
    lines = [json.loads(one) for one in scene.office.export_placements()]
    assert {one["device"] for one in lines} == set(scene.devices)
    assert lines[0]["version"] == 1
    scene.place()
    assert not list(scene.office.export_placements())
    assert not scene.office.look.not_placed()
    scene.push(SLOWER)
    scene.steps()
    scene.registry.place(Placement(device="d1", room="s2-r1", from_ms=scene.now_ms - 1))
    (line,) = scene.office.export_placements()
    said = json.loads(line)
    assert said["least"] == [{"target": "lan", "key_epoch": 1, "version": 1}]
    assert said["version"] == scene.book.placed("d1").version + 1
    assert scene.office.look.not_placed() == ["d1"]
    assert scene.office.look.not_placed("s1") == []


def test_a_placement_of_an_epoch_before_is_none_whoever_asks(scene):
    scene.place()
    no = scene.push(SLOWER)
    assert scene.office.look.status(no).not_placed == 0
    _, document = scene.signers.add_key("", "third", epoch=2)
    scene.trust_documents = b"[" + document + b"]"
    asked = {json.loads(one)["device"] for one in scene.office.export_placements()}
    assert asked == set(scene.office.look.not_placed()) == set(scene.devices)
    assert scene.office.look.status(no).not_placed == 12


def test_placements_are_taken_lot_by_lot_and_a_lot_that_fails_is_not_taken_at_all(
    scene, monkeypatch
):
    monkeypatch.setattr(taking, "LOT", 4)
    signed = [scene.signers.placement(one, scene.path(one)) for one in scene.devices]
    place, count = scene.book.place, 0

    def failing(one):
        nonlocal count
        count += 1
        if count == 7:
            raise sqlite3.OperationalError("database or disk is full")
        place(one)

    with monkeypatch.context() as patch:
        patch.setattr(scene.book, "place", failing)
        taken = scene.office.take_placements(signed, CENTER)
    assert (taken.taken, taken.same, taken.turned_away) == (4, 0, 0)
    assert "disk is full" in taken.stopped
    assert len(scene.book.all_placed()) == 4
    again = scene.office.take_placements(signed, CENTER)
    assert (again.taken, again.same, again.stopped) == (8, 4, "")
    told = [one.detail for one in scene.office.look.history() if one.what == "placed"]
    assert told == ["4 devices"] * 3


def test_of_a_device_that_stands_twice_in_a_file_the_newest_counts(scene):
    old, new = (scene.signers.placement("d1", scene.path("d1")) for _ in range(2))
    taken = scene.office.take_placements([new, old, new], CENTER)
    assert (taken.taken, taken.same, taken.turned_away) == (1, 1, 1)
    assert "held already" in dict(taken.refused)["d1"]
    assert json.loads(scene.book.placed("d1").envelope) == json.loads(new)


def test_refusals_beyond_number_are_counted_alone(scene, monkeypatch):
    monkeypatch.setattr(taking, "MOST_TOLD", 3)
    taken = scene.office.take_placements((b"rubbish" for _ in range(50)), CENTER)
    assert (len(taken.refused), taken.turned_away) == (3, 50)


def test_a_placement_that_is_wrong_is_told_and_the_others_are_taken(scene):
    from ketang_provisioning.keys import make_ed25519

    path = scene.path("d0")
    elsewhere = scene.path("d4") if scene.path("d4") != path else scene.path("d3")
    assert elsewhere != path
    good = scene.signers.placement("d1", scene.path("d1"))
    taken = scene.office.take_placements(
        [
            scene.signers.placement("d0", elsewhere),
            scene.signers.placement("d2", scene.path("d2"), keys=[make_ed25519()]),
            scene.signers.placement("d3", scene.path("d3"), epoch=2),
            good,
            b"rubbish",
        ],
        CENTER,
    )
    assert taken.taken == 1
    why = dict(taken.refused)
    assert "the register has it elsewhere" in why["d0"]
    assert "not signed" in why["d2"]
    assert "key epoch" in why["d3"]
    assert len(taken.refused) == 4
    assert scene.office.take_placements([good], CENTER).same == 1
    older = scene.signers.placement("d1", scene.path("d1"), version=1)
    assert "held already" in dict(scene.office.take_placements([older], CENTER).refused)["d1"]


def test_a_device_moved_to_where_more_is_collected_needs_two_signatures(scene):
    scene.place()
    scene.push(Config(host_s=300), target="s1", level="school")
    scene.steps()
    device = next(one for one in scene.devices if scene.school(one) == "s1")
    there = next(one for one in scene.devices if scene.school(one) == "s2")
    scene.registry.place(Placement(device=device, room="s2-r1", from_ms=scene.now_ms - 1))
    one = scene.signers.placement(device, scene.path(there))
    assert "two have to sign" in dict(scene.office.take_placements([one], CENTER).refused)[device]
    both = scene.signers.placement(device, scene.path(there), holders=2)
    assert scene.office.take_placements([both], CENTER).taken == 1


def test_every_act_is_in_the_history_and_in_the_audit_log(scene):
    scene.place()
    scene.admit(Config(usage_s=10))
    no = scene.office.begin("lan-1", CENTER)
    scene.office.approve(no, OTHER)
    scene.office.pause(no, "operator", "lunch")
    scene.office.resume(no, "operator")
    scene.steps()
    scene.office.retry_failed(no, "operator")
    scene.office.roll_back(no, "operator", "wrong")
    told = [(one.who, one.what) for one in reversed(scene.office.look.history())]
    assert told[:6] == [
        (CENTER, "placed"),
        (CENTER, "admitted"),
        (CENTER, "began"),
        (OTHER, "approved"),
        ("operator", "paused"),
        ("operator", "resumed"),
    ]
    assert ("center", "finished") in told
    noted = [one.action for one in scene.audit.entries()]
    assert noted == [
        "placements_taken",
        "release_admitted",
        "rollout_release",
        "rollout_approved",
        "rollout_paused",
        "rollout_resumed",
        "rollout_retried",
        "rollout_rolled_back",
        "rollout_undo",
    ]
    with pytest.raises(Exception, match="history only grows"):
        scene.book.rows.run("DELETE FROM event")


@pytest.mark.parametrize("act", ["approve", "pause", "resume", "cancel", "roll_back"])
def test_what_cannot_be_done_is_said(scene, act):
    with pytest.raises(BadInput, match="there is no rollout 9"):
        getattr(scene.office, act)(9, "operator")
    with pytest.raises(BadInput):
        scene.office.begin("nothing", "operator")


def test_a_device_without_a_signed_placement_gets_nothing_and_is_listed(scene):
    scene.place("d0")
    no = scene.push(SLOWER)
    scene.steps()
    assert {device for device, _ in scene.published} == {"d0"}
    assert scene.office.look.status(no).not_placed == 11
    shown = scene.office.look.explain("d1")
    assert shown.placed is None
    assert shown.layers == ()


def test_status_lists_groups_and_devices_with_trouble_first(scene):
    scene.place()
    scene.devices["d7"].answer = None
    no = scene.push(SLOWER)
    scene.steps(40, every_ms=10_000)
    status = scene.office.look.status(no)
    (group,) = status.groups
    assert group.bound == 12
    assert group.counts == {State.COMMITTED: 11, State.TIMED_OUT: 1}
    members = scene.office.look.members(no)
    assert (members[0].device, members[0].reason) == ("d7", "silent")
    assert len(members) == 12
