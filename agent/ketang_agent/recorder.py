"""From readings to final records: five-minute windows, and events in between.

The caller passes time in: ``add`` a reading when there is one, ``close_due`` often. A window leaves
as soon as nothing can change it any more, which a look back at the last input may delay by up to
four minutes. Inventory and security leave at once, when they changed and once a day.

Use is told of hours alone: whenever a sample, a pause or the end of a sleep comes, what lies
outside them is neither credited nor counted as time of the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ketang_agent.aggregates import host_of, network_of, usage_of
from ketang_agent.clock import Instant
from ketang_agent.collectors.base import HostReading, NetworkReading, Reading, UsageReading
from ketang_agent.platforms.base import Power
from ketang_agent.session import GAP_MS, Session, Span, State
from ketang_agent.windows import (
    WINDOW_MS,
    Window,
    following,
    in_hours,
    jump_ms,
    open_window,
    same_run,
    shifted,
)
from ketang_contract import config
from ketang_contract.records import (
    Body,
    Category,
    Event,
    EventName,
    Fault,
    IdleSource,
    Inventory,
    Occupancy,
    Record,
    Security,
)

_DAY_MS = 86_400_000
_SLEPT_MS = 1_000
"""A suspend shorter than this is not worth an event."""
_MAX_READINGS = 64
"""Of one kind in a window; a profile that samples faster loses the later ones, not memory."""
_MOST_WALL_MS = 253_402_300_799_999


_R = TypeVar("_R", HostReading, NetworkReading)


@dataclass(slots=True)
class _Draft:
    """A window that can still change."""

    window: Window
    hours: Sequence[config.Span] | None = None
    states_ms: dict[State, int] = field(default_factory=dict)
    categories_ms: dict[Category, int] = field(default_factory=dict)
    source: IdleSource = IdleSource.NONE
    host: list[HostReading] = field(default_factory=list)
    network: list[NetworkReading] = field(default_factory=list)


class Recorder:
    """Collects readings of one device into records; one owner, one thread."""

    def __init__(self, device_id: str) -> None:
        self._subject = device_id
        self._session = Session()
        self._drafts: list[_Draft] = []
        self._hours: Sequence[config.Span] | None = None
        self._last: Instant | None = None
        self._ready: list[Record] = []
        self._asleep_from_ms: int | None = None
        self._said: dict[type, tuple[Inventory | Security, int]] = {}

    def keep_to(self, hours: Sequence[config.Span] | None, now: Instant) -> None:
        """Tell of use within these hours from now on; None: at any time."""
        if hours == self._hours:
            return
        if self._last is not None:
            self._advance(now)
        self._hours = hours
        if self._drafts:  # what was counted under the hours before is told under them
            self._begin_window(now)

    def add(self, reading: Reading, now: Instant) -> None:
        """Take one reading of this moment."""
        self._advance(now)
        match reading:
            case UsageReading():
                self._notice_wake(now)
                self._credit(self._session.sample(reading, now.boottime_ms))
            case HostReading():
                _keep(self._drafts[-1].host, reading)
            case NetworkReading():
                _keep(self._drafts[-1].network, reading)
            case Occupancy():
                middle_ms = now.boottime_ms - reading.window_s * 500
                self._ready.append(self._record(reading, self._window_start(middle_ms, now)))
            case Inventory() | Security():
                self._say_if_new(reading, now)

    def close_due(self, now: Instant) -> list[Record]:
        """Return what became final: events that time itself told, and windows that ended."""
        self._advance(now)
        self._credit(self._session.lapse(now.boottime_ms))
        while self._drafts[0].window.ends_ms <= now.boottime_ms and self._settled(self._drafts[0]):
            self._close(self._drafts.pop(0))
        return self._take_ready()

    def close_all(self, now: Instant) -> list[Record]:
        """End every window now, as at an orderly stop, and return what is left."""
        self._advance(now)
        self._credit(self._session.stop(now.boottime_ms))
        self._close_drafts(now.boottime_ms)
        self._last = None
        return self._take_ready()

    def pause_usage(self, now: Instant) -> None:
        """Stop accounting for use, as outside school hours, until the next usage reading."""
        self._advance(now)
        self._credit(self._session.stop(now.boottime_ms))

    def power(self, change: Power, now: Instant) -> None:
        """Take what the operating system announced; its events leave with ``close_due``."""
        self._advance(now)
        match change:
            case Power.SLEEPING if self._asleep_from_ms is None:
                self._asleep_from_ms = now.boottime_ms
                self._ready.append(self.event(EventName.SLEEP, now))
            case Power.WOKEN if self._asleep_from_ms is not None:
                self._wake(self._asleep_from_ms, now)
            case Power.SHUTTING_DOWN:
                self._ready.append(self.event(EventName.SHUTDOWN, now))
            case _:
                pass  # announced twice, or a wake that the clocks told already

    def event(
        self,
        name: EventName,
        now: Instant,
        *,
        fault: Fault | None = None,
        seconds: int | None = None,
    ) -> Record:
        """Make the record of something that happens now; the caller stores it."""
        return self._record(Event(name=name, fault=fault, seconds=seconds), now)

    def window_ends_in_s(self, now: Instant) -> int:
        """Seconds until the running window ends, for a person who waits for the first figure."""
        if not self._drafts:
            return WINDOW_MS // 1000
        return max(0, self._drafts[-1].window.ends_ms - now.boottime_ms) // 1000

    def _advance(self, now: Instant) -> None:
        """Bring the windows up to now, whatever the clocks did since the last call."""
        before, self._last = self._last, now
        if before is None:
            self._drafts = [self._draft(open_window(now))]
            return
        if not same_run(before, now):
            self._restart(before, now)
            return
        open_now = self._drafts[-1].window
        jumped_ms = jump_ms(open_now.opened, now)
        clocks = shifted(before, now.boottime_ms) if jumped_ms else now
        for window in following(open_now, clocks, now.boottime_ms):
            self._drafts.append(self._draft(window))
        slept_ms = min(now.suspended_ms - before.suspended_ms, now.boottime_ms - before.boottime_ms)
        if slept_ms >= _SLEPT_MS:
            self._notice_sleep(shifted(clocks, now.boottime_ms - slept_ms), now)
        if jumped_ms:
            self._jump(jumped_ms, now)

    def _restart(self, before: Instant, now: Instant) -> None:
        """Another boot, or a boot clock that ran backwards: end everything where it was known."""
        self._credit(self._session.stop(before.boottime_ms))
        self._close_drafts(before.boottime_ms)
        self._asleep_from_ms = None
        self._said.clear()
        self._drafts = [self._draft(open_window(now))]

    def _jump(self, moved_ms: int, now: Instant) -> None:
        """Start a new window rather than bend the open one."""
        self._begin_window(now)
        self._ready.append(self.event(EventName.CLOCK_JUMP, now, seconds=round(moved_ms / 1000)))

    def _begin_window(self, now: Instant) -> None:
        draft = self._drafts[-1]
        draft.window = draft.window.cut(now.boottime_ms)
        self._drafts.append(self._draft(open_window(now)))

    def _draft(self, window: Window) -> _Draft:
        return _Draft(window, self._hours)

    def _notice_sleep(self, since: Instant, now: Instant) -> None:
        """The kernel counted a suspend; it may or may not have been announced."""
        if self._asleep_from_ms is None:
            self._asleep_from_ms = since.boottime_ms
            self._ready.append(self.event(EventName.SLEEP, since))
        self._wake(self._asleep_from_ms, now)

    def _notice_wake(self, now: Instant) -> None:
        """A sample long after an announced sleep proves that the wake was missed."""
        since_ms = self._asleep_from_ms
        if since_ms is not None and now.boottime_ms - since_ms > GAP_MS:
            self._wake(since_ms, now)

    def _wake(self, since_ms: int, now: Instant) -> None:
        self._asleep_from_ms = None
        self._credit(self._session.sleep(since_ms, now.boottime_ms))
        seconds = (now.boottime_ms - since_ms) // 1000
        self._ready.append(self.event(EventName.WAKE, now, seconds=seconds))

    def _credit(self, spans: list[Span]) -> None:
        for span in spans:
            for draft in self._drafts:
                if not draft.window.overlap_ms(span.from_ms, span.until_ms):
                    continue
                for part in in_hours(draft.window, draft.hours):
                    if shared_ms := part.overlap_ms(span.from_ms, span.until_ms):
                        _add_time(draft, span, shared_ms)

    def _settled(self, draft: _Draft) -> bool:
        settled_ms = self._session.settled_ms
        return settled_ms is None or settled_ms >= draft.window.ends_ms

    def _close_drafts(self, at_ms: int) -> None:
        for draft in self._drafts:
            draft.window = draft.window.cut(at_ms)
            self._close(draft)
        self._drafts = []

    def _close(self, draft: _Draft) -> None:
        """Turn a draft into records. Less than a second is no window."""
        opened, window_s = draft.window.opened, draft.window.length_s
        if window_s == 0:
            return
        if draft.states_ms:
            self._close_usage(draft)
        if draft.host:
            self._ready.append(self._record(host_of(draft.host, window_s), opened))
        if draft.network:
            self._ready.append(self._record(network_of(draft.network, window_s), opened))

    def _close_usage(self, draft: _Draft) -> None:
        """Tell of use; what lies outside hours at an end of the window is no time of it."""
        parts = in_hours(draft.window, draft.hours)
        whole = Window(parts[0].opened, parts[-1].ends_ms)
        if whole.length_s:
            body = usage_of(draft.states_ms, draft.categories_ms, draft.source, whole.length_s)
            self._ready.append(self._record(body, whole.opened))

    def _say_if_new(self, body: Inventory | Security, now: Instant) -> None:
        said = self._said.get(type(body))
        if said is None or said[0] != body or now.boottime_ms - said[1] >= _DAY_MS:
            self._said[type(body)] = (body, now.boottime_ms)
            self._ready.append(self._record(body, now))

    def _window_start(self, at_ms: int, now: Instant) -> Instant:
        """When the window began that holds a boot time, be it still open or long gone."""
        for draft in self._drafts:
            if draft.window.opened.boottime_ms <= at_ms < draft.window.ends_ms:
                return draft.window.opened
        at = shifted(now, max(0, at_ms))
        return shifted(at, max(0, at.boottime_ms - at.wall_ms % WINDOW_MS))

    def _record(self, body: Body, at: Instant) -> Record:
        return Record(
            subject=self._subject,
            wall_ms=min(_MOST_WALL_MS, max(0, at.wall_ms)),
            boot_id=at.boot_id,
            boottime_ms=max(0, at.boottime_ms),
            time=at.time,
            body=body,
        )

    def _take_ready(self) -> list[Record]:
        ready, self._ready = self._ready, []
        return ready


def _keep(kept: list[_R], reading: _R) -> None:
    if len(kept) < _MAX_READINGS:
        kept.append(reading)


def _add_time(draft: _Draft, span: Span, shared_ms: int) -> None:
    draft.states_ms[span.state] = draft.states_ms.get(span.state, 0) + shared_ms
    if span.state in (State.ACTIVE, State.PRESENTING):
        draft.categories_ms[span.category] = draft.categories_ms.get(span.category, 0) + shared_ms
    if span.source is not IdleSource.NONE:
        draft.source = span.source
