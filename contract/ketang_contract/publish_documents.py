"""JSON Schemas of the signed documents, and of what carries them as envelopes.

An envelope (DSSE) holds its document as base64. The schema of what is inside stands beside it as
``contentSchema`` (JSON Schema 2020-12, Validation, 8.5), for a reader that looks inside. Whether a
document is believed is for the signatures to say, and for the rules of acceptance.
"""

from collections.abc import Mapping
from typing import Any

from ketang_contract import batch, commands, layers, permits, trust
from ketang_contract.config import Level
from ketang_contract.signatures import MAX_SEALED_BYTES, MAX_SIGNATURES
from ketang_contract.validate import DOCUMENTS

COMMAND = "sealed-command"
"""What ``dn/cmd/{job}`` carries: one envelope of a ``command``."""
DESIRED = "desired"
"""What ``dn/desired`` carries: a device's placement, layers, permits and trust documents."""
RELEASE = "release"
"""A publisher's file: a layer, signed together with its undo."""
TYPES: Mapping[str, str] = {
    "layer": layers.LAYER_TYPE,
    "placement": layers.PLACEMENT_TYPE,
    "command": commands.COMMAND_TYPE,
    "filing": permits.FILING_TYPE,
    "camera-grant": permits.GRANT_TYPE,
}
"""Payload types of the documents that are signed, by the document's name."""


def urn(name: str) -> str:
    """Name a schema, as its ``$id`` and as others refer to it."""
    return f"urn:ketang:v{batch.SCHEMA}:{name}"


def schemas() -> dict[str, dict[str, Any]]:
    """Schema bodies by name: each document as it is signed, then what carries envelopes."""
    return {
        **{name: adapter.json_schema() for name, adapter in DOCUMENTS.items()},
        DESIRED: _desired(),
        COMMAND: {
            "description": f"A signed command, at most {commands.MAX_COMMAND_BYTES} bytes.",
            **_envelope("command"),
        },
        RELEASE: _object(
            "What a publisher hands to the centre: a layer, and the next version, which takes it "
            "back.",
            {"schema": {"const": 1}, "layer": _envelope("layer"), "undo": _envelope("layer")},
        ),
    }


def _desired() -> dict[str, Any]:
    signed_trust = _object(
        "A trust document, newer than the device's own.",
        {**_sealed(trust.PAYLOAD_TYPE), "signatures": _signatures()},
    )
    permit = {"anyOf": [_envelope("filing"), _envelope("camera-grant")]}
    return _object(
        f"What a device is to have, as it was signed; at most {layers.MAX_DESIRED_BYTES} bytes.",
        {
            "schema": {"const": 1},
            "attempt": {"type": "integer", "minimum": 0, "maximum": layers.MAX_ATTEMPT},
            "placement": _envelope("placement"),
            "layers": _list(_envelope("layer"), len(Level)),
            "permits": _list(permit, layers.MAX_PERMITS),
            "trust": _list(signed_trust, layers.MAX_TRUST),
        },
    )


def _envelope(name: str) -> dict[str, Any]:
    sealed = _sealed(TYPES[name])
    sealed["payload"]["contentSchema"] = {"$ref": urn(name)}
    return _object(f"A signed {name}.", {**sealed, "signatures": _signatures()})


def _sealed(payload_type: str) -> dict[str, Any]:
    return {
        "payload": {
            "type": "string",
            "maxLength": MAX_SEALED_BYTES,
            "contentEncoding": "base64",
            "contentMediaType": payload_type,
        },
        "payloadType": {"const": payload_type},
    }


def _signatures() -> dict[str, Any]:
    one = _object(
        "The key's name is SHA-256 of its SubjectPublicKeyInfo in DER; the signature is base64.",
        {
            "keyid": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "sig": {"type": "string", "contentEncoding": "base64"},
        },
    )
    return _list(one, MAX_SIGNATURES)


def _object(says: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": says,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most}
