"""The supervisor's hold on the worker: starts it, reads it, kills it. Never waits.

How the service uses it::

    counting = Counting(plan_of(source, model, scan_s), KillSwitch(path))
    scheduler.every(1, step, name="occupancy")      # step: for one in counting.step(now):
        # an Occupancy goes to recorder.add(one, now); an Event to recorder.event(one.name, now)
    counting.camera                                 # the state to report: OFF, COUNTING, ...
    counting.stop()                                 # when the service stops, or hours end
"""

import logging
import random
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ketang_agent.clock import Instant
from ketang_agent.inference.child import Lines, Process, Spawn, kill, start
from ketang_agent.inference.limits import CpuMeter, cost_of
from ketang_agent.inference.plan import CountingPlan, plan_of
from ketang_agent.inference.protocol import Beat, Exit, Garbled, Stage, parse
from ketang_agent.windows import Window, is_counted, open_window
from ketang_contract.records import Event, EventName, Occupancy, View
from ketang_contract.state import Camera

__all__ = ["Counting", "CountingPlan", "Told", "plan_of"]

_log = logging.getLogger("ketang.occupancy")
_GRACE_MS = 15_000
"""A window's aggregate may come so much later than its end."""
_LEAST_UNSEEN_S = 60

Told = Occupancy | Event


class Switch(Protocol):
    """The switch in the room."""

    @property
    def engaged(self) -> bool:
        """Whether somebody said no."""
        ...


class Trouble(StrEnum):
    """Why a worker is no more; the word that stands in the log."""

    MEMORY = "memory"
    CPU = "cpu"
    START_STALLED = "start_stalled"
    SOURCE_STALLED = "source_stalled"
    MODEL_STALLED = "model_stalled"
    PROTOCOL = "protocol"
    DIED = "died"
    NOT_STARTED = "not_started"
    PARTS_MISSING = "parts_missing"
    MODEL_REFUSED = "model_refused"
    SOURCE_REFUSED = "source_refused"
    MODEL_FAILING = "model_failing"


_OF_THE_MODEL = frozenset(
    {
        Trouble.MEMORY,
        Trouble.CPU,
        Trouble.MODEL_STALLED,
        Trouble.PROTOCOL,
        Trouble.DIED,
        Trouble.MODEL_REFUSED,
        Trouble.MODEL_FAILING,
    }
)
"""A source that hangs, a slow disk or a missing library say nothing against the model."""
_EXITS = {
    Exit.PARTS_MISSING: Trouble.PARTS_MISSING,
    Exit.MODEL_REFUSED: Trouble.MODEL_REFUSED,
    Exit.SOURCE_REFUSED: Trouble.SOURCE_REFUSED,
    Exit.MODEL_FAILING: Trouble.MODEL_FAILING,
}
_SEEING = frozenset({View.OK, View.DARK, View.BLOCKED})


@dataclass(slots=True)
class _Worker:
    """A running worker and what was last heard of it; times are awake milliseconds."""

    process: Process
    lines: Lines
    meter: CpuMeter
    heard_ms: int
    beat: Beat | None = None


def full_jitter(most_s: float) -> float:
    """Wait anything from nothing to ``most_s``: a shared fault must not give a shared beat."""
    return random.uniform(0, most_s)


class Counting:
    """Counts heads by a worker, within limits; one owner, one thread, ``step`` every second."""

    def __init__(
        self,
        plan: CountingPlan,
        switch: Switch,
        *,
        spawn: Spawn = start,
        jitter: Callable[[float], float] = full_jitter,
    ) -> None:
        self._plan = plan
        self._switch = switch
        self._spawn = spawn
        self._jitter = jitter
        self._worker: _Worker | None = None
        self._dying: list[Process] = []
        self._engaged: bool | None = None
        self._quarantined = False
        self._looks = 0
        self._stopped = False
        self._troubles: deque[tuple[int, Trouble]] = deque()
        self._start_at_ms = 0
        self._view: View | None = None
        self._window: Window | None = None
        self._between = False
        self._told_ms = 0
        self._events: list[Told] = []

    @property
    def camera(self) -> Camera:
        """Whether people are being counted, as the device reports it."""
        if self._engaged:
            return Camera.STOPPED
        if self._quarantined:
            return Camera.FAILED
        if self._worker is not None and self._view in _SEEING:
            return Camera.COUNTING
        if self.rests and self._view is None:
            return Camera.COUNTING  # whoever stands before it should not take it for off
        return Camera.FAILED if self._troubles or self._view is not None else Camera.OFF

    @property
    def rests(self) -> bool:
        """Whether a worker that is ready waits for the next window in which people are counted."""
        return self._between and self._worker is not None and self._worker.beat is not None

    @property
    def looks(self) -> int:
        """How often the model has looked at a picture and come back."""
        return self._looks

    @property
    def is_blamed(self) -> bool:
        """Whether a worker broke a limit, or ended, by its model's fault."""
        return self._quarantined or any(why in _OF_THE_MODEL for _, why in self._troubles)

    @property
    def worker_pid(self) -> int | None:
        """The running worker's process id, for the local page and for tests."""
        return None if self._worker is None else self._worker.process.pid

    def step(self, now: Instant) -> list[Told]:
        """Do what is due: obey the switch, read the worker, hold it to its limits, restart it.

        Returns:
            Windows that ended and events, in order; events are in the log too, with the reason.
        """
        if self._stopped:
            return []
        awake_ms = now.boottime_ms - now.suspended_ms
        self._between = not is_counted(open_window(now), self._plan.every_s)
        self._reap()
        self._obey()
        if not self._engaged:
            if self._worker is not None:
                self._attend(self._worker, now, awake_ms)
            if self._worker is None:
                self._start_if_due(awake_ms)
        self._notice_unseen(now)
        told, self._events = self._events, []
        return told

    def stop(self) -> None:
        """End the worker for good; its unfinished window is dropped, never shortened."""
        self._stopped = True
        self._end_worker()
        self._view = None
        self._troubles.clear()

    def _obey(self) -> None:
        engaged = self._switch.engaged
        if engaged:
            self._end_worker()
        if engaged == self._engaged:
            return
        before, self._engaged = self._engaged, engaged
        self._view = None
        if engaged:
            _log.warning("camera.stopped by=switch")
            if before is not None:  # found so at the start: nothing happened just now
                self._events.append(Event(name=EventName.CAMERA_STOPPED))
        elif before is not None:
            _log.info("camera.allowed by=switch")
            self._start_at_ms = 0
            self._events.append(Event(name=EventName.CAMERA_ALLOWED))

    def _attend(self, worker: _Worker, now: Instant, awake_ms: int) -> None:
        code = worker.process.poll()  # before its pipe is read: so its last words are in there
        trouble = (
            self._read(worker, now, awake_ms)
            or self._exit_of(code)
            or self._stalled(worker, awake_ms)
            or self._too_costly(worker, awake_ms)
        )
        if trouble is not None:
            self._fail(trouble, awake_ms)

    def _read(self, worker: _Worker, now: Instant, awake_ms: int) -> Trouble | None:
        try:
            for line in worker.lines.take():
                said = parse(line)
                worker.heard_ms = awake_ms
                if isinstance(said, Occupancy):
                    self._events.append(said)
                    self._told_ms = now.boottime_ms
                    continue
                before, worker.beat = worker.beat, said
                rests = said.stage is Stage.REST and said.view in _SEEING
                if rests and before is not None and before.stage is Stage.MODEL:
                    self._looks += 1
                self._see(said.view)
        except Garbled as garbled:
            _log.warning("worker.garbled what=%s", garbled)
            return Trouble.PROTOCOL
        return None

    def _see(self, view: View | None) -> None:
        if view is None or view is self._view:
            return
        _log.info("occupancy.view view=%s", view)
        self._view = view

    @staticmethod
    def _exit_of(code: int | None) -> Trouble | None:
        if code is None:
            return None
        _log.warning("worker.ended code=%d", code)
        return next((why for ended, why in _EXITS.items() if ended == code), Trouble.DIED)

    def _stalled(self, worker: _Worker, awake_ms: int) -> Trouble | None:
        limits, silent_ms = self._plan.limits, awake_ms - worker.heard_ms
        if worker.beat is None:
            return Trouble.START_STALLED if silent_ms > limits.start_s * 1000 else None
        if silent_ms <= limits.heartbeat_s * 1000:
            return None
        if worker.beat.stage is Stage.SOURCE:
            return Trouble.SOURCE_STALLED
        return Trouble.MODEL_STALLED

    def _too_costly(self, worker: _Worker, awake_ms: int) -> Trouble | None:
        try:
            cost = cost_of(worker.process.pid)
        except OSError:
            return None  # it ended this very moment: the next step sees how
        if cost.rss_bytes > self._plan.limits.rss_bytes:
            return Trouble.MEMORY
        share = worker.meter.share(cost.cpu_s, awake_ms)
        if share is not None and share > self._plan.limits.cpu_share:
            return Trouble.CPU
        return None

    def _fail(self, trouble: Trouble, awake_ms: int) -> None:
        """End a worker that broke a limit, or note one that ended; decide when to try again."""
        killed = self._end_worker()
        limits = self._plan.limits
        self._troubles.append((awake_ms, trouble))
        while awake_ms - self._troubles[0][0] > limits.breaches_over_s * 1000:
            self._troubles.popleft()
        doubled_s = limits.backoff_s * 2 ** (len(self._troubles) - 1)
        wait_s = self._jitter(min(limits.most_backoff_s, doubled_s))
        self._start_at_ms = awake_ms + round(wait_s * 1000)
        _log.warning("worker.failed why=%s killed=%s again_in_s=%.1f", trouble, killed, wait_s)
        if killed:
            self._events.append(Event(name=EventName.WORKER_KILLED))
        breaches = sum(why in _OF_THE_MODEL for _, why in self._troubles)
        if trouble is Trouble.MODEL_REFUSED or breaches >= limits.breaches:
            self._quarantined = True
            _log.error("model.quarantined model=%s why=%s", self._plan.model, trouble)
            self._events.append(Event(name=EventName.MODEL_QUARANTINED))

    def _start_if_due(self, awake_ms: int) -> None:
        if self._quarantined or self._dying or awake_ms < self._start_at_ms:
            return
        try:
            process = self._spawn(self._plan)
        except OSError as problem:
            _log.warning("worker.not_started why=%s", problem.strerror)
            self._fail(Trouble.NOT_STARTED, awake_ms)
            return
        if process.stdout is None:
            raise ValueError("spawn must give the worker's standard output as a pipe")
        _log.info("worker.started pid=%d model=%s", process.pid, self._plan.model)
        meter = CpuMeter(self._plan.limits.cpu_over_s)
        self._worker = _Worker(process, Lines(process.stdout), meter, awake_ms)

    def _end_worker(self) -> bool:
        """Kill the worker if there is one; True if it was still alive."""
        worker, self._worker = self._worker, None
        if worker is None:
            return False
        alive = worker.process.poll() is None
        if not kill(worker.process):
            _log.error("worker.unkillable pid=%d", worker.process.pid)
            self._dying.append(worker.process)
        return alive

    def _reap(self) -> None:
        self._dying = [each for each in self._dying if _still_there(each)]

    def _notice_unseen(self, now: Instant) -> None:
        """Say FAILED for a window in which a failing worker told nothing: unknown is never 0."""
        window = self._window
        if window is None or now.boottime_ms < window.opened.boottime_ms:
            self._window = open_window(now)
            return
        if now.boottime_ms < window.ends_ms + _GRACE_MS:
            return
        told = self._told_ms > window.opened.boottime_ms + _GRACE_MS
        due = is_counted(window, self._plan.every_s) and window.length_s >= _LEAST_UNSEEN_S
        if due and not told and self.camera is Camera.FAILED:
            self._events.append(Occupancy(window_s=window.length_s, view=View.FAILED))
        self._window = open_window(now)


def _still_there(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None
