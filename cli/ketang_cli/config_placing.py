"""``ketang config place``: sign where devices stand, on a laptop that holds the region's key."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ketang_cli import config_desk
from ketang_cli.config_desk import Desk
from ketang_contract.errors import BadInput
from ketang_contract.layers import MAX_DESIRED_BYTES

if TYPE_CHECKING:
    from ketang_contract.layers import Placement, Step
    from ketang_provisioning.placing import Placed

_SHOWN = 20
_SCHOOL_AT = 4
"""So many steps lead to a school; placements are counted by school."""


def add_actions(actions: Any) -> None:
    """Declare ``place``."""
    place = actions.add_parser(
        "place", help="sign where devices stand, from the list that export wrote"
    )
    place.add_argument("file", type=Path, metavar="FILE.JSONL")
    place.add_argument("--out", type=Path, required=True, metavar="PLACEMENTS.JSONL")
    place.add_argument(
        "--days", type=int, default=30, metavar="N", help="devices accept it so long"
    )
    config_desk.add_signing(place)


def run(options: argparse.Namespace) -> int:
    """Sign a list.

    Raises:
        BadInput: a person's mistake, in one line.
    """
    from ketang_provisioning import placing
    from ketang_provisioning.signing import DAY_S

    config_desk.refuse_overwriting(options.out)
    desk = config_desk.open_desk(options)
    with open_lines(options.file) as lines:
        listed = list(
            placing.listed(lines, desk.trust, now_s=desk.now_s, lasts_s=options.days * DAY_S)
        )
    _show(desk, listed)
    config_desk.ask(desk)
    made = placing.sign_placements(listed, config_desk.keys(desk), desk.trust, desk.now_s)
    _write(desk, options.out, list(made))
    return 0


def is_list(path: Path) -> bool:
    """Tell whether a file holds signed placements, one a line, by its first line."""
    with open_lines(path) as lines:
        try:
            first = json.loads(lines.readline(MAX_DESIRED_BYTES))
        except (ValueError, RecursionError):
            return False
    return isinstance(first, dict) and "payloadType" in first


def add(options: argparse.Namespace) -> int:
    """Sign placements that others signed before, in place.

    Raises:
        BadInput: a line that is no placement, or a key that is not the region's.
    """
    from ketang_provisioning import placing

    desk = config_desk.open_desk(options)
    with open_lines(options.file) as lines:
        made = list(placing.read_signed(lines))
    _show(desk, [one.placement for one in made])
    config_desk.ask(desk)
    for key in config_desk.keys(desk):
        made = list(placing.add_signature(made, key, desk.trust, desk.now_s))
    _write(desk, options.file, made)
    return 0


def _show(desk: Desk, placements: "Sequence[Placement]") -> None:
    """Say where how many devices stand; a short list is shown whole."""
    if len(placements) <= _SHOWN:
        for one in placements:
            print(f"{one.device}: {_way(one.path)}")
    places = Counter(_way(one.path[:_SCHOOL_AT]) for one in placements)
    desk.say(
        f"共 {len(placements)} 台设备，位于 {len(places)} 所学校：",
        f"{len(placements)} devices in {len(places)} schools:",
    )
    for way, count in islice(sorted(places.items()), _SHOWN):
        print(f"  {way}: {count}")
    if len(places) > _SHOWN:
        rest = len(places) - _SHOWN
        desk.say(f"  另有 {rest} 所", f"  and {rest} more")


def _way(path: "Sequence[Step]") -> str:
    return "/".join(step.unit for step in path)


def _write(desk: Desk, out: Path, made: "Sequence[Placed]") -> None:
    config_desk.write(out, b"".join(one.envelope + b"\n" for one in made))
    desk.say(f"{out}：已签署 {len(made)} 台设备", f"{out}: {len(made)} devices signed")


@contextmanager
def open_lines(path: Path) -> Iterator[TextIO]:
    """Open a file of lines.

    Raises:
        BadInput: it cannot be read, or is no text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield file
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise BadInput(f"{path}: not UTF-8 text") from problem
