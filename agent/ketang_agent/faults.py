"""What stands wrong with this device now. Pure: signs in, changes out.

A fault is raised when it is first seen (heat after ten minutes) and cleared only once it was not
seen for a while, so that one that comes and goes is two events in that time at most.
"""

from dataclasses import dataclass

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import HostReading
from ketang_agent.remote.permits import PermitSigns
from ketang_contract.records import EventName, Fault, TimeQuality

NOTHING_AMISS = PermitSigns()
DISK_LOW_PCT = 10
TOO_HOT_C = 85
TOO_HOT_FOR_MS = 600_000
BATTERY_WORN_PCT = 60
CLEAR_AFTER_MS = 300_000
_TOLD_ONCE_MS = 3_600_000
"""Something that happens in a moment, as a refusal does, stands this long for people to see."""
_HOLD_MS = {Fault.RECORDS_REFUSED: _TOLD_ONCE_MS, Fault.SPOOL_FULL: _TOLD_ONCE_MS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What the main loop sees of the device's health. ``evicted`` and ``refused`` only grow."""

    spool_failing: bool = False
    spool_pinned: bool = False
    evicted: int = 0
    refused: int = 0
    host: HostReading | None = None
    collectors_failing: bool = False
    worker_failing: bool = False
    permits: PermitSigns = NOTHING_AMISS


@dataclass(frozen=True, slots=True)
class Change:
    """A fault was raised, or cleared."""

    name: EventName
    fault: Fault


class Faults:
    """Remembers what stands; ``judge`` often, on the boot clock."""

    def __init__(self) -> None:
        self._seen_ms: dict[Fault, int] = {}
        self._hot_since_ms: int | None = None
        self._evicted = 0
        self._refused = 0

    @property
    def standing(self) -> tuple[Fault, ...]:
        """Faults that stand now, in the contract's order."""
        return tuple(one for one in Fault if one in self._seen_ms)

    def judge(self, signs: Signs, now: Instant) -> list[Change]:
        """Return what changed."""
        seen = self._seen(signs, now)
        changes = [
            Change(EventName.FAULT_RAISED, one)
            for one in Fault
            if one in seen and one not in self._seen_ms
        ]
        for one in seen:
            self._seen_ms[one] = now.boottime_ms
        for one, at_ms in list(self._seen_ms.items()):
            if now.boottime_ms - at_ms >= _HOLD_MS.get(one, CLEAR_AFTER_MS):
                del self._seen_ms[one]
                changes.append(Change(EventName.FAULT_CLEARED, one))
        return changes

    def _seen(self, signs: Signs, now: Instant) -> set[Fault]:
        host = signs.host or HostReading()
        seen = {
            Fault.SPOOL_FAILING: signs.spool_failing,
            Fault.SPOOL_PINNED: signs.spool_pinned,
            Fault.SPOOL_FULL: signs.evicted > self._evicted,
            Fault.RECORDS_REFUSED: signs.refused > self._refused,
            Fault.COLLECTOR_FAILING: signs.collectors_failing,
            Fault.WORKER_FAILING: signs.worker_failing,
            Fault.FILING_EXPIRING: signs.permits.filing_expiring,
            Fault.FILING_EXPIRED: signs.permits.filing_expired,
            Fault.GRANT_EXPIRED: signs.permits.grant_expired,
            Fault.CLOCK_WRONG: now.time is TimeQuality.BAD,
            Fault.TOO_HOT: self._too_hot(host.temperature_c, now),
            Fault.DISK_LOW: _below(host.disk_free_pct, DISK_LOW_PCT),
            Fault.BATTERY_WORN: _below(host.battery_health_pct, BATTERY_WORN_PCT),
        }
        self._evicted, self._refused = signs.evicted, signs.refused
        return {fault for fault, is_seen in seen.items() if is_seen}

    def _too_hot(self, temperature_c: int | None, now: Instant) -> bool:
        if temperature_c is None or temperature_c <= TOO_HOT_C:
            self._hot_since_ms = None
            return False
        if self._hot_since_ms is None:
            self._hot_since_ms = now.boottime_ms
        return now.boottime_ms - self._hot_since_ms >= TOO_HOT_FOR_MS


def _below(percent: float | None, least: int) -> bool:
    return percent is not None and percent < least
