"""The agent itself: the only file that knows all rooms. One main loop, one owner of the spool."""

import logging
import sqlite3
import ssl
from types import TracebackType
from typing import Self

from ketang_agent import versions
from ketang_agent.assembly import sampling_of, who_of
from ketang_agent.bell import Bell
from ketang_agent.clock import Instant, SystemClock
from ketang_agent.collectors.base import Gatherer, NotApplicable
from ketang_agent.collectors.network import BrokerLink
from ketang_agent.credentials import Credentials
from ketang_agent.faults import Faults
from ketang_agent.following import BUSY_S, Following, Obeying
from ketang_agent.head_counting import HeadCounting
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.keeping import Keeper
from ketang_agent.local_page.server import LocalPage
from ketang_agent.observing import Observer, Parts
from ketang_agent.platforms.linux import power_signals
from ketang_agent.platforms.linux_dbus import PowerSignals
from ketang_agent.recorder import Recorder
from ketang_agent.remote import own_version
from ketang_agent.remote.commands_setup import Around, Commanded
from ketang_agent.remote.machine import Works
from ketang_agent.remote.parts import Bringing, Users
from ketang_agent.remote.presence import Folders
from ketang_agent.remote.remote import Remote
from ketang_agent.sampling import Hands
from ketang_agent.scheduler import Job, Scheduler
from ketang_agent.settings import Settings
from ketang_agent.spool import guard
from ketang_agent.spool.guard import Grip
from ketang_agent.status import Status
from ketang_agent.telling import Teller
from ketang_agent.uplink.client import Connection
from ketang_agent.uplink.link import Below, Link, Wire
from ketang_agent.uplink.sender import Sender
from ketang_contract.config import Config
from ketang_contract.errors import BadInput
from ketang_contract.records import EventName, Occupancy
from ketang_profiles import profile
from ketang_profiles.profile import Kind

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
        models = settings.data_dir / "models"
        self._heads = HeadCounting(settings.occupancy, kind, self._switch, models)
        hands = Hands(self._scheduler, self._recorder, self._gatherer, self._observer)
        self._sampling = sampling_of(settings, kind, version, hands, self._broker_link)
        remote = Remote(who_of(settings, kind, version))
        rests = kind.kind is Kind.STUDENT_TABLET
        folder = own_version.watched_folder()
        own = own_version.OwnVersion(folder, version)
        identity = settings.broker.certificate_file.parent
        folders = Folders(identity=identity, data=settings.data_dir, versions=folder)
        users = Users(
            at_hand=lambda: remote.candidate,
            model_fails=lambda: self._heads.works is Works.NO,
            model_is_back=lambda: self._count_anew(remote.applied),
        )
        bringing = Bringing(folders, own.here, users=users)
        parts = Obeying(self._keeper, self._sampling, self._heads, self._say, own, bringing, rests)
        self._following = Following(remote, parts, settings.log_level)
        self._page = LocalPage(
            settings.local_port, settings.data_dir / "local-page", self._keeper.path, self._switch
        )
        around = Around(
            settings, version, self._bell.ring, self.stop, self._broker_link, remote.floor_s
        )
        self._commanded = Commanded(around, self._page, remote, self._gatherer, self._recorder)
        self._below = Below(self._following.bring, self._commanded.take, lambda: remote.report)

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
        self._commanded.close()
        self._heads.stop()
        if self._link:
            self._link.stop()
        self._keeper.close()

    def run(self) -> int:
        """Sample, record, send, until ``stop``; return the process's exit status."""
        self._say(EventName.AGENT_STARTED)
        self._following.begin(self._clock.now())
        self._plan()
        self._show(self._clock.now())
        self._page.start()
        while not self._stopping:
            wait_s = self._scheduler.run_due()
            now = self._clock.now()
            self._poll(now)
            if self._following.step(self._link, now):
                self._tell(now, again=True)
            if self._following.changes:
                break
            wait_s = self._commanded.turn(self._link, now, wait_s)
            wake_ms = self._wake_at_ms()
            if wake_ms is not None:
                wait_s = min(wait_s, max(0.01, (wake_ms - now.boottime_ms) / 1000))
            self._bell.wait(min(wait_s, BUSY_S) if self._following.busy else wait_s)
        self._following.end()
        self._say_good_bye()
        return versions.UPDATE if self._following.changes else 0

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
        self._link = Link(
            spool,
            self._sender,
            settings.device,
            connect,
            self._version,
            heard=self._credentials.heard,
            below=self._below,
        )
        self._link.session = self._session

    def _poll(self, now: Instant) -> None:
        """Let the uplink do what it can; a spool that fails it must not end the agent."""
        link, sender = self._link, self._sender
        if link is None or sender is None or self._keeper.spool is None:
            return
        if now.boottime_ms < self._not_before_ms:
            return
        if self._following.rests(now):
            link.rest(now)
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
        try:
            signals = power_signals()
            signals.fileno()
        except NotApplicable as lack:
            log.info("power.not_applicable why=%s", lack)
        else:
            self._scheduler.every(_CLOSE_S, self._hearing_power(signals), name="power")
        if self._heads.is_asked:
            self._scheduler.every(_COUNT_S, self._count, name="occupancy")
        self._scheduler.every(_CLOSE_S, self._close, name="windows", first_in_s=_CLOSE_S)
        self._scheduler.every(_CLOSE_S, self._judge, name="faults", first_in_s=_CLOSE_S)
        self._scheduler.every(_REOPEN_S, self._reopen, name="spool", first_in_s=_REOPEN_S)
        self._scheduler.every(_HOUSEKEEPING_S, self._tidy, name="housekeeping")
        self._scheduler.every(_RENEW_LOOK_S, self._renew, name="identity")

    def _broker_link(self) -> BrokerLink:
        return BrokerLink(*self._link.route()) if self._link else BrokerLink()

    def _hearing_power(self, signals: PowerSignals) -> Job:
        def follow(now: Instant) -> None:
            for change in signals.changes():
                self._recorder.power(change, now)

        return follow

    def _count(self, now: Instant) -> None:
        self._following.hold_to_hours(now)
        for told in self._heads.step(now):
            if isinstance(told, Occupancy):
                self._recorder.add(told, now)
            else:
                self._say(told.name)

    def _count_anew(self, said: Config) -> None:
        """Begin with a model that was lost and is there again."""
        self._heads.stop()
        self._heads.use(said)

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
        self._tell(now)

    def _tell(self, now: Instant, *, again: bool = False) -> None:
        status = self._show(now)
        if self._link:
            self._teller.tell(self._link, status, now, again=again)

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
            camera=self._heads.camera,
            config=self._following.report,
            permits=self._following.permit_signs(),
            model=self._heads.model,
            faults=self._faults.standing,
            window_ends_in_s=self._recorder.window_ends_in_s(now),
        )
