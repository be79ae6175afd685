"""The warden's rounds: what has to happen in time whoever looks or not.

Each duty is tried on its own and told once when it begins to fail and once when it works again: a
folder that is away must not keep a revocation from reaching the broker.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ketang_contract.errors import KetangError

log = logging.getLogger("ketang.warden")

_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do every ``every_s`` seconds; ``do`` gets the centre's time, UTC ms."""

    name: str
    every_s: float
    do: Callable[[int], object]


class Warden:
    """``run`` in a thread of its own until ``stop``."""

    def __init__(
        self,
        duties: Sequence[Duty],
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._now_ms, self._monotonic_s = now_ms, monotonic_s
        self._due_s = dict.fromkeys(duties, 0.0)
        self._failing: set[str] = set()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Make rounds."""
        while not self._stopping.is_set():
            for duty, due_s in self._due_s.items():
                if self._monotonic_s() >= due_s:
                    self._try(duty)
                    self._due_s[duty] = self._monotonic_s() + duty.every_s
            self._stopping.wait(_LOOK_S)

    def stop(self) -> None:
        """Let the duty at hand finish. Signal-safe."""
        self._stopping.set()

    def _try(self, duty: Duty) -> None:
        try:
            duty.do(self._now_ms())
        except (KetangError, OSError, sqlite3.Error) as problem:
            if duty.name not in self._failing:
                log.warning("warden.failing duty=%s why=%s", duty.name, problem)
            self._failing.add(duty.name)
        else:
            if duty.name in self._failing:
                log.info("warden.goes_on duty=%s", duty.name)
            self._failing.discard(duty.name)
