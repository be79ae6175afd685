"""The open interface: what others read must say what the code does, and be in step with it."""

import copy
import json
import re

import jsonschema
import pytest
from tests.unit.contract.samples import examples

from ketang_contract import publish_schemas, topics
from ketang_contract.errors import NotYet, Refused
from ketang_contract.records import Stream
from ketang_contract.validate import MESSAGES, header, record

FILES = {name: json.loads(text) for name, text in publish_schemas.documents().items()}
ASYNC = FILES["asyncapi.json"]
WIRE = {
    # suffix: (QoS, retained), as the design's table of the wire has them
    "up/birth": (1, True),
    "up/death": (1, False),
    "up/b/{stream}": (1, False),
    "up/live": (0, False),
    "up/reported": (1, False),
    "up/cmd/{job}": (1, False),
    "dn/ack": (1, False),
    "dn/desired": (1, True),
    "dn/cmd/{job}": (1, False),
}


def validator(name):
    return jsonschema.Draft202012Validator(FILES[f"{name}.schema.json"])


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_has_a_schema_that_is_a_schema(name):
    jsonschema.Draft202012Validator.check_schema(FILES[f"{name}.schema.json"])


@pytest.mark.parametrize(("name", "example"), examples())
def test_a_schema_accepts_what_the_code_writes(name, example):
    validator(name).validate(example)


@pytest.mark.parametrize(("name", "example"), examples())
def test_a_schema_refuses_an_unknown_field_and_a_missing_one(name, example):
    assert not validator(name).is_valid({**example, "user_name": "x"})
    required = FILES[f"{name}.schema.json"]["required"]
    assert required
    for key in required:
        without = {one: value for one, value in example.items() if one != key}
        assert not validator(name).is_valid(without), key


def damaged(example, path, value):
    body = copy.deepcopy(example)
    at = body
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return body


RECORD, HEADER = (
    next(body for name, body in examples() if name == one) for one in ("record", "header")
)


@pytest.mark.parametrize(
    ("read", "name", "bad"),
    [
        (record, "record", damaged(RECORD, ["subject"], "No Spaces")),
        (record, "record", damaged(RECORD, ["wall_ms"], -1)),
        (record, "record", damaged(RECORD, ["wall_ms"], "now")),
        (record, "record", damaged(RECORD, ["body", "active_s"], 301)),
        (record, "record", damaged(RECORD, ["body", "kind"], "mood")),
        (record, "record", damaged(RECORD, ["body"], {"name": "wake"})),
        (record, "record", damaged(RECORD, ["body", "categories"], {"games": 3})),
        (header, "header", damaged(HEADER, ["schema"], 70_000)),
        (header, "header", damaged(HEADER, ["seqs"], [[0, 1]])),
        (header, "header", damaged(HEADER, ["drops"], [[1, 2, "bored"]])),
        (header, "header", damaged(HEADER, ["stream"], "all")),
    ],
)
def test_schema_and_code_refuse_the_same(read, name, bad):
    assert not validator(name).is_valid(bad)
    with pytest.raises((Refused, NotYet)):
        read(json.dumps(bad).encode())


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from references(one)


def resolve(reference):
    file, _, pointer = reference.partition("#")
    found = FILES[file.removeprefix("./")] if file else ASYNC
    for step in pointer.strip("/").split("/") if pointer else []:
        found = found[step]
    return found


def test_every_reference_leads_somewhere():
    found = list(references(ASYNC))
    assert found
    assert all(resolve(one) for one in found)


def test_the_document_has_the_form_asyncapi_3_asks_for():
    assert ASYNC["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= ASYNC["info"].keys()
    for name, channel in ASYNC["channels"].items():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"])
        assert channel["messages"], name
    for operation in ASYNC["operations"].values():
        assert operation["action"] in {"send", "receive"}
        own = operation["channel"]["$ref"] + "/messages/"
        assert all(one["$ref"].startswith(own) for one in operation["messages"])
    for message in ASYNC["components"]["messages"].values():
        assert {"name", "contentType", "payload"} <= message.keys()


def test_qos_and_retained_are_those_of_the_design():
    said = {}
    for operation in ASYNC["operations"].values():
        channel = resolve(operation["channel"]["$ref"])
        suffix = channel["address"].removeprefix("kt/v1/{shard}/{device}/")
        mqtt = operation["bindings"]["mqtt"]
        said[suffix] = (mqtt["qos"], mqtt["retain"])
        assert operation["action"] == ("send" if suffix.startswith("up/") else "receive")
    assert said == WIRE


@pytest.mark.parametrize("channel", ASYNC["channels"].values(), ids=list(ASYNC["channels"]))
def test_an_address_filled_in_is_a_topic_the_code_makes(channel):
    address, device = channel["address"], "ifp-0001"
    made = topics.of(device, address.removeprefix("kt/v1/{shard}/{device}/"))
    shard = made.split("/")[2]
    filled = address.replace("{shard}", shard).replace("{device}", device)
    assert filled == made
    if "/up/" not in address:
        return
    streams = channel["parameters"].get("stream", {}).get("enum", [""])
    assert streams in ([""], [one.value for one in Stream])
    for stream in streams:
        said = filled.replace("{stream}", stream).replace("{job}", "j-1")
        assert topics.parse(said).device == device


def test_the_same_code_gives_the_same_bytes():
    assert publish_schemas.documents() == publish_schemas.documents()


def test_check_tells_of_each_file_that_is_changed_missing_or_left_over(tmp_path, capsys):
    folder = tmp_path / "interfaces"
    assert publish_schemas.main([str(folder)]) == 0
    assert publish_schemas.main(["--check", str(folder)]) == 0
    (folder / "live.schema.json").write_text("{}")
    (folder / "death.schema.json").unlink()
    (folder / "old.schema.json").write_text("{}")
    assert publish_schemas.main(["--check", str(folder)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(name in said for name in ("live.schema", "death.schema", "old.schema"))
    publish_schemas.main([str(folder)])
    assert publish_schemas.out_of_step(folder) == []
