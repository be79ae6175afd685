"""What a publisher hands to the centre: a signed layer, signed together with its undo.

The undo is the layer's next version with the content before it, so that the centre can take a
release back at night, when nobody is there who holds a key.
"""

import json
from dataclasses import dataclass

from ketang_contract import strict_json
from ketang_contract.errors import BadInput

MAX_RELEASE_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Release:
    """Two envelopes (DSSE, JSON bytes) of ``layers.LAYER_TYPE``, neither judged here."""

    layer: bytes
    undo: bytes


def write(release: Release) -> bytes:
    """Write a release file."""
    said = {"schema": 1, "layer": json.loads(release.layer), "undo": json.loads(release.undo)}
    return json.dumps(said, indent=2).encode() + b"\n"


def read(raw: bytes) -> Release:
    """Take a release file apart.

    Raises:
        BadInput: it is none; in one line.
    """
    try:
        if len(raw) > MAX_RELEASE_BYTES:
            raise BadInput(f"a release file has at most {MAX_RELEASE_BYTES} bytes")
        said = strict_json.whole(strict_json.load(raw), ("schema", "layer", "undo"), "release")
        both = [said["layer"], said["undo"]]
    except ValueError as problem:
        raise BadInput(f"not a release file: {problem}") from problem
    if said["schema"] != 1 or not all(isinstance(one, dict) for one in both):
        raise BadInput("not a release file of a schema this version knows")
    return Release(*(strict_json.canonical(one) for one in both))
