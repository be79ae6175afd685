"""The agent itself: the only file that knows all rooms. One main loop, one owner of the spool."""

import ipaddress
import logging
import os
import sqlite3
import ssl
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ketang_agent.bell import Bell
from ketang_agent.clock import Instant, SystemClock
from ketang_agent.collectors.base import (
    Collector,
    CollectorSettings,
    Gatherer,
    HostReading,
    NotApplicable,
)
from ketang_agent.collectors.network import BrokerLink
from ketang_agent.collectors.registry import collectors_of
from ketang_agent.credentials import Credentials
from ketang_agent.faults import Faults
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.keeping import Keeper
from ketang_agent.local_page.server import LocalPage
from ketang_agent.observing import Observer, Parts
from ketang_agent.platforms.linux import desktop, power_signals
from ketang_agent.platforms.linux_dbus import PowerSignals
from ketang_agent.recorder import Recorder
from ketang_agent.scheduler import Job, Scheduler
from ketang_agent.settings import Settings
from ketang_agent.spool import guard
from ketang_agent.spool.guard import Grip
from ketang_agent.status import Collectors, Status
from ketang_agent.telling import Teller
from ketang_agent.uplink.client import Connection
from ketang_agent.uplink.link import Link, Wire
from ketang_agent.uplink.sender import Sender
from ketang_contract.errors import BadInput
from ketang_contract.records import EventName, Occupancy
from ketang_contract.state import Camera
from ketang_profiles import profile
from ketang_profiles.profile import Profile

if TYPE_CHECKING:
    from ketang_agent.inference.supervise import Counting

log = logging.getLogger("ketang.service")

_CLOSE_S = 2
_COUNT_S = 1
_HOUSEKEEPING_S = 60
_REOPEN_S = 10
_SETBACK_MS = 1_000
_GOOD_BYE_MS = 3_000
_RENEW_LOOK_S = 10
_MEGABYTE = 1 << 20


class Service:
    """``with Service(settings, version) as service: service.run()``; ``stop`` from a signal."""

    def __init__(self, settings: Settings, version: str) -> None:
        kind = profile.shipped(settings.profile)
        self._settings = settings
        self._version = version
        self._clock = SystemClock()
        self._bell = Bell()
        self._stopping = False
        self._collecting = CollectorSettings(
            intervals_s=kind.intervals_s,
            categories=kind.foreground,
            data_dir=settings.data_dir,
            agent_version=version,
            probe_host=_probed(settings.broker.host),
            probe_port=settings.broker.port,
        )
        self._recorder = Recorder(settings.device)
        self._gatherer = Gatherer()
        self._scheduler = Scheduler(self._clock)
        self._keeper = Keeper(settings.data_dir, kind.caps.spool_max_mb * _MEGABYTE)
        self._link: Link | None = None
        self._sender: Sender | None = None
        self._credentials = Credentials(settings.broker)
        self._not_before_ms = 0
        self._grip = Grip.FREE
        self._measured_at = 0
        self._faults = Faults()
        self._store_id = ""
        self._session = 0
        self._observer = Observer(settings, version, self._clock.now(), self._gatherer)
        self._teller = Teller()
        self._switch = KillSwitch(settings.data_dir / "counting.switch")
        self._counting = _counting(settings, kind, self._switch)
        self._page = LocalPage(
            settings.local_port, settings.data_dir / "local-page", self._keeper.path, self._switch
        )

    def __enter__(self) -> Self:
        try:
            self._credentials.context()
        except (OSError, ssl.SSLError) as problem:
            raise BadInput(
                f"ca, certificate or key cannot be used: {problem}; see: ketang agent doctor"
            ) from None
        self._open()
        try:
            self._switch.prepare()
        except OSError as problem:
            log.warning("switch.not_prepared why=%s", problem)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._page.stop()
        if self._counting:
            self._counting.stop()
        if self._link:
            self._link.stop()
        self._keeper.close()

    def run(self) -> None:
        """Sample, record, send, until ``stop``."""
        self._say(EventName.AGENT_STARTED)
        self._plan()
        self._show(self._clock.now())
        self._page.start()
        while not self._stopping:
            wait_s = self._scheduler.run_due()
            now = self._clock.now()
            self._poll(now)
            wake_ms = self._wake_at_ms()
            if wake_ms is not None:
                wait_s = min(wait_s, max(0.01, (wake_ms - now.boottime_ms) / 1000))
            self._bell.wait(wait_s)
        self._say_good_bye()

    def stop(self) -> None:
        """Finish the round at hand and return from ``run``. Safe in a signal handler."""
        self._stopping = True
        self._bell.ring()

    def _say_good_bye(self) -> None:
        """End the open window, and give the centre a moment to acknowledge all that waits.

        What it does not hear now it hears after the next start; a machine that is switched off
        for the summer would look lost until then.
        """
        self._scheduler.run("power")  # a shutdown is announced a moment before we are stopped
        now = self._clock.now()
        self._keeper.keep(self._recorder.close_all(now), now.wall_ms)
        self._say(EventName.AGENT_STOPPED)
        if self._sender:
            self._sender.begin_session()  # nothing waits for its turn any more
        until_ms = now.boottime_ms + _GOOD_BYE_MS
        self._poll(now)
        while self._unanswered():
            left_ms = until_ms - self._clock.now().boottime_ms
            if left_ms <= 0:
                return
            self._bell.wait(left_ms / 1000)
            self._poll(self._clock.now())

    def _unanswered(self) -> bool:
        """Whether something waits that the centre may yet acknowledge in this session."""
        spool, link = self._keeper.spool, self._link
        if spool is None or link is None or not (link.connected or link.connecting):
            return False
        return link.draining and any(spool.pending(lane) for lane in spool.lanes())

    # The parts that come and go.

    def _open(self) -> None:
        """Open the spool and with it the uplink, if the disk lets us; else it is tried again."""
        if self._keeper.spool is not None and self._link is not None:
            return
        before, self._link = self._link, None
        if before:  # the spool it stood on was damaged
            before.stop()
            self._session = before.session
        if self._sender:
            self._observer.forget(self._sender)
            self._sender = None
        if not self._keeper.open(self._clock.now().wall_ms) or self._keeper.spool is None:
            return
        settings, spool = self._settings, self._keeper.spool

        def connect(will: tuple[str, bytes]) -> Wire:
            context = self._credentials.context()
            return Connection(settings.broker, context, settings.device, will, self._bell.ring)

        self._sender = Sender(spool, settings.device, settings.center_id)
        self._measured_at = 0
        heard = self._credentials.heard
        self._link = Link(spool, self._sender, settings.device, connect, self._version, heard=heard)
        self._link.session = self._session

    def _poll(self, now: Instant) -> None:
        """Let the uplink do what it can; a spool that fails it must not end the agent."""
        link, sender = self._link, self._sender
        if link is None or sender is None or self._keeper.spool is None:
            return
        if now.boottime_ms < self._not_before_ms:
            return
        try:
            link.poll(now)
            if sender.marked - self._measured_at >= guard.DRAINED_RECORDS:
                self._watch_log()
        except sqlite3.Error as problem:
            self._not_before_ms = now.boottime_ms + _SETBACK_MS
            self._keeper.note(problem)
        trouble, link.trouble = link.trouble, None
        if trouble is not None:
            self._keeper.note(trouble)

    def _watch_log(self) -> None:
        """See whether a foreign reader pins the log; if so, write less and less."""
        if self._keeper.spool is None:
            return
        before, grip = self._grip, guard.judge(guard.measure(self._keeper.spool), self._grip)
        if grip is not before:
            log.warning("spool.log grip=%s before=%s", grip, before)
        self._grip = grip
        self._keeper.writing = grip is not Grip.CHOKED
        if self._link and self._sender:
            self._link.draining = grip is Grip.FREE
            self._measured_at = self._sender.marked

    def _wake_at_ms(self) -> int | None:
        if self._link is None or self._keeper.spool is None:
            return None
        wake_ms = self._link.wake_at_ms()
        return None if wake_ms is None else max(wake_ms, self._not_before_ms)

    # What is done, and how often.

    def _plan(self) -> None:
        collectors = collectors_of(self._collecting, desktop(os.environ), self._broker_link)
        intervals_s = self._collecting.intervals_s
        self._observer.collectors = Collectors(intervals_s, [one.name for one in collectors])
        for one in collectors:
            self._scheduler.every(intervals_s[one.name], self._sampling(one), name=one.name)
        try:
            signals = power_signals()
            signals.fileno()
        except NotApplicable as lack:
            log.info("power.not_applicable why=%s", lack)
        else:
            self._scheduler.every(_CLOSE_S, self._following(signals), name="power")
        if self._counting:
            self._scheduler.every(_COUNT_S, self._following_count(self._counting), name="occupancy")
        self._scheduler.every(_CLOSE_S, self._close, name="windows", first_in_s=_CLOSE_S)
        self._scheduler.every(_CLOSE_S, self._judge, name="faults", first_in_s=_CLOSE_S)
        self._scheduler.every(_REOPEN_S, self._reopen, name="spool", first_in_s=_REOPEN_S)
        self._scheduler.every(_HOUSEKEEPING_S, self._tidy, name="housekeeping")
        self._scheduler.every(_RENEW_LOOK_S, self._renew, name="identity")

    def _broker_link(self) -> BrokerLink:
        return BrokerLink(*self._link.route()) if self._link else BrokerLink()

    def _sampling(self, collector: Collector) -> Job:
        def sample(now: Instant) -> None:
            for reading in self._gatherer.gather(collector, now):
                if isinstance(reading, HostReading):
                    self._observer.host = reading
                self._recorder.add(reading, now)
            self._observer.collectors.note(collector.name, now)

        return sample

    def _following(self, signals: PowerSignals) -> Job:
        def follow(now: Instant) -> None:
            for change in signals.changes():
                self._recorder.power(change, now)

        return follow

    def _following_count(self, counting: "Counting") -> Job:
        def follow(now: Instant) -> None:
            for told in counting.step(now):
                if isinstance(told, Occupancy):
                    self._recorder.add(told, now)
                else:
                    self._say(told.name)

        return follow

    def _close(self, now: Instant) -> None:
        self._keeper.keep(self._recorder.close_due(now), now.wall_ms)

    def _reopen(self, now: Instant) -> None:
        del now
        self._open()

    def _renew(self, now: Instant) -> None:
        """Fetch the next certificate when it is time, and try it at a connection of its own."""
        link = self._link
        if link is not None and link.connected and self._credentials.untried:
            link.begin_anew(now)
        self._credentials.step(now.wall_ms / 1000, now.boottime_ms / 1000)

    def _tidy(self, now: Instant) -> None:
        try:
            self._watch_log()
        except sqlite3.Error as problem:
            self._keeper.note(problem)
        self._keeper.tidy(now.wall_ms)
        self._observer.count_losses(self._keeper)

    def _judge(self, now: Instant) -> None:
        """See what is wrong, tell what changed, and show it on the page."""
        changes = self._faults.judge(self._observer.signs(self._parts(now)), now)
        for change in changes:
            log.warning("%s fault=%s", change.name, change.fault)
            record = self._recorder.event(change.name, now, fault=change.fault)
            self._keeper.keep([record], now.wall_ms)
        self._notice_new_store()
        status = self._show(now)
        if self._link:
            self._teller.tell(self._link, status, now)

    def _show(self, now: Instant) -> Status:
        status = self._observer.status(self._parts(now), now)
        self._page.show(status)
        return status

    def _notice_new_store(self) -> None:
        """Say that the spool was replaced, or that its numbers were forked."""
        spool, before = self._keeper.spool, self._store_id
        if spool is None:
            return
        self._store_id = spool.current_store
        if self._keeper.salvaged is not None:
            self._keeper.salvaged = None
            self._say(EventName.STORE_REPLACED)
        elif before and before != self._store_id:
            self._say(EventName.STORE_FORKED)

    def _say(self, name: EventName) -> None:
        now = self._clock.now()
        self._keeper.keep([self._recorder.event(name, now)], now.wall_ms)

    # What it knows of itself.

    def _parts(self, now: Instant) -> Parts:
        return Parts(
            keeper=self._keeper,
            grip=self._grip,
            link=self._link,
            sender=self._sender,
            camera=self._camera(),
            faults=self._faults.standing,
            window_ends_in_s=self._recorder.window_ends_in_s(now),
        )

    def _camera(self) -> Camera:
        if self._counting is not None:
            return self._counting.camera
        if self._switch.engaged:
            return Camera.STOPPED
        return Camera.FAILED if self._settings.occupancy else Camera.OFF


def _probed(broker_host: str) -> str | None:
    """Where IPv6 is tried: the broker, unless it was given as an IPv4 address."""
    with suppress(ValueError):
        if ipaddress.ip_address(broker_host).version == 4:  # noqa: PLR2004  (the protocol's name)
            return None
    return broker_host


def _counting(settings: Settings, kind: Profile, switch: KillSwitch) -> "Counting | None":
    """Make what counts people, where the settings ask for it and the kind of device may.

    Raises:
        BadInput: a personal device.
    """
    asked = settings.occupancy
    if asked is None:
        return None
    if "occupancy" not in kind.intervals_s:
        raise BadInput(f"occupancy: a {kind.kind} never counts people; take [occupancy] out")
    # Only a device that counts pays for this.
    from ketang_agent.inference.supervise import Counting, plan_of  # noqa: PLC0415

    try:
        plan = plan_of(asked.source, asked.model, asked.scan_s)
    except BadInput as problem:  # a clip that is gone must not end what is reported of use
        log.error("occupancy.not_counting why=%s", problem)  # noqa: TRY400  (a person's mistake)
        return None
    return Counting(plan, switch)
