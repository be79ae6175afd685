"""Which collectors run, how often, and when not at all: as the configuration says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import Collector, Gatherer, HostReading, Reading, UsageReading
from ketang_agent.hours import is_open
from ketang_agent.observing import Observer
from ketang_agent.recorder import Recorder
from ketang_agent.scheduler import Job, Scheduler
from ketang_agent.status import Collectors
from ketang_contract.config import COLLECTORS, Config
from ketang_contract.records import Category

USAGE = "usage"
_HOURS = "hours"
_HOURS_S = 1
"""How soon it is noticed that hours begin or end."""
UNTOUCHED_S = 600


def intervals_of(config: Config) -> dict[str, int]:
    """Return seconds between samples by collector; one that is off is not in it."""
    said = {name: getattr(config, f"{name}_s") for name in COLLECTORS}
    return {name: seconds for name, seconds in said.items() if seconds}


@dataclass(frozen=True, slots=True)
class Hands:
    """The parts of the service that sampling works with."""

    scheduler: Scheduler
    recorder: Recorder
    gatherer: Gatherer
    observer: Observer


class Sampling:
    """Runs the collectors as the last ``apply`` says; one owner, the main loop's thread.

    ``categories`` is the collectors' own mapping: it is changed in place, and read at each sample.
    """

    def __init__(
        self,
        hands: Hands,
        collectors: Callable[[], tuple[Collector, ...]],
        profile_categories: Mapping[str, Category],
    ) -> None:
        self._hands = hands
        self._make = collectors
        self._collectors: tuple[Collector, ...] | None = None
        self._profile_categories = dict(profile_categories)
        self.categories: dict[str, Category] = dict(profile_categories)
        self._config = Config()
        self._told: frozenset[Category] = frozenset(Category)
        self.untouched = False
        """Whether nobody has used the device for ten minutes, as last seen."""
        self._ran: set[str] = set()
        self._planned: frozenset[str] = frozenset()
        self._paused = False

    @property
    def sampled(self) -> bool:
        """Whether every collector that is on has run since the last ``apply``."""
        return self._planned <= self._ran

    @property
    def knows_use(self) -> bool:
        """Whether it can be told at all if somebody uses the device."""
        return USAGE in self._planned and USAGE not in self._hands.gatherer.not_applicable

    @property
    def failing(self) -> frozenset[str]:
        """Collectors that are on and whose last sample failed."""
        return self._planned & set(self._hands.gatherer.failing)

    def apply(self, config: Config, now: Instant) -> None:
        """Do as a configuration says from now on; every collector that is on runs soon."""
        if self._collectors is None:
            self._collectors = self._make()
        self._config = self._hands.observer.said = config
        self._hands.recorder.keep_to(config.hours, now)
        self._told = frozenset(Category if config.categories is None else config.categories)
        self.categories.clear()
        self.categories.update(self._profile_categories | dict(config.foreground or ()))
        intervals_s, scheduler = intervals_of(config), self._hands.scheduler
        on = [one for one in self._collectors if one.name in intervals_s]
        scheduler.cancel(_HOURS)
        for one in self._collectors:
            scheduler.cancel(one.name)
            if one not in on:
                self._hands.gatherer.forget(one.name)
        for one in on:
            scheduler.every(intervals_s[one.name], self._sampling(one), name=one.name)
        self._planned, self._ran = frozenset(one.name for one in on), set()
        self._hands.observer.collectors = Collectors(intervals_s, [one.name for one in on])
        if USAGE not in self._planned:
            self._pause(now)
        if USAGE in self._planned and config.hours is not None:
            scheduler.every(_HOURS_S, self._hold_to_hours, name=_HOURS)

    def _hold_to_hours(self, now: Instant) -> None:
        """Begin and end with the hours what is told of use, and not with the next sample."""
        if is_open(self._config, now) is not self._paused:
            return
        if self._paused:
            self._hands.scheduler.run(USAGE)
        else:
            self._pause(now)

    def _sampling(self, collector: Collector) -> Job:
        def sample(now: Instant) -> None:
            self._ran.add(collector.name)
            if collector.name == USAGE and not is_open(self._config, now):
                self._pause(now)
                return
            self._paused = self._paused and collector.name != USAGE
            for reading in self._hands.gatherer.gather(collector, now):
                self._hands.recorder.add(self._seen(reading), now)
            self._hands.observer.collectors.note(collector.name, now)

        return sample

    def _seen(self, reading: Reading) -> Reading:
        """Look what a reading says of the moment, and take out what may not be told."""
        match reading:
            case HostReading():
                self._hands.observer.host = reading
            case UsageReading():
                idle_s = reading.idle_s
                self.untouched = reading.locked or (idle_s is not None and idle_s >= UNTOUCHED_S)
                if reading.category not in self._told:
                    return replace(reading, category=Category.OTHER)
        return reading

    def _pause(self, now: Instant) -> None:
        """Outside hours nothing of use is told, not even that there was none."""
        if not self._paused:
            self._hands.recorder.pause_usage(now)
        self._paused, self.untouched = True, False
