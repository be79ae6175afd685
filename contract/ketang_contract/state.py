"""What a device says of itself: birth, death (the MQTT will), live changes, reported state."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from ketang_contract.batch import DropReason, Sent
from ketang_contract.limits import (
    AtMost,
    Between,
    Count,
    Counter64,
    Identifier,
    Matches,
    Text,
    Value,
)
from ketang_contract.records import Fault, Stream

Schema = Annotated[int, Between(0, 65535)]
ProfileName = Annotated[str, Matches("[a-z0-9_]{1,36}")]
"""A kind of device, e.g. ``ops_pc``; it never stands in a topic, so it may hold an underscore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState(Value):
    """How far one stream of a store has come: numbers given out, numbers acknowledged."""

    stream: Stream
    head: Counter64
    acked: Counter64


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState(Value):
    """One store on the device: the current one, or an older one that still drains."""

    store_id: Identifier
    parent: Identifier | None = None
    current: bool
    streams: tuple[StreamState, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth(Value):
    """Retained; said at every connect. ``session`` only grows, so an old death can be told."""

    session: Counter64
    sent: Sent
    agent_version: Text
    schema_oldest: Schema
    schema_newest: Schema
    stores: Annotated[tuple[StoreState, ...], AtMost(64)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Death(Value):
    """The will. ``orderly``: the agent said good-bye itself."""

    session: Counter64
    orderly: bool = False


class Camera(StrEnum):
    """Whether people are being counted, and who said no."""

    OFF = "off"
    COUNTING = "counting"
    STOPPED = "stopped"
    """By the switch in the room; nothing remote overrides it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Live(Value):
    """A change worth seeing at once. Never use: that closes in five-minute windows."""

    session: Counter64
    faults: Annotated[tuple[Fault, ...], AtMost(32)] = ()
    camera: Camera = Camera.OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss(Value):
    """Records of one stream lost for one reason since the store began."""

    stream: Stream
    reason: DropReason
    records: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported(Value):
    """The device's own account of itself."""

    session: Counter64
    sent: Sent
    agent_version: Text
    profile: ProfileName
    camera: Camera = Camera.OFF
    model: Text = ""
    faults: Annotated[tuple[Fault, ...], AtMost(32)] = ()
    losses: Annotated[tuple[Loss, ...], AtMost(32)] = ()
