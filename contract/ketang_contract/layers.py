"""The signed documents a device's configuration is made of, and the bundle that brings them.

- A *layer* is what one unit (or device) is told: a ``Config`` with its place in a line of versions.
- A *placement* says where a device stands, from the region down, and which layers it must not be
  shown without: ``least`` names the oldest version of each that may still be brought.
- ``Desired`` is what ``dn/desired`` carries: envelopes, as they were signed. Nothing in it is
  believed but what the signatures say; whoever relays it can leave something out or hold it back,
  and the rules of acceptance are made for that.

A line of versions belongs to a target and a key epoch (``trust.TrustedKey.epoch``); it only grows.
An *undo* is the next version with the content before, signed together with its release.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ketang_contract import strict_json
from ketang_contract.config import Config, Level
from ketang_contract.errors import Refused
from ketang_contract.limits import AtMost, Between, Identifier, Value
from ketang_contract.records import to_json

LAYER_TYPE = "application/vnd.ketang.layer+json"
PLACEMENT_TYPE = "application/vnd.ketang.placement+json"
MAX_DESIRED_BYTES = 512 << 10
MAX_PERMITS, MAX_TRUST, MAX_ATTEMPT = 24, 8, 1000
HOLDERS_TO_WIDEN = 2
"""Whose keys have to stand on what widens collection: two different people's."""
Seconds = Annotated[int, Between(0, 253_402_300_799)]
"""Whole seconds since 1970-01-01 UTC."""
LineNumber = Annotated[int, Between(1, 2**53 - 1)]
Epoch = Annotated[int, Between(1, 2**31 - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer(Value):
    """What one unit or device is told. ``release`` names it for people and for the centre.

    ``undoes``: the version this one takes back. Such a layer never widens: what collects is
    narrowed by what stood before it, on the device.
    """

    target: Identifier
    level: Level
    key_epoch: Epoch
    version: LineNumber
    release: Identifier
    content: Config
    issued_s: Seconds
    expires_s: Seconds
    undoes: LineNumber | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LayerAt(Value):
    """One layer's place in its line of versions."""

    target: Identifier
    key_epoch: Epoch
    version: LineNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Value):
    """One step of the way from the region to the device."""

    level: Level
    unit: Identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement(Value):
    """Where a device stands; signed by a key of the region."""

    device: Identifier
    key_epoch: Epoch
    version: LineNumber
    path: Annotated[tuple[Step, ...], AtMost(5)]
    least: Annotated[tuple[LayerAt, ...], AtMost(6)] = ()
    issued_s: Seconds
    expires_s: Seconds

    def __post_init__(self) -> None:
        """Refuse a way that is no way: from the region down, no level left out."""
        if [one.level for one in self.path] != list(Level)[: len(self.path)] or not self.path:
            raise ValueError("a path goes from the region down, and leaves no level out")
        if len({self.device, *(one.unit for one in self.path)}) <= len(self.path):
            raise ValueError("one name for two places")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """A bundle of envelopes (DSSE, JSON bytes), none of them judged yet.

    ``permits``: filings and grants. ``trust``: documents newer than the device's own, oldest first.
    ``attempt`` grows when a person has failed devices try the same once more.
    """

    placement: bytes
    layers: tuple[bytes, ...]
    permits: tuple[bytes, ...] = ()
    trust: tuple[bytes, ...] = ()
    attempt: int = 0


def payload(document: Layer | Placement) -> bytes:
    """Write a document as what gets signed: canonical JSON, defaults left out."""
    return strict_json.canonical(to_json(document))


def digest(payload_type: str, signed: bytes) -> str:
    """Name a signed document by its type and payload, whoever has signed it: 64 hex digits."""
    return hashlib.sha256(payload_type.encode() + b"\n" + signed).hexdigest()


def config_hash(placement: str, layers: Iterable[str]) -> str:
    """Name a configuration by the digests of its documents: 64 hex digits."""
    return hashlib.sha256("\n".join([placement, *sorted(layers)]).encode()).hexdigest()


def write_desired(desired: Desired) -> bytes:
    """Write a bundle for the wire.

    Raises:
        Refused: ``too_large``.
    """
    said = {
        "schema": 1,
        "attempt": desired.attempt,
        "placement": json.loads(desired.placement),
        "layers": _objects(desired.layers),
        "permits": _objects(desired.permits),
        "trust": _objects(desired.trust),
    }
    raw = strict_json.canonical(said)
    if len(raw) > MAX_DESIRED_BYTES:
        raise Refused("too_large", f"{len(raw)} bytes of {MAX_DESIRED_BYTES}")
    return raw


def read_desired(raw: bytes) -> Desired:
    """Take a bundle apart, strictly; its documents are judged by nobody here.

    Raises:
        Refused: ``bad_desired``.
    """
    try:
        return _desired(raw)
    except ValueError as problem:
        raise Refused("bad_desired", str(problem)) from problem


def _desired(raw: bytes) -> Desired:
    if len(raw) > MAX_DESIRED_BYTES:
        raise ValueError(f"larger than {MAX_DESIRED_BYTES} bytes")
    fields = ("schema", "attempt", "placement", "layers", "permits", "trust")
    said = strict_json.whole(strict_json.load(raw), fields, "desired")
    if said["schema"] != 1:
        raise ValueError("a schema this release does not know")
    return Desired(
        placement=_envelope(said["placement"]),
        layers=_envelopes(said["layers"], len(Level), "layers"),
        permits=_envelopes(said["permits"], MAX_PERMITS, "permits"),
        trust=_envelopes(said["trust"], MAX_TRUST, "trust"),
        attempt=_attempt(said["attempt"]),
    )


def _attempt(said: Any) -> int:
    found = strict_json.number(said, "attempt")
    if found > MAX_ATTEMPT:
        raise ValueError("attempt: nobody tries so often")
    return found


def _objects(envelopes: Sequence[bytes]) -> list[Any]:
    return [json.loads(one) for one in envelopes]


def _envelopes(said: Any, most: int, what: str) -> tuple[bytes, ...]:
    return tuple(map(_envelope, strict_json.listed(said, most, what)))


def _envelope(said: Any) -> bytes:
    if not isinstance(said, dict):
        raise ValueError("an envelope is not an object")  # noqa: TRY004  (one kind of refusal)
    return strict_json.canonical(said)
