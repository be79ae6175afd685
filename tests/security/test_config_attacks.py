"""A thousand attacks on what a device accepts of its configuration: none may come through.

The attacker has every byte that was ever signed, the device's clock, and any one key of the region,
the city or a school at a time; never the keys of two holders. Each attack is brought to a device
that holds six layers, and judged as the judging child does it.
"""

import base64
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from ketang_contract import signatures
from ketang_contract.config import DIRECTIONS, LONGER, Config, Level, ModelChoice, widened
from ketang_contract.layers import LAYER_TYPE, PLACEMENT_TYPE, payload
from ketang_contract.records import Category
from ketang_contract.trust import PAYLOAD_TYPE as TRUST_TYPE
from tests.security.config_world import (
    AT_S1,
    AT_S2,
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
    placement_of,
    seal,
    trust,
)

MODEL, OTHER_MODEL = (
    ModelChoice(name="mtcnn", version=version, sha256=one * 64) for version, one in ("1a", "2b")
)
LEAST = {"usage": 10, "inventory": 300, "security": 300, "occupancy": 300}
BELOW = Config(
    usage_s=0,
    host_s=250,
    network_s=250,
    environment_s=250,
    inventory_s=9000,
    security_s=9000,
    occupancy_s=900,
    categories=(Category.OFFICE, Category.WHITEBOARD),
    hours=((0, 480, 1020), (4, 480, 720)),
    inference=False,
    score_min_pct=60,
    scan_s=60,
)
ABOVE = replace(
    BELOW,
    host_s=200,
    inventory_s=7200,
    hours=((0, 480, 1080), (4, 480, 720)),
    model=MODEL,
    foreground=(("wps", Category.OFFICE),),
)
SAID = {
    # target: content, version, its own key
    "lan": (ABOVE, 5, "one"),
    "lan-shi": (BELOW, 3, "city"),
    "s1": (BELOW, 4, "s1"),
    "s1-r1": (BELOW, 2, "s1"),
    DEVICE: (BELOW, 8, "s1"),
}
HOME = {
    target: layer(target, content, *(BOTH if target == "lan" else (key,)), version=version)
    for target, (content, version, key) in SAID.items()
}
LEAST_AT = tuple(at(target, version) for target, (_, version, _) in SAID.items())
PLACED = placement("one", version=7, least=LEAST_AT)
BEFORE = {
    target: layer(target, content, *(BOTH if target == "lan" else (key,)), version=version - 1)
    for target, (content, version, key) in SAID.items()
}
PLACED_BEFORE = placement("one", version=6)
HELD = Device().obeys(bundle(PLACED, *HOME.values())).machine
FLOOR_S = HELD.held["floor_s"]


@dataclass
class Attack:
    """What is brought to which device, and why it has to be refused."""

    raw: bytes
    reasons: str
    """One or more, parted by a space; empty: it may be accepted, but must widen nothing."""
    device: Device


def device(**changes) -> Device:
    return Device(machine=HELD, **changes)


def with_(target: str = "", envelope: bytes = b"", placed: bytes = PLACED, **more) -> bytes:
    """The bundle that the device holds, with one layer another."""
    layers = {**HOME, **({target: envelope} if target else {})}
    return bundle(placed, *layers.values(), **more)


def newer(target: str, content: Config, *keys: str, **changes) -> bytes:
    changes.setdefault("version", SAID[target][1] + 1)
    return layer(target, content, *keys, **changes)


def any_of(rng: random.Random) -> tuple[str, Config, int, str]:
    target = rng.choice(list(SAID))
    return (target, *SAID[target])


def wider(rng: random.Random, content: Config, *, region: bool) -> Config:
    """Widen one collecting field; for the region's layer so that it does widen on this device."""
    names = [
        name
        for name, direction in DIRECTIONS.items()
        if direction.collects and getattr(content, name) is not None
    ]
    while True:
        name = rng.choice(names)
        made = replace(content, **{name: _wider(rng, name, getattr(content, name))})
        if not region:
            return made
        # Off in the profile is off; and what the region leaves out is the profile's.
        if name == "environment_s" or (name == "inference" and made.inference is None):
            continue
        if name in {"model", "foreground"} and getattr(made, name) is None:
            continue
        return made


def _wider(rng: random.Random, name: str, value):
    if rng.random() < 0.2:
        return None
    if DIRECTIONS[name] is LONGER:
        least = LEAST.get(name.removesuffix("_s"), 5)
        return rng.randint(least, 60 if value == 0 else value - 1)
    return {
        "categories": lambda: tuple(sorted({*value, rng.choice(_others(value))})),
        "hours": lambda: ((*value[0][:1], rng.randint(0, 479), value[0][2]), *value[1:]),
        "inference": lambda: True,
        "model": lambda: OTHER_MODEL,
        "foreground": lambda: (*value, (f"x{rng.randint(0, 99)}", Category.WHITEBOARD)),
        "score_min_pct": lambda: rng.randint(0, value - 1),
        "scan_s": lambda: rng.randint(1, value - 1),
    }[name]()


def _others(categories) -> list[Category]:
    return sorted(set(Category) - set(categories))


# Replayed and rolled back.


def replayed_bundle(rng):
    old = {t: rng.choice([HOME[t], BEFORE[t]]) for t in SAID}
    at_least_one = rng.choice(list(SAID))
    old[at_least_one] = BEFORE[at_least_one]
    placed = rng.choice([PLACED, PLACED_BEFORE])
    return Attack(bundle(placed, *old.values(), attempt=rng.randint(0, 9)), "rolled_back", device())


def replayed_placement(rng):
    placed = rng.choice(
        [PLACED_BEFORE, placement(*BOTH, version=rng.randint(1, 6)), placement("two", version=6)]
    )
    return Attack(with_(placed=placed), "rolled_back", device())


def replayed_after_a_failure(rng):
    one = device()
    target, content, _, key = any_of(rng)
    assert one.bring(with_(target, newer(target, replace(content, host_s=300), key))) == ""
    (one.fails, one.passes, lambda: None)[rng.randrange(3)]()
    return Attack(with_(), "rolled_back", one)


def older_than_the_placement_allows(rng):
    target, _, version, _ = any_of(rng)
    least = [at(target, version + rng.randint(1, 9))]
    return Attack(with_(placed=placement("one", version=8, least=least)), "rolled_back", device())


# Expired, whatever the clock says.


def expired(rng):
    target, content, _, key = any_of(rng)
    ended = NOW_S - rng.randint(0, 10 * DAY_S)
    old = newer(target, content, key, issued_s=ended - 9 * DAY_S, expires_s=ended)
    return Attack(with_(target, old), "expired", device())


def expired_with_the_clock_set_back(rng):
    target, content, _, key = any_of(rng)
    ended = FLOOR_S - rng.randint(0, 300 * DAY_S)
    old = newer(target, content, key, issued_s=ended - 9 * DAY_S, expires_s=ended)
    clock = device(
        now_s=rng.choice([0, ended - rng.randint(1, 9 * DAY_S)]), synced=rng.random() < 0.5
    )
    return Attack(with_(target, old), "expired ill_timed", clock)


def expired_placement(rng):
    ended = FLOOR_S - rng.randint(0, 300 * DAY_S)
    placed = placement("one", version=8, issued_s=ended - DAY_S, expires_s=ended)
    clock = device(now_s=rng.choice([0, ended - 1, NOW_S]), synced=rng.random() < 0.5)
    return Attack(with_(placed=placed), "expired ill_timed", clock)


def expired_on_a_new_device(rng):
    """It has seen no signed time but its trust document's."""
    ended = TRUST.issued_s - rng.randint(0, DAY_S)
    target, content, _, key = any_of(rng)
    keys = BOTH if target == "lan" else (key,)
    old = layer(target, content, *keys, issued_s=ended - DAY_S, expires_s=ended)
    clock = Device(now_s=0, synced=rng.random() < 0.5)
    return Attack(bundle(placement("one"), old), "expired ill_timed", clock)


# By the wrong key.


def mis_scoped(rng):
    wrong = {
        "lan": ["city", "s1", "s2"],
        "lan-shi": ["s1", "s2"],
        "s1": ["s2"],
        "s1-r1": ["s2"],
        DEVICE: ["s2"],
    }
    target, content, _, _ = any_of(rng)
    return Attack(
        with_(target, newer(target, content, rng.choice(wrong[target]))), "mis_scoped", device()
    )


def placed_by_no_key_of_the_region(rng):
    keys = rng.choice([("city",), ("s1",), ("city", "s1", "s2")])
    least = rng.choice([(), LEAST_AT])
    return Attack(with_(placed=placement(*keys, version=8, least=least)), "mis_scoped", device())


def by_a_key_of_another_purpose(rng):
    target, content, _, _ = any_of(rng)
    key = rng.choice(["filing", "stranger", "root"])
    if rng.random() < 0.3:
        return Attack(with_(placed=placement(key, version=8)), "forged", device())
    return Attack(with_(target, newer(target, content, key)), "forged", device())


def by_a_revoked_key(rng):
    target, content, _, key = any_of(rng)
    believed = trust(revoked=[key], version=2)
    others = {t: layer_by_another(t) for t, (_, _, its) in SAID.items() if its == key}
    fresh = newer(target, content, key)
    layers = {**HOME, **others, target: fresh}
    raw = bundle(placement("two", version=8), *layers.values())
    clock = {"now_s": rng.choice([0, NOW_S]), "synced": rng.random() < 0.5}
    return Attack(raw, "forged ill_timed", device(trust=believed, **clock))


def layer_by_another(target: str) -> bytes:
    """The same content and version, vouched for by a key that is not revoked."""
    content, version, _ = SAID[target]
    return layer(target, content, "two", version=version)


def by_a_key_out_of_time(rng):
    target, content, _, key = any_of(rng)
    named = key.replace("-", "_")
    out = rng.choice(
        [
            {"from_s": NOW_S + rng.randint(1, DAY_S)},
            {"until_s": FLOOR_S - rng.randint(0, DAY_S)},
        ]
    )
    believed = trust(version=2, **{named: out})
    others = {t: layer_by_another(t) for t, (_, _, its) in SAID.items() if its == key}
    layers = {**HOME, **others, target: newer(target, content, key)}
    clock = rng.choice([0, NOW_S]) if "until_s" in out else NOW_S
    raw = bundle(placement("two", version=8), *layers.values())
    told = device(trust=believed, now_s=clock, synced=rng.random() < 0.5)
    return Attack(raw, "forged ill_timed", told)


# For somebody else.


def of_another_device(rng):
    placed = placement(
        *rng.choice([("one",), BOTH]),
        device=rng.choice(["s1-pc-2", "s1-pc-10", "s1-pc", "s1-pc-"]),
        version=rng.choice([7, 8, 99]),
    )
    return Attack(with_(placed=placed), "wrong_target", device())


def of_another_unit(rng):
    target = rng.choice(["s2", "s2-r1", "s2-pc-1"])
    stray = layer(target, Config(), rng.choice(["s2", "one"]), version=rng.randint(1, 99))
    layers = dict(HOME)
    if rng.random() < 0.5:
        del layers[rng.choice(list(layers))]
    return Attack(bundle(PLACED, *layers.values(), stray), "wrong_target", device())


def on_another_level(rng):
    target, content, _, _ = any_of(rng)
    levels = [one for one in Level if one is not layer_of(target, content).level]
    raised = newer(target, content, *BOTH, level=rng.choice(levels))
    return Attack(with_(target, raised), "wrong_target", device())


# Forged.


def flipped(rng: random.Random, raw: bytes) -> bytes:
    where = rng.randrange(len(raw))
    return raw[:where] + bytes([raw[where] ^ 1 << rng.randrange(8)]) + raw[where + 1 :]


def opened(envelope: bytes) -> dict:
    return json.loads(envelope)


def a_flipped_bit_of_the_payload(rng):
    target, content, _, key = any_of(rng)
    said = opened(newer(target, content, *(BOTH if target == "lan" else (key,))))
    said["payload"] = base64.b64encode(flipped(rng, base64.b64decode(said["payload"]))).decode()
    reasons = "forged bad_document wrong_target"
    return Attack(with_(target, json.dumps(said).encode()), reasons, device())


def a_flipped_bit_of_the_signature(rng):
    target, content, _, key = any_of(rng)
    placed = rng.random() < 0.3
    envelope = placement(version=8, least=LEAST_AT) if placed else newer(target, content, key)
    said = opened(envelope)
    for one in said["signatures"]:
        signature = flipped(rng, base64.b64decode(one["sig"]))
        signature = rng.choice([signature, signature[:-1], signature + b"\0", b"", signature * 2])
        one["sig"] = base64.b64encode(signature).decode()
    raw = json.dumps(said).encode()
    return Attack(with_(placed=raw) if placed else with_(target, raw), "forged", device())


def anothers_name_on_a_signature(rng):
    target, content, _, _ = any_of(rng)
    said = opened(newer(target, content, rng.choice(["stranger", "s2"])))
    (one,) = said["signatures"]
    ids = [key.key_id for key in TRUST.keys]
    one["keyid"] = rng.choice([*ids, "0" * 64])
    if rng.random() < 0.5:
        said["signatures"] = [{**one, "keyid": name} for name in ids]
    return Attack(with_(target, json.dumps(said).encode()), "forged mis_scoped", device())


def signatures_of_another_document(rng):
    target, content, _, key = any_of(rng)
    keys = BOTH if target == "lan" else (key,)
    said = opened(newer(target, wider(rng, content, region=target == "lan"), *keys))
    said["signatures"] = opened(rng.choice([*HOME.values(), *BEFORE.values(), PLACED]))[
        "signatures"
    ]
    return Attack(with_(target, json.dumps(said).encode()), "forged", device())


def another_payload_type(rng):
    """A layer for a placement, a trust document for a layer, and the other way round."""
    target, content, _, key = any_of(rng)
    one, its = layer_of(target, content, version=99), placement_of(version=8)
    kind = rng.choice([PLACEMENT_TYPE, TRUST_TYPE, "", LAYER_TYPE.upper()])
    said = opened(seal(one, key, kind=kind or "x"))
    relabelled = {**said, "payloadType": LAYER_TYPE}
    reasons = "bad_envelope forged bad_document"
    return Attack(
        rng.choice(
            [
                with_(target, json.dumps(said).encode()),
                with_(target, json.dumps(relabelled).encode()),
                with_(placed=seal(one, "one")),
                with_(placed=seal(one, "one", kind=PLACEMENT_TYPE)),
                with_(target, seal(its, "one")),
                with_(target, seal(its, "one", kind=LAYER_TYPE)),
            ]
        ),
        reasons,
        device(),
    )


def a_field_named_twice(rng):
    target, content, version, key = any_of(rng)
    which = rng.randrange(3)
    if which == 0:  # in the bundle
        raw = with_(target, newer(target, content, key))
        return Attack(
            raw.replace(b'"attempt":0', b'"attempt":0,"attempt":1'), "bad_desired", device()
        )
    if which == 1:  # in an envelope
        raw = with_(target, newer(target, content, key))
        return Attack(
            raw.replace(b'"payloadType"', b'"payloadType":"x","payloadType"', 1),
            "bad_desired",
            device(),
        )
    text = payload(layer_of(target, content, version=version + 1))  # in what was signed
    twice = text.replace(b'"version"', b'"version":1,"version"')
    raw = signatures.seal(twice, LAYER_TYPE, [PRIVATE[key]])
    return Attack(with_(target, raw), "bad_document", device())


def an_unknown_field(rng):
    """One that a later release may know must not pass for nothing."""
    target, content, version, key = any_of(rng)
    said = json.loads(payload(layer_of(target, content, version=version + 1)))
    where = rng.choice([said, said["content"]])
    where[rng.choice(["widen", "usage_s ", "Version", "level\u200b"])] = rng.choice([1, None, "x"])
    raw = signatures.seal(json.dumps(said).encode(), LAYER_TYPE, [PRIVATE[key]])
    return Attack(with_(target, raw), "bad_document", device())


def a_name_that_looks_alike(rng):
    """Cyrillic and full-width letters, and what normalises to a name."""
    target, content, version, key = any_of(rng)
    said = json.loads(payload(layer_of(target, content, version=version + 1)))
    alike = {"s": "\u0455", "a": "\u0430", "l": "\u217c", "1": "\uff11"}
    letter = rng.choice([one for one in target if one in alike])
    said["target"] = rng.choice(
        [target.replace(letter, alike[letter], 1), target + "\n", target.upper(), target + "\u200d"]
    )
    raw = signatures.seal(json.dumps(said).encode(), LAYER_TYPE, [PRIVATE[key]])
    return Attack(with_(target, raw), "bad_document", device())


# Left out.


def a_layer_left_out(rng):
    gone = set(rng.sample(list(HOME), rng.randint(1, len(HOME))))
    left = [one for target, one in HOME.items() if target not in gone]
    placed = rng.choice(
        [PLACED, placement("one", version=8), placement("one", version=9, least=())]
    )
    return Attack(bundle(placed, *left), "left_out", device())


def a_layer_left_out_of_a_first_bundle(rng):
    gone = rng.choice(list(HOME))
    left = [one for target, one in HOME.items() if target != gone]
    return Attack(bundle(PLACED, *left), "left_out", Device())


def one_layer_twice(rng):
    target, content, _, key = any_of(rng)
    again = rng.choice([HOME[target], newer(target, content, key)])
    return Attack(bundle(PLACED, *HOME.values(), again), "bad_desired", device())


# Widened by one holder.


def alone(rng: random.Random, target: str, key: str) -> tuple[str, ...]:
    """Signatures that come to one holder with authority over a target."""
    twice = {"one": ["one-again"], "s1": ["s1-too"]}.get(key, [])
    nobody = ["stranger", "filing", "s2", *(["s1", "city"] if target == "lan" else [])]
    if target == "lan-shi":
        nobody.append("s1")
    return (key, *rng.choice([[], twice, [rng.choice(nobody)], [*twice, *nobody]]))


def widened_by_one(rng):
    target, content, _, key = any_of(rng)
    more = wider(rng, content, region=target == "lan")
    return Attack(
        with_(target, newer(target, more, *alone(rng, target, key))), "one_holder", device()
    )


def one_signature_taken_away(rng):
    """Of a widening that two holders did sign."""
    target, content, _, key = any_of(rng)
    keys = BOTH if target == "lan" else (key, "one")
    said = opened(newer(target, wider(rng, content, region=target == "lan"), *keys))
    said["signatures"] = [rng.choice(said["signatures"])] * rng.randint(1, 3)
    return Attack(with_(target, json.dumps(said).encode()), "one_holder", device())


def narrowed_and_widened_again(rng):
    """By a chain: one layer narrows, and the next is as it was before."""
    target, content, version, key = any_of(rng)
    one = device()
    tight = replace(content, host_s=300, categories=(), scan_s=300)
    assert one.bring(with_(target, newer(target, tight, key))) == ""
    (one.fails, one.passes, lambda: None)[rng.randrange(3)]()
    back = newer(target, content, *alone(rng, target, key), version=version + rng.randint(2, 99))
    return Attack(with_(target, back), "one_holder", one)


NARROW_PLACE = {
    "lan": layer("lan", replace(ABOVE, usage_s=30), *BOTH),
    "lan-shi": layer("lan-shi", Config(), "city"),
    "s1": layer("s1", BELOW, "s1"),
    "s1-r1": layer("s1-r1", replace(BELOW, host_s=0, hours=()), "s1"),
}
IN_A_NARROW_PLACE = Device().obeys(bundle(placement("one"), *NARROW_PLACE.values())).machine


def moved_to_a_wider_place(rng):
    """Out of the room, the school, or the county; by one holder, however often he signs."""
    path = rng.choice([AT_S1[:4], AT_S1[:3], AT_S2, AT_S2[:4], ("lan",), ("x", *AT_S1[1:4])])
    keys = rng.choice([("one",), ("two",), ("one", "one-again"), ("one", "s1"), ("one", "city")])
    kept = [NARROW_PLACE[unit] for unit in path if unit in NARROW_PLACE]
    if "s2" in path and rng.random() < 0.5:  # narrower in something, and wider in all else
        kept.append(layer("s2", Config(network_s=300), "s2"))
    raw = bundle(placement(*keys, version=2, path=path), *kept)
    return Attack(raw, "one_holder", Device(machine=IN_A_NARROW_PLACE))


def an_undo_that_widens(rng):
    """It is accepted as what it may do, and lifts nothing."""
    target, content, version, key = any_of(rng)
    names = {"model", "foreground"}
    while True:
        more = wider(rng, content, region=target == "lan")
        if all(getattr(more, one) == getattr(content, one) for one in names):
            break
    undo = newer(target, more, *alone(rng, target, key), undoes=rng.randint(1, version))
    return Attack(with_(target, undo), "", device())


# Tricks with versions and epochs.


def a_version_used_again(rng):
    target, content, version, key = any_of(rng)
    other = rng.choice([replace(content, host_s=300), replace(content, spool_max_mb=8)])
    if rng.random() < 0.3:
        raw = with_(placed=placement(*BOTH, version=7, least=()))
        return Attack(raw, "version_reused", device())
    again = layer(target, other, *BOTH, key, version=version)
    return Attack(with_(target, again), "version_reused", device())


def an_epoch_nobody_began(rng):
    target, content, version, key = any_of(rng)
    epoch = rng.choice([2, 3, 2**31 - 1])
    ahead = newer(target, content, key, key_epoch=epoch, version=rng.choice([1, version + 1]))
    if rng.random() < 0.3:
        placed = placement(*BOTH, key_epoch=epoch, version=rng.choice([1, 8]))
        return Attack(with_(placed=placed), "wrong_epoch", device())
    return Attack(with_(target, ahead), "wrong_epoch", device())


def an_epoch_that_is_over(rng):
    """The root began a new one for the school; what the burnt key had numbered far ahead is out."""
    believed = trust(version=2, s1={"epoch": 2}, revoked=rng.choice([[], ["s2"]]))
    target = rng.choice(["s1", "s1-r1", DEVICE])
    content, version, _ = SAID[target]
    late = newer(target, content, "s1", version=rng.choice([version + 1, 2**53 - 1]))
    return Attack(with_(target, late), "wrong_epoch", device(trust=believed))


def widened_in_a_new_epoch(rng):
    believed = trust(version=2, one={"epoch": 2})
    target, content, _, key = any_of(rng)
    more = wider(rng, content, region=target == "lan")
    fresh = layer(target, more, *alone(rng, target, key), version=1, key_epoch=2)
    return Attack(with_(target, fresh), "one_holder", device(trust=believed))


def of_the_region_alone(rng):
    target = rng.choice([one for one in SAID if one != "lan"])
    content, _, key = SAID[target]
    said = rng.choice(
        [
            {"model": MODEL},
            {"foreground": (("wps", Category.WHITEBOARD),)},
            {"min_agent": "0.0.1"},
            {"model": OTHER_MODEL, "inference": True},
        ]
    )
    keys = rng.choice([(key,), BOTH, (key, *BOTH)])
    return Attack(
        with_(target, newer(target, replace(content, **said), *keys)), "region_only", device()
    )


KINDS: tuple[Callable[[random.Random], Attack], ...] = (
    replayed_bundle,
    replayed_placement,
    replayed_after_a_failure,
    older_than_the_placement_allows,
    expired,
    expired_with_the_clock_set_back,
    expired_placement,
    expired_on_a_new_device,
    mis_scoped,
    placed_by_no_key_of_the_region,
    by_a_key_of_another_purpose,
    by_a_revoked_key,
    by_a_key_out_of_time,
    of_another_device,
    of_another_unit,
    on_another_level,
    a_flipped_bit_of_the_payload,
    a_flipped_bit_of_the_signature,
    anothers_name_on_a_signature,
    signatures_of_another_document,
    another_payload_type,
    a_field_named_twice,
    an_unknown_field,
    a_name_that_looks_alike,
    a_layer_left_out,
    a_layer_left_out_of_a_first_bundle,
    one_layer_twice,
    widened_by_one,
    one_signature_taken_away,
    narrowed_and_widened_again,
    moved_to_a_wider_place,
    an_undo_that_widens,
    a_version_used_again,
    an_epoch_nobody_began,
    an_epoch_that_is_over,
    widened_in_a_new_epoch,
    of_the_region_alone,
)
EACH = 28
"""Of every kind; more than a thousand in all."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.__name__)
def test_no_attack_of_a_kind_is_accepted(kind):
    seen = Counter()
    for seed in range(EACH):
        attack = kind(random.Random(f"{kind.__name__} {seed}"))
        before = attack.device.machine
        reason = attack.device.bring(attack.raw)
        seen[reason] += 1
        if not attack.reasons:
            attack.device.passes()
            assert widened(before.in_force, attack.device.machine.in_force) == ()
            continue
        assert reason in attack.reasons.split(), f"seed {seed}: {attack.device.machine.refused}"
        now = attack.device.machine
        for held in ("held", "in_force", "running", "layers", "candidate", "failed", "before"):
            assert getattr(now, held) == getattr(before, held), held


def test_there_are_a_thousand_attacks():
    assert len(KINDS) * EACH >= 1000
