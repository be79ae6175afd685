"""What every collector is, what it yields, and how a round of them is run."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from ketang_agent.clock import Instant
from ketang_contract.errors import KetangError
from ketang_contract.limits import Tri
from ketang_contract.records import (
    Category,
    Family,
    IdleSource,
    Inventory,
    Ipv4Address,
    Ipv6Address,
    LinkKind,
    Occupancy,
    Probe,
    Security,
)

_log = logging.getLogger("ketang.collectors")

TEACHING = frozenset({Category.PLATFORM, Category.WHITEBOARD, Category.COURSEWARE})
"""A program of these in front is presenting, even when nobody touches the device."""


class NotApplicable(KetangError):
    """This device lacks it: no failure. The text says so in a person's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorSettings:
    """What the device's profile says about sampling. A collector without an interval is off."""

    intervals_s: Mapping[str, int]
    categories: Mapping[str, Category] = field(default_factory=dict)
    """Category by the base name of an executable, lower case."""
    data_dir: Path = Path("/")
    """Its file system's free space is the one that matters."""
    agent_version: str = ""
    probe_host: str | None = None
    """Where the IPv6 probe connects to; None: it is not run."""
    probe_port: int = 443
    probe_timeout_s: float = 3.0
    root: Path = Path("/")
    """Where ``proc``, ``sys``, ``etc``, ``run`` and ``var`` are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReading:
    """One look at the session. ``idle_s`` None: nobody could tell, and ``note`` says why."""

    idle_s: float | None
    idle_source: IdleSource = IdleSource.NONE
    locked: bool = False
    presenting: bool = False
    category: Category = Category.OTHER
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """One look at the machine. ``cpu_pct`` is the mean since the last look; the first has none."""

    cpu_pct: float | None = None
    memory_used_pct: float | None = None
    disk_free_pct: float | None = None
    disk_free_mb: int | None = None
    temperature_c: int | None = None
    battery_pct: int | None = None
    battery_health_pct: int | None = None
    on_mains: Tri = Tri.UNKNOWN
    uptime_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkReading:
    """One look at the network. Throughput is the mean since the look before."""

    link: LinkKind = LinkKind.NONE
    link_mbps: int | None = None
    ipv4: Ipv4Address = Ipv4Address.NONE
    ipv6: Ipv6Address = Ipv6Address.NONE
    ipv6_probe: Probe = Probe.NOT_RUN
    mqtt_family: Family = Family.NONE
    rtt_ms: int | None = None
    received_kbps: float | None = None
    sent_kbps: float | None = None


Reading = UsageReading | HostReading | NetworkReading | Inventory | Security | Occupancy


class Collector(Protocol):
    """A source of readings."""

    name: ClassVar[str]

    def sample(self, now: Instant) -> Iterator[Reading]:
        """Yield current readings; what was yielded before an error counts.

        Raises:
            NotApplicable: this device lacks it.
            OSError: it could not be read this time.
        """
        ...


class Gatherer:
    """Runs collectors so that no one's trouble is another's; tells of each change once."""

    def __init__(self) -> None:
        self._down: dict[str, str] = {}
        self._lacking: dict[str, str] = {}

    @property
    def failing(self) -> Mapping[str, str]:
        """Collectors whose last sample failed, with the reason."""
        return dict(self._down)

    @property
    def not_applicable(self) -> Mapping[str, str]:
        """Collectors that this device lacks the means for, with the reason."""
        return dict(self._lacking)

    def forget(self, name: str) -> None:
        """A collector is off: how it did last says nothing any more."""
        self._down.pop(name, None)
        self._lacking.pop(name, None)

    def gather(self, collector: Collector, now: Instant) -> list[Reading]:
        """Return one collector's readings: those it yielded before it failed, if it failed."""
        name, readings = collector.name, list[Reading]()
        try:
            for reading in collector.sample(now):
                readings.append(reading)  # kept even if the next one fails
        except NotApplicable as lack:
            if name not in self._lacking:
                _log.info("collector.not_applicable name=%s why=%s", name, lack)
            self._lacking[name] = str(lack)
            self._down.pop(name, None)
            return readings
        except Exception as problem:  # noqa: BLE001  (a collector's bug must not stop the next)
            if name not in self._down:
                _log.warning("collector.down name=%s why=%r", name, problem)
            self._down[name] = f"{type(problem).__name__}: {problem}"
            return readings
        if name in self._down:
            _log.info("collector.back name=%s", name)
        self._down.pop(name, None)
        self._lacking.pop(name, None)
        return readings
