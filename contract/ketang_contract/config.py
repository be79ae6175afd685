"""What a device is told to do: the say of one layer, and how a place's layers become one.

A layer says something of some fields and nothing (``None``) of the others. The device's profile
comes first, then the region, which may replace what the profile says; every layer below may only
narrow. Each field declares in its annotation which of two values is the narrower one; a field that
declares none is the region's alone.

Invariants:
- ``merge`` never gives a collecting field a value that is wider than any layer's.
- A collector that the profile does not name stays off, whatever a layer says.
- ``narrowed`` and ``widened`` look at collecting fields only: what a device may tell of people.

Standard library only: the supervisor holds a merged one. Reading a signed layer is ``validate``'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from ketang_contract.limits import AtMost, Between, Digest, Identifier, Matches, Percent, Value
from ketang_contract.records import Category

SCHEMA = 1
DAY_MINUTES = 24 * 60
UTC_OFFSET_MINUTES = 8 * 60
"""Of the one time zone there is, Asia/Shanghai, which knows no summer time."""
COUNTED_EVERY_S = (300, 600, 900, 1_200, 1_800, 3_600)
"""Whole windows that divide an hour, so that people are counted at the same minutes of each."""


class Level(StrEnum):
    """Whose layer it is, from the top; what stands lower is nearer to the device."""

    REGION = "region"
    CITY = "city"
    COUNTY = "county"
    SCHOOL = "school"
    ROOM = "room"
    DEVICE = "device"


class Apply(StrEnum):
    """When a change is tried, the most impatient first."""

    NOW = "now"
    BREAK = "break"
    """In a span of ``breaks``, or when nobody used the device for ten minutes."""
    AFTER_HOURS = "after_hours"
    """Outside ``hours``; at once where there are none."""
    BOOT = "boot"
    """At the next start of the agent."""


class LogLevel(StrEnum):
    """How much the agent writes in its own log, the least first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


Span = tuple[
    Annotated[int, Between(0, 6)],
    Annotated[int, Between(0, DAY_MINUTES)],
    Annotated[int, Between(0, DAY_MINUTES)],
]
"""Weekday (Monday is 0), and minutes after local midnight: from, and until before."""
Spans = Annotated[tuple[Span, ...], AtMost(64)]
Off = Literal[0]
Program = Annotated[str, Matches(r"[^/\\\x00-\x1f\x7fA-Z]{1,64}")]
"""Base name of an executable, lower case."""
Version = Annotated[str, Matches(r"\d{1,4}\.\d{1,4}\.\d{1,4}")]


@dataclass(frozen=True, slots=True)
class Narrows:
    """A field's direction: ``meet(a, b)`` is the widest value that is no wider than either."""

    meet: Callable[[Any, Any], Any]
    collects: bool = True
    """Whether the field decides what is told of people; only then does widening need two."""


@dataclass(frozen=True, slots=True)
class Alone:
    """No direction: the region's alone. One that collects takes two holders to change."""

    collects: bool = False


def _common_time(one: Sequence[Span], other: Sequence[Span]) -> tuple[Span, ...]:
    return tidy_spans(
        (day, max(begins, starts), min(ends, stops))
        for day, begins, ends in one
        for weekday, starts, stops in other
        if weekday == day
    )


def _longer(one: int, other: int) -> int:
    return 0 if 0 in {one, other} else max(one, other)


def _fewer(one: Sequence[Any], other: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(sorted(set(one) & set(other)))


def _either(kind: type[StrEnum], choose: Callable[..., int]) -> Callable[[Any, Any], Any]:
    order = list(kind)
    return lambda one, other: order[choose(order.index(one), order.index(other))]


LONGER = Narrows(_longer)
BOTH = Narrows(lambda one, other: one and other)
HIGHER = Narrows(max)
FEWER = Narrows(_fewer)
SAME_TIME = Narrows(_common_time)
SAME_MOMENTS = Narrows(_common_time, collects=False)
SMALLER = Narrows(min, collects=False)
QUIETER = Narrows(_either(LogLevel, min), collects=False)
LATER = Narrows(_either(Apply, max), collects=False)

Direction: TypeAlias = Narrows | Alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice(Value):
    """Which model counts people; its file must have this hash."""

    name: Identifier
    version: Annotated[str, Matches("[A-Za-z0-9._+-]{1,32}")]
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChoice(Value):
    """Which release of the agent runs; the archive it is installed from must have this hash."""

    version: Version
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Value):
    """What one layer says, or what all of them came to. Times in seconds; 0 is off."""

    schema: Annotated[Literal[1], Alone()] = 1
    min_agent: Annotated[Version | None, Alone()] = None
    """A device with an older agent refuses the layer, and goes on with what it has."""
    agent: Annotated[AgentChoice | None, Alone(collects=True)] = None
    """None: the one that is installed. Other code may collect anything, so it takes two."""
    apply: Annotated[Apply | None, LATER] = None
    usage_s: Annotated[Off | Annotated[int, Between(10, 60)] | None, LONGER] = None
    host_s: Annotated[Off | Annotated[int, Between(5, 300)] | None, LONGER] = None
    network_s: Annotated[Off | Annotated[int, Between(5, 300)] | None, LONGER] = None
    environment_s: Annotated[Off | Annotated[int, Between(5, 300)] | None, LONGER] = None
    inventory_s: Annotated[Off | Annotated[int, Between(300, 86_400)] | None, LONGER] = None
    security_s: Annotated[Off | Annotated[int, Between(300, 86_400)] | None, LONGER] = None
    occupancy_s: Annotated[Off | Annotated[int, Between(300, 3_600)] | None, LONGER] = None
    """People are counted in one window of five minutes every so often; see ``counted_every_s``."""
    categories: Annotated[tuple[Category, ...] | None, AtMost(16), FEWER] = None
    """Categories of the foreground that may be told; any other is told as ``other``."""
    foreground: Annotated[
        tuple[tuple[Program, Category], ...] | None, AtMost(512), Alone(collects=True)
    ] = None
    """Programs besides the profile's, and what they are for."""
    hours: Annotated[Spans | None, SAME_TIME] = None
    """When use and heads are counted; never outside. None: at any time."""
    breaks: Annotated[Spans | None, SAME_MOMENTS] = None
    inference: Annotated[bool | None, BOTH] = None
    model: Annotated[ModelChoice | None, Alone(collects=True)] = None
    score_min_pct: Annotated[Percent | None, HIGHER] = None
    """How sure the model must be of a head, percent."""
    scan_s: Annotated[Annotated[int, Between(1, 300)] | None, Narrows(max)] = None
    spool_max_mb: Annotated[Annotated[int, Between(8, 4096)] | None, SMALLER] = None
    upload_kbps: Annotated[Annotated[int, Between(8, 1_000_000)] | None, SMALLER] = None
    """What the device may send, kbit/s in the mean."""
    download_kbps: Annotated[Annotated[int, Between(8, 1_000_000)] | None, SMALLER] = None
    """What it may fetch of models and updates, kbit/s in the mean."""
    log_level: Annotated[LogLevel | None, QUIETER] = None

    def __post_init__(self) -> None:
        """Refuse lists that are not in their one form, so that one meaning has one hash."""
        for spans in (self.hours, self.breaks):
            if spans is not None and spans != tidy_spans(spans):
                raise ValueError("spans must be in order, apart, and end after they begin")
        if self.categories is not None and self.categories != tuple(sorted(set(self.categories))):
            raise ValueError("categories must be in order, each once")
        named = [program for program, _ in self.foreground or ()]
        if named != sorted(set(named)):
            raise ValueError("foreground must be in order, each program once")


def _directions() -> dict[str, Direction]:
    hints = get_type_hints(Config, include_extras=True)
    return {
        one.name: next(
            mark for mark in hints[one.name].__metadata__ if isinstance(mark, (Narrows, Alone))
        )
        for one in fields(Config)
    }


DIRECTIONS: Mapping[str, Direction] = _directions()
COLLECTORS = tuple(name.removesuffix("_s") for name in DIRECTIONS if DIRECTIONS[name] is LONGER)
"""Collectors that a layer may slow down or turn off."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one layer says, and of which unit (or device) it is."""

    target: str
    level: Level
    content: Config


@dataclass(frozen=True, slots=True)
class Merged:
    """What the layers came to. ``by`` names the target that a field's value comes from.

    A field that is not in ``by`` has the profile's value.
    """

    config: Config
    by: Mapping[str, str]


def merge(base: Config, layers: Sequence[Said]) -> Merged:
    """Make one of a place's layers.

    Args:
        base: what the profile says.
        layers: from the region down; at most one a level.

    Raises:
        ValueError: a layer below the region's says what is the region's alone.
    """
    made, by = base, dict[str, str]()
    for one in layers:
        if one.level is not Level.REGION and (wrong := misplaced(one.content)):
            raise ValueError(f"{one.target}: the region's alone: {', '.join(wrong)}")
        following = (
            filled(base, one.content)
            if one.level is Level.REGION
            else _met(made, one.content, DIRECTIONS)
        )
        by |= {
            name: one.target
            for name in _said(one.content)
            if getattr(following, name) != getattr(made, name)
        }
        made = following
    return Merged(made, by)


def filled(base: Config, content: Config) -> Config:
    """Say what a region's layer comes to on one kind of device: its own say, else the profile's."""
    said = {
        name: value
        for name, value in _said(content).items()
        if not (DIRECTIONS[name] is LONGER and getattr(base, name) in {0, None})
    }
    return replace(base, **said)


def full(level: Level, content: Config, base: Config) -> Config:
    """Say what a layer comes to: where the region's says nothing, the profile does."""
    return filled(base, content) if level is Level.REGION else content


def misplaced(content: Config) -> tuple[str, ...]:
    """Names of the fields a layer below the region's must not speak of."""
    return tuple(name for name in _said(content) if isinstance(DIRECTIONS[name], Alone))


def narrowed(content: Config, by: Config) -> Config:
    """Narrow what collects to what another one allows; all else stays."""
    return _met(content, by, _NARROWING)


def widened(before: Config, after: Config) -> tuple[str, ...]:
    """Names of the collecting fields in which ``after`` allows more than ``before``.

    ``None`` is no limit. Of a field without a direction every change but its loss counts.
    """
    return tuple(
        name
        for name, direction in DIRECTIONS.items()
        if direction.collects and _widens(direction, getattr(before, name), getattr(after, name))
    )


def changed(before: Config, after: Config) -> tuple[str, ...]:
    """Names of the fields that differ."""
    return tuple(name for name in DIRECTIONS if getattr(before, name) != getattr(after, name))


def tidy_spans(spans: Any) -> tuple[Span, ...]:
    """Put spans in order, and join those that touch; an empty one is none."""
    made: list[Span] = []
    for day, begins, ends in sorted(spans):
        if begins >= ends:
            continue
        if made and made[-1][0] == day and begins <= made[-1][2]:
            made[-1] = (day, made[-1][1], max(ends, made[-1][2]))
        else:
            made.append((day, begins, ends))
    return tuple(made)


def holds_at(spans: Sequence[Span], wall_ms: int) -> bool:
    """Tell whether a moment (UTC ms) lies in one of the spans, as the region's clocks show it."""
    minutes = wall_ms // 60_000 + UTC_OFFSET_MINUTES
    weekday, minute = (minutes // DAY_MINUTES + 3) % 7, minutes % DAY_MINUTES
    return any(day == weekday and begins <= minute < ends for day, begins, ends in spans)


def counted_every_s(occupancy_s: int) -> int:
    """Say how often people are counted: as asked, or the next longer of ``COUNTED_EVERY_S``."""
    return next((one for one in COUNTED_EVERY_S if one >= occupancy_s), COUNTED_EVERY_S[-1])


def hours_are_empty(merged: Config) -> bool:
    """Tell whether what the layers came to leaves no moment in a week to count use and heads.

    Each layer's hours may be sensible and yet have none in common with another's.
    """
    return merged.hours is not None and not merged.hours


def from_json(said: Mapping[str, Any]) -> Config:
    """Read one that we wrote ourselves (``records.to_json``); nothing is validated.

    A field that this release does not know is passed over: a later one, which was gone back from,
    may have written it.

    Raises:
        ValueError: a value that no field of its kind has.
    """
    readers: Mapping[str, Callable[[Any], Any]] = {
        "apply": Apply,
        "log_level": LogLevel,
        "categories": lambda value: tuple(map(Category, value)),
        "foreground": lambda value: tuple((name, Category(what)) for name, what in value),
        "hours": lambda value: tuple(map(tuple, value)),
        "breaks": lambda value: tuple(map(tuple, value)),
        "model": lambda value: ModelChoice(**value),
        "agent": lambda value: AgentChoice(**value),
    }
    known = {name: value for name, value in said.items() if name in DIRECTIONS}
    return Config(**{name: readers.get(name, _same)(value) for name, value in known.items()})


def _same(value: Any) -> Any:
    return value


_NARROWING: Mapping[str, Direction] = {
    name: direction
    for name, direction in DIRECTIONS.items()
    if isinstance(direction, Narrows) and direction.collects
}


def _said(content: Config) -> dict[str, Any]:
    return {
        name: value
        for name in DIRECTIONS
        if name != "schema" and (value := getattr(content, name)) is not None
    }


def _met(one: Config, other: Config, of: Mapping[str, Direction]) -> Config:
    said = {}
    for name, value in _said(other).items():
        direction = of.get(name)
        if isinstance(direction, Narrows):
            mine = getattr(one, name)
            said[name] = value if mine is None else direction.meet(mine, value)
    return replace(one, **said)


def _widens(direction: Direction, before: Any, after: Any) -> bool:
    if before == after:
        return False
    if isinstance(direction, Alone):
        return after is not None
    if before is None or after is None:
        return after is None
    return bool(direction.meet(before, after) != after)
