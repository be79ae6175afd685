"""The facts a device reports: a closed list of kinds, each of integers and enumerations.

A record is final when it enters the spool: its bytes never change again, and its key
``(store_id, stream, seq)`` stands beside it, not in it, so that a record can move to another store.
"""

import json
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from ketang_contract.errors import TooLarge
from ketang_contract.limits import (
    Between,
    BoottimeMs,
    Count,
    HeadCount,
    Identifier,
    Percent,
    TaggedBy,
    Text,
    Tri,
    Value,
    WallMs,
    WindowSeconds,
)

MAX_LINE_BYTES = 4096
"""A record's cap, checked before it enters the spool, so that no broker can choke on it later."""


class Stream(StrEnum):
    """A priority class; the order here is the order of importance."""

    EVENT = "event"
    USE = "use"
    OPS = "ops"


class TimeQuality(StrEnum):
    """What the device knows of its own clock."""

    SYNCED = "synced"
    FREE = "free"
    BAD = "bad"
    """Outside 2024 to 2099, or known to be wrong: the centre keeps it apart as ``suspect``."""


class IdleSource(StrEnum):
    """Who said how long nobody touched the device."""

    WINSESSION = "winsession"
    IOKIT = "iokit"
    XSCREENSAVER = "xscreensaver"
    MUTTER = "mutter"
    LOGIND = "logind"
    NONE = "none"


class Category(StrEnum):
    """What the foreground program is for; decided on the device by an allow-list."""

    PLATFORM = "platform"
    WHITEBOARD = "whiteboard"
    COURSEWARE = "courseware"
    BROWSER = "browser"
    MEDIA = "media"
    OFFICE = "office"
    SYSTEM = "system"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Categories(Value):
    """Seconds of ACTIVE and PRESENTING by the foreground program's category."""

    platform: WindowSeconds = 0
    whiteboard: WindowSeconds = 0
    courseware: WindowSeconds = 0
    browser: WindowSeconds = 0
    media: WindowSeconds = 0
    office: WindowSeconds = 0
    system: WindowSeconds = 0
    other: WindowSeconds = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Value):
    """Seconds in each session state; they add up to at most ``window_s``, the rest was not sampled.

    Source: the project's definition of use, ``docs/guides/metrics.md``.
    """

    kind: Literal["usage"] = "usage"
    window_s: WindowSeconds
    active_s: WindowSeconds = 0
    presenting_s: WindowSeconds = 0
    idle_s: WindowSeconds = 0
    locked_s: WindowSeconds = 0
    asleep_s: WindowSeconds = 0
    unknown_s: WindowSeconds = 0
    idle_source: IdleSource = IdleSource.NONE
    categories: Categories = field(default_factory=Categories)

    def __post_init__(self) -> None:
        """Refuse more seconds than the window has."""
        spent = (
            self.active_s
            + self.presenting_s
            + self.idle_s
            + self.locked_s
            + self.asleep_s
            + self.unknown_s
        )
        if spent > self.window_s:
            raise ValueError(f"states add up to {spent} s in a window of {self.window_s} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host(Value):
    """How the machine itself is doing, over one window. Absent: this device cannot tell."""

    kind: Literal["host"] = "host"
    window_s: WindowSeconds
    cpu_mean_pct: Percent | None = None
    cpu_max_pct: Percent | None = None
    memory_used_pct: Percent | None = None
    disk_free_pct: Percent | None = None
    disk_free_mb: Count | None = None
    temperature_max_c: Annotated[int, Between(-60, 200)] | None = None
    battery_pct: Percent | None = None
    battery_health_pct: Percent | None = None
    on_mains: Tri = Tri.UNKNOWN
    uptime_s: Count | None = None


class LinkKind(StrEnum):
    """What the default route goes through."""

    ETHERNET = "ethernet"
    WIFI = "wifi"
    OTHER = "other"
    NONE = "none"


class Ipv4Address(StrEnum):
    """The widest IPv4 address the device holds; never the address itself."""

    NONE = "none"
    PRIVATE = "private"
    PUBLIC = "public"


class Ipv6Address(StrEnum):
    """The widest IPv6 address the device holds; never the address itself."""

    NONE = "none"
    LINK_LOCAL = "link_local"
    UNIQUE_LOCAL = "unique_local"
    GLOBAL = "global"


class Probe(StrEnum):
    """Outcome of a reachability probe."""

    OK = "ok"
    FAILED = "failed"
    NOT_RUN = "not_run"


class Family(StrEnum):
    """Address family of the broker connection."""

    V4 = "v4"
    V6 = "v6"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Value):
    """Link, address families and reachability over one window."""

    kind: Literal["network"] = "network"
    window_s: WindowSeconds
    link: LinkKind = LinkKind.NONE
    link_mbps: Annotated[int, Between(0, 1_000_000)] | None = None
    ipv4: Ipv4Address = Ipv4Address.NONE
    ipv6: Ipv6Address = Ipv6Address.NONE
    ipv6_probe: Probe = Probe.NOT_RUN
    mqtt_family: Family = Family.NONE
    rtt_ms: Annotated[int, Between(0, 600_000)] | None = None
    received_kbps: Count | None = None
    sent_kbps: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory(Value):
    """What the device is; the only kind that holds text, and only text of a limited form."""

    kind: Literal["inventory"] = "inventory"
    vendor: Text = ""
    model: Text = ""
    os_name: Text = ""
    os_version: Text = ""
    cpu_model: Text = ""
    cpu_cores: Annotated[int, Between(0, 4096)] = 0
    memory_mb: Count = 0
    disk_gb: Count = 0
    architecture: Text = ""
    agent_version: Text = ""


class Integrity(StrEnum):
    """Whether the agent's installed files still match their recorded hashes."""

    OK = "ok"
    CHANGED = "changed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Security(Value):
    """Security posture, as far as an unprivileged process can tell."""

    kind: Literal["security"] = "security"
    firewall_on: Tri = Tri.UNKNOWN
    disk_encrypted: Tri = Tri.UNKNOWN
    clock_synced: Tri = Tri.UNKNOWN
    patch_age_days: Annotated[int, Between(0, 36_500)] | None = None
    integrity: Integrity = Integrity.UNKNOWN


class View(StrEnum):
    """Whether the camera could see the room in this window."""

    OK = "ok"
    DARK = "dark"
    BLOCKED = "blocked"
    NO_SOURCE = "no_source"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy(Value):
    """Heads seen in one window; 1 to 4 is always FEW, and unknown is absent, never 0."""

    kind: Literal["occupancy"] = "occupancy"
    window_s: WindowSeconds
    view: View
    scans: Count = 0
    median: HeadCount | None = None
    p90: HeadCount | None = None
    confidence_pct: Percent | None = None

    def __post_init__(self) -> None:
        """Refuse a small count that was not folded into FEW, and a count nobody made."""
        for heads in (self.median, self.p90):
            if isinstance(heads, int) and 1 <= heads <= 4:  # noqa: PLR2004  (PRIVACY rule 4)
                raise ValueError("a count of 1 to 4 must be sent as 'few'")
            if heads is not None and self.scans == 0:
                raise ValueError("a count without a scan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Value):
    """Room climate from a gateway's sensor; the record's subject is the sensor."""

    kind: Literal["environment"] = "environment"
    window_s: WindowSeconds
    temperature_dc: Annotated[int, Between(-600, 1000)] | None = None
    """Tenths of a degree Celsius."""
    humidity_pct: Percent | None = None
    co2_ppm: Annotated[int, Between(0, 50_000)] | None = None
    pm25_ugm3: Annotated[int, Between(0, 5_000)] | None = None
    light_lux: Annotated[int, Between(0, 200_000)] | None = None


class EventName(StrEnum):
    """What can happen to a device."""

    AGENT_STARTED = "agent_started"
    AGENT_STOPPED = "agent_stopped"
    SHUTDOWN = "shutdown"
    SLEEP = "sleep"
    WAKE = "wake"
    CLOCK_JUMP = "clock_jump"
    STORE_REPLACED = "store_replaced"
    STORE_FORKED = "store_forked"
    FAULT_RAISED = "fault_raised"
    FAULT_CLEARED = "fault_cleared"
    CAMERA_STOPPED = "camera_stopped"
    CAMERA_ALLOWED = "camera_allowed"
    WORKER_KILLED = "worker_killed"
    MODEL_QUARANTINED = "model_quarantined"
    CONFIG_TRIED = "config_tried"
    CONFIG_COMMITTED = "config_committed"
    CONFIG_ROLLED_BACK = "config_rolled_back"
    CONFIG_REJECTED = "config_rejected"


class Fault(StrEnum):
    """What a device can say is wrong with itself."""

    SPOOL_FULL = "spool_full"
    SPOOL_FAILING = "spool_failing"
    SPOOL_PINNED = "spool_pinned"
    DISK_LOW = "disk_low"
    TOO_HOT = "too_hot"
    BATTERY_WORN = "battery_worn"
    COLLECTOR_FAILING = "collector_failing"
    WORKER_FAILING = "worker_failing"
    CLOCK_WRONG = "clock_wrong"
    RECORDS_REFUSED = "records_refused"
    FILING_EXPIRING = "filing_expiring"
    """The filing of the model in use ends within 30 days."""
    FILING_EXPIRED = "filing_expired"
    GRANT_EXPIRED = "grant_expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Value):
    """One moment worth knowing. ``seconds``: the length of a sleep or the size of a clock jump."""

    kind: Literal["event"] = "event"
    name: EventName
    fault: Fault | None = None
    seconds: Annotated[int, Between(-(2**53), 2**53)] | None = None


Body = Annotated[
    Usage | Host | Network | Inventory | Security | Occupancy | Environment | Event,
    TaggedBy("kind"),
]
BODIES: tuple[type, ...] = get_args(get_args(Body)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Value):
    """One fact with its time. ``wall_ms`` is when it happened; for a window, when it began."""

    subject: Identifier
    wall_ms: WallMs
    boot_id: Identifier
    boottime_ms: BoottimeMs
    time: TimeQuality
    body: Body


_STREAM = {"event": Stream.EVENT, "usage": Stream.USE, "occupancy": Stream.USE}


def stream_of(body: Body) -> Stream:
    """Priority class of a body: events, then use and occupancy, then everything else."""
    return _STREAM.get(body.kind, Stream.OPS)


def to_json(value: Any) -> Any:
    """Turn a contract value into JSON's own types.

    A field that holds its default is left out, the tag ``kind`` aside: it halves a record.
    """
    if is_dataclass(value):
        return {
            one.name: to_json(inner)
            for one in fields(value)
            if (inner := getattr(value, one.name)) != _default(one) or one.name == "kind"
        }
    if isinstance(value, (list, tuple)):
        return [to_json(inner) for inner in value]
    return value


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


_dump: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    separators=(",", ":"),
).encode


def to_line(value: Any) -> bytes:
    """Write a contract value as one line of JSON, UTF-8, no newline in it.

    Raises:
        TooLarge: a record is over ``MAX_LINE_BYTES``; nothing was stored.
    """
    line = _dump(to_json(value)).encode()
    if isinstance(value, Record) and len(line) > MAX_LINE_BYTES:
        raise TooLarge(f"a {value.body.kind} record of {len(line)} bytes is over {MAX_LINE_BYTES}")
    return line
