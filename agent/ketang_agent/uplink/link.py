"""The uplink as the main loop sees it: poll it, and the spool drains whenever it can."""

import logging
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.birth import birth_of
from ketang_agent.uplink.client import Confirmed, Connected, Happening, Lost, Received
from ketang_agent.uplink.pacing import Budget
from ketang_agent.uplink.sender import Sender
from ketang_contract import topics
from ketang_contract.records import Family, to_line
from ketang_contract.state import ConfigReport, Death, Live, Reported

log = logging.getLogger("ketang.uplink")

FIRST_RETRY_MS = 1_000
LONGEST_RETRY_MS = 120_000
ANEW_MS = 5_000
"""Within which devices come back that all renewed at one time."""
REST_MS = 60_000
STANDS_MS = 60_000
"""A connection that held so long was a good one. One that is thrown out sooner was not: two copies
of a device take each other's place, and would do so every second for ever."""


class Wire(Protocol):
    """What a connection offers; ``client.Connection`` over the network."""

    def start(self) -> None:
        """Begin to connect."""

    def happenings(self) -> list[Happening]:
        """Take everything that happened since the last call."""
        ...

    def route(self) -> tuple[Family, int | None]:
        """Return the address family in use and the round trip in ms, as far as known."""
        ...

    def subscribe(self, topic: str) -> None:
        """Ask for a topic."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Queue a publish and number it."""
        ...

    def close(self) -> None:
        """Say good-bye without waiting."""

    def finish(self) -> None:
        """Say good-bye and wait until everything is written."""


Connect = Callable[[tuple[str, bytes]], Wire]
"""Makes the wire of one session from its will: ``(topic, payload)``."""


@dataclass(frozen=True, slots=True)
class Below:
    """What is done with what comes down besides acknowledgements, and what the birth says of it.

    ``desired(payload, now)``; ``command(job, payload, retained, now)``.
    """

    desired: Callable[[bytes, Instant], None] = lambda _payload, _now: None
    command: Callable[[str, bytes, bool, Instant], None] = lambda _job, _payload, _kept, _now: None
    config: Callable[[], ConfigReport] = ConfigReport


class Link:
    """Connects, announces, sends and reconnects. One thread: the main loop's.

    ``heard`` is told what became of each wire, between its ``connect`` and that of the next one.
    """

    def __init__(
        self,
        spool: Spool,
        sender: Sender,
        device: str,
        connect: Connect,
        agent_version: str,
        jitter: Callable[[], float] = random.random,
        heard: Callable[[Connected | Lost], None] = lambda _: None,
        below: Below = Below(),
    ) -> None:
        self._spool = spool
        self._sender = sender
        self._device = device
        self._connect = connect
        self._agent_version = agent_version
        self._jitter = jitter
        self._heard = heard
        self._below = below
        self.budget = Budget()
        self._wire: Wire | None = None
        self._mids: dict[int, str] = {}
        self._retry_at_ms = 0
        self._failures = 0
        self._stands_at_ms = 0
        self._said: Live | None = None
        self._lost_for = ""
        self.connected = False
        self.since_ms: int | None = None
        """Wall time at which it was last connected, or lost its connection."""
        self.session = 0
        self.trouble: sqlite3.Error | None = None
        """Why the spool did not take an acknowledgement; whoever tells it on sets it to None."""
        self.draining = True
        """False: no batch is sent and no acknowledgement heard; what comes is sent again later."""

    @property
    def connecting(self) -> bool:
        """Whether the broker may answer any moment now."""
        return self._wire is not None and not self.connected

    def poll(self, now: Instant) -> None:
        """Do everything that can be done now; never blocks."""
        if self._wire is None:
            if now.boottime_ms >= self._retry_at_ms:
                self._begin()
            return
        lost = self._hear(self._wire.happenings(), now)
        if lost:
            self._give_up(lost.reason, now)
        elif self.connected and self.draining:
            self._send(now)
            if self._sender.is_unheard:
                self._give_up("it confirms nothing", now)

    def _hear(self, happenings: list[Happening], now: Instant) -> Lost | None:
        """Take in what happened; acks that came together are taken in together."""
        acks: list[bytes] = []
        lost: Lost | None = None
        for happening in happenings:
            match happening:
                case Connected():
                    self._heard(happening)
                    self._announce(now)
                case Confirmed(mid):
                    self._sender.confirm(self._mids.pop(mid, ""))
                case Received(topic, payload, retained):
                    channel = topic.split("/", 4)[-1]
                    if channel == topics.ACK:
                        acks.append(payload)
                    else:
                        self._pass_on(channel, payload, now, retained=retained)
                case Lost():
                    self._heard(happening)
                    lost = happening
                    break
        if acks:
            self._take_acks(acks, now)
        return lost

    def wake_at_ms(self) -> int | None:
        """Boot time of the next thing to do, if nothing happens before."""
        if self._wire is None:
            return self._retry_at_ms
        # Until it is connected, what is overdue can only wait for what happens on the wire.
        if not (self.connected and self.draining):
            return None
        wake_ms = self._sender.wake_at_ms()
        return None if wake_ms is None else max(wake_ms, self.budget.allows_at_ms)

    def route(self) -> tuple[Family, int | None]:
        """Return how the broker is reached now: address family, and round trip in ms."""
        return self._wire.route() if self.connected and self._wire else (Family.NONE, None)

    def say_live(self, live: Live) -> None:
        """Tell a change of faults or camera at once; told again at each connect."""
        self._said = live
        if self.connected and self._wire:
            said = to_line(replace(live, session=self.session))
            self._wire.publish(topics.of(self._device, topics.LIVE), said, qos=0)

    def say_reported(self, reported: Reported) -> bool:
        """Tell the device's own account of itself; False when there is no connection."""
        if not self.connected or self._wire is None:
            return False
        self._wire.publish(topics.of(self._device, topics.REPORTED), to_line(reported))
        return True

    def begin_anew(self, now: Instant) -> None:
        """Leave, and come back within seconds: what we show the broker has changed."""
        if self._wire:
            self._wire.close()
        self._wire, self.connected = None, False
        self._retry_at_ms = now.boottime_ms + int(ANEW_MS * self._jitter())

    def rest(self, now: Instant) -> None:
        """Say good-bye, and stay away for a while; again and again, for longer."""
        self.stop()
        self._retry_at_ms = now.boottime_ms + int(REST_MS * (0.5 + self._jitter() / 2))

    def stop(self) -> None:
        """Say an orderly good-bye."""
        if self._wire is None:
            return
        if self.connected:
            death = Death(session=self.session, orderly=True)
            self._wire.publish(topics.of(self._device, topics.DEATH), to_line(death))
            self._wire.finish()
        else:
            self._wire.close()
        self._wire, self.connected = None, False

    def say_answer(self, job: str, payload: bytes) -> bool:
        """Answer a command; False when there is no connection."""
        if not self.connected or self._wire is None:
            return False
        self._wire.publish(topics.of(self._device, f"{topics.ANSWER}/{job}"), payload)
        return True

    def _pass_on(self, channel: str, payload: bytes, now: Instant, *, retained: bool) -> None:
        head, _, job = channel.rpartition("/")
        if channel == topics.DESIRED:
            self._below.desired(payload, now)
        elif head == topics.COMMAND:
            self._below.command(job, payload, retained, now)

    def _take_acks(self, payloads: list[bytes], now: Instant) -> None:
        """A disk that takes no mark costs a resend; what else came down is still heard."""
        if not self.draining:
            return
        try:
            self._sender.on_acks(payloads, now)
        except sqlite3.Error as problem:
            self.trouble = problem

    def _begin(self) -> None:
        self.session = self._next_session()
        will = topics.of(self._device, topics.DEATH), to_line(Death(session=self.session))
        self._wire = self._connect(will)
        self._wire.start()

    def _next_session(self) -> int:
        """Number a session; a full disk must not keep the device from saying that it is full.

        A number kept only in memory comes again if the process ends before the disk takes one.
        """
        try:
            number = self._spool.next_session()
            if number <= self.session:
                number = self.session + 1
                self._spool.set_meta("session", number)
        except sqlite3.OperationalError:
            number = max(self.session, int(self._spool.meta("session") or 0)) + 1
        return number

    def _announce(self, now: Instant) -> None:
        wire = self._wire
        if wire is None:
            return
        log.info("broker.connected session=%d", self.session)
        self.connected, self._lost_for = True, ""
        self._stands_at_ms = now.boottime_ms + STANDS_MS
        self.since_ms = now.wall_ms
        self._mids.clear()
        for channel in (topics.ACK, topics.DESIRED, f"{topics.COMMAND}/+"):
            wire.subscribe(topics.of(self._device, channel))
        report = self._below.config()
        birth = birth_of(self._spool, self.session, now, self._agent_version, report)
        wire.publish(topics.of(self._device, topics.BIRTH), to_line(birth), retain=True)
        if self._said:
            self.say_live(self._said)
        self._sender.begin_session()

    def _send(self, now: Instant) -> None:
        while self._wire and self.budget.allows(now) and (out := self._sender.next_frame(now)):
            self._mids[self._wire.publish(out.topic, out.frame)] = out.digest
            self.budget.spend(len(out.frame))

    def _give_up(self, reason: str, now: Instant) -> None:
        if self._wire:
            self._wire.close()
        if self.connected:
            self.since_ms = now.wall_ms
            if now.boottime_ms >= self._stands_at_ms:
                self._failures = 0
        if reason != self._lost_for:  # once per reason, not per retry
            log.warning("broker.lost why=%s", reason)
        self._lost_for = reason
        self._wire, self.connected = None, False
        longest_ms = min(FIRST_RETRY_MS << min(self._failures, 10), LONGEST_RETRY_MS)
        self._failures += 1
        self._retry_at_ms = now.boottime_ms + int(longest_ms * self._jitter())


__all__ = ["Connect", "Link", "Wire"]
