"""Where devices stand, signed in bulk: the centre's list in, an envelope for each device out.

Both are JSON Lines. A line in: ``{"device": …, "path": […], "least": […]}``; a step of the path is
``{"level": …, "unit": …}`` or ``["region", "lan"]``, a least layer ``{"target": …, "key_epoch": …,
"version": …}`` or ``["lan", 1, 3]``. ``version``, where it is given, is the least one that a device
would take; otherwise the time of signing is the version, for that only grows.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ketang_contract import signatures, strict_json
from ketang_contract.errors import BadInput, Refused
from ketang_contract.layers import PLACEMENT_TYPE, Placement, payload
from ketang_contract.signatures import MAX_SEALED_BYTES
from ketang_contract.trust import Purpose, Trust
from ketang_contract.validate import signed
from ketang_provisioning.keys import key_id
from ketang_provisioning.signing import DAY_S, LASTS_S, MOST_LASTS_S, authority, refuse_one_holder

MAX_LINES = 200_000
"""Twice what a centre is made for."""
_FIELDS = frozenset({"device", "path", "least", "version", "key_epoch"})
_NEEDED = frozenset({"device", "path"})
_STEP, _LEAST = ("level", "unit"), ("target", "key_epoch", "version")


@dataclass(frozen=True, slots=True)
class Placed:
    """One device's placement, signed."""

    placement: Placement
    envelope: bytes


def listed(
    lines: Iterable[str], trust: Trust, *, now_s: int, lasts_s: int = LASTS_S
) -> Iterator[Placement]:
    """Read the centre's list, and make of each line what is to be signed.

    Args:
        lines: as the centre wrote them; empty ones are none.
        trust: the document in force; it says in which epoch placements are.
        now_s: when they are issued.
        lasts_s: how long they may be accepted.

    Raises:
        BadInput: the first line that is wrong, or a device that is there twice.
    """
    if not DAY_S <= lasts_s <= MOST_LASTS_S:
        raise BadInput(f"--days: 1 to {MOST_LASTS_S // DAY_S}")
    common = {
        "key_epoch": trust.epoch_of(Purpose.CONFIG, ()),
        "issued_s": now_s,
        "expires_s": now_s + lasts_s,
    }
    seen: set[str] = set()
    for no, line in _numbered(lines):
        try:
            made = _placement(line, common, now_s)
        except (Refused, ValueError) as problem:
            raise BadInput(f"line {no}: {problem}") from problem
        if made.device in seen:
            raise BadInput(f"line {no}: {made.device} is there twice")
        seen.add(made.device)
        yield made


def sign_placements(
    placements: Iterable[Placement],
    keys: Sequence[Ed25519PrivateKey],
    trust: Trust,
    now_s: int,
) -> Iterator[Placed]:
    """Seal placements, each with every key: two where a device comes to a place that is wider.

    Raises:
        BadInput: a key that is not the region's, or two of one holder.
    """
    named = [authority(key_id(key.public_key()), ("",), trust, now_s) for key in keys]
    refuse_one_holder(named)
    for one in placements:
        yield Placed(one, signatures.seal(payload(one), PLACEMENT_TYPE, keys))


def read_signed(lines: Iterable[str]) -> Iterator[Placed]:
    """Read envelopes, one a line; who signed them is not asked.

    Raises:
        BadInput: the first line that is no placement.
    """
    for no, line in _numbered(lines):
        try:
            raw = line.encode()
            yield Placed(signed(Placement, signatures.unverified(raw, PLACEMENT_TYPE)), raw)
        except Refused as problem:
            raise BadInput(f"line {no}: {problem}") from problem


def add_signature(
    placed: Iterable[Placed], key: Ed25519PrivateKey, trust: Trust, now_s: int
) -> Iterator[Placed]:
    """Sign placements beside those who signed them before.

    Raises:
        BadInput: a key that is not the region's.
    """
    authority(key_id(key.public_key()), ("",), trust, now_s)
    for one in placed:
        envelope = signatures.add_signatures(one.envelope, PLACEMENT_TYPE, [key])
        yield Placed(one.placement, envelope)


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for no, line in enumerate(lines, 1):
        if no > MAX_LINES:
            raise BadInput(f"more than {MAX_LINES} lines; sign them in parts")
        if len(line) > MAX_SEALED_BYTES:
            raise BadInput(f"line {no}: longer than {MAX_SEALED_BYTES} characters")
        if line.strip():
            yield no, line.strip()


def _placement(line: str, common: Mapping[str, int], now_s: int) -> Placement:
    said = strict_json.load(line.encode())
    if not isinstance(said, dict) or not _NEEDED <= set(said) <= _FIELDS:
        raise ValueError("not an object of device and path, and least where there are layers")
    document: dict[str, Any] = {
        **common,
        "device": said["device"],
        "version": max(now_s, strict_json.number(said.get("version", 0), "version")),
        "path": [_named(one, _STEP) for one in _list(said["path"])],
    }
    if least := _list(said.get("least", [])):
        document["least"] = [_named(one, _LEAST) for one in least]
    made: Placement = signed(Placement, json.dumps(document).encode())
    return made


def _list(said: Any) -> list[Any]:
    if not isinstance(said, list):
        raise ValueError("path and least are lists")  # noqa: TRY004  (one kind of refusal)
    return said


def _named(said: Any, names: Sequence[str]) -> Any:
    """Give a list's entries their names; an object has them."""
    if isinstance(said, list) and len(said) == len(names):
        return dict(zip(names, said, strict=True))
    return said
