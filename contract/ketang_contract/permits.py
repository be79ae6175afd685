"""Filings (备案) and camera grants: signed documents without which a device does not look.

- A *filing* says that a model, an algorithm or an app was filed under a number, what it is for and
  which data it uses. A model sees a live source under a filing alone.
- A *camera grant* lets a school's cameras, or one room's or device's, be opened for a time.

Invariants:
1. A document ends at its own end, for acceptance and for operation, and there is no grace.
2. Of two in one line the later issued stands alone from its beginning on. So one is ended early by
   a later one that begins and ends at one moment.

Standard library only. Whether a document is believed is ``permit_judging``'s.
"""

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

from ketang_contract import strict_json
from ketang_contract.ids import is_identifier
from ketang_contract.layers import Seconds
from ketang_contract.limits import AtMost, Digest, Identifier, Matches, Value
from ketang_contract.records import to_json

FILING_TYPE = "application/vnd.ketang.filing+json"
GRANT_TYPE = "application/vnd.ketang.camera-grant+json"
DAY_S = 86_400
MAX_FILING_S = 3 * 366 * DAY_S
MAX_GRANT_S = 366 * DAY_S
SOON_S = 30 * DAY_S
"""How long before its end a filing is told of."""
_UNSEEN = "\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
"""Characters that steer a line and are not seen."""
Words = Annotated[str, Matches(f"[^{_UNSEEN}]{{1,200}}")]
"""One line for people."""
Person = Annotated[str, Matches(f"[^{_UNSEEN}]{{1,64}}")]
_LETTERS = r"A-Za-z0-9\u4e00-\u9fff"
FiledName = Annotated[str, Matches(rf"[{_LETTERS}][{_LETTERS} ._()+\-]{{0,63}}")]
FiledVersion = Annotated[str, Matches("[A-Za-z0-9._+-]{1,32}")]
FilingNumber = Annotated[str, Matches(rf"[{_LETTERS}()（）〔〕\[\]_/.\-]{{1,64}}")]


class Subject(StrEnum):
    """What is filed."""

    MODEL = "model"
    ALGORITHM = "algorithm"
    APP = "app"


class DataUsed(StrEnum):
    """What a filed subject uses, as a school board reads it."""

    CAMERA_PICTURES = "camera_pictures"
    HEAD_COUNTS = "head_counts"
    DEVICE_USE = "device_use"
    DEVICE_HEALTH = "device_health"
    NETWORK = "network"
    ROOM_CLIMATE = "room_climate"
    TIMETABLE = "timetable"


class CameraPurpose(StrEnum):
    """What a camera may be opened for."""

    OCCUPANCY = "occupancy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing(Value):
    """What an approver has filed. ``scope``: the unit within which it holds."""

    subject: Subject
    name: FiledName
    version: FiledVersion
    sha256: Digest | None = None
    """Of the model's file; nothing else has one."""
    number: FilingNumber
    purpose: Words
    data: Annotated[tuple[DataUsed, ...], AtMost(16)]
    approver: Person
    scope: Identifier
    issued_s: Seconds
    expires_s: Seconds

    def __post_init__(self) -> None:
        """Refuse a model nobody could find by this, and a span that is none."""
        if (self.subject is Subject.MODEL) is (self.sha256 is None):
            raise ValueError("a model has the hash of its file, and nothing else has one")
        if self.subject is Subject.MODEL and not is_identifier(self.name):
            raise ValueError("a model's name is of lower-case letters, digits and hyphens")
        if not self.data or self.data != tuple(sorted(set(self.data))):
            raise ValueError("data must be in order, each once, one at least")
        if not self.issued_s <= self.expires_s <= self.issued_s + MAX_FILING_S:
            raise ValueError("a filing ends after it was issued, and within three years")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraGrant(Value):
    """What a school and an approver allow. ``target``: the school, or a room or device of it."""

    target: Identifier
    school: Identifier
    purpose: CameraPurpose
    holder: Person
    """Who signs for the school."""
    approver: Person
    issued_s: Seconds
    from_s: Seconds
    until_s: Seconds

    def __post_init__(self) -> None:
        """Refuse a span that is none, and one person as two."""
        if not self.from_s <= self.until_s <= self.from_s + MAX_GRANT_S:
            raise ValueError("a grant ends after it begins, and within a year")
        if self.issued_s > self.until_s:
            raise ValueError("a grant is issued before it ends")
        if same_person(self.holder, self.approver):
            raise ValueError("the school's holder and the approver must be two people")


Document: TypeAlias = Filing | CameraGrant
TYPES: Mapping[str, type[Document]] = {FILING_TYPE: Filing, GRANT_TYPE: CameraGrant}


class PermitKind(StrEnum):
    """Which document a permit comes from."""

    FILING = "filing"
    GRANT = "grant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit(Value):
    """What is kept of a document that was judged: facts alone, in no need of a signature."""

    kind: PermitKind
    digest: Digest
    target: Identifier
    issued_s: Seconds
    from_s: Seconds
    until_s: Seconds
    subject: Subject | None = None
    name: str = ""
    version: str = ""
    sha256: str = ""
    number: str = ""

    @property
    def line(self) -> str:
        """Names what a later document takes the place of."""
        if self.kind is PermitKind.GRANT:
            return f"{self.kind}|{self.target}"
        return "|".join(
            (self.kind, self.subject or "", self.name, self.version, self.sha256, self.target)
        )


@dataclass(frozen=True, slots=True)
class Yes:
    """It may, under this permit, until that ends."""

    permit: Permit


@dataclass(frozen=True, slots=True)
class No:
    """It may not.

    ``reason`` is ``not_filed``, ``other_file`` (filed with another hash), ``filing_expired``,
    ``no_grant``, ``grant_not_yet``, ``grant_expired`` or ``no_time``.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Permits:
    """What was judged and may be held against a moment; any order, ended ones among them."""

    permits: tuple[Permit, ...] = ()

    def model(self, name: str, version: str, sha256: str, now_s: float) -> Yes | No:
        """Tell whether a model may see a live source.

        Args:
            name: of the model.
            version: of the model.
            sha256: of its file, 64 hex digits.
            now_s: max(clock, signed-time floor), UTC seconds.
        """
        filed = [one for one in self.permits if one.subject is Subject.MODEL]
        named = [one for one in filed if (one.name, one.version) == (name, version)]
        own = [one for one in named if one.sha256 == sha256]
        if found := self._longest(own, now_s):
            return Yes(found)
        if own:
            return No("filing_expired")
        return No("other_file" if named else "not_filed")

    def camera(self, now_s: float) -> Yes | No:
        """Tell whether the camera may be opened; ``now_s`` as for ``model``."""
        grants = [one for one in self.permits if one.kind is PermitKind.GRANT]
        if found := self._longest(grants, now_s):
            return Yes(found)
        if any(now_s < one.from_s < one.until_s for one in grants):
            return No("grant_not_yet")
        return No("grant_expired" if grants else "no_grant")

    def expiring(self, now_s: float) -> tuple[Permit, ...]:
        """Return what holds now and in 30 days does not, with nothing in its place by then."""
        then_s = now_s + SOON_S
        return tuple(
            one
            for one in self.permits
            if self._longest([one], now_s) and isinstance(self._again(one, then_s), No)
        )

    def _again(self, one: Permit, then_s: float) -> Yes | No:
        if one.kind is PermitKind.GRANT:
            return self.camera(then_s)
        if one.subject is Subject.MODEL:
            return self.model(one.name, one.version, one.sha256, then_s)
        found = self._longest([other for other in self.permits if other.line == one.line], then_s)
        return Yes(found) if found else No("filing_expired")

    def _longest(self, among: Collection[Permit], now_s: float) -> Permit | None:
        holding = [
            one
            for one in among
            if one.from_s <= now_s < one.until_s and not self._is_replaced(one, now_s)
        ]
        return max(holding, key=lambda one: (one.until_s, one.digest), default=None)

    def _is_replaced(self, one: Permit, now_s: float) -> bool:
        return any(
            other.line == one.line and other.issued_s > one.issued_s and other.from_s <= now_s
            for other in self.permits
        )


def payload(document: Document) -> bytes:
    """Write a document as what gets signed: canonical JSON, defaults left out."""
    return strict_json.canonical(to_json(document))


def type_of(document: Document) -> str:
    """Return the payload type of a document."""
    return FILING_TYPE if isinstance(document, Filing) else GRANT_TYPE


def permit_of(said: Document, name: str) -> Permit:
    """Return the facts of a document; ``name`` is its digest."""
    if isinstance(said, CameraGrant):
        return Permit(
            kind=PermitKind.GRANT,
            digest=name,
            target=said.target,
            issued_s=said.issued_s,
            from_s=said.from_s,
            until_s=said.until_s,
        )
    return Permit(
        kind=PermitKind.FILING,
        digest=name,
        target=said.scope,
        issued_s=said.issued_s,
        from_s=said.issued_s,
        until_s=said.expires_s,
        subject=said.subject,
        name=said.name,
        version=said.version,
        sha256=said.sha256 or "",
        number=said.number,
    )


def permit_from_json(said: Mapping[str, Any]) -> Permit:
    """Read one that we wrote ourselves (``records.to_json``); nothing is validated.

    Raises:
        TypeError: it has an unknown field, or lacks one.
        ValueError: a value that no field of its kind has.
    """
    subject = said.get("subject")
    kinds = {"kind": PermitKind(said["kind"]), "subject": Subject(subject) if subject else None}
    return Permit(**{**said, **kinds})


def same_person(one: str, other: str) -> bool:
    """Tell whether two names are one person's, however they are typed."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
