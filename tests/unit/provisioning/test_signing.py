"""A layer and its undo: who may sign what, where a line of versions goes on, who is needed."""

import json
from dataclasses import replace

import pytest
from tests.unit.provisioning.publishers import NOW_S, ONE, TRUST, TWO, named, trusting

from ketang_contract import releases, signatures
from ketang_contract.config import Config, Level
from ketang_contract.errors import BadInput, Refused
from ketang_contract.layers import LAYER_TYPE, payload
from ketang_contract.records import Category
from ketang_contract.releases import Release
from ketang_contract.trust import Purpose, RevokedKey
from ketang_profiles.configured import as_config
from ketang_profiles.profile import shipped
from ketang_provisioning import signing, standings
from ketang_provisioning.keys import key_id, make_ed25519
from ketang_provisioning.signing import (
    NOTHING,
    Before,
    Stood,
    add_signature,
    compose,
    opened,
    place,
)

REGION = place(("lan",))
SCHOOL = place(("lan", "lan-shi", "lan-xian", "s1"))
BASES = [as_config(shipped("ops_pc")), as_config(shipped("class_board"))]


def sign(content, *keys, at=REGION, stood=None, trust=TRUST, **more):
    stood = Before() if stood is None else stood
    pair = compose(content, at, stood, trust, now_s=NOW_S, **more)
    return signing.sign_layer(pair, keys or (ONE,), at, trust, NOW_S)


def standing(release, at=REGION, stood=None, trust=TRUST):
    return standings.standing(release, at, stood or Before(), BASES, trust, NOW_S)


def test_a_first_release_is_version_one_and_its_undo_says_nothing():
    pair = opened(sign(Config(host_s=120)))
    assert (pair.layer.version, pair.layer.undoes, pair.layer.content.host_s) == (1, None, 120)
    assert (pair.undo.version, pair.undo.undoes, pair.undo.content) == (2, 1, Config())
    assert pair.undo.release == pair.layer.release
    assert pair.layer.expires_s - NOW_S == 365 * 86_400
    assert releases.read(releases.write(sign(Config(host_s=120))))


def test_the_next_release_goes_on_two_numbers_later_and_its_undo_brings_the_last_one_back():
    first = sign(Config(host_s=120))
    stood = signing.before([first], REGION, TRUST)
    pair = opened(sign(Config(host_s=60), stood=stood))
    assert (pair.layer.version, pair.undo.version, pair.undo.content) == (3, 4, Config(host_s=120))


def test_after_an_undo_the_line_goes_on_from_it_and_what_it_brought_back_stands():
    first = sign(Config(host_s=120), ONE, TWO)
    second = sign(
        Config(host_s=60, usage_s=30), ONE, TWO, stood=signing.before([first], REGION, TRUST)
    )
    stood = signing.before([second, first], REGION, TRUST, after_undo=True)
    assert (stood.version, stood.content) == (4, Config(host_s=120))
    assert stood.standing.content.host_s == 120
    pair = opened(sign(Config(host_s=200), stood=stood))
    assert (pair.layer.version, pair.undo.content) == (5, Config(host_s=120))


def test_a_release_of_another_target_or_unsigned_is_not_followed():
    first = sign(Config(host_s=120))
    with pytest.raises(BadInput, match="is of lan, not of s1"):
        signing.before([first], SCHOOL, TRUST)
    forged = sign(Config(host_s=9), ONE)
    strange = make_ed25519()
    pair = opened(forged)
    forged = Release(
        *(signatures.seal(payload(one), LAYER_TYPE, [strange]) for one in (pair.layer, pair.undo))
    )
    with pytest.raises(BadInput, match="signed by no key"):
        signing.before([forged], REGION, TRUST)
    assert signing.before([forged], REGION, TRUST, unverified=True).version == 2


def test_a_key_signs_only_where_the_trust_document_lets_it():
    key = make_ed25519()
    trust = trusting(named(key, "s1"))
    assert sign(Config(host_s=120), key, at=SCHOOL, trust=trust)
    assert sign(Config(host_s=120), key, at=place((*SCHOOL.above, "s1", "s1-r1")), trust=trust)
    with pytest.raises(BadInput, match="is over s1 alone"):
        sign(Config(host_s=120), key, trust=trust)
    with pytest.raises(BadInput, match="is over s1 alone"):
        sign(Config(host_s=120), key, at=place((*SCHOOL.above, "s2")), trust=trust)
    with pytest.raises(BadInput, match="does not name it"):
        sign(Config(host_s=120), key)
    with pytest.raises(BadInput, match="does not name it"):
        sign(Config(host_s=120), key, trust=trusting(named(key, "", purpose=Purpose.FILING)))
    with pytest.raises(BadInput, match="not in force"):
        sign(Config(host_s=120), key, trust=trusting(named(key, "", until_s=NOW_S - 1)))
    gone = replace(
        trusting(named(key, "")), revoked=(RevokedKey(key_id(key.public_key()), NOW_S, "lost"),)
    )
    with pytest.raises(BadInput, match="is revoked"):
        sign(Config(host_s=120), key, trust=gone)


def test_the_epoch_of_a_line_is_that_of_the_keys_over_it():
    trust = trusting(named(make_ed25519(), "s1", epoch=4))
    assert opened(sign(Config(host_s=120), trust=trust)).layer.key_epoch == 1
    later = sign(Config(host_s=120), at=SCHOOL, trust=trust)
    assert opened(later).layer.key_epoch == 4
    with pytest.raises(BadInput, match="later key epoch than the trust document"):
        signing.before([later], SCHOOL, TRUST)


def test_what_is_the_regions_alone_is_not_signed_for_a_school():
    with pytest.raises(BadInput, match="the region's alone, not for a school: foreground"):
        sign(Config(foreground=(("vlc", Category.MEDIA),)), at=SCHOOL)


@pytest.mark.parametrize("lasts_s", [0, -1, 500 * 86_400])
def test_a_time_that_is_none_is_not_signed(lasts_s):
    with pytest.raises(BadInput, match="--days"):
        sign(Config(host_s=120), lasts_s=lasts_s)


def test_two_keys_of_one_holder_are_refused():
    key = make_ed25519()
    trust = trusting(named(key, "", holder="config-1"))
    with pytest.raises(BadInput, match="two keys of one holder, config-1"):
        sign(Config(usage_s=30), ONE, key, trust=trust)


def test_a_region_that_asks_more_than_a_profile_needs_two_holders():
    narrow = standing(sign(Config(usage_s=60, host_s=120)))
    assert (narrow.holders, narrow.widens, narrow.complete) == (("config-1",), (), True)
    alone = standing(sign(Config(usage_s=30, inference=True)))
    assert (alone.widens, alone.passes, alone.complete) == (("usage_s", "inference"), False, False)
    both = standing(sign(Config(usage_s=30, inference=True), ONE, TWO))
    assert both.complete
    # 0 in the profile stays off, so nothing widens there.
    only_boards = standings.widening(Level.REGION, None, Stood(Config(occupancy_s=600)), BASES[1:])
    assert only_boards == ()


def test_a_draft_is_completed_by_the_second_holder_and_its_documents_stay_as_they_are():
    draft = sign(Config(usage_s=30))
    assert not standing(draft).passes
    done = add_signature(draft, TWO, REGION, TRUST, NOW_S)
    assert standing(done).complete
    assert standing(done).holders == ("config-1", "config-2")
    assert opened(done) == opened(draft)
    with pytest.raises(BadInput, match="has expired"):
        add_signature(draft, TWO, REGION, TRUST, NOW_S + 400 * 86_400)
    later = replace(TRUST, keys=tuple(replace(one, epoch=2) for one in TRUST.keys))
    with pytest.raises(BadInput, match="another key epoch"):
        add_signature(draft, TWO, REGION, later, NOW_S)
    with pytest.raises(BadInput, match="does not name it"):
        add_signature(draft, make_ed25519(), REGION, TRUST, NOW_S)


def test_one_holder_may_narrow_at_once_and_is_told_who_waits_for_the_other():
    wide = sign(Config(usage_s=30, inference=True), ONE, TWO)
    stood = signing.before([wide], REGION, TRUST)
    narrower = sign(Config(usage_s=30, inference=False), stood=stood)
    found = standing(narrower, stood=stood)
    assert found.passes
    assert not found.complete
    assert found.widens == ()
    assert "usage_s" in found.older_widens  # a device that holds nothing yet has the profile's 60


def test_an_undo_that_brings_programs_back_needs_two_holders_too():
    listed = sign(Config(foreground=(("vlc", Category.MEDIA),)), ONE, TWO)
    stood = signing.before([listed], REGION, TRUST)
    found = standing(sign(Config(), stood=stood), stood=stood)
    assert (found.widens, found.undo_widens, found.complete) == ((), ("foreground",), False)


def test_a_schools_first_layer_narrows_only_and_one_holder_does():
    found = standing(sign(Config(usage_s=60, hours=((0, 480, 1050),)), at=SCHOOL), at=SCHOOL)
    assert found.complete
    first = sign(Config(host_s=200), at=SCHOOL)
    stood = signing.before([first], SCHOOL, TRUST)
    assert standing(sign(NOTHING, at=SCHOOL, stood=stood), SCHOOL, stood).widens == ("host_s",)


def test_a_layer_and_another_layers_undo_are_no_release():
    one, other = sign(Config(host_s=120)), sign(Config(host_s=60), name="other")
    with pytest.raises(BadInput, match="not the undo of its first"):
        opened(Release(one.layer, one.layer))
    stood = signing.before([one], REGION, TRUST)
    third = sign(Config(host_s=60), stood=stood)
    with pytest.raises(BadInput, match="not the undo of its first"):
        opened(Release(third.layer, other.undo))
    with pytest.raises(Refused):
        opened(Release(json.dumps({}).encode(), one.undo))


def test_a_path_leads_from_the_region_down():
    assert place(("lan", "lan-shi")).level is Level.CITY
    device = place(("lan", "lan-shi", "lan-xian", "s1", "s1-pc-1"), Level.DEVICE)
    assert (device.target, device.level, device.above[-1]) == ("s1-pc-1", Level.DEVICE, "s1")
    assert place(("lan", "a", "b", "c", "d", "e")).level is Level.DEVICE
    for wrong in ((), ("lan", "lan"), ("Lan",), ("a", "b", "c", "d", "e", "f", "g")):
        with pytest.raises(BadInput):
            place(wrong)
    with pytest.raises(BadInput, match="leads to a city, not to a school"):
        place(("lan", "lan-shi"), Level.SCHOOL)


def test_releases_of_one_version_with_other_contents_have_other_names():
    one, other = sign(Config(host_s=120)), sign(Config(host_s=60))
    assert opened(one).layer.release != opened(other).layer.release
    assert opened(one).layer.release.startswith("lan-1-")
    assert opened(sign(Config(), name="autumn")).layer.release == "autumn"
    with pytest.raises(BadInput, match="--name"):
        sign(Config(), name="Autumn 1")
