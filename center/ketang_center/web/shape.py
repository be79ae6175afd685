"""From values to what a template draws: text of times and shares, and a day's band. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from ketang_center.metrics.figures import Rate
from ketang_center.metrics.windows import CELL_MS, Cell, Happening
from ketang_center.registry.calendars import DAY_MS, day_starts_ms, local
from ketang_center.web.text import Words
from ketang_contract.limits import FEW

CELLS_A_DAY = DAY_MS // CELL_MS
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_MARKED = frozenset({"shutdown", "sleep", "agent_started", "clock_jump"})


@dataclass(frozen=True, slots=True)
class Bar:
    """A run of cells in one state, in cells from midnight."""

    state: str
    at: int
    width: int
    suspect: bool


def bars(cells: Mapping[int, Cell]) -> list[Bar]:
    """Join neighbouring cells of one state; a cell without data leaves a gap."""
    found: list[Bar] = []
    for no in sorted(cells):
        cell = cells[no]
        if cell.state is None:
            continue
        last = found[-1] if found else None
        if last and (last.state, last.suspect, last.at + last.width) == (
            cell.state,
            cell.suspect,
            no,
        ):
            found[-1] = Bar(last.state, last.at, last.width + 1, last.suspect)
        else:
            found.append(Bar(cell.state, no, 1, cell.suspect))
    return found


@dataclass(frozen=True, slots=True)
class Mark:
    """An event on the band, in cells from midnight."""

    name: str
    at: float
    at_ms: int


def marks(events: tuple[Happening, ...], day: date) -> list[Mark]:
    """Place the events worth a mark."""
    start_ms = day_starts_ms(day)
    return [
        Mark(one.name, round((one.at_ms - start_ms) / CELL_MS, 2), one.at_ms)
        for one in events
        if one.name in _MARKED
    ]


def curve(cells: Mapping[int, Cell], day: date) -> dict[str, Any]:
    """Return the occupancy series: seconds since 1970, median and 90th percentile by cell.

    A head count is 0, ``"few"`` or a number; None is unknown and draws a gap.
    """
    start_s = day_starts_ms(day) // 1000
    seen = {no: cell.seen for no, cell in cells.items() if cell.seen is not None}
    return {
        "start_s": start_s,
        "cell_s": CELL_MS // 1000,
        "cells": CELLS_A_DAY,
        "median": [one.median if (one := seen.get(no)) else None for no in range(CELLS_A_DAY)],
        "p90": [one.p90 if (one := seen.get(no)) else None for no in range(CELLS_A_DAY)],
    }


def heads(value: int | str | None, t: Words) -> str:
    """Write a head count: unknown is a word, never a zero."""
    if value is None:
        return t("occupancy.unknown")
    return "<5" if value == FEW else str(value)


def clock(at_ms: int) -> str:
    """Write a moment as local hours and minutes."""
    return local(at_ms).strftime("%H:%M")


def moment(at_ms: int, day: date) -> str:
    """Write a moment as local time, with its date unless that is ``day``."""
    found = local(at_ms)
    return found.strftime("%H:%M" if found.date() == day else "%m-%d %H:%M")


def stamp(at_ms: int) -> str:
    """Write a moment as local date and time, to the second."""
    return local(at_ms).strftime("%Y-%m-%d %H:%M:%S")


def cell_clock(no: int) -> str:
    """Write when a cell of the day begins."""
    minutes = no * CELL_MS // 60_000
    return f"{minutes // 60:02}:{minutes % 60:02}"


def age(age_ms: int, t: Words) -> str:
    """Write an age in one unit."""
    seconds = max(0, age_ms) // 1000
    if seconds < _MINUTE_S:
        return t("age.seconds", n=seconds)
    if seconds < _HOUR_S:
        return t("age.minutes", n=seconds // _MINUTE_S)
    if seconds < 2 * _DAY_S:
        return t("age.hours", n=seconds // _HOUR_S)
    return t("age.days", n=seconds // _DAY_S)


def duration(seconds: int, t: Words) -> str:
    """Write a length of time in hours and minutes."""
    if seconds < _MINUTE_S:
        return t("duration.seconds", n=seconds)
    hours, minutes = seconds // _HOUR_S, seconds % _HOUR_S // _MINUTE_S
    if hours:
        return t("duration.hours", h=hours, m=minutes)
    return t("duration.minutes", m=minutes)


def percent(share: float) -> str:
    """Write a share in whole percent; only what is complete is written as 100 %."""
    return f"{min(99, round(share * 100)) if share < 1 else 100}%"


def rate(value: Rate | None, t: Words) -> str:
    """Write a rate: with its range where coverage is missing, as words where it is too small."""
    if value is None:
        return "—"
    if not value.enough:
        return t("figure.insufficient")
    if value.exact:
        return percent(value.low)
    return f"{round(value.low * 100)}–{round(value.high * 100)}%"


def neighbours(day: date, first: date | None, today: date) -> tuple[date | None, date | None]:
    """Return the day before and the day after, None where there is nothing to see."""
    one = timedelta(days=1)
    return (
        day - one if first is not None and first < day else None,
        day + one if day < today else None,
    )
