"""What may pass from the worker to the supervisor: two kinds of lines, read strictly.

A beat says that the worker lives and where it stands; an occupancy line is one window's aggregate.
Both are integers and enumerations. Whatever else comes, an unknown field above all, is refused, and
the worker that sent it is killed: nothing about a frame can leave by this door.
"""

import json
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from ketang_contract.errors import KetangError
from ketang_contract.limits import FEW
from ketang_contract.records import Occupancy, View, to_line

MAX_LINE_BYTES = 256
_MOST_HEADS = 500
_MOST_SCANS = 300
"""One a second for five minutes: the shortest interval a plan allows."""
_MOST_WINDOW_S = 300
_LEAST_COUNT = 5
"""A smaller number of heads is FEW or nobody."""
_ALL = 100
VIEWS = frozenset({View.OK, View.DARK, View.BLOCKED, View.NO_SOURCE, View.FAILED})


class Stage(StrEnum):
    """What the worker is about to do, so that a silence can be laid at the right door."""

    SOURCE = "source"
    MODEL = "model"
    REST = "rest"


class Exit(IntEnum):
    """Why a worker ended on its own."""

    DONE = 0
    FAULT = 1
    PARTS_MISSING = 3
    MODEL_REFUSED = 4
    SOURCE_REFUSED = 5
    MODEL_FAILING = 6


class Phrase(StrEnum):
    """All that a worker ever writes to standard error: a library's words may hold a picture's."""

    PARTS_MISSING = "worker: opencv, numpy or onnxruntime is not installed"
    MODEL_REFUSED = "worker: the model is not what its manifest says"
    SOURCE_REFUSED = "worker: the source is not allowed"
    MODEL_FAILING = "worker: the model keeps failing"
    FAULT = "worker: stopped by a fault of its own"
    NETWORK_OPEN = "worker: this system cannot take the network away from it"
    MAY_SWAP = "worker: memory could not be locked; it may be swapped out"


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life. ``view``: what the last look found; None before the first."""

    stage: Stage
    view: View | None = None


class Garbled(KetangError):
    """A line that no honest worker sends."""


def beat_line(beat: Beat) -> bytes:
    """Write a beat as one line."""
    said = {"kind": "beat", "stage": beat.stage.value}
    if beat.view is not None:
        said["view"] = beat.view.value
    return json.dumps(said, separators=(",", ":")).encode("ascii") + b"\n"


def occupancy_line(occupancy: Occupancy) -> bytes:
    """Write one window's aggregate as one line."""
    return to_line(occupancy) + b"\n"


def parse(line: bytes) -> Beat | Occupancy:
    """Read one line, without its newline.

    Raises:
        Garbled: too long, not JSON, an unknown or missing field, a value out of its range.
    """
    if len(line) > MAX_LINE_BYTES:
        raise Garbled("a line that is too long")
    try:
        said = json.loads(line, object_pairs_hook=_once_each, parse_constant=_refuse)
        if not isinstance(said, dict):
            raise Garbled("a line that is no object")
        match said.pop("kind", None):
            case "beat":
                made: Beat | Occupancy = _beat(said)
            case "occupancy":
                made = _occupancy(said)
            case _:
                raise Garbled("a line of no known kind")
    except (ValueError, RecursionError):
        # the text of the problem could quote the line, so it goes no further
        raise Garbled("a line that cannot be read") from None
    if said:
        raise Garbled("a line with an unknown field")
    return made


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Garbled("a line that says one thing twice")
    return made


def _refuse(_constant: str) -> Any:
    raise Garbled("a line with a number that is none")


def _beat(said: dict[str, Any]) -> Beat:
    stage = Stage(said.pop("stage", None))
    return Beat(stage, _view(said.pop("view")) if "view" in said else None)


def _occupancy(said: dict[str, Any]) -> Occupancy:
    made = Occupancy(
        window_s=_whole(said.pop("window_s", None), _MOST_WINDOW_S),
        view=_view(said.pop("view", None)),
        scans=_whole(said.pop("scans", 0), _MOST_SCANS),
        median=_heads(said.pop("median", None)),
        p90=_heads(said.pop("p90", None)),
        confidence_pct=_share(said.pop("confidence_pct", None)),
    )
    counted = made.view is View.OK
    if (made.median is None) is counted or (made.p90 is None) is counted:
        raise Garbled("a count without a usable scan, or the reverse")
    if (made.scans > 0) is not counted or (made.confidence_pct is not None and not counted):
        raise Garbled("scans without a count, or the reverse")
    return made


def _view(said: Any) -> View:
    view = View(said)
    if view not in VIEWS:
        raise Garbled("a view no worker sends")
    return view


def _whole(said: Any, most: int) -> int:
    if type(said) is not int or not 0 <= said <= most:
        raise Garbled("a number out of its range")
    return said


def _share(said: Any) -> int | None:
    return None if said is None else _whole(said, _ALL)


def _heads(said: Any) -> Any:
    if said is None or said == FEW:
        return said
    if _whole(said, _MOST_HEADS) in range(1, _LEAST_COUNT):
        raise Garbled("a small number of heads that was not folded")
    return said
