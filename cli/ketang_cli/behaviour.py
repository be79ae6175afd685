"""What a simulated device sees, minute by minute: a pure function of device, day and minute.

Lessons of 40 minutes and breaks of 10 go round the clock, each room's at its own minute. In each
lesson the device is used, shown from, or left alone, by chance and by its habit; the same question
always has the same answer.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ketang_agent.collectors.base import HostReading, NetworkReading, UsageReading
from ketang_center.registry.calendars import DAY_MS, day_of, day_starts_ms
from ketang_cli.fiction import Habit, Simulated
from ketang_contract.limits import FEW, HeadCount, Tri
from ketang_contract.records import (
    Category,
    Family,
    IdleSource,
    Ipv4Address,
    Ipv6Address,
    LinkKind,
    Occupancy,
    Probe,
    View,
)

MINUTE_MS = 60_000
WINDOW_MINUTES = 5
_PERIOD = 50
_LESSON = 40
_USED = {Habit.QUIET: 0.3, Habit.IDLE: 0.0}
"""Share of lessons in which a device is used; others are busy."""
_BUSY = 0.8
_OPENS, _CLOSES = 7 * 60 + 25, 17 * 60 + 35
"""Minutes of the local day a past school day runs from and until, give or take a few."""
_SPREAD = 20
_TODAY_MS = 4 * 3_600_000
"""Today's classes have run for this long at least, whatever the hour."""
_ABSENT_DAYS = {Habit.OFF: 12, Habit.LOST: 5}
_LOST_AT = 11 * 60 + 12


@dataclass(frozen=True, slots=True)
class Stretch:
    """From switching on to switching off, UTC milliseconds. Not ``orderly``: it just went."""

    from_ms: int
    until_ms: int
    orderly: bool


def past_stretches(device: Simulated, from_ms: int, now_ms: int) -> list[Stretch]:
    """Return when a device was on in days gone by, the newest first; today's stretch apart."""
    found: list[Stretch] = []
    today_ms = day_starts_ms(day_of(now_ms))
    ends_ms = running_since_ms(device, now_ms)
    for start_ms in range(today_ms, from_ms - DAY_MS, -DAY_MS):
        days_ago = (today_ms - start_ms) // DAY_MS
        one = _school_day(device, start_ms, days_ago)
        if one is None or one.until_ms > ends_ms or one.from_ms < from_ms:
            continue
        found.append(one)
    return found


def is_gone(device: Simulated) -> bool:
    """Whether a device does not run today."""
    return device.habit in {Habit.OFF, Habit.LOST, Habit.NEVER}


def running_since_ms(device: Simulated, now_ms: int) -> int:
    """Return when the stretch began that a device is in now; now, for one that is not running."""
    if is_gone(device):
        return now_ms
    opened_ms = day_starts_ms(day_of(now_ms)) + _OPENS * MINUTE_MS
    late_ms = _chance(device.id, "today").randrange(_SPREAD) * MINUTE_MS
    return min(opened_ms, now_ms - _TODAY_MS) + late_ms


def _school_day(device: Simulated, start_ms: int, days_ago: int) -> Stretch | None:
    absent = _ABSENT_DAYS.get(device.habit, 0)
    if device.habit is Habit.NEVER or days_ago < max(1, absent):
        return None
    chance = _chance(device.id, start_ms)
    from_ms = start_ms + (_OPENS + chance.randrange(_SPREAD)) * MINUTE_MS
    if device.habit is Habit.LOST and days_ago == absent:
        return Stretch(from_ms, start_ms + _LOST_AT * MINUTE_MS, orderly=False)
    return Stretch(
        from_ms, start_ms + (_CLOSES + chance.randrange(_SPREAD)) * MINUTE_MS, orderly=True
    )


def usage_at(device: Simulated, at_ms: int) -> UsageReading:
    """Return what one look at the session gives in a minute."""
    if device.habit is Habit.BLIND:
        return UsageReading(idle_s=None, note="no desktop session that tells")
    period, within = _lesson(device, at_ms // MINUTE_MS)
    return _period(device.id, device.habit, period)[within]


def _lesson(device: Simulated, minute: int) -> tuple[int, int]:
    """Return which lesson a minute lies in, and how far; the break belongs to the lesson before."""
    return divmod(minute + _chance(device.room).randrange(_PERIOD), _PERIOD)


@lru_cache(maxsize=256)
def _period(device: str, habit: Habit, period: int) -> tuple[UsageReading, ...]:
    """Return a lesson and its break, a reading a minute."""
    chance = _chance(device, period)
    used = chance.random() < _USED.get(habit, _BUSY)
    showing = used and chance.random() < 0.35  # noqa: PLR2004  (a third of lessons are shown)
    category = chance.choice(
        (Category.COURSEWARE, Category.MEDIA)
        if showing
        else (Category.WHITEBOARD, Category.WHITEBOARD, Category.BROWSER, Category.PLATFORM)
    )
    readings = []
    untouched_s = 600
    for minute in range(_PERIOD):
        in_lesson = minute < _LESSON
        touched = used and in_lesson and chance.random() < (0.25 if showing else 0.75)
        untouched_s = chance.randrange(5, 45) if touched else untouched_s + 60
        readings.append(
            UsageReading(
                idle_s=untouched_s,
                idle_source=IdleSource.XSCREENSAVER,
                presenting=showing and in_lesson,
                category=category if used and in_lesson else Category.OTHER,
            )
        )
    return tuple(readings)


def host_at(device: Simulated, at_ms: int, on_since_ms: int) -> HostReading:
    """Return one look at the machine."""
    chance = _chance(device.id, "host", at_ms // MINUTE_MS)
    hot = device.habit is Habit.HOT
    return HostReading(
        cpu_pct=float(chance.randrange(4, 60)),
        memory_used_pct=float(chance.randrange(38, 62)),
        disk_free_pct=5.0 if device.habit is Habit.FULL_DISK else 56.0,
        disk_free_mb=6_000 if device.habit is Habit.FULL_DISK else 67_000,
        temperature_c=chance.randrange(88, 92) if hot else chance.randrange(44, 66),
        on_mains=Tri.YES,
        uptime_s=(at_ms - on_since_ms) // 1000,
    )


def network_at(device: Simulated, at_ms: int) -> NetworkReading:
    """Return one look at the network; one school of three has no IPv6 yet."""
    chance = _chance(device.id, "network", at_ms // MINUTE_MS)
    v6 = device.school != "liuwan"
    return NetworkReading(
        link=LinkKind.ETHERNET,
        link_mbps=1000,
        ipv4=Ipv4Address.PRIVATE,
        ipv6=Ipv6Address.GLOBAL if v6 else Ipv6Address.LINK_LOCAL,
        ipv6_probe=Probe.OK if v6 else Probe.FAILED,
        mqtt_family=Family.V6 if v6 else Family.V4,
        rtt_ms=chance.randrange(2, 9),
        received_kbps=float(chance.randrange(40, 900)),
        sent_kbps=float(chance.randrange(10, 90)),
    )


def heads_at(device: Simulated, window_ends_ms: int) -> Occupancy:
    """Return who was seen in the five minutes that end at a moment."""
    minute = window_ends_ms // MINUTE_MS - WINDOW_MINUTES
    period, within = _lesson(device, minute)
    chance = _chance(device.id, "heads", minute)
    if chance.random() < 0.03:  # noqa: PLR2004  (now and then the light is off)
        return Occupancy(window_s=300, view=View.DARK)
    class_size = _chance(device.id, "class", period).choice((0, 27, 34, 38, 41))
    if within >= _LESSON:
        class_size = chance.choice((0, 2, 7))
    median = max(0, class_size + chance.randrange(-2, 3)) if class_size else 0
    return Occupancy(
        window_s=300,
        view=View.OK,
        scans=30,
        median=_folded(median),
        p90=_folded(median + chance.randrange(3) if median else 0),
        confidence_pct=chance.randrange(86, 97),
    )


def _folded(heads: int) -> HeadCount:
    """Fold 1 to 4 into FEW, as the worker does before a count leaves it (PRIVACY rule 4)."""
    return FEW if 1 <= heads <= 4 else heads  # noqa: PLR2004


def minutes(from_ms: int, until_ms: int) -> Iterator[int]:
    """Yield a look a minute from ``from_ms`` until before ``until_ms``."""
    yield from range(from_ms, until_ms, MINUTE_MS)


def _chance(*of: object) -> random.Random:
    return random.Random(":".join(map(str, of)))
