"""What the device knows of itself at one moment: for the page on it, for the CLI, for the centre.

Made by the main loop, never changed after; other threads may read it without a lock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import Gatherer
from ketang_agent.hours import Hours
from ketang_agent.spool.store import Spool
from ketang_contract import records
from ketang_contract.records import Fault, Stream, TimeQuality
from ketang_contract.state import Camera, ConfigReport, Loss


class Result(StrEnum):
    """How a collector's last sample went."""

    OK = "ok"
    NOT_APPLICABLE = "not_applicable"
    """This device lacks it: no failure."""
    FAILING = "failing"
    NOT_YET = "not_yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorStatus:
    """One collector; ``why`` is for a person and may be empty."""

    name: str
    interval_s: int
    result: Result
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """One stream of one store. ``acked``: the centre itself said that it holds them."""

    store_id: str
    current: bool
    stream: Stream
    head: int
    pending: int
    acked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStatus:
    """The buffer on disk, and what still waits in memory because the disk takes nothing."""

    used_bytes: int
    cap_bytes: int
    unsaved: int
    dropped: int
    trouble: str
    lanes: tuple[LaneStatus, ...]
    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkStatus:
    """The connection. ``since_ms``: connected, or without a connection, from then on."""

    broker: str
    connected: bool
    since_ms: int | None
    session: int
    acked_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything, at ``now_ms``. Times are wall clock, milliseconds."""

    device: str
    center_id: str
    agent_version: str
    profile: str
    contact: str
    started_ms: int
    now_ms: int
    boot_id: str
    time: TimeQuality
    uplink: UplinkStatus
    spool: SpoolStatus
    collectors: tuple[CollectorStatus, ...]
    faults: tuple[Fault, ...]
    camera: Camera
    config: ConfigReport
    hours: Hours
    model: str
    window_ends_in_s: int

    @property
    def waiting(self) -> int:
        """Records the centre has not acknowledged, wherever they wait."""
        return self.spool.unsaved + sum(lane.pending for lane in self.spool.lanes)


def to_json(status: Status) -> dict[str, Any]:
    """Turn it into JSON's own types; every field is there, since none has a default."""
    said: dict[str, Any] = records.to_json(status)
    return said


Settled = Mapping[tuple[str, Stream], int]
"""Numbers of a lane that neither wait nor were acknowledged: lost, or moved to another store."""


def lanes_of(spool: Spool, settled: Settled) -> tuple[LaneStatus, ...]:
    """Describe every lane that gave out a number."""
    return tuple(
        LaneStatus(
            store_id=lane.store_id,
            current=lane.store_id == spool.current_store,
            stream=lane.stream,
            head=head,
            pending=(pending := len(spool.pending(lane))),
            acked=max(0, head - pending - settled.get((lane.store_id, lane.stream), 0)),
        )
        for lane in spool.lanes()
        if (head := spool.head(lane))
    )


class Collectors:
    """Remembers which collectors ran, and tells how each one's last sample went."""

    def __init__(self, intervals_s: Mapping[str, int], names: Iterable[str]) -> None:
        self._intervals_s = {name: intervals_s[name] for name in names}
        self._ran: dict[str, Instant] = {}

    def note(self, name: str, now: Instant) -> None:
        """A collector was sampled."""
        self._ran[name] = now

    def status(self, gatherer: Gatherer) -> tuple[CollectorStatus, ...]:
        """Describe every collector that has an interval."""
        failing, lacking = gatherer.failing, gatherer.not_applicable
        return tuple(
            CollectorStatus(
                name=name,
                interval_s=interval_s,
                result=self._result(name, failing, lacking),
                why=failing.get(name) or lacking.get(name) or "",
            )
            for name, interval_s in self._intervals_s.items()
        )

    def _result(self, name: str, failing: Mapping[str, str], lacking: Mapping[str, str]) -> Result:
        if name in failing:
            return Result.FAILING
        if name in lacking:
            return Result.NOT_APPLICABLE
        return Result.OK if name in self._ran else Result.NOT_YET
