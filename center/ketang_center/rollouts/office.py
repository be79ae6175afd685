"""What people do with releases: admit, begin, approve, pause, resume, cancel, retry, take back.

Each act is one transaction of the book, with its line in the history and in the audit log; the
engine, in this process or another, finds it within a second. Who may do what is asked before.
"""

import getpass
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from ketang_center.access.audit import Audit
from ketang_center.enrolment.documents import TrustDocuments
from ketang_center.registry.database import Registry
from ketang_center.rollouts import placing, taking
from ketang_center.rollouts.admitting import Judge
from ketang_center.rollouts.book import Rollout, RolloutBook
from ketang_center.rollouts.filings import Filings
from ketang_center.rollouts.looking import AT_MACHINE, Look
from ketang_center.rollouts.plan import BACK, Rules, State
from ketang_center.rollouts.taking import Taken
from ketang_center.rollouts.trusting import TrustHeld
from ketang_center.rollouts.values import LIVE, Member, Release, RolloutState, What
from ketang_center.settings import Settings
from ketang_contract.errors import BadInput

BOOK, FILINGS = "rollouts.db", "filings.db"
AGAIN = frozenset({State.FAILED, State.REJECTED, State.TOO_OLD, State.TIMED_OUT, State.WAITING})
"""What a person may have tried once more."""
MOST_ATTEMPTS = 4
"""Besides the first: a device tries five times in all."""


class Office:
    """One thread: the registry's. ``look`` reads. ``now_ms`` is the centre's clock, UTC."""

    def __init__(
        self,
        book: RolloutBook,
        registry: Registry,
        audit: Audit,
        trust: TrustHeld,
        now_ms: Callable[[], int],
        filings: Filings | None = None,
    ) -> None:
        self._book, self._registry, self._audit = book, registry, audit
        self._trust, self._now_ms, self._filings = trust, now_ms, filings
        self.look = Look(book, registry, trust, now_ms)

    # Documents.

    def admit(self, raw: bytes, who: str) -> Release:
        """Take a release file in; nothing is sent yet.

        Raises:
            BadInput: in one line, why a device would refuse it, or that it is not filed.
        """
        now_ms, book = self._now_ms(), self._book
        judge = Judge(book, self._registry, self._trust.latest(), now_ms)
        with book.transaction():
            admitted = judge.release(raw, who)
            one = admitted.release
            self._refuse_unfiled(one)
            for layer in (admitted.layer, admitted.undo):
                book.add_layer(layer)
            book.add_release(one)
            book.note(now_ms, 0, who, "admitted", one.name)
            book.act()
            self._tell(who, "release_admitted", one.name, one.target)
        return one

    def _refuse_unfiled(self, one: Release) -> None:
        """Ask of what it brings alone: what its undo brings back, devices judge themselves."""
        if self._filings is None:
            return
        judge = Judge(self._book, self._registry, self._trust.latest(), self._now_ms())
        over = judge.over_target(one.target, one.level, one.name)
        why = self._filings.refusal_of(one.content, self._now_ms() // 1000, over)
        if why:
            raise BadInput(f"{one.name}: {why}")

    def take_placements(self, envelopes: Iterable[bytes], who: str) -> Taken:
        """Take over where devices stand, as it was signed; what is wrong is told, not taken.

        Many are many transactions, each whole or not at all: ``Taken`` says how far it came.
        """
        judge = Judge(self._book, self._registry, self._trust.latest(), self._now_ms())

        def note(count: int) -> None:
            self._book.note(self._now_ms(), 0, who, "placed", f"{count} devices")
            self._tell(who, "placements_taken", f"{count} devices", "")

        return taking.take(self._book, judge, envelopes, note)

    def export_placements(self) -> Iterator[str]:
        """Yield, a line of JSON each, which devices' placements have to be signed anew."""
        trust = self._trust.latest()
        return placing.to_sign(self._book, self._registry, trust, self._now_ms())

    # Rollouts.

    def begin(self, release: str, who: str, rules: Rules | None = None) -> int:
        """Begin to send a release; one that widens waits until somebody else approves it.

        Returns:
            The rollout's number.

        Raises:
            BadInput: no such release, it has expired or is not filed, nobody there can be sent
                anything, or another one is on its way there.
        """
        one = self.look.release(release)
        now_ms, book = self._now_ms(), self._book
        if one.expires_s * 1000 <= now_ms:
            raise BadInput(f"{release}: has expired: sign it anew")
        self._refuse_unfiled(one)
        if not book.below(one.target):
            raise BadInput(
                f"{release}: nobody below {one.target} has a signed placement: export, sign and"
                " push placements first"
            )
        with book.transaction():
            before = book.newest(one.target)
            self._refuse_second(one, before)
            if before is not None and before.state is RolloutState.FINISHED:
                if before.what is What.RELEASE:
                    book.set_ground(before.target, before.layer)
                else:
                    # Who was off meanwhile still has what was taken back: the undo is his, too.
                    away = book.members(before.no, "AND state = 'pending'")
                    book.give_for_good([one.device for one in away], before.target, before.layer)
                book.set_state(before.no, RolloutState.SUPERSEDED, release, now_ms)
                book.note(now_ms, before.no, who, RolloutState.SUPERSEDED.value, release)
            state = RolloutState.AWAITING if one.widens else RolloutState.RUNNING
            return self._write(one, What.RELEASE, state, rules or Rules(), who)

    def _refuse_second(self, one: Release, before: Rollout | None) -> None:
        if before is None:
            return
        if before.state in {RolloutState.AWAITING, RolloutState.RUNNING, RolloutState.PAUSED}:
            raise BadInput(
                f"{one.target}: rollout {before.no} of {before.release} is {before.state}:"
                " let it finish, cancel it, or take it back"
            )
        at_it = self._book.members(before.no, "AND state IN ('sent', 'trial')")
        if before.state is RolloutState.FINISHED and at_it:
            raise BadInput(f"{one.target}: {len(at_it)} devices are trying {before.release} now")
        if before.release == one.name and before.state is not RolloutState.CANCELLED:
            raise BadInput(f"{one.name}: was rolled out already, as number {before.no}")
        layer = self._book.layer(before.layer)
        if layer and (layer.key_epoch, layer.version) > (one.key_epoch, one.version):
            raise BadInput(f"{one.name}: version {layer.version} of {one.target} was sent already")

    def approve(self, no: int, who: str, how: str = "") -> None:
        """Let a rollout that widens begin.

        Args:
            no: the rollout's number.
            who: an account's name; whoever asks has proved that it is his.
            how: where it was not at the console, for the history.

        Raises:
            BadInput: it does not wait for that, or whoever admitted or began it is asking.
        """
        now_ms, book = self._now_ms(), self._book
        with book.transaction():
            one = self._in_state(no, {RolloutState.AWAITING}, "approved")
            if who in self.look.who_brought(one):
                raise BadInput(f"rollout {no}: has to be approved by somebody else")
            book.set_approved(no, who, now_ms)
            self._move(one, RolloutState.RUNNING, who, "approved", how, reason="")

    def pause(self, no: int, who: str, why: str = "") -> None:
        """Send nothing more until it is resumed; whoever has it at hand goes on.

        Raises:
            BadInput: it does not run.
        """
        with self._book.transaction():
            one = self._in_state(no, {RolloutState.RUNNING, RolloutState.FINISHED}, "paused")
            self._move(one, RolloutState.PAUSED, who, "paused", why)

    def resume(self, no: int, who: str) -> None:
        """Go on after a pause; failures that are known by now stop nothing any more.

        Raises:
            BadInput: it is not paused.
        """
        with self._book.transaction():
            one = self._in_state(no, {RolloutState.PAUSED}, "resumed")
            self._book.put_members(
                replace(member, excused=True)
                for member in self._book.members(
                    no, "AND state IN ('failed', 'rejected', 'timed_out', 'waiting')"
                )
            )
            self._move(one, RolloutState.RUNNING, who, "resumed")

    def cancel(self, no: int, who: str) -> None:
        """End it; whoever has the release keeps it.

        Raises:
            BadInput: it has ended.
        """
        with self._book.transaction():
            one = self._in_state(no, LIVE | {RolloutState.AWAITING}, "cancelled")
            self._move(one, RolloutState.CANCELLED, who, "cancelled")

    def retry_failed(self, no: int, who: str, devices: Collection[str] = ()) -> int:
        """Have devices on which it failed try once more, each when its turn comes.

        Args:
            no: the rollout's number.
            who: does it.
            devices: which; none named: all of them.

        Returns:
            How many will.

        Raises:
            BadInput: it has ended.
        """
        with self._book.transaction():
            one = self._in_state(no, LIVE, "tried again")
            members = [
                replace(
                    member,
                    state=State.PENDING,
                    group=0,
                    reason="",
                    excused=False,
                    attempt=member.attempt + 1,
                    updated_ms=self._now_ms(),
                )
                for member in self._book.members(no)
                if member.state in AGAIN
                and member.attempt < MOST_ATTEMPTS
                and (not devices or member.device in devices)
            ]
            self._book.put_members(members)
            state = RolloutState.RUNNING if one.state is RolloutState.FINISHED else one.state
            self._move(one, state, who, "retried", f"{len(members)} devices", reason=one.reason)
        return len(members)

    def roll_back(self, no: int, who: str, why: str = "") -> int:
        """Take a release back: send its undo, which was signed with it, to all who were given it.

        Returns:
            The number of the rollout of the undo.

        Raises:
            BadInput: it is an undo itself, or was taken back or followed by another.
        """
        book = self._book
        with book.transaction():
            one = self._in_state(no, LIVE | {RolloutState.CANCELLED}, "taken back")
            newest = book.newest(one.target)
            if one.what is What.UNDO or (newest is not None and newest.no != no):
                raise BadInput(f"rollout {no}: is not the newest release of {one.target}")
            release = self.look.release(one.release)
            self._move(one, RolloutState.ROLLED_BACK, who, "rolled_back", why)
            undo = self._write(release, What.UNDO, RolloutState.RUNNING, BACK, who)
            known = {member.device: member for member in book.members(no)}
            have = book.who_was_given(one.target, one.layer)
            book.put_members(
                Member(undo, device, known[device].kind, known[device].school, at)
                for at, device in enumerate(one for one in have if one in known)
            )
        return undo

    def _write(self, one: Release, what: What, state: RolloutState, rules: Rules, who: str) -> int:
        now_ms = self._now_ms()
        no = self._book.begin(
            Rollout(
                no=0,
                release=one.name,
                layer=one.layer if what is What.RELEASE else one.undo,
                target=one.target,
                what=what,
                state=state,
                reason="",
                rules=rules,
                began_by=who,
                began_ms=now_ms,
                approved_by="",
                approved_ms=0,
                updated_ms=now_ms,
            )
        )
        self._book.note(now_ms, no, who, "began", f"{what.value} {one.name}")
        self._book.act()
        self._tell(who, f"rollout_{what.value}", f"{no} {one.name}", one.target)
        return no

    def _in_state(self, no: int, states: Collection[RolloutState], what: str) -> Rollout:
        one = self._book.rollout(no)
        if one is None:
            raise BadInput(f"there is no rollout {no}")
        if one.state not in states:
            raise BadInput(f"rollout {no}: is {one.state} and cannot be {what}")
        return one

    def _move(
        self,
        one: Rollout,
        state: RolloutState,
        who: str,
        what: str,
        detail: str = "",
        *,
        reason: str | None = None,
    ) -> None:
        now_ms = self._now_ms()
        self._book.set_state(one.no, state, detail if reason is None else reason, now_ms)
        self._book.note(now_ms, one.no, who, what, detail)
        self._book.act()
        self._tell(who, f"rollout_{what}", f"{one.no} {one.release} {detail}".strip(), one.target)

    def _tell(self, who: str, action: str, subject: str, target: str) -> None:
        unit = target if target in self._registry.tree() else ""
        self._audit.note(self._now_ms(), who, action, subject, unit)


@contextmanager
def open_office(
    settings: Settings, now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
) -> Iterator[Office]:
    """Open a centre's office of rollouts, beside the running centre or without it.

    Raises:
        BadInput: the settings name no trust document.
    """
    with ExitStack() as stack:
        folder = settings.data_dir
        yield Office(
            stack.enter_context(RolloutBook(folder / BOOK)),
            stack.enter_context(Registry(folder / "registry.db")),
            stack.enter_context(closing(Audit(folder / "audit.db"))),
            trust_of(settings),
            now_ms,
            stack.enter_context(Filings(folder / FILINGS, now_ms)),
        )


def trust_of(settings: Settings) -> TrustHeld:
    """Return the trust documents of a centre.

    Raises:
        BadInput: the settings name none, or they cannot be read.
    """
    if settings.enrolment is None:
        raise BadInput("[enrolment]: missing; releases are judged by its trust document")
    documents = TrustDocuments(settings.enrolment.trust, settings.enrolment.fingerprint)
    return TrustHeld(documents.get)


def this_person() -> str:
    """Name who runs a command on this machine."""
    try:
        return f"{AT_MACHINE}{getpass.getuser()}"
    except (OSError, KeyError):  # a login without a name, as in a bare container
        return f"{AT_MACHINE}unknown"
