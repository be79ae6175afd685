"""Signed documents in the open interface: what is published must say what the code signs."""

import base64
import copy
import json

import jsonschema
import pytest
import referencing
from tests.permits import filing, grant
from tests.security.config_world import DEVICE, NOW_S, PRIVATE, layer, layer_of, placement, seal
from tests.security.config_world import placement_of as placed

from ketang_contract import commands, layers, permits, publish_schemas, releases, signatures, trust
from ketang_contract.config import AgentChoice, Config, ModelChoice
from ketang_contract.permits import Subject
from ketang_contract.publish_documents import TYPES
from ketang_contract.records import Category, to_json
from ketang_contract.validate import DOCUMENTS, SIGNED

FILES = {name: json.loads(text) for name, text in publish_schemas.documents().items()}
BY_ID = {one["$id"]: one for one in FILES.values() if "$id" in one}
REGISTRY = referencing.Registry().with_resources(
    (name, referencing.Resource.from_contents(one)) for name, one in BY_ID.items()
)
CONFIG = Config(
    usage_s=60,
    occupancy_s=0,
    hours=((0, 450, 1080),),
    categories=(Category.BROWSER, Category.OFFICE),
    foreground=(("wps", Category.OFFICE),),
    inference=True,
    model=ModelChoice(name="mtcnn", version="1.0.0", sha256="0" * 64),
    agent=AgentChoice(version="0.2.0", sha256="1" * 64),
)
COMMAND = commands.Command(
    device=DEVICE,
    job="j-1",
    what=commands.What.SHUT_DOWN,
    who="li",
    issued_s=NOW_S,
    expires_s=NOW_S + 600,
    countdown_s=120,
)
ONE, UNDO = layer("lan", CONFIG, "one", "two"), layer("lan", Config(), "one", version=2, undoes=1)
SEALED = {
    "filing": signatures.seal(permits.payload(filing()), TYPES["filing"], [PRIVATE["filing"]]),
    "camera-grant": signatures.seal(permits.payload(grant()), TYPES["camera-grant"], []),
    "command": signatures.seal(commands.payload(COMMAND), TYPES["command"], [PRIVATE["one"]]),
    "trust": signatures.seal(b"{}", trust.PAYLOAD_TYPE, [PRIVATE["root"]]),
}
DOCUMENT = [
    ("config", to_json(CONFIG)),
    ("layer", to_json(layer_of("lan", CONFIG, undoes=3))),
    ("placement", to_json(placed())),
    ("command", to_json(COMMAND)),
    ("filing", to_json(filing())),
    ("filing", to_json(filing(subject=Subject.APP, sha256=None, name="希沃白板 5"))),
    ("camera-grant", to_json(grant())),
]
CARRIER = [
    (
        "desired",
        layers.write_desired(
            layers.Desired(
                placement=placement("one"),
                layers=(ONE, layer("s1", Config(usage_s=0), "s1")),
                permits=(SEALED["filing"], SEALED["camera-grant"]),
                trust=(SEALED["trust"],),
                attempt=2,
            )
        ),
    ),
    ("release", releases.write(releases.Release(ONE, UNDO))),
    ("sealed-command", SEALED["command"]),
]


def accepts(name, value):
    schema = FILES[f"{name}.schema.json"]
    return jsonschema.Draft202012Validator(schema, registry=REGISTRY).is_valid(value)


def test_every_signed_document_is_published_and_has_its_payload_type():
    assert {id(DOCUMENTS[name]) for name in TYPES} == {id(one) for one in SIGNED.values()}
    assert DOCUMENTS.keys() == {*TYPES, "config"}
    for name in (*DOCUMENTS, "desired", "release", "sealed-command"):
        jsonschema.Draft202012Validator.check_schema(FILES[f"{name}.schema.json"])


@pytest.mark.parametrize(("name", "said"), DOCUMENT, ids=[name for name, _ in DOCUMENT])
def test_a_documents_schema_accepts_what_is_signed_and_no_other_fields(name, said):
    assert accepts(name, said)
    assert not accepts(name, {**said, "user_name": "x"})
    for key in FILES[f"{name}.schema.json"].get("required", []):
        assert not accepts(name, {one: value for one, value in said.items() if one != key}), key


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("config", {"usage_s": 5}),
        ("config", {"hours": [[7, 0, 1]]}),
        ("layer", {"level": "province"}),
        ("placement", {"device": "S1"}),
        ("command", {"what": "shell"}),
        ("filing", {"purpose": "hid\u202eden"}),
        ("camera-grant", {"purpose": "recording"}),
    ],
)
def test_schema_and_code_refuse_the_same_values(name, bad):
    said = next(one for other, one in DOCUMENT if other == name) | bad
    assert not accepts(name, said)
    with pytest.raises(ValueError, match=next(iter(bad))):
        DOCUMENTS[name].validate_json(json.dumps(said))


@pytest.mark.parametrize(("name", "raw"), CARRIER, ids=[name for name, _ in CARRIER])
def test_a_carriers_schema_accepts_what_is_sent_and_no_other_fields(name, raw):
    said = json.loads(raw)
    assert accepts(name, said)
    assert not accepts(name, {**said, "more": 1})
    for key in said:
        assert not accepts(name, {one: value for one, value in said.items() if one != key}), key


@pytest.mark.parametrize(("name", "raw"), CARRIER, ids=[name for name, _ in CARRIER])
def test_what_lies_in_an_envelope_is_of_the_schema_that_stands_beside_it(name, raw):
    looked = list(inside(FILES[f"{name}.schema.json"], json.loads(raw)))
    assert looked
    for document, reference in looked:
        validator = jsonschema.Draft202012Validator(BY_ID[reference], registry=REGISTRY)
        assert validator.is_valid(document), reference


def test_an_envelope_of_another_document_is_not_accepted_in_its_place():
    said = json.loads(CARRIER[0][1])
    wrong = copy.deepcopy(said)
    wrong["placement"] = said["layers"][0]
    assert not accepts("desired", wrong)
    assert not accepts("sealed-command", said["placement"])
    assert accepts("desired", said | {"placement": json.loads(seal(placed()))}), "a draft is one"


def test_no_published_file_holds_a_character_that_no_eye_sees():
    for name, text in publish_schemas.documents().items():
        assert text.replace("\n", "").isprintable(), name


def inside(schema, value):
    """Give each document that lies in an envelope, and the name of its schema."""
    if "anyOf" in schema:
        schema = next(
            one
            for one in schema["anyOf"]
            if one["properties"]["payloadType"]["const"] == value["payloadType"]
        )
    if "contentSchema" in schema:
        yield json.loads(base64.b64decode(value)), schema["contentSchema"]["$ref"]
    for name, one in schema.get("properties", {}).items():
        yield from inside(one, value[name])
    for one in value if "items" in schema else []:
        yield from inside(schema["items"], one)
