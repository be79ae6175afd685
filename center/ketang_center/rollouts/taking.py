"""Signed placements are taken over, a thousand at a time: each lot whole, or not at all."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from ketang_center.rollouts.admitting import Judge
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.values import Placed
from ketang_contract.errors import BadInput

LOT = 1000
"""So many are one transaction: the engine and the console come in between."""
MOST_TOLD = 1000
"""So many refusals are told one by one; beyond, they are counted."""
_Refused = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of placements.

    Attributes:
        taken: how many were taken over; they stay, whatever became of the rest.
        same: how many were held already.
        refused: device and why, of the first ``MOST_TOLD`` that were refused.
        turned_away: how many were refused in all.
        stopped: why the rest was left; empty: it was not. To bring the same file again is safe.
    """

    taken: int
    same: int
    refused: tuple[_Refused, ...] = ()
    turned_away: int = 0
    stopped: str = ""


def take(
    book: RolloutBook, judge: Judge, envelopes: Iterable[bytes], note: Callable[[int], None]
) -> Taken:
    """Take placements over; what is wrong is told, and what cannot be written ends it.

    Args:
        book: of the rollouts.
        judge: of this moment.
        envelopes: read as they are needed, a lot at a time.
        note: writes down that so many were taken, in their transaction.
    """
    taken = same = turned_away = 0
    refused, rest = list[_Refused](), iter(envelopes)
    while lot := list(islice(rest, LOT)):
        good, wrong = _judged(judge, lot)
        try:
            with book.transaction():
                fresh, late = _placed(book, good)
                if fresh:
                    book.act()
                    note(fresh)
        except sqlite3.Error as problem:
            told = f"the book cannot be written ({problem}); bring the same file again"
            return Taken(taken, same, tuple(refused), turned_away, told)
        taken += fresh
        same += len(good) - fresh - len(late)
        turned_away += len(wrong) + len(late)
        refused += (*wrong, *late)[: MOST_TOLD - len(refused)]
    return Taken(taken, same, tuple(refused), turned_away)


def _judged(judge: Judge, lot: Iterable[bytes]) -> tuple[list[Placed], list[_Refused]]:
    good, wrong = list[Placed](), list[_Refused]()
    for raw in lot:
        try:
            good.append(judge.placement(raw))
        except BadInput as why:
            device, _, more = str(why).partition(": ")
            wrong.append((device, more))
    return good, wrong


def _placed(book: RolloutBook, good: Sequence[Placed]) -> tuple[int, list[_Refused]]:
    """Write a lot; return how many were new, and those that a newer one forestalled.

    One file may hold a device twice, and somebody else may bring one meanwhile.
    """
    fresh, late = 0, list[_Refused]()
    for one in good:
        held = book.placed(one.device)
        if held is not None and held.digest == one.digest:
            continue
        if held is not None and (held.key_epoch, held.version) >= (one.key_epoch, one.version):
            late.append((one.device, "a placement as new as this one is held already"))
            continue
        book.place(one)
        fresh += 1
    return fresh, late
