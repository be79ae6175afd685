"""Whether a device may have a certificate: one pure function, the rules in the order they count.

A code opens a school, never an asset: it claims only what was pre-registered there and nobody
claimed yet. What is doubtful waits for a person; what is wrong is turned away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ketang_center.enrolment.book import APPROVED, REFUSED
from ketang_center.enrolment.values import Asset, Certificate, Code, Reason, Waiting

ALONE_MS = 90 * 86_400_000
"""How long after its expiry a certificate still renews without a person."""
MOST_A_DAY = 4
"""Certificates that one device gets in a day, its first included; an honest one needs two."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A new certificate for this asset, and a use of this code."""

    asset: Asset
    code: Code


@dataclass(frozen=True, slots=True)
class Again:
    """The same key asked before: it gets the same certificate."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Ask:
    """A person has to decide. ``device`` is the asset's present id, where one matches."""

    reason: Reason
    code: Code
    device: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """No."""

    reason: Reason


Verdict = Grant | Again | Ask | Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the book knows of a request. ``device`` ids of ``barred`` are out for ever."""

    now_ms: int
    code: Code | None
    held: Sequence[Certificate]
    """What the asking key has been given before."""
    held_school: str
    matching: Sequence[Asset]
    """Assets registered with the serial number that was told; empty for a doubtful one."""
    doubtful: bool
    barred: frozenset[str]
    waiting: Waiting | None
    chosen: Asset | None
    """What a person approved the request for."""


def judge(facts: Facts, *, always_ask: bool) -> Verdict:
    """Decide on one request. ``always_ask``: nothing is issued without a person."""
    code, person = facts.code, facts.waiting.verdict if facts.waiting else ""
    if code is None:
        return Turn(Reason.UNKNOWN_CODE)
    if code.withdrawn:
        return Turn(Reason.CODE_WITHDRAWN)
    if facts.held:
        return _again(facts, code)
    if person == APPROVED:  # the code may have run out meanwhile
        return _approved(facts, code)
    spent = _spent(code, facts.now_ms)
    if spent or person == REFUSED:
        return Turn(spent or Reason.REFUSED_BY_PERSON)
    return _by_serial(facts, code, always_ask=always_ask)


def _spent(code: Code, now_ms: int) -> Reason | None:
    if now_ms >= code.expires_ms:
        return Reason.CODE_EXPIRED
    return Reason.CODE_USED_UP if code.used >= code.uses else None


def _again(facts: Facts, code: Code) -> Verdict:
    last = facts.held[0]
    if last.revoked_ms is not None or last.device in facts.barred:
        return Turn(Reason.REVOKED)
    if facts.held_school != code.school:
        return Turn(Reason.KEY_IN_USE)
    if facts.now_ms >= last.until_ms:
        return Turn(Reason.EXPIRED_TOO_LONG)
    return Again(last)


def _approved(facts: Facts, code: Code) -> Verdict:
    asset, waiting = facts.chosen, facts.waiting
    if asset is None:  # it was freed or renamed since: a person has to look once more
        return Ask(waiting.reason if waiting else Reason.ASKED, code)
    if asset.school != code.school:
        return Turn(Reason.OTHER_SCHOOL)
    if asset.device in facts.barred:
        return Turn(Reason.REVOKED)
    if asset.claimed_ms is not None:
        return Ask(Reason.ALREADY_CLAIMED, code, asset.device)
    return Grant(asset, code)


def _by_serial(facts: Facts, code: Code, *, always_ask: bool) -> Verdict:
    if facts.doubtful:
        return Ask(Reason.DOUBTFUL_SERIAL, code)
    here = [one for one in facts.matching if one.school == code.school]
    if facts.matching and not here:
        return Turn(Reason.OTHER_SCHOOL)
    if len(facts.matching) != 1:  # nobody's, or that of several, at this school or another
        return Ask(Reason.DOUBTFUL_SERIAL if here else Reason.NOT_REGISTERED, code)
    (asset,) = here
    if asset.claimed_ms is not None or asset.device in facts.barred:
        return Ask(Reason.ALREADY_CLAIMED, code, asset.device)
    return Ask(Reason.ASKED, code, asset.device) if always_ask else Grant(asset, code)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFacts:
    """All that the book knows of a renewal, and of the certificate whose key asked for it.

    Attributes:
        out: the device is barred, or registered no more.
        held: what the new key has been given before.
        successors: certificates the old key asked for before.
        moved_on: one of these has itself been renewed.
        of_late: certificates of this device within a day.
        verdict: a person's, if one was asked.
    """

    now_ms: int
    old: Certificate
    out: bool
    held: Sequence[Certificate]
    successors: Sequence[Certificate]
    moved_on: bool
    of_late: int
    verdict: str


def judge_renewal(facts: RenewalFacts) -> Again | Reason | None:
    """Decide on a renewal: what was given before, why not, or None: a new certificate.

    A key that has a successor may ask again, for its answer may have been lost, until the
    successor has moved on or its own time is over: then a copy of an old disk is asking.
    """
    old = facts.old
    if old.revoked_ms is not None or facts.out:
        return Reason.REVOKED
    if facts.held:
        last = facts.held[0]
        mine = last.parent == old.key_id and last.revoked_ms is None
        return Again(last) if mine and last.until_ms > facts.now_ms else Reason.KEY_IN_USE
    if facts.verdict:
        return None if facts.verdict == APPROVED else Reason.REFUSED_BY_PERSON
    return _renewal_doubt(facts)


def _renewal_doubt(facts: RenewalFacts) -> Reason | None:
    if facts.now_ms > facts.old.until_ms + ALONE_MS:
        return Reason.EXPIRED_TOO_LONG
    if facts.successors and (facts.moved_on or facts.now_ms > facts.old.until_ms):
        return Reason.SUPERSEDED
    return Reason.TOO_MANY if facts.of_late >= MOST_A_DAY else None
