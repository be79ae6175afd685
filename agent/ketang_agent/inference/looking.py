"""The worker's loop: look, add up, tell; every second a sign of life.

It looks in the windows in which people are counted, and opens its source in no other.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2

from ketang_agent.clock import Clock, Instant
from ketang_agent.inference.aggregate import Look, Tally
from ketang_agent.inference.capture import Capture, NoFrame
from ketang_agent.inference.pipeline import Pipeline
from ketang_agent.inference.protocol import Beat, Stage, beat_line, occupancy_line
from ketang_agent.windows import is_counted
from ketang_contract.records import View

_MOST_FAILURES = 5
_REST_S = 1.0


class ModelFailing(RuntimeError):
    """The model failed on several frames in a row."""


@dataclass(slots=True)
class Looking:
    """Everything one worker holds."""

    capture: Capture
    pipeline: Pipeline
    scan_ms: int
    clock: Clock
    tell: Callable[[bytes], None]
    every_s: int
    tally: Tally = field(default_factory=Tally)
    view: View | None = None
    due_ms: int = 0
    failures: int = 0

    def go_on(self, pause: Callable[[float], None]) -> None:
        """Look until the pipe breaks or the process is killed.

        Raises:
            ModelFailing: five frames in a row were too much for the model.
            BrokenPipeError: nobody listens any more.
        """
        while True:
            self.step()
            pause(_REST_S)

    def step(self) -> None:
        """Do what is due now."""
        now = self.clock.now()
        self._close(now)
        if self._is_counted() and now.boottime_ms >= self.due_ms:
            look = self._look(now)
            # it belongs to the window of its frame, even where that has ended meanwhile
            self.tally.add(look)
            self.view = look.view
            after_ms = self.clock.now().boottime_ms
            took_ms = after_ms - now.boottime_ms
            # rest as long as the scan took, so that a slow machine is never more than half busy
            self.due_ms = max(now.boottime_ms + self.scan_ms, after_ms + took_ms)
        self._beat(Stage.REST)

    def _is_counted(self) -> bool:
        return self.tally.window is not None and is_counted(self.tally.window, self.every_s)

    def _look(self, now: Instant) -> Look:
        self._beat(Stage.SOURCE)
        try:
            frame = self.capture.frame(now)
        except (NoFrame, cv2.error):
            return Look(View.NO_SOURCE)
        self._beat(Stage.MODEL)
        try:
            look = self.pipeline.look(frame, now.boottime_ms)
        except (RuntimeError, cv2.error) as problem:
            self.failures += 1
            if self.failures >= _MOST_FAILURES:
                raise ModelFailing from problem
            return Look(View.FAILED)
        self.failures = 0
        return look

    def _close(self, now: Instant) -> None:
        for occupancy in self.tally.advance(now):
            self.tell(occupancy_line(occupancy))

    def _beat(self, stage: Stage) -> None:
        self.tell(beat_line(Beat(stage, self.view)))
