"""Writes the open interface: JSON Schemas of messages and documents, AsyncAPI 3.0 of the topics.

The files are committed, so that others can read them without running anything; ``--check`` tells
whether they still say what the code says. Run: ``python -m ketang_contract.publish_schemas``.
Source: JSON Schema 2020-12; AsyncAPI 3.0.0 with MQTT operation binding 0.2.0.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_contract import batch, publish_documents, topics
from ketang_contract.records import Stream
from ketang_contract.validate import MESSAGES

FOLDER = Path("docs/interfaces")
_ASYNCAPI = "asyncapi.json"
_BATCH = "batch"
_IDENTIFIER = "^[a-z0-9-]{1,36}$"


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of topic. ``qos`` and ``retained`` are the publisher's; nothing depends on them."""

    message: str
    suffix: str
    qos: int
    retained: bool
    upward: bool
    says: str


CHANNELS = (
    Channel(
        "birth",
        topics.BIRTH,
        1,
        True,
        True,
        "Said at every connect: who I am, and how far each store has come.",
    ),
    Channel(
        "death",
        topics.DEATH,
        1,
        False,
        True,
        "The will. A death older than the current session is ignored.",
    ),
    Channel(_BATCH, f"{topics.BATCH}/{{stream}}", 1, False, True, "Records of one priority class."),
    Channel(
        "live",
        topics.LIVE,
        0,
        False,
        True,
        "Connection and fault changes, rate limited; never use.",
    ),
    Channel("reported", topics.REPORTED, 1, False, True, "The device's own account of itself."),
    Channel(
        "answer",
        f"{topics.ANSWER}/{{job}}",
        1,
        False,
        True,
        "What became of a command. A line; the one that ends a job of diagnostics is followed by a "
        "newline and the archive it names.",
    ),
    Channel(
        "ack",
        topics.ACK,
        1,
        False,
        False,
        "The centre's acknowledgement: the only thing that marks a record as safe.",
    ),
    Channel(
        publish_documents.DESIRED,
        topics.DESIRED,
        1,
        True,
        False,
        "The configuration a device is to have: envelopes, as they were signed.",
    ),
    Channel(
        "command",
        f"{topics.COMMAND}/{{job}}",
        1,
        False,
        False,
        "A signed request from a closed list, for one device, once, for ten minutes at most.",
    ),
)
_CARRIED_BY = {"command": publish_documents.COMMAND}
"""Schemas that are not named as the message is."""


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema of one message of the contract.

    It says all that can be said field by field. What spans fields (states that add up to no more
    than their window, ranges in order) is refused by the centre with the reason.
    """
    return _whole(name, MESSAGES[name].json_schema())


def _whole(name: str, body: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = _tidied(body)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": publish_documents.urn(name),
        "title": f"Ketang {name}",
        **made,
    }


def _tidied(schema: Any) -> Any:
    """Drop titles, which repeat names, and require the tag that tells a union's members apart."""
    if isinstance(schema, list):
        return [_tidied(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
    if "const" in kept.get("properties", {}).get("kind", {}):
        kept["required"] = ["kind", *kept.get("required", [])]
        del kept["properties"]["kind"]["default"]
    return kept


def asyncapi() -> dict[str, Any]:
    """AsyncAPI document of every topic there is so far, seen from the device."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Ketang wire",
            "version": f"{batch.SCHEMA}.0.0",
            "description": "What a device and its regional centre say to each other over MQTT "
            "3.1.1. Operations are the device's: it sends on up/, receives on dn/.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {one.message: _channel(one) for one in CHANNELS},
        "operations": {_operation_name(one): _operation(one) for one in CHANNELS},
        "components": {"messages": {one.message: _message(one) for one in CHANNELS}},
    }


def _channel(channel: Channel) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "shard": {"description": "First two hex digits of SHA-256(device)."},
        "device": {"description": f"Device id, {_IDENTIFIER}"},
    }
    if "{stream}" in channel.suffix:
        parameters["stream"] = {
            "description": "Priority class, most important first.",
            "enum": [str(one.value) for one in Stream],
        }
    if "{job}" in channel.suffix:
        parameters["job"] = {"description": f"Number of the command, {_IDENTIFIER}"}
    return {
        "address": f"{topics.ROOT}/{{shard}}/{{device}}/{channel.suffix}",
        "description": channel.says,
        "parameters": parameters,
        "messages": {channel.message: {"$ref": f"#/components/messages/{channel.message}"}},
    }


def _operation_name(channel: Channel) -> str:
    return f"{'send' if channel.upward else 'receive'}_{channel.message}"


def _operation(channel: Channel) -> dict[str, Any]:
    return {
        "action": "send" if channel.upward else "receive",
        "channel": {"$ref": f"#/channels/{channel.message}"},
        "messages": [{"$ref": f"#/channels/{channel.message}/messages/{channel.message}"}],
        "bindings": {
            "mqtt": {"qos": channel.qos, "retain": channel.retained, "bindingVersion": "0.2.0"},
        },
    }


def _message(channel: Channel) -> dict[str, Any]:
    if channel.message == _BATCH:
        return _batch_message(channel)
    return {
        "name": channel.message,
        "summary": channel.says,
        "contentType": "application/json",
        "payload": {"$ref": f"./{_CARRIED_BY.get(channel.message, channel.message)}.schema.json"},
    }


def _batch_message(channel: Channel) -> dict[str, Any]:
    """Describe a frame, which is bytes; its lines' schemas stand beside it as extensions."""
    return {
        "name": channel.message,
        "summary": channel.says,
        "contentType": "application/octet-stream",
        "description": (
            f"One byte of value {batch.ENCODING_ZLIB_JSONL}, then a zlib stream of lines of UTF-8 "
            "JSON parted by one newline: a header, then one record a line, numbered by the "
            f"header's seqs in order. At most {batch.MAX_RECORDS} records, {batch.MAX_RAW_BYTES} "
            f"bytes inflated, {batch.MAX_FRAME_BYTES} bytes on the wire."
        ),
        "payload": {"type": "string", "format": "binary", "maxLength": batch.MAX_FRAME_BYTES},
        "x-first-line": {"$ref": "./header.schema.json"},
        "x-other-lines": {"$ref": "./record.schema.json"},
    }


def documents() -> dict[str, str]:
    """Every file of the open interface: text by file name. The same code gives the same bytes."""
    bodies = {name: json_schema(name) for name in MESSAGES}
    for name, body in publish_documents.schemas().items():
        bodies[name] = _whole(name, body)
    made = {f"{name}.schema.json": body for name, body in bodies.items()}
    made[_ASYNCAPI] = asyncapi()
    return {name: _text(body) for name, body in made.items()}


def _text(body: dict[str, Any]) -> str:
    """Write JSON for people; what no eye sees is escaped, and can stand in a string only."""
    text = json.dumps(body, ensure_ascii=False, indent=2) + "\n"
    return "".join(
        one if one.isprintable() or one == "\n" else f"\\u{ord(one):04x}" for one in text
    )


def out_of_step(folder: Path) -> list[str]:
    """Names of files that are missing, differ from the code, or that the code does not know."""
    expected = documents()
    found = {one.name: one.read_text(encoding="utf-8") for one in _ours(folder)}
    return sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )


def write(folder: Path) -> None:
    """Write every file, and remove those the code no longer knows."""
    folder.mkdir(parents=True, exist_ok=True)
    made = documents()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    for old in _ours(folder):
        if old.name not in made:
            old.unlink()


def _ours(folder: Path) -> list[Path]:
    """Files of this program; OpenAPI documents are made where their service is."""
    return [one for one in folder.glob("*.json") if not one.name.startswith("openapi-")]


def main(arguments: list[str] | None = None) -> int:
    """Write, or with ``--check`` compare; return 1 when they are out of step."""
    parser = argparse.ArgumentParser(prog="publish_schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when out of step")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.folder)
        return 0
    stale = out_of_step(options.folder)
    if stale:
        sys.stderr.write(f"{options.folder}: out of step, run 'make schemas': {', '.join(stale)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
