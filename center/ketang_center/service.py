"""The centre on one machine: ingest, rollups and console, each on its own thread and connections.

If one of them ends by mistake the whole process ends with an error, so that whoever started it
starts it again: a console that shows figures nobody computes any more would be a lie.
"""

import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from ketang_center import commanding, updates
from ketang_center.access.accounts import Accounts
from ketang_center.access.audit import Audit, send_head
from ketang_center.access.database import AccountsFile
from ketang_center.access.scope import Scope
from ketang_center.access.sessions import Sessions
from ketang_center.command_jobs import Jobs
from ketang_center.enrolment.bans import Bans
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.eviction import Evictor
from ketang_center.enrolment.own_identity import OwnIdentity
from ketang_center.enrolment.service import EnrolmentService
from ketang_center.ingest.subscriber import Subscriber
from ketang_center.ingest.worker import Counts
from ketang_center.metrics.rollup import Rollup, RollupReader
from ketang_center.porch import Porch
from ketang_center.registry.database import Registry
from ketang_center.restoring import bring_back, offsite_of, stop_what_is_old, was_put_back
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.filing_recheck import recheck_in
from ketang_center.rollouts.filings import Filings
from ketang_center.rollouts.office import BOOK, FILINGS
from ketang_center.rollouts.part import Rollouts
from ketang_center.security import SecurityLog
from ketang_center.settings import Settings
from ketang_center.store.control import Control
from ketang_center.store.reading import StoreReader
from ketang_center.view_values import Context
from ketang_center.warden import Duty, Warden
from ketang_center.web.server import ConsoleServer, console
from ketang_contract.errors import BadInput

log = logging.getLogger("ketang.center")

_DAY_S, _HOUR_S = 86_400.0, 3_600.0
_LOOK_S = 1.0
_OFFSITE_S = 5.0
_REST_S = 0.5
"""Between two looks for changed buckets: what a page may lag behind the rows."""
_BUCKETS = 100
_GIVE_WAY = 4
"""While ingest is behind, rollups rest this many times as long as they worked."""
_JOIN_S = 20.0


class Center:
    """``Center(settings).run()`` serves until SIGTERM or SIGINT, and returns the exit status."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        folder = settings.data_dir
        _make_private(folder)
        self._security = SecurityLog(folder / "security.db")
        self._book = Book(folder / "enrolment.db")
        self._books = [self._book, *(Book(folder / "enrolment.db") for _ in range(2))]
        """The console's, ingest's and the warden's: none of them waits for another's page."""
        self._bans = Bans(self._books[1], time.monotonic)
        self._jobs = Jobs(folder / commanding.FILE)
        self._subscriber = Subscriber(
            settings.ear, folder, security=self._security, barred=self._bans
        )
        self._stopping = threading.Event()
        self._failed = False
        self._server: ConsoleServer | None = None

    @property
    def counts(self) -> Counts:
        """What ingest has done since the start."""
        worker = self._subscriber.worker
        return worker.counts if worker else Counts()

    def run(self) -> int:
        """Start everything, serve, and end in order: 0, or 1 when a part failed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        if was_put_back(self._settings):
            found = bring_back(self._settings, int(time.time()))
            log.warning(
                "center.was_restored lines=%d epoch=%d %s", found.lines, found.epoch, found.stopped
            )
        with ExitStack() as stack:
            stack.callback(self._security.close)
            for book in self._books:
                stack.callback(book.close)
            stack.callback(self._jobs.close)
            enrolment = self._enrolment(stack)
            context = stack.enter_context(self._context())
            warden = Warden(self._duties(enrolment), _now_ms, time.monotonic)
            parts: dict[str, Callable[[], None]] = {
                "ingest": self._subscriber.run,
                "rollup": self._roll_up,
                "warden": warden.run,
            }
            ends = [warden.stop]
            if enrolment is not None:
                parts["enrolment"] = enrolment.run
                rollouts = self._rollouts()
                parts["rollouts"] = rollouts.run
                ends += [enrolment.stop, rollouts.stop]
            threads = [
                threading.Thread(target=self._guarded, args=one, name=f"ketang-{one[0]}")
                for one in parts.items()
            ]
            self._serve(context, threads, ends)
        return int(self._failed or any(thread.is_alive() for thread in threads))

    def _serve(
        self,
        context: Context,
        threads: Sequence[threading.Thread],
        ends: Sequence[Callable[[], None]],
    ) -> None:
        """Serve the console until told to stop, and end the other parts in order."""
        settings = self._settings
        self._server = console(
            context,
            settings.web_host,
            settings.web_port,
            certificate=settings.web_certificate,
            key=settings.web_key,
        )
        for thread in threads:
            thread.start()
        try:
            if not self._stopping.is_set():
                self._server.run()
            self._failed |= not self._stopping.is_set()
        finally:
            self.stop()
            for end in ends:
                end()
            for thread in threads:
                thread.join(_JOIN_S)

    def _enrolment(self, stack: ExitStack) -> EnrolmentService | None:
        if self._settings.enrolment is None:
            return None
        if self._settings.offsite is None:
            log.warning("offsite.not_set a restored backup would forget whom it threw out since")
        service = EnrolmentService(
            self._settings.enrolment, self._settings.data_dir, center_id(self._settings)
        )
        stack.callback(service.close)
        service.heal()
        with suppress(OSError):  # the warden tries again, and tells
            service.revocation_list.keep(_now_ms())
        return service

    def _rollouts(self) -> Rollouts:
        """Configurations are sent where devices enrol: by that trust document they are judged.

        Raises:
            BadInput: a newer version has written the files; told before a thread stumbles over it.
        """
        ear, folder = self._subscriber, self._settings.data_dir
        RolloutBook(folder / BOOK).close()
        Filings(folder / FILINGS, _now_ms).close()
        rollouts = Rollouts(
            self._settings,
            ear.leave,
            lambda: ear.hearing_since_ms,
        )
        ear.heard = rollouts.inbox.hear
        return rollouts

    def _duties(self, enrolment: EnrolmentService | None) -> list[Duty]:
        settings, ear = self._settings, self._settings.ear
        duties = [Duty("security_log", _DAY_S, self._security.forget)]
        if enrolment is not None:
            evictor = Evictor(
                ear,
                self._books[2],
                enrolment.authority,
                self._security,
                self._subscriber.say,
                monotonic_s=time.monotonic,
                connected=self._connected,
            )
            self._bans.heard = evictor.heard
            duties.append(Duty("filings", _HOUR_S, self._recheck_filings))
            duties += self._signing_duties(enrolment)
            duties.append(Duty("revocation_list", _LOOK_S, enrolment.revocation_list.keep))
            duties.append(Duty("eviction", _LOOK_S, evictor.keep))
            if ear.certificate_file == ear.key_file:
                own = OwnIdentity(
                    ear.certificate_file, enrolment.authority, self._subscriber.show_new_identity
                )
                duties.append(Duty("own_identity", _HOUR_S, own.keep))
        if settings.broker_refusals is not None:
            porch = Porch(settings.broker_refusals, self._security)
            duties.append(Duty("broker_refusals", _LOOK_S, porch.keep))
        return [*duties, *self._distant_duties(enrolment)]

    def _signing_duties(self, enrolment: EnrolmentService) -> list[Duty]:
        """What the centre signs on line: commands, and that a list of updates is the latest."""
        settings = self._settings
        if settings.enrolment is None:
            return []
        folder, keys = settings.data_dir, settings.enrolment.kit_key
        duties = [updates.duty(folder / updates.UPDATES, keys.parent)]
        asking = commanding.commanding_of(
            keys, folder, self._jobs, enrolment.audit, self._subscriber.say
        )
        if asking is not None:
            self._subscriber.answered = asking.answered
            duties.append(Duty("commands", _LOOK_S, asking.keep))
        return duties

    def _distant_duties(self, enrolment: EnrolmentService | None) -> list[Duty]:
        """What goes to the folder on another machine, which may hang."""
        folder, offsite = self._settings.offsite, offsite_of(self._settings)
        if folder is None:
            return []
        head = Duty("audit_head", _HOUR_S, lambda at_ms: self._send_head(folder, at_ms), True)
        if offsite is None or enrolment is None:
            return [head]

        def send(now_ms: int) -> None:
            with Book(self._settings.data_dir / "enrolment.db") as book:
                offsite.send(book.rows)
                if stop_what_is_old(book, self._settings.data_dir, now_ms):
                    enrolment.heal()

        return [Duty("offsite", _OFFSITE_S, send, True), head]

    def _recheck_filings(self, at_ms: int) -> None:
        enrolment, folder = self._settings.enrolment, self._settings.data_dir
        if enrolment is not None:
            recheck_in(folder, enrolment.trust, lambda: at_ms)

    def _connected(self, devices: list[str]) -> set[str]:
        with StoreReader(self._settings.data_dir) as reading:
            return {one.device for one in reading.presence(devices) if one.connected}

    def _send_head(self, folder: Path, at_ms: int) -> None:
        with closing(Audit(self._settings.data_dir / "audit.db")) as audit:
            send_head(audit, folder, at_ms)

    def stop(self) -> None:
        """Let every part finish what it has at hand. Safe in a signal handler."""
        self._stopping.set()
        self._subscriber.stop()
        if self._server is not None:
            self._server.should_exit = True

    def _guarded(self, name: str, part: Callable[[], None]) -> None:
        try:
            part()
        except Exception:
            log.exception("center.part_failed name=%s", name)
            self._failed = True
        finally:
            # None of them ends by itself, not even in order.
            self._failed |= not self._stopping.is_set()
            self.stop()

    def _roll_up(self) -> None:
        folder = self._settings.data_dir
        with (
            StoreReader(folder) as reading,
            Registry(folder / "registry.db") as registry,
            Rollup(reading, folder / "rollup.db", registry) as rollup,
        ):
            waiting = False
            while not self._stopping.is_set():
                began_s = time.monotonic()
                try:
                    done = rollup.step(_BUCKETS)
                except sqlite3.OperationalError as problem:
                    # Ingest holds the write lock, or the disk is full: the marks stay, try again.
                    if not waiting:
                        log.warning("rollup.waiting why=%s", problem)
                    done, waiting = 0, True
                else:
                    if waiting:
                        log.info("rollup.goes_on")
                    waiting = False
                if not done:
                    self._stopping.wait(_REST_S)
                elif self._subscriber.behind:
                    # Both share one interpreter: devices that wait for an answer come first.
                    self._stopping.wait(_GIVE_WAY * (time.monotonic() - began_s))

    @contextmanager
    def _context(self) -> Iterator[Context]:
        settings, folder = self._settings, self._settings.data_dir
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            registry = stack.enter_context(Registry(folder / "registry.db"))
            rollups = RollupReader(folder / "rollup.db")
            stack.callback(rollups.close)
            audit = Audit(folder / "audit.db")
            stack.callback(audit.close)
            people = AccountsFile(folder / "accounts.db")
            stack.callback(people.close)
            yield Context(
                registry=registry,
                rollups=rollups,
                reading=stack.enter_context(StoreReader(folder)),
                clock=_now_ms,
                home=_home(registry, settings.home),
                demo=settings.demo,
                own_device=settings.own_device or None,
                accounts=Accounts(people),
                sessions=Sessions(people),
                security=self._security,
                audit=audit,
                oidc=settings.oidc,
                book=self._book,
                enrolment=settings.enrolment,
                data_dir=folder,
            )


def _make_private(folder: Path) -> None:
    """Make the centre's folder, for its own account alone.

    Raises:
        BadInput: others may read it, and this account cannot change that.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
            log.warning("center.made_private folder=%s others could read it", folder)
    except OSError as problem:
        raise BadInput(f"{folder}: {problem.strerror}; the centre needs it alone, 0700") from None


def _now_ms() -> int:
    return time.time_ns() // 10**6


def center_id(settings: Settings) -> str:
    """Return the name this centre signs its acknowledgements with; made at the first call."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    control = Control(settings.data_dir / "control.db")
    try:
        return control.center_id
    finally:
        control.close()


def _home(registry: Registry, unit: str) -> Scope:
    """The scope of a viewer who has chosen nothing.

    Raises:
        BadInput: the registry has no such unit, or is empty.
    """
    tree = registry.tree()
    roots = tree.roots()
    chosen = unit or (roots[0].id if roots else "")
    if not chosen:
        raise BadInput("the registry is empty: load the region's units and devices first")
    if chosen not in tree:
        raise BadInput(f"home: the registry has no unit {chosen!r}")
    return Scope(tree[chosen].level, chosen)
