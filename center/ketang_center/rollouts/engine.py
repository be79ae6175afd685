"""The engine of the rollouts: one thread that hears, judges, decides and sends.

All it knows stands in the book: what a device is to have is written before it is published, and
published after. So it may be killed anywhere. At its start, and whenever the broker was away,
whoever was sent something and has not told how it went is sent the same once more; a device that
knows it says so. Nothing here makes a device try again: an attempt grows by a person's act alone.
"""

import logging
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace

from ketang_center.metrics.figures import SILENT_MS
from ketang_center.registry.database import Registry
from ketang_center.rollouts.book import CENTER, RolloutBook
from ketang_center.rollouts.bundles import Composer
from ketang_center.rollouts.catching_up import CatchingUp
from ketang_center.rollouts.hearing import Heard, Hearing, Inbox, Sessions
from ketang_center.rollouts.joining import join
from ketang_center.rollouts.live import Live
from ketang_center.rollouts.outcomes import said
from ketang_center.rollouts.plan import FAILURES, State, decide
from ketang_center.rollouts.sending import Parcel, Sender, Taken, Told
from ketang_center.rollouts.silence import fallen_silent
from ketang_center.rollouts.values import (
    LIVE,
    SENDING,
    Member,
    Placed,
    RolloutState,
    What,
)
from ketang_center.store.base import Presence
from ketang_contract.state import Reported

log = logging.getLogger("ketang.rollouts")

Revision = tuple[int, ...]
_AT_WORK_MS = 10_000
_RENEW_MS = 15_000
"""How often it is looked who has sent a record, while that is not known of everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the engine reads besides the book; each is asked from its thread alone.

    Attributes:
        presence: every device's session, as ingest has written it.
        hearing_since_ms: since when the centre hears its devices; None: it does not, now.
        revisions: numbers that change with what bundles are made of: filings, trust.
        barred: devices that were thrown out.
    """

    presence: Callable[[], Iterable[Presence]]
    hearing_since_ms: Callable[[], int | None]
    revisions: Callable[[], Revision]
    barred: Container[str] = frozenset()


class Engine:
    """``step`` it often; everything else it finds in the book."""

    def __init__(
        self,
        book: RolloutBook,
        registry: Registry,
        composer: Composer,
        say: Callable[[str, bytes], Taken],
        inbox: Inbox,
        sources: Sources,
    ) -> None:
        self._book, self._registry, self._sources = book, registry, sources
        self._inbox = inbox
        self._sender = Sender(book, composer, say)
        self._catching_up = CatchingUp(self._sender)
        self._sessions = Sessions(sources.presence())
        self._lives: list[Live] = []
        self._stuck: dict[str, set[str]] = {}
        """By target, who failed what has ended since: they would fail anything on top of it."""
        self._placed: dict[str, Placed] = {}
        self._schools: dict[str, list[str]] = {}
        self._seen: tuple[Revision, Revision] | None = None
        self._hearing = Hearing()
        self._noted_ms = self._renewed_ms = 0
        self._finding_out = True

    def step(self, now_ms: int) -> None:
        """Do what is due. After any error the next step begins from the book.

        Raises:
            sqlite3.OperationalError: the book cannot be written to now.
        """
        heard = self._inbox.take()
        try:
            self._look_again(now_ms)
            self._hear(heard, now_ms)
        except BaseException:
            self._seen = None
            self._inbox.give_back(heard)
            raise
        told_ms = self._sources.hearing_since_ms()
        try:
            if told_ms is not None:
                self._listen(told_ms, now_ms)
                for live in self._lives:
                    self._judge_silence(live, now_ms)
                    self._go_on_or_stop(live, now_ms)
                fixed = set().union(*self._stuck.values(), *(one.failed for one in self._lives))
                self._catching_up.step(
                    self._placed, self._unresolved(), fixed, self._follow, now_ms
                )
                self._sender.note_taken()
            self._note_at_work(now_ms)
        except BaseException:
            self._seen = None
            raise

    def _note_at_work(self, now_ms: int) -> None:
        if not 0 <= now_ms - self._noted_ms < _AT_WORK_MS:
            self._book.seen_at_work(now_ms)
            self._noted_ms = now_ms

    def _listen(self, told_ms: int, now_ms: int) -> None:
        """Ask again when the centre has been deaf, and find out who is still there."""
        if self._hearing.begins_anew(told_ms, now_ms):
            self._ask_again()
            self._sessions.hearing_since_ms = self._hearing.since_ms
            self._renewed_ms = now_ms
        hearing_ms = self._hearing.since_ms
        was, self._finding_out = self._finding_out, now_ms - hearing_ms < SILENT_MS + _RENEW_MS
        if was and not 0 <= now_ms - self._renewed_ms < _RENEW_MS:
            self._sessions.renew(self._sources.presence())
            self._renewed_ms = now_ms
            for live in self._lives:
                live.wakes = True

    # What people and other parts have changed.

    def _look_again(self, now_ms: int) -> None:
        """Read the book anew when a person acted, or a document changed."""
        acts = (self._book.acted(),)
        documents = (self._book.changes(), *self._sources.revisions())
        before = self._seen
        if before == (acts, documents):
            return
        if before is None or before[1] != documents:
            self._placed = self._book.all_placed()
            self._catching_up.look_at(self._placed)
        self._load(now_ms)
        self._sender.forget(first=before is None)
        self._seen = (acts, documents)

    def _load(self, now_ms: int) -> None:
        book = self._book
        kinds = {one.id: one.kind.value for one in self._registry.devices()}
        self._schools = {}
        for one in self._placed.values():
            self._schools.setdefault(one.school, []).append(one.device)
        self._lives, self._stuck = [], book.stuck()
        newest: set[str] = set()
        for rollout in book.rollouts():
            layer = book.layer(rollout.layer) if rollout.target not in newest else None
            newest.add(rollout.target)
            if layer is not None and rollout.state in LIVE:
                members = join(book, rollout, layer, self._placed, kinds, now_ms)
                self._lives.append(Live(rollout, layer, members))
        self._lives.sort(key=lambda one: one.rollout.no)

    # What devices tell.

    def _hear(self, heard: Heard, now_ms: int) -> None:
        self._sessions.hear(heard)
        self._sender.told.update({device: _told(one) for device, (one, _) in heard.reports.items()})
        for device, (birth, at_ms) in heard.births.items():
            self._catching_up.born(device, birth, at_ms)
            for live in self._lives:
                live.wakes |= live.is_pending(device)
        if not heard.reports:
            return
        changes = [
            (live, after)
            for live in self._lives
            for device, (one, _) in heard.reports.items()
            if (member := live.members.get(device))
            and (found := said(member, live.layer.at, one.config))
            and (after := _become(member, *found, now_ms)) != member
        ]
        with self._book.transaction():
            self._book.put_reports(heard.reports)
            self._write(changes, now_ms)
        self._take_over(changes)

    def _write(self, changes: Sequence[tuple[Live, Member]], now_ms: int) -> None:
        self._book.put_members(after for _, after in changes)
        for live, after in changes:
            if after.state in FAILURES:
                detail = f"{after.device} {after.reason}".strip()
                self._book.note(now_ms, live.rollout.no, CENTER, after.state.value, detail)

    def _take_over(self, changes: Sequence[tuple[Live, Member]]) -> None:
        for live, after in changes:
            live.put(after)
            if after.device not in live.unresolved:
                self._catching_up.look_at([after.device])
            for other in self._lives:  # one that was busy may be free for another release now
                other.wakes |= other.is_pending(after.device)

    def _judge_silence(self, live: Live, now_ms: int) -> None:
        unresolved = self._unresolved() if live.unresolved else set[str]()
        changes = [
            (live, replace(after, excused=after.excused and after.state in FAILURES))
            for after in fallen_silent(
                live, self._schools, self._sessions, unresolved, self._hearing.since_ms, now_ms
            )
        ]
        if changes:
            with self._book.transaction():
                self._write(changes, now_ms)
            self._take_over(changes)

    # What happens next.

    def _go_on_or_stop(self, live: Live, now_ms: int) -> None:
        """One rollout that cannot be read stops for itself; the others go on."""
        try:
            self._go_on(live, now_ms)
        except (LookupError, TypeError, ValueError) as problem:
            log.exception("rollout.broken no=%d", live.rollout.no)
            self._set(live, RolloutState.PAUSED, f"the centre cannot go on: {problem!r}", now_ms)

    def _go_on(self, live: Live, now_ms: int) -> None:
        rollout = live.rollout
        if rollout.state not in SENDING or not live.wakes:
            return
        if now_ms >= live.layer.expires_s * 1000:
            self._set(live, RolloutState.PAUSED, "the release has expired", now_ms)
            return
        standing = live.tally.standing(now_ms)
        live.wakes = standing.sent_lately >= rollout.rules.per_minute
        decision = decide(
            rollout.rules,
            standing,
            live.candidates(self._sessions, lambda one: self._is_busy(live, one)),
        )
        if decision.stop:
            self._set(live, RolloutState.PAUSED, decision.stop, now_ms)
        elif decision.send:
            self._send(live, decision.send, decision.group, now_ms)
        elif decision.finished and rollout.state is RolloutState.RUNNING and self._all_known(live):
            self._set(live, RolloutState.FINISHED, "", now_ms)

    def _all_known(self, live: Live) -> bool:
        """Tell whether all are known to be there or gone; soon after a deafness they are not."""
        return not (self._finding_out and any(map(self._sessions.unsure, live.pending)))

    def _is_busy(self, live: Live, device: str) -> bool:
        """Tell whether a device has another release at hand, or one that it failed.

        What it failed is in its bundle until it is taken back, and would fail the next with it.
        """
        if device in self._sources.barred:
            return True
        return any(
            device in one.failed
            or (device in one.unresolved and live.rollout.what is not What.UNDO)
            for one in self._lives
            if one is not live
        ) or any(
            device in those for target, those in self._stuck.items() if target != live.layer.target
        )

    def _send(self, live: Live, devices: Sequence[str], group: int, now_ms: int) -> None:
        book, target = self._book, live.layer.target
        with book.transaction():
            if not self._may_send(live):
                return
            ready, members = self._make(live, devices, group, now_ms)
            book.give([one.had.device for one in ready], target, live.layer.digest)
            book.put_members(members)
            book.put_had(one.had for one in ready)
            self._follow([(one.had.device, one.had.hash) for one in ready])
        # Who has this layer now has not the one any more that he failed.
        self._stuck.get(target, set()).difference_update(devices)
        for member in members:
            live.put(member)
        for one in ready:
            self._sender.publish(one)

    def _make(
        self, live: Live, devices: Sequence[str], group: int, now_ms: int
    ) -> tuple[list[Parcel], list[Member]]:
        ready, members = list[Parcel](), list[Member]()
        override = {live.layer.target: live.layer.digest}
        for device in devices:
            member, parcel = live.members[device], None
            if device in self._placed:
                parcel = self._sender.make(
                    self._placed[device], member.attempt, now_ms, override=override
                )
            if parcel is None:
                away = replace(member, state=State.WAITING, reason="unsendable", excused=True)
                members.append(away)
                continue
            ready.append(parcel)
            seen = self._sessions.seen(device)
            members.append(live.sent(device, group, now_ms, parcel.had.hash, seen))
        return ready, members

    def _may_send(self, live: Live) -> bool:
        """Ask the book once more, inside the transaction: a person may have paused meanwhile."""
        now = self._book.rollout(live.rollout.no)
        if now is None or now.state not in SENDING:
            self._seen = None
            return False
        return True

    def _follow(self, named: Iterable[tuple[str, str]]) -> None:
        """What a device has at hand has another name now, for something else of its bundle changed.

        An undo may overtake another release; a moved device has another placement.
        """
        for device, name in named:
            for live in self._lives:
                member = live.members.get(device)
                if member is not None and device in live.unresolved and member.hash != name:
                    after = replace(member, hash=name)
                    self._book.put_members([after])
                    live.put(after)

    def _set(self, live: Live, state: RolloutState, reason: str, now_ms: int) -> None:
        with self._book.transaction():
            if not self._may_send(live):
                return
            self._book.set_state(live.rollout.no, state, reason, now_ms)
            self._book.note(now_ms, live.rollout.no, CENTER, state.value, reason)
        live.became(replace(live.rollout, state=state, reason=reason, updated_ms=now_ms))
        log.info("rollout.%s no=%d why=%s", state.value, live.rollout.no, reason)

    # Those whose word may be lost.

    def _unresolved(self) -> set[str]:
        return set().union(*(live.unresolved for live in self._lives))

    def _ask_again(self) -> None:
        """Send the same once more to who has not told: it may have been said to nobody."""
        silent = (State.WAITING, State.TIMED_OUT)
        self._catching_up.repeat(self._sender.not_taken())
        self._catching_up.repeat(self._unresolved())
        self._catching_up.repeat(
            one.device
            for live in self._lives
            for one in live.members.values()
            if one.state in silent and self._sessions.seen(one.device).connected
        )


def _told(one: Reported) -> Told:
    return Told(one.session, one.config.desired or "", one.config.trust_version)


def _become(member: Member, state: State, reason: str, now_ms: int) -> Member:
    if (state, reason) == (member.state, member.reason):
        return member
    return replace(
        member,
        state=state,
        reason=reason,
        group=member.group or 1,
        updated_ms=now_ms,
        excused=member.excused and state in FAILURES,
    )
