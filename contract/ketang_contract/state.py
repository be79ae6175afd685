"""What a device says of itself: birth, death (the MQTT will), live changes, reported state."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from ketang_contract.batch import DropReason, Sent
from ketang_contract.layers import LayerAt
from ketang_contract.limits import (
    AtMost,
    Between,
    Count,
    Counter64,
    Digest,
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
    """Retained; said at every connect. ``session`` only grows, so an old death can be told.

    ``config_running`` and ``config_desired`` name what the device runs and what it was last
    brought, whatever became of that; the centre sends again what differs.
    """

    session: Counter64
    sent: Sent
    agent_version: Text
    schema_oldest: Schema
    schema_newest: Schema
    stores: Annotated[tuple[StoreState, ...], AtMost(64)] = ()
    config_running: Digest | None = None
    config_desired: Digest | None = None


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


class ConfigState(StrEnum):
    """How far the device has come with the configuration it was last brought."""

    FACTORY = "factory"
    """None was ever brought: the profile that came with the agent holds."""
    RECEIVED = "received"
    VERIFIED = "verified"
    STAGED = "staged"
    """It waits for its moment: a break, the end of hours, a start."""
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"
    """The trial failed, and so did the network without it: tried again, nobody's fault."""


ConfigReason = Annotated[str, Matches("[a-z0-9_]{0,40}")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReport(Value):
    """Which configuration runs, which was brought last and what became of it; hashes.

    ``layers`` are those of the running one. ``failed`` is the last that did not pass, and
    ``reason`` why. ``trial_ms`` is how long the last trial took.
    """

    state: ConfigState = ConfigState.FACTORY
    running: Digest | None = None
    layers: Annotated[tuple[LayerAt, ...], AtMost(6)] = ()
    desired: Digest | None = None
    attempt: Count = 0
    failed: Digest | None = None
    reason: ConfigReason = ""
    trial_ms: Count = 0
    trust_version: Count = 0
    """Of the trust document the device holds; 0: none, or not known."""


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
    config: ConfigReport = ConfigReport()
