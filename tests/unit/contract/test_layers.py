"""Signed documents of a configuration, the bundle that brings them, and a publisher's file."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.security.config_world import (
    AT_S1,
    DEVICE,
    at,
    bundle,
    layer,
    layer_of,
    placement,
    placement_of,
)
from tests.unit.provisioning.config_samples import configs

from ketang_contract import layers, releases
from ketang_contract.config import Config, Level
from ketang_contract.errors import BadInput, Refused
from ketang_contract.layers import (
    LAYER_TYPE,
    MAX_DESIRED_BYTES,
    PLACEMENT_TYPE,
    Desired,
    Layer,
    Placement,
    Step,
)
from ketang_contract.releases import Release
from ketang_contract.validate import signed

ONE = layer("s1", Config(usage_s=60), "s1")
TWO = layer("s1", Config(), "s1", version=2, undoes=1)
PLACED = placement("one")


@given(configs, st.one_of(st.none(), st.integers(1, 2**53 - 1)))
def test_a_layer_is_read_as_it_was_written(content, undoes):
    made = layer_of("s1", content, undoes=undoes)
    raw = layers.payload(made)
    assert signed(Layer, raw) == made
    assert layers.payload(signed(Layer, raw)) == raw


def test_a_placement_is_read_as_it_was_written():
    made = placement_of(least=[at("lan", 3), at("s1", 2**53 - 1, key_epoch=2)])
    assert signed(Placement, layers.payload(made)) == made


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "S1"},
        {"target": "s1 "},
        {"target": "\u0455" + "1"},
        {"target": ""},
        {"target": "a" * 37},
        {"level": "province"},
        {"version": 0},
        {"version": 2**53},
        {"version": 1.0},
        {"version": True},
        {"version": "1"},
        {"key_epoch": 0},
        {"key_epoch": 2**31},
        {"issued_s": -1},
        {"expires_s": 253_402_300_800},
        {"undoes": 0},
        {"content": {"usage_s": 5}},
        {"content": {"usage_s": True}},
        {"content": {"hours": [[7, 0, 1]]}},
        {"content": {"hours": [[0, 60, 0]]}},
        {"content": {"schema": 2}},
        {"content": {"unknown": 1}},
        {"unknown": 1},
    ],
)
def test_a_layer_that_is_none_is_refused(changes):
    said = json.loads(layers.payload(layer_of("s1", Config())))
    with pytest.raises(Refused) as problem:
        signed(Layer, json.dumps({**said, **changes}).encode())
    assert problem.value.reason == "bad_document"


def test_a_field_that_is_named_twice_is_refused():
    raw = layers.payload(layer_of("s1", Config()))
    with pytest.raises(Refused, match="twice"):
        signed(Layer, raw.replace(b'"version"', b'"version":9,"version"'))


@pytest.mark.parametrize("levels", [(), ("city",), ("region", "county"), ("region", "region")])
def test_a_way_that_is_none_is_refused(levels):
    steps = tuple(
        Step(level=Level(level), unit=unit) for level, unit in zip(levels, AT_S1, strict=False)
    )
    with pytest.raises(ValueError, match="region down"):
        replace(placement_of(), path=steps)


def test_a_digest_tells_types_apart_and_a_hash_forgets_the_order():
    assert layers.digest(LAYER_TYPE, b"{}") != layers.digest(PLACEMENT_TYPE, b"{}")
    assert layers.config_hash("p", ["a", "b"]) == layers.config_hash("p", ["b", "a"])
    assert layers.config_hash("p", ["a"]) != layers.config_hash("a", ["p"])


def test_a_bundle_is_read_as_it_was_written():
    for made in (
        Desired(placement=PLACED, layers=()),
        Desired(placement=PLACED, layers=(ONE, TWO), permits=(ONE,), trust=(TWO,), attempt=4),
    ):
        raw = layers.write_desired(made)
        read = layers.read_desired(raw)
        assert layers.write_desired(read) == raw
        assert read.attempt == made.attempt
        assert [json.loads(one) for one in read.layers] == [json.loads(one) for one in made.layers]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{" * 5000,
        b"\xff",
        bundle(PLACED)[:-1],
        bundle(PLACED).replace(b'"schema":1', b'"schema":2'),
        bundle(PLACED).replace(b'"schema":1', b'"schema":1,"schema":1'),
        bundle(PLACED).replace(b'"schema":1', b'"schema":1,"more":1'),
        bundle(PLACED).replace(b'"attempt":0', b'"attempt":-1'),
        bundle(PLACED).replace(b'"attempt":0', b'"attempt":0.0'),
        bundle(PLACED).replace(b'"attempt":0', b'"attempt":true'),
        bundle(PLACED).replace(b'"layers":[]', b'"layers":[1]'),
        bundle(PLACED).replace(b'"layers":[]', b'"layers":{}'),
        bundle(PLACED).replace(b'"layers":[]', b'"layers":[{"a":"\\ud800"}]'),
        bundle(PLACED, *[ONE] * 6).replace(b'"layers":[', b'"layers":[{},'),
        bundle(PLACED) + b" " * MAX_DESIRED_BYTES,
    ],
    ids=range(16),
)
def test_a_bundle_that_is_none_is_refused(raw):
    with pytest.raises(Refused) as problem:
        layers.read_desired(raw)
    assert problem.value.reason == "bad_desired"


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_they_are_a_bundle_or_refused(raw):
    with pytest.raises(Refused):
        layers.read_desired(raw)


@given(st.integers(1, 2000), st.sampled_from([b"[]", b'{"a":}']))
def test_whatever_is_nested_in_a_bundle_it_is_read_or_refused(depth, pair):
    opening, closing = pair[:-1], pair[-1:]
    deep = opening * depth + b"1" + closing * depth
    raw = bundle(PLACED).replace(b'"layers":[]', b'"layers":[{"x":' + deep + b"}]")
    try:
        layers.read_desired(raw)
    except Refused as problem:
        assert problem.reason == "bad_desired"  # noqa: PT017  (either is right)


def test_a_bundle_that_is_too_large_is_not_written():
    big = json.dumps({"x": "y" * (100 << 10)}).encode()
    with pytest.raises(Refused) as problem:
        layers.write_desired(Desired(placement=PLACED, layers=(big,) * 6))
    assert problem.value.reason == "too_large"


def test_the_six_largest_layers_fit_in_a_bundle():
    biggest = json.dumps({"x": "y" * ((64 << 10) - 20)}).encode()
    made = Desired(placement=PLACED, layers=(biggest,) * 6, trust=(biggest,))
    assert len(layers.read_desired(layers.write_desired(made)).layers) == 6


def test_a_release_is_read_as_it_was_written():
    made = Release(ONE, TWO)
    raw = releases.write(made)
    read = releases.read(raw)
    assert json.loads(read.layer) == json.loads(ONE)
    assert json.loads(read.undo) == json.loads(TWO)
    assert releases.write(read) == raw


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"",
        lambda raw: b"[]",
        lambda raw: raw[:-3],
        lambda raw: raw.replace(b'"schema": 1', b'"schema": 2'),
        lambda raw: raw.replace(b'"schema": 1', b'"schema": 1, "schema": 1'),
        lambda raw: raw.replace(b'"schema": 1', b'"schema": 1, "more": 1'),
        lambda raw: json.dumps({**json.loads(raw), "undo": "x"}).encode(),
        lambda raw: raw + b" " * releases.MAX_RELEASE_BYTES,
    ],
)
def test_a_release_that_is_none_is_refused_in_one_line(change):
    with pytest.raises(BadInput) as problem:
        releases.read(change(releases.write(Release(ONE, TWO))))
    assert "\n" not in str(problem.value)
    assert DEVICE not in str(problem.value)
