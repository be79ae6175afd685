"""What the console shows of enrolment. Pure reads; who may ask is decided by ``access.policy``."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ketang_center.access import policy
from ketang_center.access.policy import Action, Actor
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.values import Asset, Code, Reason, Waiting
from ketang_center.registry.database import Registry
from ketang_center.registry.imports import agent_runs_on
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Kind, Level, Unit

DAY_MS = 86_400_000
ENDS_SOON_MS = 30 * DAY_MS
"""A certificate of 90 days is renewed after 60; with 30 left it should have been."""
_COUNTS = """
SELECT school, kind, count(*), sum(out IS NOT NULL),
  sum(out IS NULL AND claimed_ms IS NOT NULL), sum(out IS NULL AND claimed_ms IS NULL),
  sum(out IS NULL AND until_ms > ?1 AND until_ms <= ?2), sum(out IS NULL AND until_ms <= ?1)
FROM (SELECT a.school, a.kind, a.claimed_ms, b.device AS out,
  (SELECT max(until_ms) FROM certificate c WHERE c.device = a.device AND c.revoked_ms IS NULL)
    AS until_ms
  FROM asset a LEFT JOIN barred b ON b.device = a.device {where})
GROUP BY school, kind
"""
_FEW_SCHOOLS = 100
RENEWALS = frozenset({Reason.EXPIRED_TOO_LONG, Reason.SUPERSEDED})
"""Why a renewal waits: approved, the device goes on under the id it has."""
_OF_SCHOOL = """
SELECT a.device, max(c.until_ms), b.at_ms
FROM asset a LEFT JOIN certificate c ON c.device = a.device AND c.revoked_ms IS NULL
LEFT JOIN barred b ON b.device = a.device WHERE a.school = ? GROUP BY a.device
"""


class AssetState(StrEnum):
    """How far a registered device has come."""

    ENROLLED = "enrolled"
    UNCLAIMED = "unclaimed"
    OUT = "out"
    NO_AGENT = "no_agent"
    """A projector, a sensor: it is on the list and will never enrol."""


class CodeState(StrEnum):
    """Whether a code still opens anything."""

    OPEN = "open"
    USED_UP = "used_up"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Fault(StrEnum):
    """Why a request cannot be approved as asked."""

    NAME_ONE = "name_one"
    UNKNOWN = "unknown"
    TWICE = "twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchoolCounts:
    """A school's devices by state. ``registered`` is the sum of the four that follow it."""

    school: Unit
    registered: int = 0
    enrolled: int = 0
    unclaimed: int = 0
    out: int = 0
    no_agent: int = 0
    waiting: int = 0
    ending: int = 0
    ended: int = 0

    @property
    def urgency(self) -> tuple[int, int]:
        """What a person has to do there first: sorts the most urgent first."""
        return -self.waiting, -(self.ended + self.ending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What approving a request would do.

    Attributes:
        typed: the inventory number that was typed or suggested.
        asset: what the device would become.
        loses: the device id that would be out for ever by it; empty: none.
        was_out: the asset was thrown out before, and comes back under a new id.
        code: what stands in the way even then: a code that is spent.
    """

    waiting: Waiting
    school: Unit
    typed: str
    asset: Asset | None
    loses: str
    was_out: bool
    fault: Fault | None
    code: CodeState | None

    @property
    def plain(self) -> bool:
        """Whether nothing about it needs a second look."""
        return (
            self.asset is not None
            and not self.loses
            and not self.was_out
            and self.fault is None
            and self.code is None
            and self.waiting.reason in {Reason.ASKED, Reason.EXPIRED_TOO_LONG}
        )

    @property
    def fixed(self) -> bool:
        """Whether it can be no other asset: a renewal keeps the id it has."""
        return self.waiting.reason in RENEWALS


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRow:
    """A registered device of a school, as a list shows it."""

    asset: Asset
    state: AssetState
    until_ms: int | None
    """When its certificate ends; None without one."""
    out_ms: int | None


def schools(tree: Tree, actor: Actor, action: Action) -> list[Unit]:
    """Return the schools where an actor may do something, in the tree's order."""
    return [one for top in policy.reach(actor, action, tree) for one in _schools(tree, tree[top])]


def _schools(tree: Tree, unit: Unit) -> Iterator[Unit]:
    if unit.level is Level.SCHOOL:
        yield unit
    elif unit.level is not Level.ROOM:
        for child in tree.children(unit.id):
            yield from _schools(tree, child)


def waiting_at(book: Book) -> Mapping[str, int]:
    """Return how many requests wait, by school."""
    rows = book.rows.table(
        "SELECT school, count(*) FROM waiting WHERE verdict = '' GROUP BY school"
    )
    return dict(rows)


def waiting_for(book: Book | None, tree: Tree, actor: Actor) -> int | None:
    """Return how many requests wait for an actor; None where he decides none."""
    if book is None or not policy.reach(actor, Action.ENROL, tree):
        return None
    return sum(
        count
        for school, count in waiting_at(book).items()
        if policy.may(actor, Action.ENROL, tree, school)
    )


def counts(book: Book, of: Iterable[Unit], now_ms: int) -> list[SchoolCounts]:
    """Return each school's counts, where there is most to do first."""
    of = list(of)
    found: dict[str, dict[str, int]] = {}
    few = [one.id for one in of] if len(of) <= _FEW_SCHOOLS else []
    where = f"WHERE a.school IN ({', '.join('?' * len(few))})" if few else ""
    query = _COUNTS.format(where=where)
    for school, kind, *numbers in book.rows.table(query, now_ms, now_ms + ENDS_SOON_MS, *few):
        total, out, enrolled, unclaimed, ending, ended = numbers
        runs = agent_runs_on(Kind(kind))
        for name, number in (
            ("registered", total),
            ("out", out),
            ("enrolled", enrolled),
            ("unclaimed" if runs else "no_agent", unclaimed),
            ("ending", ending or 0),
            ("ended", ended or 0),
        ):
            at = found.setdefault(school, {})
            at[name] = at.get(name, 0) + number
    waiting = waiting_at(book)
    made = [
        SchoolCounts(school=one, waiting=waiting.get(one.id, 0), **found.get(one.id, {}))
        for one in of
    ]
    return sorted(made, key=lambda one: one.urgency)


def queue(book: Book, of: Collection[str], *, school: str = "", reason: str = "") -> list[Waiting]:
    """Return the requests that wait at these schools, longest first, narrowed if asked."""
    return [
        one
        for one in book.waiting()
        if one.school in of and school in {"", one.school} and reason in {"", one.reason.value}
    ]


def plans(
    book: Book,
    tree: Tree,
    asked: Sequence[Waiting],
    now_ms: int,
    typed: Mapping[int, str] | None = None,
) -> list[Plan]:
    """Tell what approving these requests would do, with the inventory numbers typed if any."""
    taken: set[str] = set()
    found = []
    for one in asked:
        plan = _plan(book, tree, one, now_ms, (typed or {}).get(one.no))
        if plan.asset is not None and plan.asset.device in taken:
            plan = _with_fault(plan, Fault.TWICE)
        if plan.asset is not None:
            taken.add(plan.asset.device)
        found.append(plan)
    return found


def _plan(book: Book, tree: Tree, one: Waiting, now_ms: int, typed: str | None) -> Plan:
    matching = book.asset_of(one.device) if one.device else None
    if one.reason in RENEWALS:
        asset = matching
    elif typed is None:
        # What the device told is only a suggestion here: a person looks at it before it counts.
        asset = matching or (book.asset(one.school, one.asset) if one.asset else None)
    else:
        asset = book.asset(one.school, typed) if typed else None
    if asset is not None and asset.school != one.school:
        asset = None
    wanted = typed if typed is not None else (asset.asset if asset else "")
    fault = None
    if asset is None:
        fault = Fault.UNKNOWN if wanted else Fault.NAME_ONE
    renews = one.reason in RENEWALS
    out = asset is not None and book.is_barred(asset.device)
    claimed = asset is not None and asset.claimed_ms is not None
    return Plan(
        waiting=one,
        school=tree[one.school],
        typed=wanted,
        asset=asset,
        loses=asset.device if asset and claimed and not out and not renews else "",
        was_out=out and not renews,
        fault=fault,
        code=_spent(book, one, now_ms),
    )


def _with_fault(plan: Plan, fault: Fault) -> Plan:
    return Plan(
        waiting=plan.waiting,
        school=plan.school,
        typed=plan.typed,
        asset=None,
        loses="",
        was_out=False,
        fault=fault,
        code=plan.code,
    )


def _spent(book: Book, one: Waiting, now_ms: int) -> CodeState | None:
    code = book.code_named(one.code_id) if one.code_id else None
    state = code_state(code, now_ms) if code else None
    return None if state is CodeState.OPEN else state


def code_state(code: Code, now_ms: int) -> CodeState:
    """Return whether a code still opens anything."""
    if code.withdrawn:
        return CodeState.WITHDRAWN
    if now_ms >= code.expires_ms:
        return CodeState.EXPIRED
    return CodeState.USED_UP if code.used >= code.uses else CodeState.OPEN


def assets(book: Book, school: str) -> list[AssetRow]:
    """Return a school's registered devices, by inventory number."""
    told = {
        device: (until_ms, out_ms)
        for device, until_ms, out_ms in book.rows.table(_OF_SCHOOL, school)
    }
    return [
        AssetRow(
            asset=one,
            state=_state(one, out=told[one.device][1] is not None),
            until_ms=told[one.device][0],
            out_ms=told[one.device][1],
        )
        for one in sorted(book.assets(school), key=lambda one: _natural(one.asset))
        if one.device in told
    ]


def _natural(number: str) -> list[tuple[int, int, str]]:
    """Sort A2 before A10."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part.casefold())
        for part in re.split(r"(\d{1,15})", number)
    ]


def _state(asset: Asset, *, out: bool) -> AssetState:
    if out:
        return AssetState.OUT
    if asset.claimed_ms is not None:
        return AssetState.ENROLLED
    return AssetState.UNCLAIMED if agent_runs_on(asset.kind) else AssetState.NO_AGENT


def school_of(book: Book, registry: Registry, device: str, now_ms: int) -> str:
    """Return the school whose people decide on a device: where it stands, else where it enrolled.

    Empty where nobody knows it.
    """
    there = registry.school_of(device, now_ms)
    asset = None if there else book.asset_of(device)
    return there or (asset.school if asset else "")
