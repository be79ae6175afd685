"""Filings and camera grants in the judging child: which of a bundle's are believed here."""

from collections.abc import Sequence
from dataclasses import dataclass

from ketang_contract.errors import Refused
from ketang_contract.ids import frame_digest
from ketang_contract.layers import MAX_PERMITS, Step
from ketang_contract.permit_judging import Place, Tools, judge
from ketang_contract.permits import Permit
from ketang_contract.trust import Trust


@dataclass(frozen=True, slots=True)
class Dropped:
    """A document that is not believed here; ``digest`` names its bytes."""

    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What the child made of a bundle's permits; one bad document costs the others nothing."""

    permits: tuple[Permit, ...]
    dropped: tuple[Dropped, ...]


def judge_permits(
    envelopes: Sequence[bytes],
    trust: Trust,
    device: str,
    path: Sequence[Step],
    now_s: int,
    tools: Tools,
    *,
    believed_until_s: int | None = None,
) -> Judged:
    """Judge each document by itself.

    Args:
        envelopes: as they came.
        trust: the document in force.
        device: this one.
        path: of its placement, from the region down.
        now_s: max(clock, signed-time floor).
        tools: for signatures and strict reading.
        believed_until_s: what was signed later comes from the future, and would end its whole line
            for good; None: nobody disciplines this device's clock, so it cannot tell.
    """
    place = Place(tuple(path), device)
    kept: dict[str, Permit] = {}
    dropped = []
    for raw in envelopes[:MAX_PERMITS]:
        try:
            _, permit = judge(raw, trust, place, now_s, tools)
        except Refused as why:
            dropped.append(Dropped(frame_digest(raw), why.reason))
            continue
        if believed_until_s is not None and permit.issued_s > believed_until_s:
            dropped.append(Dropped(frame_digest(raw), "ill_timed"))
            continue
        kept[permit.digest] = permit
    dropped += [Dropped(frame_digest(raw), "too_many") for raw in envelopes[MAX_PERMITS:]]
    return Judged(tuple(kept.values()), tuple(dropped))
