"""From samples of a session to spans of time in a state; no clock and no IO of its own.

A sample speaks for the time since the one before it, a minute at most. ACTIVE stays tentative from
the last input on: if nobody comes back, that stretch was the beginning of IDLE and is given to it.

Source: the project's definition of use, ``docs/guides/metrics.md``.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from ketang_agent.collectors.base import UsageReading
from ketang_contract.records import Category, IdleSource

SAMPLE_MS = 60_000
GAP_MS = 3 * SAMPLE_MS
IDLE_MS = 180_000
PRESENTING_MS = 45 * 60_000


class State(StrEnum):
    """What a device is doing; OFF is the centre's inference, never the device's."""

    ACTIVE = "active"
    PRESENTING = "presenting"
    IDLE = "idle"
    LOCKED = "locked"
    ASLEEP = "asleep"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of boot time in one state."""

    from_ms: int
    until_ms: int
    state: State
    category: Category = Category.OTHER
    source: IdleSource = IdleSource.NONE


def state_of(reading: UsageReading) -> State:
    """Judge one sample. A probe that failed is UNKNOWN, whatever else was seen, save a lock."""
    if reading.locked:
        return State.LOCKED
    if reading.idle_s is None:
        return State.UNKNOWN
    if reading.idle_s * 1000 < IDLE_MS:
        return State.ACTIVE
    return State.PRESENTING if reading.presenting else State.IDLE


class Session:
    """What is known so far: how far time is covered, what is tentative, how long it presents."""

    def __init__(self) -> None:
        self._covered_ms: int | None = None
        self._lapsed = False
        self._last: Span | None = None
        self._tentative: list[Span] = []
        self._presenting_left_ms = PRESENTING_MS

    @property
    def settled_ms(self) -> int | None:
        """Boot time up to which nothing will change any more; None: nothing is being sampled."""
        return self._tentative[0].from_ms if self._tentative else self._covered_ms

    def sample(self, reading: UsageReading, now_ms: int) -> list[Span]:
        """Take one sample; return the spans it settles."""
        covered_ms = now_ms if self._covered_ms is None else self._covered_ms
        from_ms = max(covered_ms, now_ms - SAMPLE_MS)
        idle_ms = None if reading.idle_s is None else max(0, int(reading.idle_s * 1000))
        state = state_of(reading)
        settled = self._resolve(state, now_ms, idle_ms)
        if self._lapsed or now_ms - covered_ms > GAP_MS:
            settled.append(Span(covered_ms, from_ms, State.UNKNOWN))
        span = Span(from_ms, now_ms, state, reading.category, reading.idle_source)
        self._covered_ms, self._lapsed, self._last = now_ms, False, span
        if state is State.ACTIVE and idle_ms is not None:
            self._presenting_left_ms = PRESENTING_MS
            before, after = _split(span, now_ms - idle_ms)
            self._tentative += after
            return settled + before
        return settled + (self._within_cap(span) if state is State.PRESENTING else [span])

    def sleep(self, from_ms: int, until_ms: int) -> list[Span]:
        """Account for a sleep of the machine that is now over."""
        if self._covered_ms is None:
            return []
        asleep_ms = max(from_ms, self._covered_ms)
        settled = [*self._extend(asleep_ms), Span(asleep_ms, until_ms, State.ASLEEP)]
        self._covered_ms = max(until_ms, asleep_ms)
        self._lapsed, self._last = False, None
        return settled

    def lapse(self, now_ms: int) -> list[Span]:
        """Call a silence UNKNOWN once it is longer than three intervals."""
        if self._covered_ms is None or now_ms - self._covered_ms <= GAP_MS:
            return []
        lost_ms = now_ms - SAMPLE_MS  # the minute since may yet get a sample
        settled = [*self._take_tentative(), Span(self._covered_ms, lost_ms, State.UNKNOWN)]
        self._covered_ms, self._lapsed, self._last = lost_ms, True, None
        return settled

    def stop(self, now_ms: int) -> list[Span]:
        """End the sampling: what was last seen lasts until now, a minute at most."""
        if self._covered_ms is None:
            return []
        settled = self._extend(now_ms)
        self._covered_ms, self._lapsed, self._last = None, False, None
        return settled

    def _extend(self, until_ms: int) -> list[Span]:
        """Settle everything, and let the last state go on, a sample's length at most."""
        settled = self._take_tentative()
        covered_ms = until_ms if self._covered_ms is None else self._covered_ms
        seen_ms = covered_ms
        if self._last is not None:
            seen_ms = min(until_ms, covered_ms + SAMPLE_MS)
            going_on = replace(self._last, from_ms=covered_ms, until_ms=seen_ms)
            settled += (
                self._within_cap(going_on) if going_on.state is State.PRESENTING else [going_on]
            )
        if self._lapsed or until_ms - covered_ms > GAP_MS:
            settled.append(Span(seen_ms, until_ms, State.UNKNOWN))
        return settled

    def _resolve(self, state: State, now_ms: int, idle_ms: int | None) -> list[Span]:
        """Settle what is tentative, in the light of a new sample's last input."""
        held = self._take_tentative()
        if idle_ms is None:
            return held
        settled: list[Span] = []
        for span in held:
            before, after = _split(span, now_ms - idle_ms)
            settled += before
            if state is State.ACTIVE:
                self._tentative += after
            elif idle_ms >= IDLE_MS and state is not State.PRESENTING:
                settled += [replace(one, state=State.IDLE) for one in after]
            else:
                settled += after
        return settled

    def _take_tentative(self) -> list[Span]:
        taken, self._tentative = self._tentative, []
        return taken

    def _within_cap(self, span: Span) -> list[Span]:
        """Presenting without a touch is believed for 45 minutes, then it is IDLE."""
        believed_ms = min(span.until_ms - span.from_ms, self._presenting_left_ms)
        self._presenting_left_ms -= believed_ms
        before, after = _split(span, span.from_ms + believed_ms)
        return before + [replace(one, state=State.IDLE) for one in after]


def _split(span: Span, at_ms: int) -> tuple[list[Span], list[Span]]:
    """Divide a span at a moment; an empty half is no span."""
    if at_ms <= span.from_ms:
        return [], [span] if span.from_ms < span.until_ms else []
    if at_ms >= span.until_ms:
        return [span], []
    return [replace(span, until_ms=at_ms)], [replace(span, from_ms=at_ms)]
