"""The security situation: what was refused, what stands out, who was thrown out.

The log knows no units. Who looks after the whole tree sees all of it; others see the lines whose
name is theirs. What a name is, the kind of the line tells: an account that somebody calls like
another's device takes no line of that device away, and gives him none.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from ketang_center import enrolment_views
from ketang_center.access import policy
from ketang_center.access.policy import Action, Actor
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.values import Revocation
from ketang_center.security import Happening, SecurityLog, Tally
from ketang_center.view_values import Context
from ketang_provisioning.brokers import REVOKED

DAY_MS = 86_400_000
MOST_LINES = 200
MOST_THROWN_OUT = 50
LOOKED_AT = 2_000
"""Of the latest minutes' lines."""
LOCKS = frozenset({"login_locked", "enrol_locked"})
STILL_TRYING = frozenset({"ingest_revoked", "enrol_revoked", "revoked_certificate"})
BREAK_INS = frozenset(
    {
        "takeover_tried",
        "forbidden_publish",
        "forbidden_subscribe",
        "foreign_certificate",
        "wrong_certificate",
        "unknown_name",
        "enrol_key_in_use",
        "ingest_wrong_shard",
    }
)
_PREFIX = "broker_"
_OF_ACCOUNTS = frozenset({"csrf", "forbidden", "oversized"})
_END = b"-----END X509 CRL-----"
"""One list follows another in the file, one of each authority."""


class Enforced(StrEnum):
    """How far a revocation has come; that its messages are refused holds for each."""

    LISTED = "listed"
    PENDING = "pending"
    NOTHING = "nothing"
    """It holds no certificate that is still valid."""


class Standing(StrEnum):
    """What may stand out."""

    LOCKS = "locks"
    STILL_TRYING = "still_trying"
    BREAK_INS = "break_ins"
    CLONES = "clones"
    WAITING = "waiting"
    ENDED = "ended"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class Point:
    """Something that stands out, and how many of it."""

    what: Standing
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrownOut:
    """A revocation. ``tries``: messages and requests under its name in the last 24 hours."""

    revocation: Revocation
    school: str
    enforced: Enforced
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Refusals of one kind, name and source; ``detail`` is that of the last."""

    what: str
    who: str
    source: str
    count: int
    first_ms: int
    last_ms: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The page. ``whole``: the viewer sees the centre's whole log."""

    whole: bool
    points: tuple[Point, ...]
    tallies: tuple[Tally, ...]
    lines: tuple[Line, ...]
    thrown_out: tuple[ThrownOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What the security log held at a moment. ``named``: kind, name, how often, last ms."""

    named: tuple[tuple[str, str, int, int], ...]
    tallies: tuple[Tally, ...]
    recent: tuple[Happening, ...]


def read_log(context: Context, now_ms: int) -> Log:
    """Read what the page needs. Slow after a flood: for a thread that nobody waits for.

    On a connection of its own, so that no refusal waits to be noted meanwhile.
    """
    if context.data_dir is None:
        return _read(context.security, now_ms - DAY_MS)
    with closing(SecurityLog(context.data_dir / "security.db")) as log:
        return _read(log, now_ms - DAY_MS)


def _read(log: SecurityLog, since_ms: int) -> Log:
    return Log(
        named=tuple(log.named(since_ms)),
        tallies=tuple(log.tallies(since_ms)),
        recent=tuple(log.recent(LOOKED_AT)),
    )


def kind_of(what: str) -> str:
    """Return the kind of refusal a line is filed under: brokers' kinds bear no prefix."""
    return what.removeprefix(_PREFIX)


def situation(context: Context, actor: Actor, log: Log) -> Situation:
    """Gather what an actor may see of the security situation."""
    whole = policy.everywhere(actor, Action.SEE_SECURITY, context.registry.tree())
    if whole:
        seen, tallies, lines = log.named, list(log.tallies), log.recent
        is_mine: Callable[[str], bool] = _anything
    else:
        mine = _mine(context, actor)
        seen = tuple(one for one in log.named if mine.holds(one[0], one[1]))
        lines = tuple(one for one in log.recent if mine.holds(one.what, one.who))
        tallies, is_mine = _summed(seen), mine.devices.__contains__
    return Situation(
        whole=whole,
        points=tuple(_points(context, actor, tallies)),
        tallies=tuple(tallies),
        lines=tuple(_joined(lines)[:MOST_LINES]),
        thrown_out=tuple(_thrown_out(context, is_mine, seen)),
    )


def _anything(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mine:
    """The names of the actor's own, each kind apart; read at once, not line by line."""

    devices: frozenset[str]
    codes: frozenset[str]
    accounts: frozenset[str]

    def holds(self, what: str, name: str) -> bool:
        """Tell whether a line of this kind under this name is the actor's."""
        if what in _OF_ACCOUNTS or what.startswith("login_"):
            return name in self.accounts
        if what.startswith("enrol_"):
            return name in self.codes or name in self.devices
        return name in self.devices


def _mine(context: Context, actor: Actor) -> _Mine:
    tree, now_ms = context.registry.tree(), context.clock()
    schools = {one.id for one in enrolment_views.schools(tree, actor, Action.SEE_SECURITY)}
    stands = context.registry.schools_at(now_ms)
    mine = {device for device, school in stands.items() if school in schools}
    codes: frozenset[str] = frozenset()
    if context.book is not None:
        assets = context.book.rows.table("SELECT device, school FROM asset")
        # One that stands elsewhere by now belongs to where it stands.
        mine |= {device for device, school in assets if stands.get(device, school) in schools}
        codes = frozenset(one.id for one in context.book.codes() if one.school in schools)
    return _Mine(
        devices=frozenset(mine),
        codes=codes,
        accounts=frozenset(
            one.name
            for one in context.accounts.all()
            # One without a grant belongs to nobody below the top.
            if one.grants
            and all(policy.may(actor, Action.SEE_SECURITY, tree, has.unit) for has in one.grants)
        ),
    )


def _summed(named: Iterable[tuple[str, str, int, int]]) -> list[Tally]:
    found: dict[str, tuple[int, int]] = {}
    for what, _, count, last_ms in named:
        before = found.get(what, (0, 0))
        found[what] = before[0] + count, max(before[1], last_ms)
    made = [Tally(what, count, count, last_ms) for what, (count, last_ms) in found.items()]
    return sorted(made, key=lambda one: (-one.last_ms, one.what))


def _joined(happenings: Iterable[Happening]) -> list[Line]:
    """Join the minutes of one kind, name and source, so that a flood is one line."""
    found: dict[tuple[str, str, str], Line] = {}
    for one in happenings:
        key = one.what, one.who, one.source
        last = found.get(key)
        found[key] = Line(
            what=one.what,
            who=one.who,
            source=one.source,
            count=one.count + (last.count if last else 0),
            first_ms=one.last_ms,
            last_ms=last.last_ms if last else one.last_ms,
            detail=last.detail if last else one.detail,
        )
    return list(found.values())


def _points(context: Context, actor: Actor, tallies: Iterable[Tally]) -> list[Point]:
    tree, now_ms = context.registry.tree(), context.clock()
    recent = [(kind_of(one.what), one.recent) for one in tallies]
    found = [
        Point(standing, sum(count for what, count in recent if what in kinds))
        for standing, kinds in (
            (Standing.LOCKS, LOCKS),
            (Standing.STILL_TRYING, STILL_TRYING),
            (Standing.BREAK_INS, BREAK_INS),
        )
    ]
    doubted = sum(
        policy.may(
            actor,
            Action.SEE_SECURITY,
            tree,
            context.registry.school_of(device, now_ms) or "",
        )
        for device in context.reading.doubted()
    )
    found.append(Point(Standing.CLONES, doubted))
    if context.book is not None:
        schools = enrolment_views.schools(tree, actor, Action.SEE_SECURITY)
        counts = enrolment_views.counts(context.book, schools, now_ms)
        found += [
            Point(Standing.WAITING, sum(one.waiting for one in counts)),
            Point(Standing.ENDED, sum(one.ended for one in counts)),
            Point(Standing.ENDING, sum(one.ending for one in counts)),
        ]
    return [one for one in found if one.count]


def _thrown_out(
    context: Context,
    is_mine: Callable[[str], bool],
    named: Iterable[tuple[str, str, int, int]],
) -> list[ThrownOut]:
    book, now_ms = context.book, context.clock()
    if book is None:
        return []
    tries: dict[str, int] = {}
    for what, who, count, _ in named:
        if kind_of(what) in STILL_TRYING:
            tries[who] = tries.get(who, 0) + count
    listed = _listed(context.data_dir)
    found: list[ThrownOut] = []
    for one in book.revocations()[:LOOKED_AT]:
        if len(found) == MOST_THROWN_OUT:
            break
        if is_mine(one.device):
            found.append(
                ThrownOut(
                    revocation=one,
                    school=enrolment_views.school_of(book, context.registry, one.device, now_ms),
                    enforced=_enforced(book, one.device, listed, now_ms),
                    tries=tries.get(one.device, 0),
                )
            )
    return found


def _enforced(book: Book, device: str, listed: frozenset[str], now_ms: int) -> Enforced:
    valid = {one.serial for one in book.certificates_of(device) if one.until_ms > now_ms}
    if not valid:
        return Enforced.NOTHING
    return Enforced.LISTED if valid <= listed else Enforced.PENDING


def _listed(folder: Path | None) -> frozenset[str]:
    """The numbers in this centre's revocation lists; none where there is no list yet."""
    if folder is None:
        return frozenset()
    try:
        parts = (folder / REVOKED).read_bytes().split(_END)[:-1]
        lists = [x509.load_pem_x509_crl(one + _END) for one in parts]
    except (OSError, ValueError):
        return frozenset()
    return frozenset(f"{one.serial_number:x}" for made in lists for one in made)
