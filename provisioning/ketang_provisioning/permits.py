"""Filings and camera grants as their holders make them: proposed, signed off line, checked.

What is filed is proposed as a small TOML file; the approver's signature makes a filing of it. A
grant takes two signatures, the school's and the approver's, in any order. Nobody is named by hand
who holds a key: the name is the trust document's, since a device compares the two.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ketang_contract import signatures, strict_json, validate
from ketang_contract.config import Level
from ketang_contract.errors import BadInput, Refused
from ketang_contract.layers import Step
from ketang_contract.permit_judging import Checks, Place, claimed_type, judge, school_keys
from ketang_contract.permits import (
    DAY_S,
    FILING_TYPE,
    GRANT_TYPE,
    MAX_FILING_S,
    MAX_GRANT_S,
    TYPES,
    CameraGrant,
    CameraPurpose,
    DataUsed,
    Document,
    Filing,
    Permit,
    Subject,
    payload,
    same_person,
)
from ketang_contract.records import to_json
from ketang_contract.signatures import PrivateKey
from ketang_contract.tables import Table, read_table
from ketang_contract.trust import Purpose, Trust, TrustedKey
from ketang_provisioning.keys import key_id

TOOLS = Checks(signatures.signed_by, signatures.unverified, validate.signed)
MOST_FILING_DAYS, MOST_GRANT_DAYS = MAX_FILING_S // DAY_S, MAX_GRANT_S // DAY_S
_WORDS_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What is to be filed, before anybody has approved it."""

    subject: Subject
    name: str
    version: str
    sha256: str | None = None
    number: str
    purpose: str
    data: tuple[DataUsed, ...]
    scope: str


FIELDS = tuple(one.name for one in fields(Proposal))


def read_proposal(path: Path) -> Proposal:
    """Read a proposal from a TOML file.

    Raises:
        BadInput: the file, the key, and what is accepted, in one line.
    """
    said: Table = read_table(path)
    said.allow(*FIELDS)
    return proposed(
        {
            "subject": said.one_of("subject", list(Subject)),
            "name": said.text("name"),
            "version": said.text("version"),
            **({"sha256": said.text("sha256")} if "sha256" in said else {}),
            "number": said.text("number"),
            "purpose": said.text("purpose", most=_WORDS_MOST),
            "data": said.texts("data", list(DataUsed)),
            "scope": said.identifier("scope"),
        },
        path.name,
    )


def proposed(said: Mapping[str, Any], where: str) -> Proposal:
    """Make a proposal of what a person filled in.

    Raises:
        BadInput: a filing of it could not be; ``where`` and the field are named.
    """
    # As a filing of a moment, so that whatever passes here can be signed.
    trial = {**said, "approver": "-", "issued_s": 0, "expires_s": 0}
    trial["data"] = sorted(said["data"])
    try:
        made = validate.signed(Filing, strict_json.canonical(trial))
    except Refused as why:
        raise BadInput(f"{where}: {str(why).removeprefix('bad_document: ')}") from None
    return of_filing(made)


def of_filing(filing: Filing) -> Proposal:
    """Return what a filing was proposed as."""
    return Proposal(**{name: getattr(filing, name) for name in FIELDS})


def write_proposal(proposal: Proposal) -> str:
    """Write a proposal as the TOML file that ``read_proposal`` reads."""
    said = {name: value for name in FIELDS if (value := getattr(proposal, name)) is not None}
    # Texts and lists of texts are the same in JSON and TOML, as long as no control character is in.
    lines = (
        f"{name} = {strict_json.canonical(to_json(value)).decode()}" for name, value in said.items()
    )
    return "\n".join(lines) + "\n"


def sign_filing(
    proposal: Proposal, key: PrivateKey, trust: Trust, *, now_s: int, days: int
) -> bytes:
    """Make a filing of a proposal, in the name of the key's holder.

    Args:
        proposal: what is filed.
        key: an approver's.
        trust: the document in force.
        now_s: when it is signed.
        days: how long it holds; 0 ends, from now on, whatever was filed for the same.

    Raises:
        BadInput: the key may not sign it, or days that no filing lasts.
    """
    if not 0 <= days <= MOST_FILING_DAYS:
        raise BadInput(f"--days: 0 to {MOST_FILING_DAYS}; 0 ends what was filed before")
    named = _named(key, trust, Purpose.FILING, now_s)
    said = {name: getattr(proposal, name) for name in FIELDS}
    filing = Filing(**said, approver=named.holder, issued_s=now_s, expires_s=now_s + days * DAY_S)
    return signatures.seal(payload(filing), FILING_TYPE, [key])


def draft_grant(
    *,
    target: str,
    school: str,
    trust: Trust,
    now_s: int,
    from_s: int,
    days: int,
    holder: str = "",
    approver: str = "",
) -> bytes:
    """Write a camera grant that nobody has signed yet, naming who has to.

    Args:
        target: the school, or a room or device of it.
        school: whose it is.
        trust: the document in force.
        now_s: when it is drafted.
        from_s: when it begins.
        days: how long it holds; 0 ends, from then on, what was granted for the same target.
        holder: who signs for the school; empty where there is only one.
        approver: a holder of a filing key; empty where there is only one.

    Raises:
        BadInput: nobody could sign it so, or days that no grant lasts.
    """
    if not 0 <= days <= MOST_GRANT_DAYS:
        raise BadInput(f"--days: 0 to {MOST_GRANT_DAYS}; 0 ends what was granted before")
    theirs = {one.holder for one in school_keys(trust, school, now_s)}
    approvers = {one.holder for one in trust.keys_for(Purpose.FILING, now_s)}
    chosen = _one_of(approvers, approver, "--approver", "filing key")
    theirs = {one for one in theirs if not same_person(one, chosen)}
    signer = _one_of(theirs, holder, "--holder", "key that may sign for the school")
    said = CameraGrant(
        target=target,
        school=school,
        purpose=CameraPurpose.OCCUPANCY,
        holder=signer,
        approver=chosen,
        issued_s=now_s,
        from_s=from_s,
        until_s=from_s + days * DAY_S,
    )
    return signatures.seal(payload(said), GRANT_TYPE, [])


def drafted(raw: bytes) -> Document:
    """Read a filing or a grant, strictly; who signed it is not asked.

    Raises:
        Refused: it is neither.
    """
    kind = claimed_type(raw)
    found: Document = validate.signed(TYPES[kind], signatures.unverified(raw, kind))
    return found


def add_signature(raw: bytes, key: PrivateKey, trust: Trust, now_s: int) -> bytes:
    """Add a holder's signature to what names them.

    Raises:
        BadInput: the document names another than this key's holder, or the key may not sign it.
        Refused: the file is neither a filing nor a grant.
    """
    said, name = drafted(raw), key_id(key.public_key())
    purposes = [one.purpose for one in trust.keys if one.key_id == name]
    school = isinstance(said, CameraGrant) and Purpose.CONFIG in purposes
    named = _named(key, trust, Purpose.CONFIG if school else Purpose.FILING, now_s)
    wanted = said.holder if school and isinstance(said, CameraGrant) else said.approver
    if named.holder != wanted:
        raise BadInput(f"this key is {named.holder}'s, and the document names {wanted}")
    if school and isinstance(said, CameraGrant):
        may = {one.key_id for one in school_keys(trust, said.school, now_s)}
        if name not in may:
            raise BadInput(f"this key is over {named.scope or 'the region'}, not {said.school}")
    return signatures.add_signatures(raw, claimed_type(raw), [key])


def signers(raw: bytes, trust: Trust) -> Iterator[TrustedKey]:
    """Yield the keys of the trust document that have signed a file, in force or not.

    Raises:
        Refused: the file is neither a filing nor a grant.
    """
    by = signatures.signed_by(raw, claimed_type(raw), [one.public for one in trust.keys])
    yield from (one for one in trust.keys if one.key_id in by)


def check(raw: bytes, trust: Trust, now_s: int, above: Sequence[str] = ()) -> Permit:
    """Judge a file as a device at its target does.

    Args:
        raw: the file.
        trust: the document in force.
        now_s: the moment.
        above: the units above its unit, the region first; without them only keys over the region
            and over the unit itself are known to have authority.

    Raises:
        Refused: a device would not believe it, and why.
    """
    return judge(raw, trust, place_of(drafted(raw), above), now_s, TOOLS)[1]


def place_of(said: Document, above: Sequence[str] = ()) -> Place:
    """Return the place that a document speaks of, below the units ``above`` it, region first."""
    if isinstance(said, Filing):
        levels = list(Level)
        return Place(
            tuple(
                Step(level=levels[min(at, 4)], unit=one)
                for at, one in enumerate((*above, said.scope))
            )
        )
    steps = [Step(level=Level.REGION, unit=one) for one in above]
    steps.append(Step(level=Level.SCHOOL, unit=said.school))
    return Place(tuple(steps), "" if said.target == said.school else said.target)


def _named(key: PrivateKey, trust: Trust, purpose: Purpose, now_s: int) -> TrustedKey:
    name = key_id(key.public_key())
    found = next((one for one in trust.keys_for(purpose, now_s) if one.key_id == name), None)
    if found is None:
        what = "for filings" if purpose is Purpose.FILING else "for configurations"
        raise BadInput(f"this key is none {what} that the trust document has in force")
    return found


def _one_of(holders: set[str], chosen: str, option: str, what: str) -> str:
    if chosen and chosen not in holders:
        raise BadInput(f"{option}: no {what} in force is {chosen!r}'s; accepted: {_list(holders)}")
    if chosen:
        return chosen
    if len(holders) != 1:
        told = f"; name one with {option}" if holders else ""
        raise BadInput(f"{len(holders)} holders have a {what} in force: {_list(holders)}{told}")
    return next(iter(holders))


def _list(holders: set[str]) -> str:
    return ", ".join(sorted(holders)) or "nobody"
