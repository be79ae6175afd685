"""From counts of devices to what a template draws. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from ketang_center.rollout_views import Standing
from ketang_center.rollouts.plan import State

BAR = 1000
"""The length of a bar, in the units of its drawing."""
SEGMENTS: Mapping[str, tuple[State, ...]] = {
    "committed": (State.COMMITTED,),
    "trying": (State.SENT, State.TRIAL, State.STAGED),
    "trouble": (State.FAILED, State.REJECTED, State.TIMED_OUT),
    "unclear": (State.TOO_OLD, State.INCONCLUSIVE, State.WAITING),
    "pending": (State.PENDING,),
}
"""A bar's parts, from the left, and the states each stands for."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar, in thousandths of its length; ``n`` devices."""

    name: str
    at: int
    width: int
    n: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One group, or all (``no`` 0), for a template: its bar and the same as counts."""

    no: int
    total: int
    planned: bool
    segments: tuple[Segment, ...]
    counts: Mapping[State, int]


def bar(no: int, counts: Mapping[State, int], planned: int | None) -> Bar:
    """Draw counts by state; what is left of a planned size is pending."""
    known = {name: sum(counts.get(one, 0) for one in of) for name, of in SEGMENTS.items()}
    total = max(planned or 0, sum(known.values()))
    known["pending"] += total - sum(known.values())
    found, at, seen = [], 0, 0
    for name, n in known.items():
        seen += n
        until = seen * BAR // total if total else 0
        if n:
            found.append(Segment(name, at, max(1, until - at), n))
        at = until
    return Bar(no, total, planned is not None, tuple(found), counts)


def bars(standing: Standing) -> list[Bar]:
    """Draw the groups of a rollout."""
    return [bar(one.no, one.counts, one.planned) for one in standing.parts]
