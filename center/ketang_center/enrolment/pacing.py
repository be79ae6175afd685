"""How fast devices are let in, and who has to wait: guesses, floods, and a key that never stops.

All on the monotonic clock. In memory and bounded; a restart forgives.
"""

from collections import OrderedDict
from collections.abc import Callable

from ketang_center.access.throttle import Bucket, Throttle
from ketang_center.enrolment.values import Reason

_KEY_PER_S, _KEY_BURST = 0.1, 5.0
"""What one key may ask: a device repeats itself a few times, then once in ten seconds."""
_MOST_KEYS = 10_000
_DAY_S = 86_400.0
_MOST_TOLD = 10_000


class Pace:
    """Of one service. ``per_s``: requests of each kind it decides in a second."""

    def __init__(self, per_s: float, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._guesses = Throttle()
        self._rates = {kind: Bucket(per_s, max(1.0, per_s)) for kind in ("enrol", "renew")}
        self._keys: OrderedDict[str, Bucket] = OrderedDict()
        self._told: OrderedDict[tuple[str, Reason], float] = OrderedDict()

    def locked_s(self, source: str) -> float:
        """Return how long a source is locked out for its guesses; 0: not at all."""
        return self._guesses.locked_s(source, self._monotonic_s())

    def failed(self, source: str) -> bool:
        """Count a wrong code; true when that locks its source out."""
        return self._guesses.failed(source, self._monotonic_s())

    def succeeded(self, source: str) -> None:
        """Forget a source's wrong codes."""
        self._guesses.succeeded(source)

    def wait_s(self, kind: str, key: str) -> float:
        """Take a turn for a key; 0, or how long it has to wait for one.

        A key that asks without end uses up its own turns and nobody else's.
        """
        now_s = self._monotonic_s()
        mine = self._keys.pop(key, None) or Bucket(_KEY_PER_S, _KEY_BURST)
        self._keys[key] = mine
        if len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)
        return mine.take(now_s) or self._rates[kind].take(now_s)

    def is_news(self, who: str, reason: Reason) -> bool:
        """Tell whether a refusal belongs in the audit log: the first of its kind in a day."""
        now_s = self._monotonic_s()
        last_s = self._told.pop((who, reason), None)
        self._told[(who, reason)] = now_s if last_s is None else last_s
        if len(self._told) > _MOST_TOLD:
            self._told.popitem(last=False)
        if last_s is not None and now_s - last_s < _DAY_S:
            return False
        self._told[(who, reason)] = now_s
        return True
