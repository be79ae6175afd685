"""What is held between bundles, as JSON's own types: the supervisor keeps it unread.

It was validated when it was accepted. So it is read by its fields alone: what narrowing has made of
a content may be longer than one layer could say it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ketang_agent.remote.acceptance import Held, Line, Mark
from ketang_contract import config
from ketang_contract.config import Level
from ketang_contract.layers import Step
from ketang_contract.records import to_json


def write(held: Held) -> dict[str, Any]:
    """Write what is held."""
    return {
        "floor_s": held.floor_s,
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
        floor_s=int(said["floor_s"]),
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
