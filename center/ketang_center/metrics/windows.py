"""One hour of one subject: raw rows in, twelve 5-minute cells, events and health out. Pure.

The text form is canonical (sorted keys, no spaces), so the same raw gives the same bytes.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import Any

from ketang_center.store.base import StoredRow
from ketang_contract.records import (
    Category,
    Event,
    Host,
    Network,
    Occupancy,
    Usage,
    to_json,
    to_line,
)

CELL_MS = 300_000
CELL_S = 300
CELLS = 12
HOUR_MS = 3_600_000
HOT_C = 85
Heads = int | str
"""0, ``"few"`` or a number of 5 and more; there is no arithmetic on it."""


class State(StrEnum):
    """What a device was doing, in the order that breaks a tie."""

    ACTIVE = "active"
    PRESENTING = "presenting"
    IDLE = "idle"
    LOCKED = "locked"
    ASLEEP = "asleep"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Seen:
    """Heads in one window; ``median`` and ``p90`` are None when nobody could look."""

    view: str
    scans: int
    median: Heads | None
    p90: Heads | None
    confidence_pct: int | None


@dataclass(frozen=True, slots=True)
class Cell:
    """Five minutes. ``seconds`` by state, ``categories`` by foreground program."""

    no: int
    seconds: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    source: str = "none"
    suspect: bool = False
    seen: Seen | None = None

    @property
    def reported_s(self) -> int:
        """Seconds the device spoke of, unknown ones included; 0 means no data."""
        return sum(self.seconds.values())

    @property
    def used_s(self) -> int:
        """Seconds of use: somebody at work, or something shown to the class."""
        return self.seconds.get(State.ACTIVE, 0) + self.seconds.get(State.PRESENTING, 0)

    @property
    def on_s(self) -> int:
        """Seconds powered and awake, whatever else was known."""
        return self.reported_s - self.seconds.get(State.ASLEEP, 0)

    @property
    def state(self) -> State | None:
        """The state that held longest; None without data."""
        if not self.reported_s:
            return None
        return max(State, key=lambda one: self.seconds.get(one, 0))


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of the hour."""

    at_ms: int
    name: str
    fault: str | None = None
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Hour:
    """All that is kept of a subject's hour, counted from 1970 in UTC."""

    hour: int
    cells: tuple[Cell, ...] = ()
    events: tuple[Happening, ...] = ()
    host: dict[str, Any] | None = None
    network: dict[str, Any] | None = None
    hot_s: int = 0
    """Longest run of consecutive host windows over ``HOT_C``, in seconds."""
    booted_ms: int | None = None
    """When the machine had started that reported first in this hour."""
    first_ms: int | None = None
    last_ms: int | None = None
    """Time of the last fact: the end of a window, or the moment of an event."""

    @property
    def starts_ms(self) -> int:
        """The hour's first millisecond, UTC."""
        return self.hour * HOUR_MS


def summarise(hour: int, rows: Iterable[StoredRow]) -> Hour:
    """Make the hour from its raw rows, in whatever order they come."""
    ordered = _in_order(rows)
    if not ordered:
        return Hour(hour)
    first = ordered[0]
    return Hour(
        hour,
        cells=_cells(hour, ordered),
        events=tuple(_events(ordered)),
        host=_last(ordered, Host),
        network=_last(ordered, Network),
        hot_s=_hot_s(ordered),
        booted_ms=max(0, first.true_ms - first.record.boottime_ms),
        first_ms=first.true_ms,
        last_ms=max(row.true_ms + 1000 * _length_s(row) for row in ordered),
    )


def _in_order(rows: Iterable[StoredRow]) -> list[StoredRow]:
    """Sort by time, then kind, then bytes; bytes are made only where two are still equal."""

    def when(row: StoredRow) -> tuple[int, str]:
        return row.true_ms, row.record.body.kind

    ordered: list[StoredRow] = []
    for _, same in groupby(sorted(rows, key=when), key=when):
        few = list(same)
        ordered += few if len(few) == 1 else sorted(few, key=lambda row: to_line(row.record))
    return ordered


def _length_s(row: StoredRow) -> int:
    return int(getattr(row.record.body, "window_s", 0))


def _cells(hour: int, rows: Sequence[StoredRow]) -> tuple[Cell, ...]:
    by_cell: dict[int, list[StoredRow]] = {}
    for row in rows:
        if isinstance(row.record.body, Usage | Occupancy):
            by_cell.setdefault((row.true_ms - hour * HOUR_MS) // CELL_MS, []).append(row)
    return tuple(_cell(no, by_cell[no]) for no in sorted(by_cell))


def _cell(no: int, rows: Sequence[StoredRow]) -> Cell:
    seconds: dict[str, int] = {}
    categories: dict[str, int] = {}
    source = "none"
    for row in rows:
        body = row.record.body
        if not isinstance(body, Usage):
            continue
        # Two records of one cell may overlap after a clock was put right: five minutes is the most.
        for state, spent_s in _states(body):
            room_s = CELL_S - sum(seconds.values())
            if took_s := min(room_s, spent_s):
                seconds[state] = seconds.get(state, 0) + took_s
        for name in Category:
            if took_s := getattr(body.categories, name):
                categories[name] = min(CELL_S, categories.get(name, 0) + took_s)
        source = body.idle_source if source == "none" else source
    return Cell(
        no,
        seconds,
        categories,
        str(source),
        any(row.clock_suspect for row in rows),
        _seen([row.record.body for row in rows]),
    )


def _states(body: Usage) -> Iterable[tuple[str, int]]:
    known = [
        (State.ACTIVE, body.active_s),
        (State.PRESENTING, body.presenting_s),
        (State.IDLE, body.idle_s),
        (State.LOCKED, body.locked_s),
        (State.ASLEEP, body.asleep_s),
    ]
    # What was not sampled inside a window is unknown, never idle.
    return [*known, (State.UNKNOWN, body.window_s - sum(spent_s for _, spent_s in known))]


def _seen(bodies: Sequence[object]) -> Seen | None:
    looks = [body for body in bodies if isinstance(body, Occupancy)]
    if not looks:
        return None
    best = max(looks, key=lambda one: one.scans)
    return Seen(best.view, best.scans, best.median, best.p90, best.confidence_pct)


def _events(rows: Iterable[StoredRow]) -> Iterable[Happening]:
    for row in rows:
        body = row.record.body
        if isinstance(body, Event):
            yield Happening(
                row.true_ms, str(body.name), body.fault and str(body.fault), body.seconds
            )


def _last(rows: Sequence[StoredRow], kind: type[Host] | type[Network]) -> dict[str, Any] | None:
    found = [row.record.body for row in rows if isinstance(row.record.body, kind)]
    if not found:
        return None
    facts: dict[str, Any] = to_json(found[-1])
    return {key: value for key, value in facts.items() if key not in {"kind", "window_s"}}


def _hot_s(rows: Iterable[StoredRow]) -> int:
    longest_s = run_s = 0
    for row in rows:
        body = row.record.body
        if isinstance(body, Host):
            hot = body.temperature_max_c is not None and body.temperature_max_c > HOT_C
            run_s = run_s + body.window_s if hot else 0
            longest_s = max(longest_s, run_s)
    return longest_s


def larger(one: Hour, other: Hour) -> Hour:
    """Join what two agents say of one subject: per cell the larger use, not the sum."""
    cells: dict[int, Cell] = {cell.no: cell for cell in one.cells}
    for cell in other.cells:
        mine = cells.get(cell.no)
        if mine is None or (mine.used_s, mine.reported_s) < (cell.used_s, cell.reported_s):
            cells[cell.no] = cell
    firsts = [each.first_ms for each in (one, other) if each.first_ms is not None]
    lasts = [each.last_ms for each in (one, other) if each.last_ms is not None]
    return Hour(
        one.hour,
        tuple(cells[no] for no in sorted(cells)),
        tuple(sorted({*one.events, *other.events}, key=lambda each: (each.at_ms, each.name))),
        one.host or other.host,
        one.network or other.network,
        max(one.hot_s, other.hot_s),
        one.booted_ms if one.booted_ms is not None else other.booted_ms,
        min(firsts, default=None),
        max(lasts, default=None),
    )


def to_text(hour: Hour) -> str:
    """Write the hour in its canonical form."""
    return json.dumps(
        {
            "cells": [_cell_json(cell) for cell in hour.cells],
            "events": [[one.at_ms, one.name, one.fault, one.seconds] for one in hour.events],
            "host": hour.host,
            "network": hour.network,
            "hot_s": hour.hot_s,
            "booted_ms": hour.booted_ms,
            "first_ms": hour.first_ms,
            "last_ms": hour.last_ms,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )


def from_text(hour: int, text: str) -> Hour:
    """Read an hour that ``to_text`` wrote."""
    body = json.loads(text)
    return Hour(
        hour,
        tuple(_cell_of(cell) for cell in body["cells"]),
        tuple(Happening(*one) for one in body["events"]),
        body["host"],
        body["network"],
        body["hot_s"],
        body["booted_ms"],
        body["first_ms"],
        body["last_ms"],
    )


def _cell_json(cell: Cell) -> dict[str, Any]:
    seen = cell.seen
    return {
        "no": cell.no,
        "seconds": cell.seconds,
        "categories": cell.categories,
        "source": cell.source,
        "suspect": cell.suspect,
        "seen": seen and [seen.view, seen.scans, seen.median, seen.p90, seen.confidence_pct],
    }


def _cell_of(body: dict[str, Any]) -> Cell:
    seen = body["seen"]
    return Cell(
        body["no"],
        body["seconds"],
        body["categories"],
        body["source"],
        body["suspect"],
        Seen(*seen) if seen else None,
    )
