"""One simulated device: synthetic readings through the real recorder, spool and uplink."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ketang_agent.clock import Clock, Instant
from ketang_agent.platforms.base import Power
from ketang_agent.recorder import Recorder
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.client import Broker, Connection, tls_context
from ketang_agent.uplink.link import Below, Link, Wire
from ketang_agent.uplink.sender import Sender
from ketang_cli import behaviour
from ketang_cli.behaviour import MINUTE_MS, WINDOW_MINUTES, Stretch
from ketang_cli.fiction import Habit, Simulated
from ketang_cli.simulated_config import SimulatedConfig
from ketang_contract.batch import Sent
from ketang_contract.ids import new_store_id
from ketang_contract.limits import Tri
from ketang_contract.records import (
    EventName,
    Fault,
    Integrity,
    Inventory,
    Record,
    Security,
    Stream,
    TimeQuality,
)
from ketang_contract.state import Camera, ConfigReport, Live, Reported

VERSION = "0.1.0-simulated"
_SLOW_MS = 3_600_000
"""How far behind the true time a wrong clock is."""
_FROM, _UNTIL = "told_from_ms", "told_until_ms"
"""What this device's past covers already, remembered in its spool."""


class SimulatedClock:
    """This machine's time as a device tells it that was switched on at another moment."""

    def __init__(self, true: Clock, on_since_ms: int, slow_ms: int = 0) -> None:
        now = true.now()
        self._true = true
        self._shift_ms = now.wall_ms - on_since_ms - now.boottime_ms
        self._slow_ms = slow_ms
        self._boot_id = new_store_id()

    def now(self) -> Instant:
        """Return this moment."""
        now = self._true.now()
        return self._instant(now.wall_ms, now.boottime_ms)

    def at(self, wall_ms: int) -> Instant:
        """Return a moment of this boot that is gone already; ``wall_ms`` is the true time."""
        now = self._true.now()
        return self._instant(wall_ms, now.boottime_ms - (now.wall_ms - wall_ms))

    def _instant(self, wall_ms: int, boottime_ms: int) -> Instant:
        return Instant(
            wall_ms - self._slow_ms,
            max(0, boottime_ms + self._shift_ms),
            self._boot_id,
            TimeQuality.FREE if self._slow_ms else TimeQuality.SYNCED,
        )


class SimulatedDevice:
    """``catch_up`` once, ``tell_past`` until ``have_told``, ``step`` often, at last ``close``."""

    def __init__(
        self,
        what: Simulated,
        folder: Path,
        broker: Broker,
        center_id: str,
        clock: Clock,
        wake: Callable[[], None],
        trust: Path,
    ) -> None:
        self.what = what
        self._true = clock
        now_ms = clock.now().wall_ms
        folder.mkdir(parents=True, exist_ok=True)
        self._spool = Spool(folder / "spool.db")
        self._spool.open()
        told_ms = self._told(_UNTIL, 0)
        self._on_since_ms = max(behaviour.running_since_ms(what, now_ms), told_ms)
        self._clock = SimulatedClock(
            clock, self._on_since_ms, _SLOW_MS if what.habit is Habit.WRONG_CLOCK else 0
        )
        self._recorder = Recorder(what.id)
        self._next_look_ms = 0
        self._connection: _Severable | None = None
        self._told_all = self._gone = False
        context = tls_context(broker)

        def connect(will: tuple[str, bytes]) -> Wire:
            self._connection = _Severable(broker, context, what.id, will, wake)
            return self._connection

        self._sender = Sender(self._spool, what.id, center_id)
        self._config = SimulatedConfig(what.id, what.kind.value, VERSION, folder, trust, self._say)
        self._link = Link(
            self._spool,
            self._sender,
            what.id,
            connect,
            VERSION,
            below=Below(desired=self._config.bring, config=lambda: self._config.report),
        )
        self._reported: tuple[int, ConfigReport] | None = None
        self._config.begin(self._clock.now())

    @property
    def created(self) -> int:
        """Records this device ever made."""
        return sum(self._spool.head(lane) for lane in self._spool.lanes())

    @property
    def waiting(self) -> int:
        """Records the centre has not acknowledged."""
        return sum(len(self._spool.pending(lane)) for lane in self._spool.lanes())

    @property
    def drained(self) -> bool:
        """Whether the centre has acknowledged everything."""
        return not self.waiting

    def catch_up(self) -> None:
        """Live through today's stretch up to now, at once."""
        if behaviour.is_gone(self.what):
            return
        now = self._true.now()
        records = self._switch_on(self._recorder, self._clock.at(self._on_since_ms))
        for at_ms in behaviour.minutes(self._on_since_ms, now.wall_ms):
            records += self._look(self._recorder, self._clock.at(at_ms), at_ms, self._on_since_ms)
        self._keep(records, _UNTIL, now.wall_ms)
        self._next_look_ms = now.boottime_ms
        self._link.say_live(self._live())

    def past(self, days: int) -> list[Stretch]:
        """Return the stretches of days gone by that were not told yet, the newest first."""
        now_ms = self._true.now().wall_ms
        told_from_ms, told_until_ms = self._told(_FROM, now_ms), self._told(_UNTIL, now_ms)
        return [
            one
            for one in behaviour.past_stretches(self.what, now_ms - days * 86_400_000, now_ms)
            if one.until_ms <= told_from_ms or one.from_ms >= told_until_ms
        ]

    def tell_past(self, stretch: Stretch) -> None:
        """Live through a stretch of days gone by, at once, in a boot of its own."""
        recorder, clock = Recorder(self.what.id), SimulatedClock(self._true, stretch.from_ms)
        records = self._switch_on(recorder, clock.at(stretch.from_ms))
        for at_ms in behaviour.minutes(stretch.from_ms, stretch.until_ms):
            records += self._look(recorder, clock.at(at_ms), at_ms, stretch.from_ms)
        if stretch.orderly:
            end = clock.at(stretch.until_ms)
            recorder.power(Power.SHUTTING_DOWN, end)
            records += recorder.close_all(end)
        self._keep(records, _FROM, min(stretch.from_ms, self._told(_FROM, stretch.from_ms)))

    def have_told(self) -> None:
        """Nothing more of days gone by will come."""
        self._told_all = True

    def step(self) -> None:
        """Look if a minute is over, send what waits, and take what came. Never blocks."""
        if self.what.habit is Habit.NEVER or self._gone:
            return
        if behaviour.is_gone(self.what):
            self._deliver_and_go()
            return
        now = self._true.now()
        if now.boottime_ms >= self._next_look_ms:
            self._next_look_ms = now.boottime_ms + MINUTE_MS
            records = self._look(self._recorder, self._clock.now(), now.wall_ms, self._on_since_ms)
            if records:
                self._keep(records, _UNTIL, now.wall_ms)
        self._talk(self._clock.now())

    def stop(self) -> None:
        """End the last window and say so; ``step`` goes on sending it."""
        if behaviour.is_gone(self.what):
            return
        now = self._clock.now()
        records = self._recorder.close_all(now)
        records.append(self._recorder.event(EventName.AGENT_STOPPED, now))
        self._keep(records, _UNTIL, self._true.now().wall_ms)
        self._next_look_ms = now.boottime_ms + 1_000 * MINUTE_MS

    def close(self) -> None:
        """Say good-bye and close the spool."""
        self._config.end()
        if not self._gone:
            self._link.stop()
        self._spool.close()

    def _deliver_and_go(self) -> None:
        """Bring the past to the centre, then be as gone as the story wants it."""
        self._talk(self._clock.now())
        if not (self._told_all and self.drained and self._link.connected) or self._config.busy:
            return
        self._gone = True
        if self.what.habit is Habit.LOST and self._connection is not None:
            self._connection.sever()
        else:
            self._link.stop()

    def _switch_on(self, recorder: Recorder, now: Instant) -> list[Record]:
        started = recorder.event(EventName.AGENT_STARTED, now)
        recorder.add(
            Inventory(
                vendor="Ketang",
                model=f"Simulated {self.what.kind.value}",
                os_name="Linux",
                cpu_cores=4,
                memory_mb=8192,
                disk_gb=128,
                architecture="x86_64",
                agent_version=VERSION,
            ),
            now,
        )
        recorder.add(
            Security(
                firewall_on=Tri.YES,
                disk_encrypted=Tri.NO,
                clock_synced=Tri.YES,
                patch_age_days=9,
                integrity=Integrity.OK,
            ),
            now,
        )
        records = [started]
        if self.what.habit is Habit.FAULTY:
            raised = EventName.FAULT_RAISED
            records.append(recorder.event(raised, now, fault=Fault.COLLECTOR_FAILING))
        return records

    def _look(
        self, recorder: Recorder, now: Instant, true_ms: int, on_since_ms: int
    ) -> list[Record]:
        """One look at everything that is due in this minute, and what became final by it."""
        recorder.add(behaviour.usage_at(self.what, true_ms), now)
        if true_ms // MINUTE_MS % WINDOW_MINUTES == 0:
            recorder.add(behaviour.host_at(self.what, true_ms, on_since_ms), now)
            recorder.add(behaviour.network_at(self.what, true_ms), now)
            if self.what.counts_people:
                recorder.add(behaviour.heads_at(self.what, true_ms), now)
        return recorder.close_due(now)

    def _talk(self, now: Instant) -> None:
        """Send and hear, go on with what was brought, and tell what became of it."""
        self._link.poll(now)
        self._config.step(self._link, now, acknowledged=not self._has_news)
        report, again = self._config.report, self._config.told_again
        if self._reported == (self._link.session, report) and not again:
            return
        if self._link.say_reported(self._account(report, now)):
            self._reported, self._config.told_again = (self._link.session, report), False

    @property
    def _has_news(self) -> bool:
        """Whether an event waits that the centre has not acknowledged."""
        return any(
            self._spool.pending(lane) for lane in self._spool.lanes() if lane.stream is Stream.EVENT
        )

    def _account(self, config: ConfigReport, now: Instant) -> Reported:
        live = self._live()
        return Reported(
            session=self._link.session,
            sent=Sent(wall_ms=now.wall_ms, boot_id=now.boot_id, boottime_ms=now.boottime_ms),
            agent_version=VERSION,
            profile=self.what.kind.value,
            camera=live.camera,
            faults=live.faults,
            config=config,
        )

    def _live(self) -> Live:
        return Live(
            session=self._link.session,
            faults=(Fault.COLLECTOR_FAILING,) if self.what.habit is Habit.FAULTY else (),
            camera=Camera.COUNTING if self.what.counts_people else Camera.OFF,
        )

    def _say(self, name: EventName) -> None:
        event = self._recorder.event(name, self._clock.now())
        self._keep([event], _UNTIL, self._true.now().wall_ms)

    def _keep(self, records: list[Record], told: str, at_ms: int) -> None:
        self._spool.append(records)
        self._spool.set_meta(told, at_ms)

    def _told(self, key: str, default: int) -> int:
        return int(self._spool.meta(key) or default)


class _Severable(Connection):
    """A connection that can go as a pulled plug does, so that the broker sends the will."""

    def sever(self) -> None:
        open_socket = self._client.socket()
        if open_socket is not None:
            with suppress(OSError), socket.socket(fileno=os.dup(open_socket.fileno())) as plain:
                plain.shutdown(socket.SHUT_RDWR)
