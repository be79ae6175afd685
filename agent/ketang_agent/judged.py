"""What the device found when it judged what the centre brought, and no report carries.

The verdict itself goes up to the centre. The rest is for whoever stands before the device: the
detail of a refusal, and which filings and grants were not taken.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_agent.remote.exchange import JUDGED

_MOST_BYTES = 1 << 20
_MOST_DROPPED = 32


@dataclass(frozen=True, slots=True)
class Judged:
    """``dropped``: digest and reason of each filing or grant that came and was not taken."""

    detail: str = ""
    dropped: tuple[tuple[str, str], ...] = ()


NOTHING = Judged()


def read(data_dir: Path) -> Judged:
    """Read what the last judging left on the device; nothing where none was, or is under way."""
    try:
        with (data_dir / "remote" / JUDGED).open("rb") as file:
            said = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return NOTHING
    return from_json(said)


def from_json(said: Any) -> Judged:
    """Take it from JSON's own types; what is not of its form is left out."""
    if not isinstance(said, dict):
        return NOTHING
    dropped = said.get("permits_dropped")
    return Judged(
        detail=str(said.get("detail") or ""),
        dropped=tuple(
            (str(one[0]), str(one[1]))
            for one in (dropped if isinstance(dropped, list) else [])[:_MOST_DROPPED]
            if isinstance(one, list) and len(one) == 2  # noqa: PLR2004  (digest, reason)
        ),
    )


def to_json(judged: Judged) -> dict[str, Any]:
    """Turn it into what ``from_json`` reads."""
    return {"detail": judged.detail, "permits_dropped": [list(one) for one in judged.dropped]}
