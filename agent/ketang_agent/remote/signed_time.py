"""The signed-time floor: no document that was accepted was signed later than it.

A clock that was set back makes nothing fresh again, for time is the later of the clock and the
floor. So whoever could raise the floor far enough would end everybody's time. Where somebody
disciplines the clock, a document from the future is not believed (``is_ahead``). Where nobody does,
it may be the clock that is wrong, and the document is believed; but what it did to the floor is
taken back once the clock is disciplined (``confirmed``), down to that clock, and never below what a
disciplined clock has confirmed before. Pure; standard library only: supervisor and judging child
both live by it.
"""

from collections.abc import Mapping
from typing import Any

AHEAD_S = 86_400
"""How far a signer's clock may be ahead of a disciplined one."""
FLOOR, CONFIRMED = "floor_s", "confirmed_s"
"""Names in what is held. What an earlier release wrote has no second: nothing is confirmed."""


def floor_of(held: Mapping[str, Any]) -> int:
    """Return the floor in what is held: UTC seconds."""
    return int(held.get(FLOOR, 0))


def is_ahead(issued_s: int, now_s: int, *, synced: bool) -> bool:
    """Tell whether a document was signed after a moment that is known to be now."""
    return synced and issued_s > now_s + AHEAD_S


def confirmed(held: Mapping[str, Any], now_s: int) -> Mapping[str, Any]:
    """Return what is held once a disciplined clock says that it is ``now_s``.

    The same mapping where nothing changes: a floor that it confirmed stays as it is.
    """
    if not held:
        return held
    floor_s, before_s = floor_of(held), int(held.get(CONFIRMED, 0))
    if is_ahead(floor_s, now_s, synced=True):
        floor_s = max(now_s, before_s)
    if (floor_s, floor_s) == (floor_of(held), before_s):
        return held
    return {**held, FLOOR: floor_s, CONFIRMED: floor_s}
