"""From messages to replies: decode, admit, acknowledge. No network in here.

Nothing a device sends stops this: what can never be accepted is answered and kept apart, what
comes from a newer release is left unanswered, and a shard that another worker took is let go.
"""

import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ketang_center.security import SecurityLog
from ketang_center.store.control import LeaseLost
from ketang_center.store.partitions import SUSPECT, Key, Row, day_of, slot_of
from ketang_center.store.sqlite import MAX_LEDGER_RANGES, Admission, Lease, Outcome, Store
from ketang_contract import batch, topics, validate
from ketang_contract.ack import MAX_HAVE, Ack
from ketang_contract.batch import Sent
from ketang_contract.errors import NotYet, Refused
from ketang_contract.ids import frame_digest, record_digest, shard_of
from ketang_contract.ledger import Ledger
from ketang_contract.ranges import NOTHING, RangeSet
from ketang_contract.records import Record, Stream, to_line
from ketang_contract.state import Birth, Death, Live, Reported

log = logging.getLogger(__name__)

Heard: TypeAlias = Callable[[str, Birth | Death | Reported, int], None]
"""Told what a device says of itself: its id, the word, when it came (UTC ms). It must not wait."""
Answered: TypeAlias = Callable[[str, str, bytes, int], None]
"""Told of an answer to a command: device, job, payload, when it came (UTC ms); it may refuse it."""

CLOCK_TOLERANCE_MS = 120_000
MOST_DAYS = 64
"""Days one batch may touch, each a file to open and flush. An honest month fits; a device with more
halves the batch, as with any that cannot be read, and loses nothing."""


@dataclass(frozen=True, slots=True)
class Message:
    """One publish as the broker delivered it. ``received_ms``: UTC, this machine's clock."""

    topic: str
    payload: bytes
    received_ms: int


@dataclass(frozen=True, slots=True)
class Reply:
    """One publish to a device, QoS 1."""

    topic: str
    payload: bytes


@dataclass(slots=True)
class Counts:
    """What this worker has done since it started."""

    stored: int = 0
    duplicates: int = 0
    forked: int = 0
    refused: int = 0
    not_yet: int = 0
    strangers: int = 0
    barred: int = 0


@dataclass(slots=True)
class Worker:
    """Handles messages for the shards it has leased."""

    store: Store
    lease: Lease
    counts: Counts = field(default_factory=Counts)
    security: SecurityLog | None = None
    barred: Container[str] = frozenset()
    """Devices that were thrown out: whatever comes under their names is neither kept nor answered,
    even if a broker still lets them in."""
    heard: Heard | None = None
    answered: Answered | None = None

    def handle(self, messages: Sequence[Message]) -> list[Reply]:
        """Take messages in; when this returns, all that the replies say is durable."""
        replies: list[Reply] = []
        admissions: list[Admission] = []
        for message in messages:
            try:
                upward = topics.parse(message.topic)
                if upward.device in self.barred:
                    self.counts.barred += 1
                    self._tell("ingest_revoked", upward.device, message)
                elif shard_of(upward.device) not in self.lease.epochs:
                    self.counts.strangers += 1
                elif upward.channel != topics.BATCH:
                    replies += self._document(upward, message)
                else:
                    admissions.append(self._decode(upward, message))
            except NotYet:
                self.counts.not_yet += 1
            except Refused as why:
                replies += self._bury(message, why)
        return replies + self._admit(admissions)

    def _admit(self, admissions: list[Admission]) -> list[Reply]:
        try:
            outcomes = self.store.admit(admissions, self.lease) if admissions else []
        except LeaseLost:
            if len(admissions) == 1:
                self.counts.strangers += 1
                return []
            # One lost shard must not hold the others up.
            return [reply for one in admissions for reply in self._admit([one])]
        self._tell_of_clones()
        return [self._acknowledge(outcome) for outcome in outcomes]

    def _tell(self, what: str, who: str, message: Message) -> None:
        if self.security is not None:
            self.security.note(message.received_ms, what, who, detail=message.topic)

    def _tell_of_clones(self) -> None:
        for one in self.store.control.sightings.take_found():
            log.warning("device.cloned device=%s boots=%s,%s", one.device, one.older, one.newer)
            if self.security is not None:
                self.security.note(one.found_ms, "clone", one.device)

    def _decode(self, upward: topics.Upward, message: Message) -> Admission:
        header_line, lines = batch.decode(message.payload)
        header = validate.header(header_line)
        if header.stream != upward.stream:
            raise Refused("wrong_stream", header.stream)
        numbers = header.numbers
        if len(numbers) != len(lines):
            raise Refused("bad_header", f"{len(numbers)} numbers for {len(lines)} records")
        key = Key(upward.device, header.store_id, header.stream)
        if len(self.store.control.ledger(key).known.ranges) > MAX_LEDGER_RANGES:
            raise NotYet("too many holes")
        rows: list[Row] = []
        refused: list[tuple[int, str, str, bytes]] = []
        for seq, line in zip(numbers, lines, strict=True):
            try:
                rows.append(_row(seq, line, header.sent, message.received_ms))
            except Refused as why:
                refused.append((seq, why.reason, str(why), line))
        if len({day_of(row.slot) for row in rows}) > MOST_DAYS:
            raise Refused("too_many_days")
        return Admission(
            key,
            frame_digest(message.payload),
            header.head,
            tuple(rows),
            tuple(refused),
            RangeSet.of((first, last) for first, last, _ in header.drops),
            message.received_ms,
            forked=header.parent is not None,
            sent=header.sent,
        )

    def _document(self, upward: topics.Upward, message: Message) -> list[Reply]:
        control, device, now_ms = self.store.control, upward.device, message.received_ms
        if not message.payload:
            return []
        if upward.channel == topics.ANSWER:
            if self.answered is not None:
                self.answered(device, upward.job, message.payload, now_ms)
            return []
        if upward.channel == topics.BIRTH:
            birth = validate.document(Birth, message.payload)
            with control.transaction():
                control.note_birth(device, birth.session, birth.agent_version, now_ms)
                control.note_clocks(device, birth.sent, now_ms, birth.session, birth.agent_version)
            self._pass_on(device, birth, now_ms)
            return self._greet(device, birth)
        if upward.channel == topics.REPORTED:
            self._pass_on(device, validate.document(Reported, message.payload), now_ms)
            return []
        with control.transaction():
            if upward.channel == topics.DEATH:
                death = validate.document(Death, message.payload)
                control.note_death(device, death.session, now_ms, orderly=death.orderly)
                self._pass_on(device, death, now_ms)
            else:
                live = validate.document(Live, message.payload)
                control.note_live(device, tuple(live.faults), live.camera, now_ms)
        return []

    def _pass_on(self, device: str, said: Birth | Death | Reported, now_ms: int) -> None:
        if self.heard is not None:
            self.heard(device, said, now_ms)

    def _greet(self, device: str, birth: Birth) -> list[Reply]:
        """Tell a device what is held of each of its streams, and the epoch that holds."""
        keys = [
            Key(device, store.store_id, lane.stream)
            for store in birth.stores
            for lane in store.streams
        ]
        return [self._reply(device, self._ack(key, self.store.control.ledger(key))) for key in keys]

    def _acknowledge(self, outcome: Outcome) -> Reply:
        one = outcome.admission
        self.counts.stored += len(one.rows) - len(outcome.fork) - outcome.duplicates
        self.counts.duplicates += outcome.duplicates
        self.counts.forked += len(outcome.fork)
        self.counts.refused += len(one.refused)
        return self._reply(
            one.key.device,
            self._ack(
                one.key,
                outcome.ledger,
                got=(one.digest,),
                refused=tuple((seq, reason) for seq, reason, *_ in one.refused),
                fork=outcome.fork,
            ),
        )

    def _ack(
        self,
        key: Key,
        ledger: Ledger,
        *,
        got: tuple[str, ...] = (),
        refused: tuple[tuple[int, str], ...] = (),
        fork: RangeSet = NOTHING,
    ) -> Ack:
        control = self.store.control
        held = control.held(key, ledger)
        upto = held.upto()
        return Ack(
            center_id=control.center_id,
            epoch=control.epoch,
            store_id=key.store_id,
            stream=Stream(key.stream),
            got=got,
            upto=upto,
            have=(held - RangeSet.span(1, upto)).ranges[-MAX_HAVE:],
            refused=refused,
            fork=fork.ranges,
        )

    def _bury(self, message: Message, why: Refused) -> list[Reply]:
        """Keep what can never be accepted, and name the frame so that its sender stops."""
        self.counts.refused += 1
        control = self.store.control
        with control.transaction():
            control.bury(message.topic, why.reason, str(why), message.payload, message.received_ms)
        try:
            upward = topics.parse(message.topic)
        except Refused:
            self._tell(f"ingest_{why.reason}", "", message)
            return []
        self._tell(f"ingest_{why.reason}", upward.device, message)
        if upward.channel != topics.BATCH:
            return []
        return [
            self._reply(
                upward.device,
                Ack(
                    center_id=control.center_id,
                    epoch=control.epoch,
                    unreadable=((frame_digest(message.payload), why.reason),),
                ),
            )
        ]

    @staticmethod
    def _reply(device: str, ack: Ack) -> Reply:
        return Reply(topics.of(device, topics.ACK), to_line(ack))


def _row(seq: int, line: bytes, sent: Sent, received_ms: int) -> Row:
    record = validate.record(line)
    slot = slot_of(record)
    true_ms, clock_suspect = true_time(record, sent, received_ms, sane=slot != SUSPECT)
    return Row(
        seq, slot, record.subject, true_ms, received_ms, clock_suspect, record_digest(line), line
    )


def true_time(record: Record, sent: Sent, received_ms: int, *, sane: bool) -> tuple[int, bool]:
    """Rebase a record's time: ``(UTC ms, whether the device's clock was off by over 120 s)``. Pure.

    Within one boot the age of a record is known exactly from the boot clock. Across boots only the
    wall clock speaks, and it is believed unless it cannot be true.
    """
    if record.boot_id == sent.boot_id and record.boottime_ms <= sent.boottime_ms:
        rebased = received_ms - (sent.boottime_ms - record.boottime_ms)
        if sane and abs(rebased - record.wall_ms) <= CLOCK_TOLERANCE_MS:
            return record.wall_ms, False
        return max(0, rebased), True
    if not sane or record.wall_ms > received_ms + CLOCK_TOLERANCE_MS:
        return received_ms, True
    return record.wall_ms, False
