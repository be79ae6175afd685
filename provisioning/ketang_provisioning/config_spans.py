"""Spans of the week as a person writes them: ``mon-fri 08:00-11:40 13:30-17:00``.

Days are one, a list or a range (``sat-mon`` goes over the week's end), then one or more times of
the day. Read and written here only; in a configuration they are ``config.Span``.
"""

import re
from collections.abc import Iterable, Sequence

from ketang_contract.config import DAY_MINUTES, Span, tidy_spans

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ACCEPTED = 'a list such as ["mon-fri 08:00-17:30", "sat 08:00-12:00"]'
_TIME = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_HOUR = 60
_Times = tuple[tuple[int, int], ...]


def read_spans(lines: Iterable[str]) -> tuple[Span, ...]:
    """Read spans, and put them in their one form.

    Raises:
        ValueError: the first line that is wrong, and what is accepted; one phrase.
    """
    return tidy_spans(one for line in lines for one in _line(line))


def write_spans(spans: Sequence[Span]) -> list[str]:
    """Write spans so that ``read_spans`` gives the same: days with the same times in one line."""
    of = {day: _times_of(day, spans) for day in range(len(DAYS))}
    alike: dict[_Times, list[int]] = {}
    for day, times in of.items():
        if times:
            alike.setdefault(times, []).append(day)
    return [
        " ".join([",".join(_runs(days)), *(f"{_clock(a)}-{_clock(b)}" for a, b in times)])
        for times, days in alike.items()
    ]


def _line(line: str) -> list[Span]:
    days, *times = line.lower().split() or [""]
    if not times:
        raise ValueError(f"{line[:40]!r} is not accepted; accepted: days, then times of the day")
    spans = [_time(one) for one in times]
    return [(day, begins, ends) for day in _days(days) for begins, ends in spans]


def _days(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        for day in (first, last) if dash else (first,):
            if day not in DAYS:
                raise ValueError(f"{day[:20]!r} is no day; accepted: {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found += [(begin + step) % len(DAYS) for step in range((end - begin) % len(DAYS) + 1)]
    return found


def _time(text: str) -> tuple[int, int]:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:20]!r} is no time of the day; accepted: e.g. 08:00-17:30")
    hour, minute, end_hour, end_minute = map(int, found.groups())
    begins, ends = hour * _HOUR + minute, end_hour * _HOUR + end_minute
    if max(minute, end_minute) >= _HOUR or max(begins, ends) > DAY_MINUTES:
        raise ValueError(f"{text!r} is no time of the day; accepted: 00:00 to 24:00")
    if begins >= ends:
        raise ValueError(f"{text!r} ends before it begins; past midnight is a span of the next day")
    return begins, ends


def _times_of(day: int, spans: Sequence[Span]) -> _Times:
    return tuple((begins, ends) for weekday, begins, ends in spans if weekday == day)


def _runs(days: Sequence[int]) -> list[str]:
    """Name days in order; those in a row as a range."""
    made: list[list[int]] = []
    for day in days:
        if made and made[-1][-1] == day - 1:
            made[-1].append(day)
        else:
            made.append([day])
    return [f"{DAYS[run[0]]}-{DAYS[run[-1]]}" if len(run) > 1 else DAYS[run[0]] for run in made]


def _clock(minutes: int) -> str:
    return f"{minutes // _HOUR:02}:{minutes % _HOUR:02}"
