"""What people do to filings and camera grants: submit, review, approve, withdraw, take in.

Invariants:
- Nothing is approved but by a signed document that a device would believe, and that says what was
  submitted.
- Who submitted a filing neither reviews nor approves it.
- Who did it stands in the audit log before it is done.
- What was taken back stands in the enrolment book before it is done: from there it goes off the
  machine, and comes back when this register is put back from a backup. It is never taken in again.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ketang_center.access import policy
from ketang_center.access.audit import Audit
from ketang_center.access.policy import Action, Actor
from ketang_center.access.scope import OutOfScope
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.values import Withdrawal
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Level as Floor
from ketang_center.rollouts.filing_refusals import FilingRefused
from ketang_center.rollouts.filing_values import FilingEntry, FilingState, GrantEntry
from ketang_center.rollouts.filings import Filings
from ketang_contract.config import Level
from ketang_contract.errors import Refused
from ketang_contract.layers import Step
from ketang_contract.permit_judging import Place, judge
from ketang_contract.permits import CameraGrant, DataUsed, Filing, Permit, Subject
from ketang_contract.trust import Trust, TrustRefused, read_accepted
from ketang_provisioning.permits import TOOLS, Proposal, drafted, of_filing

MAX_NOTE = 200
_AHEAD_S = 86_400
"""How far ahead of this centre's clock an approver's may be."""
_OPEN = (FilingState.SUBMITTED, FilingState.REVIEWED)


class FilingDesk:
    """One thread. ``by``: what the audit log says beside the actor's name of who acted."""

    def __init__(
        self,
        filings: Filings,
        tree: Tree,
        audit: Audit,
        trust: Callable[[], Trust],
        clock_ms: Callable[[], int],
        book: Book,
    ) -> None:
        self._filings, self._tree, self._audit, self._book = filings, tree, audit, book
        self._trust, self._clock_ms = trust, clock_ms

    # Filings.

    def submit(self, actor: Actor, proposal: Proposal, by: str = "") -> int:
        """Hand a filing in; return its number.

        Raises:
            OutOfScope: the actor publishes nothing on its unit.
            FilingRefused: ``twice``: the same is on its way already.
        """
        policy.require(actor, Action.PUBLISH, self._tree, proposal.scope)
        said = _row(proposal)
        rows = self._filings.rows
        with rows.transaction():
            for one in self._filings.same(said.subject, said.name, said.version):
                if one.state in _OPEN and proposal_of(one) == proposal:
                    raise FilingRefused("twice", f"the same is on its way as number {one.no}")
            subject = f"{said.subject} {said.name} {said.version} {said.number}"
            self._note(actor, by, "filing_submitted", subject, said.scope)
            name, now_ms = _name(actor), self._clock_ms()
            return rows.put(replace(said, submitted_by=name, submitted_ms=now_ms))

    def review(self, actor: Actor, no: int, *, right: bool, note: str = "", by: str = "") -> None:
        """Find a submitted filing right, so that it may be signed, or send it back.

        Raises:
            OutOfScope: there is no such filing where the actor approves.
            FilingRefused: ``state``, ``same_person`` or ``note``: one that is sent back has a why.
        """
        note = _noted(note, needed=not right)
        with self._filings.rows.transaction():
            one = self._to_judge(actor, no)
            if one.state is not FilingState.SUBMITTED:
                raise FilingRefused("state", f"filing {no} is {one.state}, not submitted")
            done = FilingState.REVIEWED if right else FilingState.SENT_BACK
            self._note(actor, by, f"filing_{done}", subject_of(one), one.scope)
            made = replace(
                one,
                state=done,
                reviewed_by=_name(actor),
                reviewed_ms=self._clock_ms(),
                note=note,
            )
            self._filings.rows.put(made)

    def approve(self, actor: Actor, no: int, raw: bytes, by: str = "") -> FilingEntry:
        """Take in the signed document of a filing that was found right.

        Raises:
            OutOfScope: there is no such filing where the actor approves.
            FilingRefused: with one of its reasons.
        """
        rows = self._filings.rows
        with rows.transaction():
            one = self._to_judge(actor, no)
            if one.state is not FilingState.REVIEWED:
                raise FilingRefused("state", f"filing {no} is {one.state}, not reviewed")
            said, permit = self._filed(raw, one)
            line = [
                other
                for other in self._filings.same(one.subject, one.name, one.version)
                if other.state is FilingState.APPROVED and _line(other) == _line(one)
            ]
            if any(other.issued_s >= said.issued_s for other in line):
                raise FilingRefused("older", f"filing {no}: a later document for the same is here")
            self._note(
                actor, by, "filing_approved", f"{subject_of(one)} {said.approver}", one.scope
            )
            name, now_ms = _name(actor), self._clock_ms()
            for other in line:
                if said.expires_s == said.issued_s:  # it ends them, and allows nothing itself
                    self._keep(key_of(other), now_ms, f"→ {no}", name)
                rows.put(closed(other, FilingState.REPLACED, name, now_ms, f"→ {no}"))
            made = replace(
                one,
                state=FilingState.APPROVED,
                approved_by=name,
                approved_ms=now_ms,
                approver=said.approver,
                issued_s=said.issued_s,
                expires_s=said.expires_s,
                digest=permit.digest,
                envelope=raw.decode("utf-8"),
            )
            rows.put(made)
            rows.count_change()
            return made

    def withdraw(self, actor: Actor, no: int, why: str, by: str = "") -> None:
        """Take a filing back: devices are not brought it any more, and stop what it allowed.

        Raises:
            OutOfScope: the actor neither publishes nor approves there, or there is no such filing.
            FilingRefused: ``state`` or ``note``.
        """
        why, rows = _noted(why, needed=True), self._filings.rows
        with rows.transaction():
            one = self._known(no)
            if not any(
                policy.may(actor, action, self._tree, one.scope)
                for action in (Action.PUBLISH, Action.APPROVE)
            ):
                raise OutOfScope(str(no))
            if one.state not in {*_OPEN, FilingState.APPROVED}:
                raise FilingRefused("state", f"filing {no} is {one.state} already")
            self._note(actor, by, "filing_withdrawn", f"{subject_of(one)}: {why}", one.scope)
            name, now_ms = _name(actor), self._clock_ms()
            self._keep(key_of(one), now_ms, why, name)
            rows.put(closed(one, FilingState.WITHDRAWN, name, now_ms, why))
            rows.count_change()

    # Camera grants.

    def take_grant(self, actor: Actor, raw: bytes, by: str = "") -> GrantEntry:
        """Take in a grant that both have signed.

        Raises:
            OutOfScope: the actor neither configures nor approves at its school.
            FilingRefused: ``not_believed``, ``ahead``, ``withdrawn`` or ``no_trust``.
        """
        said, permit = self._granted(actor, raw)
        rows, now_ms = self._filings.rows, self._clock_ms()
        with rows.transaction():
            known = self._filings.grant(permit.digest)
            if known is not None and known.withdrawn_ms:
                raise FilingRefused("withdrawn", f"grant {permit.digest[:12]} was withdrawn before")
            if known is not None:
                return known
            self._note(actor, by, "grant_taken", f"{said.target} {permit.digest[:12]}", said.school)
            made = GrantEntry(
                digest=permit.digest,
                target=said.target,
                school=said.school,
                purpose=said.purpose.value,
                holder=said.holder,
                approver=said.approver,
                issued_s=said.issued_s,
                from_s=said.from_s,
                until_s=said.until_s,
                envelope=raw.decode("utf-8"),
                taken_by=_name(actor),
                taken_ms=now_ms,
            )
            if permit.from_s == permit.until_s:
                self._end_earlier(made)
            rows.put(made)
            rows.count_change()
            return made

    def _end_earlier(self, by: GrantEntry) -> None:
        """Close what a signed document ends early."""
        for one in self._filings.grants({by.school}):
            if one.target == by.target and one.issued_s < by.issued_s and not one.withdrawn_ms:
                self._keep(one.digest, by.taken_ms, f"→ {by.digest[:12]}", by.taken_by)
                self._filings.rows.put(
                    replace(one, withdrawn_by=by.taken_by, withdrawn_ms=by.taken_ms)
                )

    def withdraw_grant(self, actor: Actor, digest: str, by: str = "") -> None:
        """Take a grant back: devices are not brought it any more, and close the camera.

        Raises:
            OutOfScope: there is no such grant where the actor configures or approves.
            FilingRefused: ``state``: it was withdrawn before.
        """
        rows = self._filings.rows
        with rows.transaction():
            one = self._filings.grant(digest)
            if one is None:
                raise OutOfScope(digest)
            self._require_school(actor, one.school)
            if one.withdrawn_ms:
                raise FilingRefused("state", f"grant {digest[:12]} was withdrawn before")
            self._note(actor, by, "grant_withdrawn", f"{one.target} {digest[:12]}", one.school)
            name, now_ms = _name(actor), self._clock_ms()
            self._keep(digest, now_ms, "", name)
            rows.put(replace(one, withdrawn_by=name, withdrawn_ms=now_ms))
            rows.count_change()

    # What both need.

    def _known(self, no: int) -> FilingEntry:
        found = self._filings.filing(no) if 0 < no < 1 << 53 else None
        if found is None:
            raise OutOfScope(str(no))
        return found

    def _to_judge(self, actor: Actor, no: int) -> FilingEntry:
        one = self._known(no)
        policy.require(actor, Action.APPROVE, self._tree, one.scope)
        if one.submitted_by == _name(actor):
            raise FilingRefused("same_person", f"filing {no}: who submitted it does not judge it")
        return one

    def _filed(self, raw: bytes, one: FilingEntry) -> tuple[Filing, Permit]:
        permit = self._believed(raw, place_for(self._tree, one.scope))
        said = drafted(raw)
        if not isinstance(said, Filing) or of_filing(said) != proposal_of(one):
            raise FilingRefused("differs", f"filing {one.no}: signed is not what was submitted")
        return said, permit

    def _granted(self, actor: Actor, raw: bytes) -> tuple[CameraGrant, Permit]:
        try:
            claimed = drafted(raw)
        except Refused as why:
            raise FilingRefused("not_believed", str(why), why.reason) from None
        if not isinstance(claimed, CameraGrant):
            raise FilingRefused("not_believed", "not a camera grant", "bad_envelope")
        self._require_school(actor, claimed.school)
        target = claimed.target
        if target in self._tree and not self._tree.holds(claimed.school, target):
            raise FilingRefused("not_believed", f"{target} is not of {claimed.school}", "target")
        # Whether a device of this id stands in the school, the device itself decides.
        return claimed, self._believed(raw, place_for(self._tree, claimed.school, target))

    def _believed(self, raw: bytes, place: Place) -> Permit:
        now_s, trust = self._clock_ms() // 1000, self._trust()
        try:
            said, permit = judge(raw, trust, place, now_s, TOOLS)
        except Refused as why:
            text = f"no device would believe this document: {why}"
            raise FilingRefused("not_believed", text, why.reason) from None
        if said.issued_s > now_s + _AHEAD_S:
            raise FilingRefused("ahead", "signed by a clock that is more than a day ahead")
        if self._book.is_withdrawn(permit.digest):
            raise FilingRefused("withdrawn", "this document was withdrawn before: sign another")
        return permit

    def _keep(self, key: str, at_ms: int, why: str, by: str) -> None:
        self._book.keep_withdrawn(Withdrawal(key=key, at_ms=at_ms, why=why, by=by))

    def _require_school(self, actor: Actor, school: str) -> None:
        if school in self._tree and self._tree[school].level is Floor.SCHOOL:
            for action in (Action.CONFIGURE, Action.APPROVE):
                if policy.may(actor, action, self._tree, school):
                    return
        raise OutOfScope(school)

    def _note(self, actor: Actor, by: str, action: str, subject: str, unit: str) -> None:
        who = f"{actor.name} {by}".strip() or "demo"
        self._audit.note(self._clock_ms(), who, action, subject, unit)


def steps_to(tree: Tree, unit: str) -> tuple[Step, ...]:
    """Return the way from the region down to a unit, as placements write it.

    Raises:
        OutOfScope: there is no such unit.
    """
    if unit not in tree:
        raise OutOfScope(unit)
    return tuple(Step(level=Level(one.level.value), unit=one.id) for one in tree.path(unit))


def place_for(tree: Tree, unit: str, target: str = "") -> Place:
    """Return the place of a unit, or of a room or device of a school.

    Raises:
        OutOfScope: there is no such unit.
    """
    if target and target not in tree:
        return Place(steps_to(tree, unit), target)
    return Place(steps_to(tree, target or unit))


def trust_in(file: Path | None) -> Trust:
    """Read the trust document in force at this centre.

    Raises:
        FilingRefused: ``no_trust``: it has none, or one that cannot be read.
    """
    try:
        if file is not None:
            return read_accepted(file.read_bytes())
    except (OSError, TrustRefused) as why:
        raise FilingRefused("no_trust", f"{file}: cannot be read: {why}") from None
    raise FilingRefused("no_trust", "this centre's settings name no trust document: [enrolment]")


def proposal_of(one: FilingEntry) -> Proposal:
    """Return what was submitted, for the file that its approver signs."""
    return Proposal(
        subject=Subject(one.subject),
        name=one.name,
        version=one.version,
        sha256=one.sha256 or None,
        number=one.number,
        purpose=one.purpose,
        data=tuple(map(DataUsed, one.data.split())),
        scope=one.scope,
    )


def _row(said: Proposal) -> FilingEntry:
    return FilingEntry(
        no=0,
        subject=said.subject.value,
        name=said.name,
        version=said.version,
        sha256=said.sha256 or "",
        number=said.number,
        purpose=said.purpose,
        data=" ".join(said.data),
        scope=said.scope,
        state=FilingState.SUBMITTED,
        submitted_by="",
        submitted_ms=0,
    )


def closed(one: FilingEntry, state: FilingState, by: str, now_ms: int, note: str) -> FilingEntry:
    """Return a filing that was withdrawn or replaced."""
    return replace(one, state=state, closed_by=by, closed_ms=now_ms, note=note)


def key_of(one: FilingEntry) -> str:
    """Name a filing beyond this file, where its number may be given again after a restore."""
    return one.digest or f"{one.no}@{one.submitted_ms}"


def _name(actor: Actor) -> str:
    return actor.name or "demo"


def _noted(text: str, *, needed: bool) -> str:
    text = " ".join(text.split())
    if len(text) > MAX_NOTE or not text.isprintable() or (needed and not text):
        raise FilingRefused("note", f"say why, in one line of at most {MAX_NOTE} characters")
    return text


def subject_of(one: FilingEntry) -> str:
    """Name a filing for the audit log."""
    return f"{one.no} {one.subject} {one.name} {one.version} {one.number}"


def _line(one: FilingEntry) -> tuple[str, ...]:
    return one.subject, one.name, one.version, one.sha256, one.scope
