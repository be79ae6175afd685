"""One scheduler for everything periodic, on the boot clock, driven by one main loop.

A job's moments are a fixed grid, so nothing drifts; a late job runs once and skips what it missed;
a failing job is told of once and stops nobody else.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from ketang_agent.clock import Clock, Instant

_log = logging.getLogger("ketang.scheduler")
_LONGEST_WAIT_S = 60.0

Job = Callable[[Instant], None]


@dataclass(slots=True)
class _Entry:
    name: str
    job: Job
    interval_ms: int
    due_ms: int
    failing: bool = field(default=False)


class Scheduler:
    """Runs jobs when they are due; the caller sleeps in between."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    @property
    def failing(self) -> frozenset[str]:
        """Names of the jobs whose last run raised."""
        return frozenset(one.name for one in self._entries.values() if one.failing)

    def every(self, interval_s: float, job: Job, *, name: str, first_in_s: float = 0.0) -> None:
        """Run ``job(now)`` every ``interval_s``, first in ``first_in_s``; replaces the same name.

        Raises:
            ValueError: the interval is under a millisecond.
        """
        interval_ms = round(interval_s * 1000)
        if interval_ms < 1:
            raise ValueError(f"{name}: an interval of {interval_s} s")
        due_ms = self._clock.now().boottime_ms + round(first_in_s * 1000)
        self._entries[name] = _Entry(name, job, interval_ms, due_ms)

    def cancel(self, name: str) -> None:
        """Forget a job; unknown names are no error, so that stopping twice is safe."""
        self._entries.pop(name, None)

    def run(self, name: str) -> None:
        """Run one job now, due or not; an unknown name is no error."""
        if name in self._entries:
            self._run(self._entries[name])

    def run_due(self) -> float:
        """Run every job that is due, in order of dueness; return the seconds until the next one."""
        started_ms = self._clock.now().boottime_ms
        due = [one for one in self._entries.values() if one.due_ms <= started_ms]
        for one in sorted(due, key=_dueness):
            if self._entries.get(one.name) is one:  # an earlier job may have cancelled it
                self._run(one)
        return self._wait_s()

    def _run(self, entry: _Entry) -> None:
        now = self._clock.now()
        entry.due_ms = next_due_ms(entry.due_ms, entry.interval_ms, now.boottime_ms)
        try:
            entry.job(now)
        except Exception as problem:  # noqa: BLE001  (the one place that keeps jobs apart)
            if not entry.failing:
                _log.warning("job.failing name=%s why=%r", entry.name, problem, exc_info=True)
            entry.failing = True
        else:
            if entry.failing:
                _log.info("job.back name=%s", entry.name)
            entry.failing = False

    def _wait_s(self) -> float:
        if not self._entries:
            return _LONGEST_WAIT_S
        now_ms = self._clock.now().boottime_ms
        soonest_ms = min(one.due_ms for one in self._entries.values())
        return min(max(0, soonest_ms - now_ms) / 1000, _LONGEST_WAIT_S)


def next_due_ms(due_ms: int, interval_ms: int, now_ms: int) -> int:
    """First moment of the grid ``due_ms + k * interval_ms`` that lies after now."""
    if now_ms < due_ms:
        return due_ms
    return due_ms + ((now_ms - due_ms) // interval_ms + 1) * interval_ms


def _dueness(entry: _Entry) -> int:
    return entry.due_ms
