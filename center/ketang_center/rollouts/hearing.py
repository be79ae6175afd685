"""What ingest passes on to the rollouts: the latest word of each device, and nobody waits for it.

Ingest only puts a value into a dictionary here. What is kept is bounded by the number of devices,
for a later word of the same kind takes the place of an earlier one.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from ketang_center.rollouts.outcomes import GONE, Seen
from ketang_center.store.base import Presence
from ketang_contract.state import Birth, Death, Reported

_AWAY_MS = 60_000


@dataclass(slots=True)
class Heard:
    """The latest of each kind by device, with the time of receipt, UTC ms."""

    births: dict[str, tuple[Birth, int]] = field(default_factory=dict)
    deaths: dict[str, tuple[Death, int]] = field(default_factory=dict)
    reports: dict[str, tuple[Reported, int]] = field(default_factory=dict)


class Inbox:
    """Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._heard = Heard()

    def hear(self, device: str, said: Birth | Death | Reported, now_ms: int) -> None:
        """Keep a device's word until it is taken."""
        with self._lock:
            if isinstance(said, Birth):
                self._heard.births[device] = (said, now_ms)
            elif isinstance(said, Death):
                self._heard.deaths[device] = (said, now_ms)
            else:
                self._heard.reports[device] = (said, now_ms)
        self._bell.set()

    def give_back(self, heard: Heard) -> None:
        """Put back what could not be written; what came since is newer and stays."""
        with self._lock:
            now, self._heard = self._heard, heard
            self._heard.births.update(now.births)
            self._heard.deaths.update(now.deaths)
            self._heard.reports.update(now.reports)

    def take(self) -> Heard:
        """Return what was heard since the last call."""
        self._bell.clear()
        with self._lock:
            taken, self._heard = self._heard, Heard()
        return taken

    def wait(self, most_s: float) -> None:
        """Wait until there is something, or for so long."""
        self._bell.wait(most_s)

    def ring(self) -> None:
        """Wake who waits."""
        self._bell.set()


class Hearing:
    """Since when devices are heard without a break, by the clock as it goes. One thread."""

    def __init__(self) -> None:
        self.since_ms = 0
        self._told_ms: int | None = None
        self._looked_ms = 0

    def begins_anew(self, told_ms: int, now_ms: int) -> bool:
        """Tell whether the centre was deaf since the last look, which comes twice a second.

        Args:
            told_ms: since when the broker's messages come, UTC as it was then.
            now_ms: UTC. After a long time without a look nothing was heard, whatever the clock
                says: this machine slept, or its clock was set.
        """
        away = not 0 <= now_ms - self._looked_ms < _AWAY_MS
        again = told_ms != self._told_ms
        self._told_ms, self._looked_ms = told_ms, now_ms
        if again and told_ms <= now_ms:
            self.since_ms = told_ms
        elif again or away:
            self.since_ms = now_ms
        return again or away


class Sessions:
    """Who is connected, as births and deaths tell. One thread.

    A good-bye may have been missed while the centre was away. So a device counts as connected only
    once it has said anything since the centre hears.
    """

    def __init__(self, known: Iterable[Presence] = ()) -> None:
        self._session = dict[str, int]()
        self._seen = dict[str, Seen]()
        self._heard_ms = dict[str, int]()
        self.hearing_since_ms = 0
        self.renew(known)

    def renew(self, known: Iterable[Presence]) -> None:
        """Take in what ingest has written, as far as it is newer."""
        for one in known:
            heard_ms = max(one.since_ms, one.last_seen_ms)
            if one.session > self._session.get(one.device, -1):
                self._session[one.device] = one.session
                self._seen[one.device] = Seen(one.connected, one.orderly, one.since_ms)
            if one.session == self._session[one.device]:
                known_ms = self._heard_ms.get(one.device, 0)
                self._heard_ms[one.device] = max(known_ms, heard_ms)

    def seen(self, device: str) -> Seen:
        """Return a device's session as it is; one that is not sure counts as connected here."""
        return self._seen.get(device, GONE)

    def connected(self, device: str) -> bool:
        """Tell whether a device is connected for sure."""
        return (
            self.seen(device).connected and self._heard_ms.get(device, 0) >= self.hearing_since_ms
        )

    def unsure(self, device: str) -> bool:
        """Tell whether a device was connected, and has said nothing since the centre hears."""
        return self.seen(device).connected and not self.connected(device)

    def hear(self, heard: Heard) -> None:
        """Take everything in; what belongs to an older session changes nothing."""
        for device, (birth, at_ms) in heard.births.items():
            if birth.session > self._session.get(device, -1):
                self._session[device] = birth.session
                self._seen[device] = Seen(connected=True, orderly=False, since_ms=at_ms)
                self._heard_ms[device] = at_ms
        for device, (report, at_ms) in heard.reports.items():
            if report.session >= self._session.get(device, -1):
                self._heard_ms[device] = at_ms
                if not self.seen(device).connected:
                    self._session[device] = report.session
                    self._seen[device] = Seen(connected=True, orderly=False, since_ms=at_ms)
        for device, (death, at_ms) in heard.deaths.items():
            if death.session >= self._session.get(device, -1):
                self._session[device] = death.session
                self._seen[device] = Seen(connected=False, orderly=death.orderly, since_ms=at_ms)
