"""The warden's rounds: what has to happen in time whoever looks or not.

Each duty is tried on its own and told once when it begins to fail and once when it works again. A
folder on another machine can hang for ever, and must not keep a revocation from reaching the
broker: duties that ``may_hang`` make their rounds in a thread of their own, which nobody waits for
long.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ketang_contract.errors import KetangError

log = logging.getLogger("ketang.warden")

_LOOK_S = 0.5
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do every ``every_s`` seconds; ``do`` gets the centre's time, UTC ms."""

    name: str
    every_s: float
    do: Callable[[int], object]
    may_hang: bool = False


class Warden:
    """``run`` in a thread of its own until ``stop``."""

    def __init__(
        self,
        duties: Sequence[Duty],
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._now_ms, self._monotonic_s = now_ms, monotonic_s
        self._duties = tuple(duties)
        self._failing: set[str] = set()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Make rounds."""
        apart = [one for one in self._duties if one.may_hang]
        other = threading.Thread(
            target=self._make_rounds, args=(apart,), name="ketang-warden-apart", daemon=True
        )
        if apart:
            other.start()
        self._make_rounds([one for one in self._duties if not one.may_hang])
        if apart:
            other.join(_JOIN_S)
            if other.is_alive():
                log.warning("warden.left_behind duties=%s", ",".join(one.name for one in apart))

    def stop(self) -> None:
        """Let the duty at hand finish. Signal-safe."""
        self._stopping.set()

    def _make_rounds(self, duties: Sequence[Duty]) -> None:
        due_s = dict.fromkeys(duties, 0.0)
        while not self._stopping.is_set():
            for duty in duties:
                if self._monotonic_s() >= due_s[duty]:
                    self._try(duty)
                    due_s[duty] = self._monotonic_s() + duty.every_s
            self._stopping.wait(_LOOK_S)

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
