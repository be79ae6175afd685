"""One look at all parts: the signs that faults are judged by, and the status that people see."""

import logging
import sqlite3
from dataclasses import dataclass

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import Gatherer, HostReading
from ketang_agent.faults import Signs
from ketang_agent.hours import standing
from ketang_agent.keeping import Keeper
from ketang_agent.local_page.ledger import Tally, tally
from ketang_agent.remote.permits import PermitSigns
from ketang_agent.settings import Settings
from ketang_agent.spool.guard import Grip
from ketang_agent.status import (
    Collectors,
    CollectorStatus,
    Result,
    SpoolStatus,
    Status,
    UplinkStatus,
    lanes_of,
)
from ketang_agent.uplink.link import Link
from ketang_agent.uplink.sender import Sender
from ketang_contract.config import COUNTED_EVERY_S, Config, counted_every_s
from ketang_contract.records import Fault
from ketang_contract.state import Camera, ConfigReport

log = logging.getLogger("ketang.status")

_COUNTING = {Camera.COUNTING: Result.OK, Camera.FAILED: Result.FAILING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What there is to look at now; a link and a sender only while there is a spool."""

    keeper: Keeper
    grip: Grip
    link: Link | None
    sender: Sender | None
    camera: Camera
    faults: tuple[Fault, ...]
    config: ConfigReport
    permits: PermitSigns
    model: str
    """What counts people, as the configuration in force has it."""
    window_ends_in_s: int


class Observer:
    """Looks, and remembers only what no part keeps: the last host reading, the last tally."""

    def __init__(
        self, settings: Settings, version: str, started: Instant, gatherer: Gatherer
    ) -> None:
        self._settings = settings
        self._version = version
        self._started = started
        self._gatherer = gatherer
        self._tally = Tally({}, ())
        self._refused_before = 0
        self.collectors = Collectors({}, ())
        self.host: HostReading | None = None
        self.said = Config()
        """What is in force."""

    def forget(self, sender: Sender) -> None:
        """A sender is replaced: what it was refused still counts."""
        self._refused_before += sender.refused

    def count_losses(self, keeper: Keeper) -> None:
        """Look what was lost; it changes seldom and costs a query, so once a minute will do."""
        if keeper.spool is None:
            return
        try:
            self._tally = tally(keeper.path)
        except sqlite3.Error as problem:
            log.debug("spool.no_tally why=%s", problem)

    def signs(self, parts: Parts) -> Signs:
        """What faults are judged by."""
        refused = self._refused_before + (parts.sender.refused if parts.sender else 0)
        return Signs(
            spool_failing=bool(parts.keeper.trouble),
            spool_pinned=parts.grip is not Grip.FREE,
            evicted=parts.keeper.evicted,
            refused=refused,
            host=self.host,
            collectors_failing=bool(self._gatherer.failing),
            worker_failing=parts.camera is Camera.FAILED,
            permits=parts.permits,
        )

    def status(self, parts: Parts, now: Instant) -> Status:
        """Everything a person may want to know, at this moment."""
        settings = self._settings
        return Status(
            device=settings.device,
            center_id=settings.center_id,
            agent_version=self._version,
            profile=settings.profile,
            contact=settings.contact,
            started_ms=self._started.wall_ms,
            now_ms=now.wall_ms,
            boot_id=now.boot_id,
            time=now.time,
            uplink=self._uplink(parts.link, parts.sender),
            spool=self._spool(parts.keeper),
            collectors=self.collectors.status(self._gatherer) + self._counting(parts),
            faults=parts.faults,
            camera=parts.camera,
            config=parts.config,
            hours=standing(self.said, now),
            model=parts.model,
            window_ends_in_s=parts.window_ends_in_s,
        )

    def _uplink(self, link: Link | None, sender: Sender | None) -> UplinkStatus:
        broker = self._settings.broker
        return UplinkStatus(
            broker=f"{broker.host}:{broker.port}",
            connected=link is not None and link.connected,
            since_ms=link.since_ms if link else None,
            session=link.session if link else 0,
            acked_at_ms=sender.acked_at_ms if sender else None,
        )

    def _spool(self, keeper: Keeper) -> SpoolStatus:
        return SpoolStatus(
            used_bytes=_used_bytes(keeper),
            cap_bytes=keeper.cap_bytes,
            unsaved=keeper.unsaved,
            dropped=keeper.dropped,
            trouble=keeper.trouble,
            lanes=lanes_of(keeper.spool, self._tally.settled) if keeper.spool else (),
            losses=self._tally.losses,
        )

    def _counting(self, parts: Parts) -> tuple[CollectorStatus, ...]:
        """The worker is no collector of this process, but a person looks for it among them."""
        asked = self._settings.occupancy
        if asked is None:
            return ()
        every_s = counted_every_s(self.said.occupancy_s or 0)
        if every_s == COUNTED_EVERY_S[0]:  # in every window: then it is the looks that tell more
            every_s = max(asked.scan_s, self.said.scan_s or 0)
        result = _COUNTING.get(parts.camera, Result.NOT_YET)
        return (CollectorStatus(name="occupancy", interval_s=every_s, result=result, why=""),)


def _used_bytes(keeper: Keeper) -> int:
    if keeper.spool is None:
        return 0
    try:
        return keeper.spool.used_bytes()
    except sqlite3.Error as problem:
        keeper.note(problem)
        return 0
