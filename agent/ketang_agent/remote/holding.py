"""What is held between bundles, as JSON's own types: the supervisor keeps it unread.

It was validated when it was accepted. So it is read by its fields alone: what narrowing has made of
a content may be longer than one layer could say it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ketang_agent.remote.signed_time import CONFIRMED, FLOOR
from ketang_contract import config
from ketang_contract.config import Config, Level
from ketang_contract.layers import Step
from ketang_contract.records import to_json


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest place in a line of versions that was accepted, and what stood there."""

    key_epoch: int
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Line:
    """What is held of one target: where its line has come to, and what stands.

    ``standing`` is the content in force, narrowed by all that was accepted since.
    """

    mark: Mark
    standing: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a device remembers between bundles.

    ``floor_s``: no signed time it saw was later. ``confirmed_s``: how much of that a disciplined
    clock has confirmed, so that none takes it back (``signed_time``).
    """

    floor_s: int = 0
    confirmed_s: int = 0
    placement: Mark | None = None
    path: tuple[Step, ...] = ()
    """Of the configuration in force; empty while there is none."""
    brought: tuple[Step, ...] = ()
    """Of the placement that was accepted last, in force or not."""
    lines: Mapping[str, Line] = field(default_factory=dict)


def write(held: Held) -> dict[str, Any]:
    """Write what is held."""
    return {
        FLOOR: held.floor_s,
        CONFIRMED: held.confirmed_s,
        "placement": asdict(held.placement) if held.placement else None,
        "path": _pairs(held.path),
        "brought": _pairs(held.brought),
        "lines": {
            target: {"mark": asdict(line.mark), "standing": to_json(line.standing)}
            for target, line in held.lines.items()
        },
    }


def read(said: Mapping[str, Any]) -> Held:
    """Read what ``write`` wrote; nothing at all is what a new device holds.

    Raises:
        ValueError, KeyError, TypeError: it is damaged.
    """
    if not said:
        return Held()
    return Held(
        floor_s=int(said[FLOOR]),
        confirmed_s=int(said.get(CONFIRMED, 0)),
        placement=Mark(**said["placement"]) if said["placement"] else None,
        path=_steps(said["path"]),
        brought=_steps(said["brought"]),
        lines={
            target: Line(Mark(**one["mark"]), config.from_json(one["standing"]))
            for target, one in said["lines"].items()
        },
    )


def _pairs(path: tuple[Step, ...]) -> list[list[str]]:
    return [[one.level.value, one.unit] for one in path]


def _steps(said: list[list[str]]) -> tuple[Step, ...]:
    return tuple(Step(level=Level(level), unit=unit) for level, unit in said)
