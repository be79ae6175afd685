"""Local days and lesson time. Pure.

China keeps one time, UTC+8, and no daylight saving since 1991: a fixed offset is exact for every
time a device may report, and needs no time zone files on the machine.
"""

from datetime import UTC, date, datetime, timedelta, timezone

from ketang_center.registry.values import Calendar

SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
_OFFSET_MS = 8 * HOUR_MS


def day_of(at_ms: int) -> date:
    """Return the local day that holds a moment."""
    return _EPOCH + timedelta(days=(at_ms + _OFFSET_MS) // DAY_MS)


def day_starts_ms(day: date) -> int:
    """Return the local midnight a day begins with."""
    return (day - _EPOCH).days * DAY_MS - _OFFSET_MS


def local(at_ms: int) -> datetime:
    """Return a moment as local date and time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(SHANGHAI)


def lesson_spans_ms(calendar: Calendar | None, day: date) -> tuple[tuple[int, int], ...]:
    """Return the day's lesson time as UTC spans; empty on a day without lessons."""
    start = day_starts_ms(day)
    if calendar is None:
        return ()
    if calendar.always_in_lesson:
        return ((start, start + DAY_MS),)
    return tuple(
        (start + one.from_minute * MINUTE_MS, start + one.until_minute * MINUTE_MS)
        for one in calendar.spans
        if one.weekday == day.weekday()
    )


def overlap_ms(spans: tuple[tuple[int, int], ...], from_ms: int, until_ms: int) -> int:
    """Return how much of a stretch lies inside spans that do not overlap each other."""
    return sum(max(0, min(until_ms, last) - max(from_ms, first)) for first, last in spans)
