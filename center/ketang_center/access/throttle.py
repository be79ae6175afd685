"""Against guessing and flooding: lock-outs that bind a source, and a rate for everybody.

A lock-out binds where the attempts come from, never whom they aim at: nobody can lock a school or
an account out by guessing at it. In memory and bounded; a restart forgives. ``now_s`` is a
monotonic clock's; should it go back all the same, nobody is locked or held up longer than meant.
"""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

_MOST_SOURCES = 10_000
_IPV6_PREFIX = 64


@dataclass(slots=True)
class _Record:
    failures: int
    since_s: float
    locked_at_s: float | None = None


class Throttle:
    """``locked_s`` before an attempt, ``failed`` after a wrong one, ``succeeded`` after a right.

    Args:
        most: failures that are forgiven within ``within_s``; the next one locks.
        within_s: seconds after which failures are forgotten.
        lock_s: how long a source is locked.
    """

    def __init__(self, *, most: int = 10, within_s: float = 600, lock_s: float = 900) -> None:
        self._most, self._within_s, self._lock_s = most, within_s, lock_s
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def locked_s(self, source: str, now_s: float) -> float:
        """Return how many seconds a source has to wait; 0: it may try."""
        record = self._records.get(source)
        if record is None or record.locked_at_s is None:
            return 0.0
        record.locked_at_s = min(record.locked_at_s, now_s)
        return max(0.0, record.locked_at_s + self._lock_s - now_s)

    def failed(self, source: str, now_s: float) -> bool:
        """Count a failure; true when it locks the source."""
        record = self._records.pop(source, None)
        if record is None or not 0 <= now_s - record.since_s <= self._within_s:
            record = _Record(0, now_s)
        record.failures += 1
        locks = record.failures > self._most
        if locks:
            record.locked_at_s = now_s
            record.failures, record.since_s = 0, now_s
        self._records[source] = record
        if len(self._records) > _MOST_SOURCES:
            self._records.popitem(last=False)
        return locks

    def succeeded(self, source: str) -> None:
        """Forget a source's failures."""
        self._records.pop(source, None)


class Bucket:
    """A token bucket: ``take`` returns 0, or how many seconds to wait for a token."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at_s = burst, 0.0

    def take(self, now_s: float) -> float:
        """Take a token if there is one."""
        passed_s = max(0.0, now_s - self._at_s)
        self._tokens, self._at_s = min(self._burst, self._tokens + passed_s * self._per_s), now_s
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_s


def source_of(address: str) -> str:
    """Name the source of a connection: the address, or of IPv6 its /64, which one host fills."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    whole = int(found) >> (128 - _IPV6_PREFIX) << (128 - _IPV6_PREFIX)
    return f"{IPv6Address(whole)}/{_IPV6_PREFIX}" if not found.is_loopback else str(found)
