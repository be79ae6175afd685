"""Figures, as pure functions. Every one comes with its coverage; no data is never a zero.

Source of the definitions: the project's metrics page; thresholds are its defaults.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ketang_center.metrics.windows import CELL_MS, Hour, State
from ketang_center.registry.calendars import overlap_ms

USED_S = 600
ON_S = 600
SILENT_MS = 900_000
"""Three heartbeats of five minutes."""
ENOUGH = 0.8
"""Below this coverage a rate is not shown, and below this share of known time no use is denied."""
_DISK_PCT = 10
_HOT_S = 600
_BATTERY_PCT = 60
_RAISED, _CLEARED = "fault_raised", "fault_cleared"
_ALIVE = frozenset({"agent_started", "wake"})


class DayState(StrEnum):
    """What became of a device on a school day; each device has exactly one."""

    USED = "used"
    ON = "on"
    OFF = "off"
    LOST = "lost"
    UNKNOWN = "unknown"
    NEVER = "never"

    @property
    def accounted(self) -> bool:
        """Whether this is valid data."""
        return self in {DayState.USED, DayState.ON, DayState.OFF}


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUse:
    """One subject's local day at one school, in whole seconds; ``lesson_*`` inside lesson time."""

    subject: str
    day: str
    school: str
    lesson_used_s: int = 0
    lesson_on_s: int = 0
    lesson_known_s: int = 0
    active_s: int = 0
    presenting_s: int = 0
    idle_s: int = 0
    locked_s: int = 0
    asleep_s: int = 0
    unknown_s: int = 0
    first_ms: int = 0
    last_ms: int = 0
    alive_ms: int = 0
    """Start of the last window, or of the agent: a shutdown before it is history."""
    shutdown_ms: int = 0
    booted_ms: int = 0
    window_ms: int = 0
    """Start of the last cell that holds use data; 0 without one."""
    window_state: str = ""
    window_source: str = ""
    health: str = ""
    """Reasons for attention, comma-separated, worst first."""
    suspect: int = 0
    """Cells whose clock was off by over 120 s."""

    @property
    def reported_s(self) -> int:
        """Seconds the device spoke of."""
        return (
            self.active_s
            + self.presenting_s
            + self.idle_s
            + self.locked_s
            + self.asleep_s
            + self.unknown_s
        )

    @property
    def orderly(self) -> bool:
        """Whether the last thing heard was an orderly shutdown."""
        return self.shutdown_ms > 0 and self.shutdown_ms >= self.alive_ms


def day_use(
    subject: str,
    day: str,
    school: str,
    hours: Sequence[Hour],
    lessons: tuple[tuple[int, int], ...],
) -> DayUse:
    """Sum a day. ``hours`` in order of time, ``lessons`` the school's lesson time in UTC.

    A lesson that ends inside a cell splits the cell in proportion.
    """
    seconds = dict.fromkeys(State, 0)
    used = on = known = 0.0
    alive_ms = shutdown_ms = suspect = 0
    last: tuple[int, str, str] = (0, "", "")
    for hour in hours:
        for cell in hour.cells:
            start_ms = hour.starts_ms + cell.no * CELL_MS
            share = overlap_ms(lessons, start_ms, start_ms + CELL_MS) / CELL_MS
            for state in State:
                seconds[state] += cell.seconds.get(state, 0)
            used += cell.used_s * share
            on += cell.on_s * share
            known += (cell.on_s - cell.seconds.get(State.UNKNOWN, 0)) * share
            suspect += cell.suspect
            if cell.state is not None:
                last = (start_ms, cell.state, cell.source)
                alive_ms = max(alive_ms, start_ms)
        for one in hour.events:
            if one.name == "shutdown":
                shutdown_ms = max(shutdown_ms, one.at_ms)
            elif one.name in _ALIVE:
                alive_ms = max(alive_ms, one.at_ms)
    return DayUse(
        subject=subject,
        day=day,
        school=school,
        lesson_used_s=round(used),
        lesson_on_s=round(on),
        lesson_known_s=round(known),
        first_ms=_first(hours),
        last_ms=_last(hours),
        alive_ms=alive_ms,
        shutdown_ms=shutdown_ms,
        booted_ms=_booted(hours),
        window_ms=last[0],
        window_state=last[1],
        window_source=last[2],
        health=",".join(health_reasons(hours)),
        suspect=suspect,
        **{f"{state}_s": seconds[state] for state in State},
    )


def _first(hours: Sequence[Hour]) -> int:
    return min((one.first_ms for one in hours if one.first_ms is not None), default=0)


def _last(hours: Sequence[Hour]) -> int:
    return max((one.last_ms for one in hours if one.last_ms is not None), default=0)


def _booted(hours: Sequence[Hour]) -> int:
    return next((one.booted_ms for one in hours if one.booted_ms is not None), 0)


def health_reasons(hours: Sequence[Hour]) -> list[str]:
    """Say why a device needs attention: faults still standing, then the machine's own health."""
    standing: dict[str, None] = {}
    for one in (each for hour in hours for each in hour.events):
        if one.name == _RAISED and one.fault:
            standing[one.fault] = None
        elif one.name == _CLEARED and one.fault:
            standing.pop(one.fault, None)
    host: dict[str, Any] = next((one.host for one in reversed(hours) if one.host), {})
    found = dict(standing)
    if host.get("disk_free_pct", 100) < _DISK_PCT:
        found["disk_low"] = None
    if any(one.hot_s >= _HOT_S for one in hours):
        found["too_hot"] = None
    if host.get("battery_health_pct", 100) < _BATTERY_PCT:
        found["battery_worn"] = None
    return list(found)


def classify(
    today: DayUse | None,
    latest: DayUse | None,
    *,
    until_ms: int,
    now_ms: int,
    next_boot_ms: int = 0,
    heard_ms: int = 0,
) -> DayState:
    """Say what became of a device on a day that ends at ``until_ms``.

    Args:
        today: its day, or None without any data.
        latest: its last day with data up to and with this one, wherever it stood then.
        until_ms: end of the day, UTC.
        now_ms: the centre's clock; a day still running is judged as of now.
        next_boot_ms: when the machine started that reported next after this day; 0 if none did.
            A boot after the day's end is the word that the device was off until then.
        heard_ms: when a device that is connected now was last heard of; 0 if it is not.
    """
    told = None if today is None else _by_use(today)
    if told is not None:
        return told
    running = now_ms < until_ms
    orderly = latest is not None and latest.orderly
    if running and latest is not None and heard_ms > latest.shutdown_ms:
        # It has connected since: whatever it is now, it is not switched off.
        orderly = False
    elif not running:
        heard_ms = 0
    if latest is not None and not orderly:
        heard_ms = max(heard_ms, latest.last_ms)
    end_ms = min(until_ms, now_ms)
    if end_ms - heard_ms <= SILENT_MS:
        # Heard to the end of the day, or alive a moment ago: not lost, and too little to call use.
        return _awake(today)
    if latest is None:
        return DayState.NEVER
    return DayState.OFF if orderly or next_boot_ms >= end_ms else DayState.LOST


def _awake(today: DayUse | None) -> DayState:
    if today is None or not today.reported_s:
        return DayState.UNKNOWN
    return DayState.ON if today.reported_s > today.asleep_s else DayState.OFF


def _by_use(today: DayUse) -> DayState | None:
    """Judge a day by what was reported in it; None where that is too little to tell."""
    if not today.reported_s:
        return None
    if today.lesson_used_s >= USED_S:
        return DayState.USED
    if today.lesson_known_s < ENOUGH * today.lesson_on_s or today.reported_s == today.unknown_s:
        return DayState.UNKNOWN
    return DayState.ON if today.lesson_on_s >= ON_S else None


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with the range that missing coverage leaves open; all from 0 to 1."""

    low: float
    high: float
    coverage: float

    @property
    def enough(self) -> bool:
        """Whether it may be shown."""
        return self.coverage >= ENOUGH

    @property
    def exact(self) -> bool:
        """Whether nothing is missing."""
        return self.coverage >= 1


def rate(part: int, valid: int, expected: int) -> Rate | None:
    """Share of ``part`` in ``expected``, of which ``valid`` are known; None without a denominator.

    What is missing may be none or all of it: 60 % of 80 % is 48 to 68 %.
    """
    if expected <= 0:
        return None
    return Rate(part / expected, (part + expected - valid) / expected, valid / expected)


@dataclass(frozen=True, slots=True)
class Counts:
    """Devices in service on a day, by what became of them, and those that need attention."""

    by_state: Mapping[DayState, int] = field(default_factory=dict)
    attention: int = 0

    def of(self, state: str) -> int:
        """Devices in a state."""
        return self.by_state.get(DayState(state), 0)

    @property
    def in_service(self) -> int:
        """The denominator."""
        return sum(self.by_state.values())

    @property
    def valid(self) -> int:
        """Devices with valid data."""
        return sum(count for state, count in self.by_state.items() if state.accounted)

    @property
    def coverage(self) -> float | None:
        """Share of devices with valid data; None without a denominator."""
        return self.valid / self.in_service if self.in_service else None

    @property
    def use_rate(self) -> Rate | None:
        """Share of devices used."""
        return rate(self.of(DayState.USED), self.valid, self.in_service)


def count(states: Iterable[tuple[DayState, bool]]) -> Counts:
    """Count ``(state, needs attention)`` pairs."""
    by_state: dict[DayState, int] = {}
    attention = 0
    for state, worried in states:
        by_state[state] = by_state.get(state, 0) + 1
        attention += worried
    return Counts(by_state, attention)
