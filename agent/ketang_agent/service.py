"""The agent itself: the only file that knows all rooms. One main loop, one owner of the spool."""

import logging
import os
import sqlite3
import threading
from types import TracebackType
from typing import Self

from ketang_agent.clock import Instant, SystemClock
from ketang_agent.collectors.base import Collector, CollectorSettings, Gatherer, NotApplicable
from ketang_agent.collectors.registry import collectors_of
from ketang_agent.platforms.linux import desktop, power_signals
from ketang_agent.platforms.linux_dbus import PowerSignals
from ketang_agent.recorder import Recorder
from ketang_agent.scheduler import Job, Scheduler
from ketang_agent.settings import Settings
from ketang_agent.spool.limits import Reserve, make_room
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.client import Connection, tls_context
from ketang_agent.uplink.link import Link, Wire
from ketang_agent.uplink.sender import Sender
from ketang_contract.records import EventName, Record
from ketang_profiles import profile

log = logging.getLogger("ketang.service")

_CLOSE_S = 2
_HOUSEKEEPING_S = 60
_MEGABYTE = 1 << 20
_MOST_UNSAVED = 1000
"""Records held in memory while the disk takes none: some eight hours of windows."""


class Service:
    """``with Service(settings, version) as service: service.run()``; ``stop`` from a signal."""

    def __init__(self, settings: Settings, version: str) -> None:
        kind = profile.shipped(settings.profile)
        self._settings = settings
        self._version = version
        self._cap_bytes = kind.caps.spool_max_mb * _MEGABYTE
        self._clock = SystemClock()
        self._bell = threading.Event()
        self._stopping = False
        self._collecting = CollectorSettings(
            intervals_s=kind.intervals_s,
            categories=kind.foreground,
            data_dir=settings.data_dir,
            agent_version=version,
        )
        self._recorder = Recorder(settings.device)
        self._gatherer = Gatherer()
        self._scheduler = Scheduler(self._clock)
        self._unsaved: list[Record] = []

    def __enter__(self) -> Self:
        settings = self._settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        context = tls_context(settings.broker)
        self._spool = Spool(settings.data_dir / "spool.db")
        self._spool.open()
        self._reserve = Reserve(settings.data_dir / "spool.reserve")
        self._reserve.hold()

        def connect(will: tuple[str, bytes]) -> Wire:
            return Connection(settings.broker, context, settings.device, will, self._bell.set)

        sender = Sender(self._spool, settings.device, settings.center_id)
        self._link = Link(self._spool, sender, settings.device, connect, self._version)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._link.stop()
        self._spool.close()

    def run(self) -> None:
        """Sample, record, send, until ``stop``."""
        self._say(EventName.AGENT_STARTED)
        self._plan()
        while not self._stopping:
            wait_s = self._scheduler.run_due()
            now = self._clock.now()
            self._link.poll(now)
            wake_ms = self._link.wake_at_ms()
            if wake_ms is not None:
                wait_s = min(wait_s, max(0.01, (wake_ms - now.boottime_ms) / 1000))
            self._bell.wait(wait_s)
            self._bell.clear()
        now = self._clock.now()
        self._keep(self._recorder.close_all(now))
        self._say(EventName.AGENT_STOPPED)
        self._link.poll(now)

    def stop(self) -> None:
        """Finish the round at hand and return from ``run``. Safe in a signal handler."""
        self._stopping = True
        self._bell.set()

    def _plan(self) -> None:
        for one in collectors_of(self._collecting, desktop(os.environ)):
            interval_s = self._collecting.intervals_s[one.name]
            self._scheduler.every(interval_s, self._sampling(one), name=one.name)
        try:
            signals = power_signals()
            signals.fileno()
        except NotApplicable as lack:
            log.info("power.not_applicable why=%s", lack)
        else:
            self._scheduler.every(_CLOSE_S, self._following(signals), name="power")
        self._scheduler.every(_CLOSE_S, self._close, name="windows", first_in_s=_CLOSE_S)
        self._scheduler.every(_HOUSEKEEPING_S, self._tidy, name="housekeeping")

    def _sampling(self, collector: Collector) -> Job:
        def sample(now: Instant) -> None:
            for reading in self._gatherer.gather(collector, now):
                self._recorder.add(reading, now)

        return sample

    def _following(self, signals: PowerSignals) -> Job:
        def follow(now: Instant) -> None:
            for change in signals.changes():
                self._recorder.power(change, now)

        return follow

    def _close(self, now: Instant) -> None:
        self._keep(self._recorder.close_due(now))

    def _tidy(self, now: Instant) -> None:
        lost = make_room(self._spool, self._cap_bytes, now.wall_ms)
        if lost:
            log.warning("spool.evicted records=%d", lost)
        self._reserve.hold()

    def _say(self, name: EventName) -> None:
        self._keep([self._recorder.event(name, self._clock.now())])

    def _keep(self, records: list[Record]) -> None:
        """Put records into the spool; while the disk refuses them they wait here, within bounds."""
        self._unsaved = (self._unsaved + records)[-_MOST_UNSAVED:]
        if not self._unsaved:
            return
        try:
            self._spool.append(self._unsaved)
        except sqlite3.OperationalError as problem:
            log.warning("spool.failing why=%s waiting=%d", problem, len(self._unsaved))
            self._make_way()
            self._spool.append(self._unsaved)
        self._unsaved = []

    def _make_way(self) -> None:
        """The disk is full: give the reserve back and shrink our own file by a tenth."""
        self._reserve.release()
        make_room(self._spool, self._spool.used_bytes() * 9 // 10, self._clock.now().wall_ms)
