"""What to send, when to send it again, and what an acknowledgement means. No network in here.

Invariants:

1. Only the centre's ack of a batch this process knows to have sent marks a record. PUBACK frees a
   place in the window and nothing else.
2. Every pending record is either in flight with a deadline, or free to be sent.
3. Memory is bounded: a flight holds ranges, never lines, and both windows are capped.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane, Loss
from ketang_contract import ack as acks
from ketang_contract import topics
from ketang_contract.batch import (
    MAX_RANGES,
    MAX_RAW_BYTES,
    MAX_RECORDS,
    SCHEMA,
    DropReason,
    Header,
    Sent,
    encode,
)
from ketang_contract.errors import Refused, TooLarge
from ketang_contract.ids import frame_digest
from ketang_contract.ranges import NOTHING, RangeSet

FIRST_WAIT_MS = 30_000
LONGEST_WAIT_MS = 600_000
MAX_UNCONFIRMED = 20
"""Publishes the broker has not confirmed (PUBACK)."""
MAX_UNACKED = 48
"""Batches the centre has not acknowledged."""
KEPT_FOR_FRESH = 4
"""Places the backlog may not take, so that new windows never queue behind old ones."""
_GREETING_MS = 2_000
"""A batch younger than this may still be answered by the centre that greets."""
_ANSWER_MS = 5_000
"""How long it has for that: what came before the centre listened will never be answered."""
_REMEMBERED = 512
_RAW_TARGET = MAX_RAW_BYTES // 2


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One publish: QoS 1, not retained. ``digest`` names it when the broker confirms it."""

    topic: str
    frame: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class _Flight:
    lane: Lane
    seqs: RangeSet
    losses: tuple[Loss, ...]
    launched_ms: int
    deadline_ms: int
    hurried: bool = False
    """Its deadline was brought forward by a greeting: silence is no sign of a slow centre."""


@dataclass(slots=True)
class _Pace:
    """How one lane is being sent in this session."""

    fresh_above: int = 0
    attempt: int = 0
    not_before_ms: int = 0
    smaller: list[RangeSet] = field(default_factory=list)


class Sender:
    """Turns what waits in the spool into frames, and acknowledgements into marks."""

    def __init__(
        self,
        spool: Spool,
        device: str,
        center_id: str,
        jitter: Callable[[], float] = random.random,
        batch_records: int = MAX_RECORDS,
    ) -> None:
        self._spool = spool
        self._device = device
        self._center_id = center_id
        self._jitter = jitter
        self._batch_records = batch_records
        self._flights: dict[str, _Flight] = {}
        self._known: OrderedDict[str, _Flight] = OrderedDict()
        self._unconfirmed: set[str] = set()
        self._paces: dict[Lane, _Pace] = {}
        self._marks: dict[Lane, RangeSet] = {}
        self._unheard = 0
        self.refused = 0
        """Records the centre said it can never accept, since this process began."""
        self.acked_at_ms: int | None = None
        """Wall time of the centre's last acknowledgement of a batch of ours."""
        self.marked = 0
        """Records marked as acknowledged, since this process began."""

    def begin_session(self) -> None:
        """A new connection: everything unacknowledged is sent again, the newest batch first."""
        self._flights.clear()
        self._unconfirmed.clear()
        self._unheard = 0
        for lane in self._spool.lanes():
            self._pace(lane).fresh_above = max(0, self._spool.head(lane) - self._batch_records)
            self._pace(lane).not_before_ms = 0

    def next_frame(self, now: Instant) -> Outgoing | None:
        """Make the next batch that may be sent now, or None when nothing may."""
        self._expire(now.boottime_ms)
        window = min(MAX_UNCONFIRMED - len(self._unconfirmed), MAX_UNACKED - len(self._flights))
        if window <= 0:
            return None
        lanes = [
            lane
            for lane in self._spool.lanes()
            if self._pace(lane).not_before_ms <= now.boottime_ms
        ]
        free = {lane: self._free(lane) for lane in lanes}
        for choose in (self._fresh, self._backlog if window > KEPT_FOR_FRESH else _nothing):
            for lane in lanes:
                seqs = choose(lane, free[lane])
                if seqs or (choose == self._fresh and self._losses(lane)):
                    return self._launch(lane, seqs, now)
        return None

    def confirm(self, digest: str) -> None:
        """The broker took a publish over (PUBACK). It may still lose it."""
        self._unconfirmed.discard(digest)
        self._unheard = 0

    @property
    def is_unheard(self) -> bool:
        """Whether a whole window ran out of time since the broker last confirmed anything.

        A client keeps what is not confirmed until its connection ends, and sends no more past its
        own limit: such a connection only fills the memory.
        """
        return self._unheard >= MAX_UNCONFIRMED

    def on_ack(self, payload: bytes, now: Instant) -> None:
        """Take in what the centre says on ``dn/ack``; anything else is left aside."""
        self.on_acks((payload,), now)

    def on_acks(self, payloads: Iterable[bytes], now: Instant) -> None:
        """Take in acks that came together: the spool marks what they name in one go per lane.

        The centre answers in groups, and each mark costs the disk a flush.
        """
        try:
            for payload in payloads:
                self._take(payload, now)
        finally:
            self._flush_marks(now)

    def _take(self, payload: bytes, now: Instant) -> None:
        try:
            ack = acks.parse(payload)
        except Refused:
            return
        if ack.center_id != self._center_id:
            return
        for digest, _ in ack.unreadable:
            self._bisect(digest, now)
        if ack.store_id is None or ack.stream is None:
            return
        lane = Lane(ack.store_id, ack.stream)
        if lane not in self._spool.lanes() or ack.epoch < self._spool.epoch(lane):
            return
        if ack.epoch > self._spool.epoch(lane):
            self._flush_marks(now)  # before the notes are compared, not after
            self._spool.reconcile(lane, ack.epoch, ack.held, now.wall_ms)
        for pace in self._paces.values():
            pace.attempt = pace.not_before_ms = 0
        if not ack.got:
            self._resend_missed(lane, now.boottime_ms)
        self._mark(lane, ack, now)

    def wake_at_ms(self) -> int | None:
        """Boot time at which something unanswered is due again, if nothing else happens."""
        due = [flight.deadline_ms for flight in self._flights.values()]
        due += [pace.not_before_ms for pace in self._paces.values() if pace.not_before_ms]
        return min(due, default=None)

    def _mark(self, lane: Lane, ack: acks.Ack, now: Instant) -> None:
        forked = RangeSet.of(ack.fork)
        for digest in ack.got:
            flight = self._known.get(digest)
            if flight is None or flight.lane != lane:
                continue  # a clone's batch, or one from before a restart: it says nothing to us
            self._land(digest)
            if forked:
                self._flush_marks(now)  # what is marked cannot move
                self._spool.fork(lane, flight.seqs & forked, now.wall_ms)
            self._marks[lane] = self._marks.get(lane, NOTHING) | (flight.seqs - forked)
            self.acked_at_ms = now.wall_ms
            self.marked += len(flight.seqs)
            if flight.losses:
                self._spool.mark_told(lane, flight.losses)
            self.refused += len(RangeSet.of_numbers(seq for seq, _ in ack.refused) & flight.seqs)

    def _flush_marks(self, now: Instant) -> None:
        marks, self._marks = self._marks, {}
        for lane, seqs in marks.items():
            self._spool.mark_acked(lane, seqs, now.wall_ms)

    def _bisect(self, digest: str, now: Instant) -> None:
        flight = self._known.get(digest)
        if flight is None:
            return
        self._land(digest)
        self._flush_marks(now)
        waiting = flight.seqs & self._spool.pending(flight.lane)
        if len(flight.seqs) <= 1:
            self._spool.mark_lost(flight.lane, waiting, DropReason.UNREADABLE, now.wall_ms)
            return
        # The last of a larger batch still to wait is not to blame before it was refused alone.
        lower = waiting.lowest(len(waiting) // 2)
        self._pace(flight.lane).smaller += [one for one in (lower, waiting - lower) if one]

    def _resend_missed(self, lane: Lane, now_ms: int) -> None:
        """A greeting means that the centre has just come (back): what it missed goes again now.

        Of a batch only just sent nobody can tell whether the centre was there yet; it is given a
        short while in place of a long one, once.
        """
        for digest, flight in list(self._flights.items()):
            if flight.lane != lane:
                continue
            if flight.launched_ms < now_ms - _GREETING_MS:
                self._land(digest)
            else:
                deadline_ms = min(flight.deadline_ms, now_ms + _ANSWER_MS)
                self._flights[digest] = replace(flight, deadline_ms=deadline_ms, hurried=True)

    def _land(self, digest: str) -> None:
        self._flights.pop(digest, None)
        self._unconfirmed.discard(digest)

    def _expire(self, now_ms: int) -> None:
        for pace in self._paces.values():
            if pace.not_before_ms <= now_ms:
                pace.not_before_ms = 0  # a moment that has passed wakes nobody
        for digest, flight in list(self._flights.items()):
            if flight.deadline_ms <= now_ms:
                self._unheard += digest in self._unconfirmed
                self._land(digest)
                pace = self._pace(flight.lane)
                if pace.not_before_ms <= now_ms and not flight.hurried:
                    wait_ms = min(FIRST_WAIT_MS << pace.attempt, LONGEST_WAIT_MS)
                    pace.not_before_ms = now_ms + int(wait_ms * self._jitter())
                    pace.attempt = min(pace.attempt + 1, 10)

    def _fresh(self, lane: Lane, free: RangeSet) -> RangeSet:
        fresh = free - RangeSet.span(1, self._pace(lane).fresh_above)
        return fresh.highest(self._batch_records)

    def _backlog(self, lane: Lane, free: RangeSet) -> RangeSet:
        smaller = self._pace(lane).smaller
        while smaller:
            part = smaller.pop(0)
            free = self._free(lane)
            if part & free:
                return part & free
        return free.lowest(self._batch_records)

    def _free(self, lane: Lane) -> RangeSet:
        """What waits and is neither in flight nor to go in smaller batches: one pass over it."""
        taken = [one.seqs for one in self._flights.values() if one.lane == lane]
        taken += self._pace(lane).smaller
        busy = RangeSet.of(one for seqs in taken for one in seqs.ranges)
        return self._spool.pending(lane) - busy

    def _losses(self, lane: Lane) -> tuple[Loss, ...]:
        told = {
            one for flight in self._flights.values() if flight.lane == lane for one in flight.losses
        }
        return tuple(one for one in self._spool.untold(lane) if one not in told)[:MAX_RANGES]

    def _launch(self, lane: Lane, seqs: RangeSet, now: Instant) -> Outgoing:
        losses = self._losses(lane)
        lines: list[bytes] = []
        sent: list[int] = []
        size = 0
        for seq, line in self._spool.read(lane, RangeSet(seqs.ranges[-MAX_RANGES:])):
            size += len(line) + 1
            if size > _RAW_TARGET and lines:
                break
            lines.append(line)
            sent.append(seq)
        while True:
            numbers = RangeSet.of_numbers(sent)
            try:
                frame = encode(self._header(lane, numbers, losses, now), lines)
                break
            except TooLarge:
                half = max(1, len(lines) // 2)
                lines, sent = lines[:half], sent[:half]
        digest = frame_digest(frame)
        wait_ms = FIRST_WAIT_MS << min(self._pace(lane).attempt, 5)
        flight = _Flight(
            lane, numbers, losses, now.boottime_ms, now.boottime_ms + min(wait_ms, LONGEST_WAIT_MS)
        )
        self._flights[digest] = self._known[digest] = flight
        self._unconfirmed.add(digest)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return Outgoing(topics.batch(self._device, lane.stream), frame, digest)

    def _header(
        self,
        lane: Lane,
        numbers: RangeSet,
        losses: tuple[Loss, ...],
        now: Instant,
    ) -> Header:
        return Header(
            schema=SCHEMA,
            store_id=lane.store_id,
            parent=self._spool.parent(lane.store_id),
            stream=lane.stream,
            head=self._spool.head(lane),
            seqs=numbers.ranges,
            drops=tuple((one.first, one.last, one.reason) for one in losses),
            sent=Sent(wall_ms=now.wall_ms, boot_id=now.boot_id, boottime_ms=now.boottime_ms),
        )

    def _pace(self, lane: Lane) -> _Pace:
        return self._paces.setdefault(lane, _Pace())


def _nothing(_: Lane, _free: RangeSet) -> RangeSet:
    return NOTHING
