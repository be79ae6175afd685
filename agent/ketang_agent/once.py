"""One reading of every collector, for a person who wants to see what this device tells."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ketang_agent.clock import Clock
from ketang_agent.collectors.base import Collector, Gatherer

SETTLE_S = 0.3
"""Rates need two looks, this far apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneReading:
    """What a collector said, or why it could not; both where it said that it does not know."""

    collector: str
    reading: dict[str, Any] | None
    reason: str | None
    duration_ms: int


def read_once(
    collectors: Iterable[Collector],
    clock: Clock,
    *,
    pause: Callable[[float], None] = time.sleep,
    settle_s: float = SETTLE_S,
) -> list[OneReading]:
    """Sample every collector twice, a moment apart, and return the second look of each.

    ``duration_ms`` is what the second look took. Nothing is recorded.
    """
    chosen, gatherer = tuple(collectors), Gatherer()
    for one in chosen:
        gatherer.gather(one, clock.now())
    pause(settle_s)
    return [said for one in chosen for said in _read(one, gatherer, clock)]


def _read(collector: Collector, gatherer: Gatherer, clock: Clock) -> list[OneReading]:
    started_ns = time.perf_counter_ns()
    readings = gatherer.gather(collector, clock.now())
    duration_ms = (time.perf_counter_ns() - started_ns) // 1_000_000
    name = collector.name
    reason = gatherer.failing.get(name) or gatherer.not_applicable.get(name)
    said: list[dict[str, Any] | None] = [asdict(one) for one in readings] or [None]
    return [
        OneReading(collector=name, reading=one, reason=reason, duration_ms=duration_ms)
        for one in said
    ]
