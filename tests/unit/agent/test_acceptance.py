"""Which bundles a device accepts, rule by rule; the keys and their signatures are real."""

from dataclasses import replace

import pytest
from tests.security.config_world import (
    AT_S1,
    AT_S2,
    BASE,
    BOTH,
    DAY_S,
    DEVICE,
    NOW_S,
    PRIVATE,
    TRUST,
    Device,
    at,
    bundle,
    layer,
    layer_of,
    placement,
    trust,
)

from ketang_agent.enrol.files import Place
from ketang_agent.remote.acceptance import name_of
from ketang_agent.remote.judging import judge_folder
from ketang_contract import layers, signatures
from ketang_contract.config import Config, Level, ModelChoice
from ketang_contract.layers import LAYER_TYPE, Desired
from ketang_contract.records import to_json
from ketang_contract.trust import PAYLOAD_TYPE

PLACED = placement("one")
REGION = layer("lan", Config(usage_s=30), *BOTH)
SCHOOL = layer("s1", Config(usage_s=60, hours=((0, 480, 1080),)), "s1")
ROOM = layer("s1-r1", Config(inference=False), "s1")
MODEL = ModelChoice(name="mtcnn", version="1", sha256="a" * 64)


def settled(*changes: bytes, by=TRUST) -> Device:
    """A device that committed the region's, the school's and the room's first layers."""
    device = Device(trust=by).obeys(bundle(PLACED, REGION, SCHOOL, ROOM))
    for raw in changes:
        device.obeys(raw)
    return device


def school(content: Config, *keys: str, **changes) -> bytes:
    """The bundle with the school's next layer."""
    changes.setdefault("version", 2)
    return bundle(PLACED, REGION, layer("s1", content, *(keys or ("s1",)), **changes), ROOM)


def region(content: Config, *keys: str, **changes) -> bytes:
    changes.setdefault("version", 2)
    return bundle(PLACED, layer("lan", content, *keys, **changes), SCHOOL, ROOM)


STOOD = Config(usage_s=60, hours=((0, 480, 1080),))
NARROWER = replace(STOOD, host_s=300)
WIDER = replace(STOOD, hours=None)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        # Who may sign (rule 1).
        (school(NARROWER, "s1"), ""),
        (school(NARROWER, "city"), ""),
        (school(NARROWER, "one"), ""),
        (school(NARROWER, "s2"), "mis_scoped"),
        (school(NARROWER, "filing"), "forged"),
        (school(NARROWER, "stranger"), "forged"),
        (region(Config(usage_s=60), "one"), ""),
        (region(Config(usage_s=60), "city"), "mis_scoped"),
        (bundle(placement("city", version=2), REGION, SCHOOL, ROOM), "mis_scoped"),
        (bundle(placement("stranger", version=2), REGION, SCHOOL, ROOM), "forged"),
        # For whom.
        (bundle(placement(device="s1-pc-2", version=2), REGION, SCHOOL, ROOM), "wrong_target"),
        (bundle(PLACED, REGION, SCHOOL, ROOM, layer("s2", STOOD, "s2")), "wrong_target"),
        (school(NARROWER, level=Level.ROOM), "wrong_target"),
        # Epochs (rule 2).
        (school(NARROWER, key_epoch=2), "wrong_epoch"),
        (bundle(placement(key_epoch=2), REGION, SCHOOL, ROOM), "wrong_epoch"),
        # The line of versions (rule 3).
        (school(NARROWER, version=9), ""),
        (school(NARROWER, version=1), "version_reused"),
        (bundle(placement(path=AT_S1[:4]), REGION, SCHOOL), "version_reused"),
        # Nothing left out (rule 4).
        (bundle(PLACED, REGION, SCHOOL), "left_out"),
        (bundle(placement(version=2, least=[at("lan-shi", 1)]), REGION, SCHOOL, ROOM), "left_out"),
        (bundle(placement(version=2, least=[at("s1", 2)]), REGION, SCHOOL, ROOM), "rolled_back"),
        (bundle(placement(version=2, least=[at("s1", 1)]), REGION, SCHOOL, ROOM), ""),
        # Time (rule 5).
        (school(NARROWER, expires_s=NOW_S), "expired"),
        (school(NARROWER, expires_s=NOW_S + 1), ""),
        (bundle(placement(version=2, expires_s=NOW_S), REGION, SCHOOL, ROOM), "expired"),
        # Widening (rule 6).
        (school(WIDER, "s1"), "one_holder"),
        (school(WIDER, "s1", "s1-too"), "one_holder"),
        (school(WIDER, "s1", "s2"), "one_holder"),
        (school(WIDER, "s1", "city"), ""),
        (school(WIDER, *BOTH), ""),
        (region(Config(usage_s=10), "one"), "one_holder"),
        (region(Config(usage_s=10), "one", "one-again"), "one_holder"),
        (region(Config(usage_s=10), *BOTH), ""),
        (region(Config(), "one"), ""),
        (region(Config(usage_s=30, model=MODEL), "one"), "one_holder"),
        (school(replace(STOOD, model=MODEL), *BOTH), "region_only"),
        # What this agent cannot do.
        (region(Config(usage_s=30, min_agent="1.0.0"), *BOTH), ""),
        (region(Config(usage_s=30, min_agent="1.0.1"), *BOTH), "agent_too_old"),
        # What is no bundle.
        (bundle(PLACED, REGION, SCHOOL, ROOM, ROOM), "bad_desired"),
        (b"{}", "bad_desired"),
        (bundle(b"{}", REGION, SCHOOL, ROOM), "bad_envelope"),
        (bundle(REGION, REGION, SCHOOL, ROOM), "bad_envelope"),
        (bundle(PLACED, REGION, SCHOOL, PLACED), "bad_envelope"),
    ],
)
def test_a_settled_device_accepts_what_it_should(raw, reason):
    device = settled()
    held = device.machine.held
    assert device.bring(raw) == reason
    if reason:
        assert device.machine.held == held


def test_a_payload_that_is_no_layer_is_refused():
    raw = signatures.seal(b'{"target":"s1"}', LAYER_TYPE, [PRIVATE["s1"]])
    assert settled().bring(bundle(PLACED, REGION, raw, ROOM)) == "bad_document"


def test_without_a_trust_document_nothing_is_accepted(tmp_path):
    (tmp_path / "received.json").write_bytes(bundle(PLACED, REGION))
    (tmp_path / "asked.json").write_text(
        '{"device":"s1-pc-1","agent_version":"1.0.0","now_s":1,"base":{},"in_force":{},"held":{}}'
    )
    assert judge_folder(tmp_path, Place(tmp_path))["reason"] == "no_trust"


def test_what_was_replaced_is_refused_whatever_the_clock_says():
    device = settled(school(NARROWER))
    for now_s in (0, NOW_S, NOW_S + DAY_S):
        device.now_s = now_s
        assert device.bring(bundle(PLACED, REGION, SCHOOL, ROOM)) == "rolled_back"


def test_what_was_accepted_may_be_brought_again_after_its_time():
    device = settled()
    device.now_s += 400 * DAY_S
    assert device.bring(bundle(PLACED, REGION, SCHOOL, ROOM)) == ""
    assert device.bring(school(NARROWER)) == "expired"


def test_a_clock_set_back_does_not_bring_back_what_expired():
    late = settled(bundle(placement(version=2, issued_s=NOW_S), REGION, SCHOOL, ROOM))
    late.now_s, late.synced = 0, False
    assert late.bring(school(NARROWER, expires_s=NOW_S)) == "rolled_back"
    fresh = placement(version=3)
    old = layer("s1", NARROWER, "s1", version=2, expires_s=NOW_S)
    assert late.bring(bundle(fresh, REGION, old, ROOM)) == "expired"


def test_the_trust_document_is_a_signed_time_too():
    old = layer("s1", STOOD, "s1", issued_s=TRUST.issued_s - 9, expires_s=TRUST.issued_s)
    assert Device(now_s=0, synced=False).bring(bundle(PLACED, old)) == "expired"


def test_a_revoked_key_is_out_and_its_documents_live_on_by_another():
    device = settled()
    device.trust = trust(revoked=["s1"], version=2)
    assert device.bring(school(NARROWER)) == "forged"
    again = [layer("s1", STOOD, "one"), layer("s1-r1", Config(inference=False), "one")]
    assert device.bring(bundle(PLACED, REGION, *again)) == ""


@pytest.mark.parametrize("time", [{"from_s": NOW_S + 1}, {"until_s": NOW_S}])
def test_a_key_counts_in_its_time_only(time):
    device = settled()
    device.trust = trust(version=2, s1=time)
    assert device.bring(school(NARROWER)) == "forged"


def test_a_new_epoch_begins_a_new_line_and_ends_the_old_one():
    burnt = 2**53 - 1
    device = settled(school(NARROWER, version=burnt))
    assert device.bring(school(NARROWER, "one", version=burnt - 1)) == "rolled_back"
    device.trust = trust(version=2, s1={"epoch": 2})
    room = layer("s1-r1", Config(inference=False), "s1")
    fresh = layer("s1", NARROWER, "s1", version=1, key_epoch=2)
    assert device.bring(bundle(PLACED, REGION, fresh, room)) == ""
    assert device.bring(school(NARROWER, version=burnt)) == "rolled_back"


def test_an_epoch_of_the_region_is_one_of_everybody_below_it():
    device = settled()
    device.trust = trust(version=2, one={"epoch": 3})
    assert device.bring(school(NARROWER)) == "wrong_epoch"
    assert device.bring(school(NARROWER, key_epoch=3)) == ""
    moved = bundle(placement(version=2), REGION, SCHOOL, ROOM)
    assert device.bring(moved) == "wrong_epoch"
    fresh = layer("s1", NARROWER, "s1", version=2, key_epoch=3)
    assert device.bring(bundle(placement(key_epoch=3), REGION, fresh, ROOM)) == ""
    assert device.bring(moved) == "rolled_back"


def test_a_first_layer_below_the_region_needs_one_holder():
    assert Device().bring(bundle(PLACED, SCHOOL)) == ""


def test_the_first_layer_of_the_region_is_held_against_the_profile():
    faster = Config(usage_s=10)
    assert Device().bring(bundle(PLACED, layer("lan", faster, "one"))) == "one_holder"
    assert Device().bring(bundle(PLACED, layer("lan", faster, *BOTH))) == ""
    assert Device().bring(bundle(PLACED, layer("lan", Config(usage_s=0), "one"))) == ""


def test_what_narrows_holds_at_once_and_after_a_failure():
    device = settled()
    assert device.bring(school(replace(NARROWER, usage_s=0))) == ""
    assert device.machine.applied.usage_s == 0
    device.fails()
    assert device.machine.applied.usage_s == 0
    assert device.bring(school(STOOD, version=3)) == "one_holder"
    assert device.bring(school(STOOD, "s1", "one", version=3)) == ""


def test_what_widens_holds_after_its_trial_only():
    device = settled()
    assert device.bring(region(Config(usage_s=10), *BOTH)) == ""
    assert device.machine.applied.host_s == BASE.host_s
    device.fails()
    assert device.machine.applied.usage_s == 60


def test_a_widening_that_failed_needs_two_holders_again():
    device, faster = settled(), Config(usage_s=30, host_s=30)
    assert device.bring(region(faster, *BOTH)) == ""
    device.fails()
    assert device.machine.in_force.host_s == 60
    assert device.bring(region(faster, "one", version=3)) == "one_holder"


def test_an_undo_lifts_nothing_that_was_narrowed():
    device = settled(school(replace(STOOD, usage_s=0)))
    device.obeys(school(STOOD, version=3, undoes=2))
    assert device.machine.in_force.usage_s == 0
    assert device.machine.held["lines"]["s1"]["standing"]["usage_s"] == 0
    assert device.bring(school(STOOD, version=4)) == "one_holder"


def test_a_move_to_a_wider_place_needs_two_holders():
    device = settled()
    wide = bundle(placement("one", version=2, path=AT_S2), REGION)
    assert device.bring(wide) == "one_holder"
    assert (
        device.bring(bundle(placement("one", "one-again", version=2, path=AT_S2), REGION))
        == "one_holder"
    )
    assert device.bring(bundle(placement(*BOTH, version=2, path=AT_S2), REGION)) == ""


def test_a_move_to_a_narrower_place_needs_one():
    strict = Config(usage_s=0, hours=(), inference=False)
    narrow = bundle(placement(version=2, path=AT_S2), REGION, layer("s2", strict, "s2"))
    assert settled().bring(narrow) == ""


def test_a_device_that_comes_back_is_brought_what_it_knew():
    strict = layer("s2", Config(usage_s=0, hours=(), inference=False), "s2")
    device = settled(bundle(placement(version=2, path=AT_S2), REGION, strict))
    back = placement(*BOTH, version=3)
    assert device.bring(bundle(back, REGION)) == "left_out"
    assert device.bring(bundle(back, REGION, SCHOOL, ROOM)) == ""


def test_a_configuration_is_named_by_what_is_signed_and_not_by_whom():
    def named(*layers_: bytes) -> str:
        return name_of(Desired(placement=PLACED, layers=layers_), signatures.unverified)

    again = layer("s1", STOOD, "one", "city")
    assert named(REGION, SCHOOL) == named(again, REGION)
    assert named(REGION, SCHOOL) != named(REGION)
    device = settled()
    assert device.machine.running == named(REGION, SCHOOL, ROOM)
    told = layers.payload(layer_of("s1", STOOD))
    assert layers.digest(LAYER_TYPE, told) != layers.digest(PAYLOAD_TYPE, told)


def test_a_verdict_says_whose_each_value_is():
    said = Device().judge(bundle(PLACED, REGION, SCHOOL))
    assert said["by"] == {"usage_s": "s1", "hours": "s1"} | {}
    assert said["config"] == to_json(replace(BASE, usage_s=60, hours=((0, 480, 1080),)))
    assert DEVICE not in said["held"]["lines"]
