"""Where devices stand: the centre's list in, an envelope for each device out."""

import json

import pytest
from tests.unit.provisioning.publishers import NOW_S, ONE, TRUST, TWO, named, trusting

from ketang_contract.config import Level
from ketang_contract.errors import BadInput
from ketang_contract.layers import PLACEMENT_TYPE, LayerAt, Step
from ketang_contract.signatures import signed_by
from ketang_provisioning import placing
from ketang_provisioning.keys import make_ed25519

PATH = [["region", "lan"], ["city", "lan-shi"], ["county", "lan-xian"], ["school", "s1"]]
LINE = {"device": "s1-pc-1", "path": PATH, "least": [["lan", 1, 3]]}


def listed(*lines, trust=TRUST, **more):
    said = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    return list(placing.listed(said, trust, now_s=NOW_S, **more))


def sign(*lines, keys=(ONE,), trust=TRUST):
    return list(placing.sign_placements(listed(*lines), keys, trust, NOW_S))


def test_a_line_becomes_an_envelope_that_the_key_has_signed():
    (one,) = sign(LINE)
    assert one.placement.path[-1] == Step(level=Level.SCHOOL, unit="s1")
    assert one.placement.least == (LayerAt(target="lan", key_epoch=1, version=3),)
    assert one.placement.version == NOW_S
    (read,) = placing.read_signed([one.envelope.decode()])
    assert read == one
    (key,) = [key.public for key in TRUST.keys if key.holder == "config-1"]
    assert signed_by(one.envelope, PLACEMENT_TYPE, [key])


def test_the_centres_own_form_and_its_least_version_are_taken():
    objects = {
        "device": "s1-pc-1",
        "path": [{"level": level, "unit": unit} for level, unit in PATH],
        "least": [{"target": "lan", "key_epoch": 1, "version": 3}],
        "key_epoch": 1,
        "version": NOW_S + 100,
    }
    made, same = listed(objects)[0], listed(LINE)[0]
    assert (made.path, made.least) == (same.path, same.least)
    assert made.version == NOW_S + 100
    assert listed(objects | {"version": 5})[0].version == NOW_S


def test_the_epoch_is_the_regions():
    trust = trusting(named(make_ed25519(), "", epoch=3), named(make_ed25519(), "s1", epoch=7))
    assert listed(LINE, trust=trust)[0].key_epoch == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: not an object of device and path"),
        ({"device": "a"}, "line 1: not an object of device and path"),
        (LINE | {"room": "x"}, "line 1: not an object of device and path"),
        (LINE | {"device": "A b"}, "line 1: bad_document: device"),
        (LINE | {"path": PATH[1:]}, "line 1: bad_document: .*a path goes from the region down"),
        (LINE | {"path": []}, "line 1: bad_document"),
        (LINE | {"path": "lan"}, "line 1: path and least are lists"),
        (LINE | {"least": [["lan", 1]]}, "line 1: bad_document: least"),
        (LINE | {"version": "1"}, "line 1: version: not a whole number"),
        (" " * 70_000, "line 1: longer than"),
    ],
)
def test_a_wrong_line_is_named(line, said):
    with pytest.raises(BadInput, match=said):
        listed(line)


def test_a_device_is_there_once_and_empty_lines_are_none():
    assert len(listed(LINE, "", "\n", LINE | {"device": "s1-pc-2"})) == 2
    with pytest.raises(BadInput, match="line 2: s1-pc-1 is there twice"):
        listed(LINE, LINE)


def test_only_the_regions_keys_place_and_each_holder_counts_once():
    key = make_ed25519()
    with pytest.raises(BadInput, match="is over s1 alone"):
        sign(LINE, keys=[key], trust=trusting(named(key, "s1")))
    with pytest.raises(BadInput, match="two keys of one holder"):
        sign(LINE, keys=[ONE, key], trust=trusting(named(key, "", holder="config-1")))
    assert len(sign(LINE, keys=[ONE, TWO])) == 1


def test_another_holder_signs_the_same_placements():
    made = sign(LINE)
    (both,) = placing.add_signature(made, TWO, TRUST, NOW_S)
    keys = [key.public for key in TRUST.keys if key.holder.startswith("config-")]
    assert both.placement == made[0].placement
    assert len(signed_by(both.envelope, PLACEMENT_TYPE, keys)) == 2
    with pytest.raises(BadInput, match="line 1"):
        list(placing.read_signed(["{}"]))
