"""Whether a filing or a camera grant is believed, as a device does it. Pure.

Invariants:
1. Nothing of a document is believed before those with authority have signed it: a filing's
   approver, and for a grant the school and an approver who is another person.
2. Authority is a key in force for that purpose, over the unit spoken of; a document names the
   holders of its keys, and nobody signs in another's name.
3. Its target lies on the way from the region to who judges.

Standard library only; whatever checks signatures and reads strictly is passed in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ketang_contract import strict_json
from ketang_contract.config import Level
from ketang_contract.errors import Refused
from ketang_contract.layers import Step, digest
from ketang_contract.permits import (
    FILING_TYPE,
    GRANT_TYPE,
    TYPES,
    CameraGrant,
    Document,
    Filing,
    Permit,
    permit_of,
    same_person,
)
from ketang_contract.trust import Purpose, Trust, TrustedKey


class Read(Protocol):
    """``validate.signed``: read a payload as one kind of document, strictly."""

    def __call__(self, kind: type[Any], payload: bytes, /) -> Any:
        """Return the document, or raise ``Refused``."""


class Tools(Protocol):
    """What needs more than the standard library: ``signatures`` and ``validate``."""

    @property
    def signers(self) -> Callable[[bytes, str, Sequence[str]], frozenset[str]]:
        """``signatures.signed_by``."""

    @property
    def payload(self) -> Callable[[bytes, str], bytes]:
        """``signatures.unverified``."""

    @property
    def read(self) -> Read:
        """``validate.signed``."""


@dataclass(frozen=True, slots=True)
class Checks:
    """The tools as a value: ``signed_by``, ``unverified``, ``validate.signed``."""

    signers: Callable[[bytes, str, Sequence[str]], frozenset[str]]
    payload: Callable[[bytes, str], bytes]
    read: Read


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands, from the region down; without ``device``: a unit's own place."""

    path: tuple[Step, ...]
    device: str = ""

    @property
    def units(self) -> tuple[str, ...]:
        """Every unit of the way, and the device."""
        return (*(one.unit for one in self.path), *([self.device] if self.device else ()))

    @property
    def school(self) -> str:
        """The school it belongs to; empty above one."""
        return next((one.unit for one in self.path if one.level is Level.SCHOOL), "")

    def at_or_above(self, unit: str) -> frozenset[str]:
        """Return the scopes with authority over a unit of the way; ``""`` is the region."""
        units = self.units
        return frozenset({"", *units[: units.index(unit) + 1]})


def claimed_type(raw: bytes) -> str:
    """Return which of the two an envelope says it holds; nothing is believed yet.

    Raises:
        Refused: ``bad_envelope``: neither.
    """
    try:
        said = strict_json.load(raw)
    except ValueError as problem:
        raise Refused("bad_envelope", str(problem)) from problem
    found = said.get("payloadType") if isinstance(said, dict) else None
    if not isinstance(found, str) or found not in TYPES:
        raise Refused("bad_envelope", "neither a filing nor a camera grant")
    return found


def judge(
    raw: bytes, trust: Trust, place: Place, now_s: int, tools: Tools
) -> tuple[Document, Permit]:
    """Judge one document as a device at a place does.

    One that ends others early passes though it has ended itself: it allows nothing.

    Args:
        raw: the envelope.
        trust: in force there.
        place: of the device, or of the unit that a filing is for.
        now_s: max(clock, signed-time floor).
        tools: for signatures and strict reading.

    Raises:
        Refused: ``bad_envelope``, ``bad_document``, ``wrong_target``, ``forged``, ``mis_scoped``,
            ``wrong_signer`` (not who it names), ``one_holder`` or ``expired``.
    """
    kind = claimed_type(raw)
    body = tools.payload(raw, kind)
    said: Document = tools.read(TYPES[kind], body)
    moment_s = max(now_s, trust.issued_s)
    if isinstance(said, Filing):
        _check_filing(raw, said, trust, place, moment_s, tools)
    else:
        _check_grant(raw, said, trust, place, moment_s, tools)
    permit = permit_of(said, digest(kind, body))
    if permit.until_s <= moment_s and permit.from_s != permit.until_s:
        raise Refused("expired", f"at {permit.until_s}, now {moment_s}")
    return said, permit


def school_keys(trust: Trust, school: str, now_s: int) -> tuple[TrustedKey, ...]:
    """Return the keys in force that may sign for a school.

    Its own; the region's only where the trust document has never named one of the school's: a
    revoked one does not hand its authority up.
    """
    named = any(one.purpose is Purpose.CONFIG and one.scope == school for one in trust.keys)
    return trust.keys_for(Purpose.CONFIG, now_s, school if named else "")


def _check_filing(
    raw: bytes, said: Filing, trust: Trust, place: Place, now_s: int, tools: Tools
) -> None:
    if said.scope not in place.units or said.scope == place.device:
        raise Refused("wrong_target", said.scope)
    _check_approved(raw, FILING_TYPE, said.scope, said.approver, trust, place, now_s, tools)


def _check_grant(
    raw: bytes, said: CameraGrant, trust: Trust, place: Place, now_s: int, tools: Tools
) -> None:
    below = place.units[place.units.index(place.school) :] if place.school else ()
    if said.school != place.school or said.target not in below:
        raise Refused("wrong_target", said.target)
    keys, everybody = school_keys(trust, said.school, now_s), trust.keys_for(Purpose.CONFIG, now_s)
    _check_signer(raw, GRANT_TYPE, keys, everybody, said.holder, tools)
    _check_approved(raw, GRANT_TYPE, said.target, said.approver, trust, place, now_s, tools)
    if same_person(said.holder, said.approver):
        raise Refused("one_holder", said.target)


def _check_approved(
    raw: bytes,
    kind: str,
    over: str,
    approver: str,
    trust: Trust,
    place: Place,
    now_s: int,
    tools: Tools,
) -> None:
    everybody = trust.keys_for(Purpose.FILING, now_s)
    scopes = place.at_or_above(over)
    keys = [one for one in everybody if one.scope in scopes]
    _check_signer(raw, kind, keys, everybody, approver, tools)


def _check_signer(
    raw: bytes,
    kind: str,
    keys: Sequence[TrustedKey],
    everybody: Sequence[TrustedKey],
    named: str,
    tools: Tools,
) -> None:
    """Let a document pass that somebody of these keys signed, under the name it gives itself."""
    by = tools.signers(raw, kind, [one.public for one in keys])
    if not by:
        anybody = tools.signers(raw, kind, [one.public for one in everybody])
        raise Refused("mis_scoped" if anybody else "forged", kind)
    if named not in {one.holder for one in keys if one.key_id in by}:
        raise Refused("wrong_signer", kind)
