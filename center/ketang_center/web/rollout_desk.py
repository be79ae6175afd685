"""What the pages of rollouts share: the office opened for a visitor, and who may do what."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request

from ketang_center.access import policy
from ketang_center.access.audit import Audit
from ketang_center.access.policy import Action
from ketang_center.access.scope import OutOfScope
from ketang_center.enrolment.documents import TrustDocuments
from ketang_center.enrolment.settings import Enrolment
from ketang_center.registry.database import Registry
from ketang_center.rollout_views import RolloutViews
from ketang_center.rollouts import placing
from ketang_center.rollouts.book import Rollout, RolloutBook
from ketang_center.rollouts.filings import Filings
from ketang_center.rollouts.office import BOOK, FILINGS, Office
from ketang_center.rollouts.placing import Unplaced
from ketang_center.rollouts.trusting import TrustHeld
from ketang_center.rollouts.values import LIVE, RolloutState, What
from ketang_center.view_values import Context
from ketang_center.web.visitor import context_of, scope_of, visitor_of
from ketang_contract.errors import BadInput

_MINUTE_MS = 60_000
_SEND = frozenset({Action.PUBLISH, Action.CONFIGURE})
BY: Mapping[str, frozenset[Action]] = {
    "approve": frozenset({Action.APPROVE}),
    "pause": _SEND,
    "resume": _SEND,
    "retry": _SEND,
    "back": _SEND,
    "cancel": _SEND | {Action.APPROVE},
}
"""What may be done with a rollout, and who may: any of these rights on its target will do.

Beginning one is the publisher's. Who operates the devices may stop one, go on, and take it back: an
undo widens nothing.
"""
_IN: Mapping[str, frozenset[RolloutState]] = {
    "approve": frozenset({RolloutState.AWAITING}),
    "pause": frozenset({RolloutState.RUNNING, RolloutState.FINISHED}),
    "resume": frozenset({RolloutState.PAUSED}),
    "cancel": LIVE | {RolloutState.AWAITING},
    "retry": LIVE,
    "back": LIVE | {RolloutState.CANCELLED},
}


@dataclass(frozen=True, slots=True)
class Desk:
    """What a page of rollouts works with, while one request is answered."""

    office: Office
    book: RolloutBook
    views: RolloutViews


@contextmanager
def desk_of(request: Request) -> Iterator[Desk]:
    """Open the office for a visitor.

    Raises:
        OutOfScope: this centre keeps no rollouts, or nothing may be seen by him.
    """
    context, scope = context_of(request), scope_of(request)
    with ExitStack() as stack:
        folder = folder_of(request)
        book = stack.enter_context(RolloutBook(folder / BOOK))
        filings = stack.enter_context(Filings(folder / FILINGS, context.clock))
        trust = trust_of(context.enrolment)
        registry = context.registry
        yield Desk(
            Office(book, registry, context.audit, trust, context.clock, filings),
            book,
            RolloutViews(book, registry, scope, context.clock()),
        )


@contextmanager
def office_beside(context: Context, folder: Path) -> Iterator[tuple[Office, Registry]]:
    """Open an office with connections of its own, for long work in another thread."""
    with ExitStack() as stack:
        registry = stack.enter_context(Registry(folder / "registry.db"))
        yield (
            Office(
                stack.enter_context(RolloutBook(folder / BOOK)),
                registry,
                stack.enter_context(closing(Audit(folder / "audit.db"))),
                trust_of(context.enrolment),
                context.clock,
                stack.enter_context(Filings(folder / FILINGS, context.clock)),
            ),
            registry,
        )


def folder_of(request: Request) -> Path:
    """Return where the centre's files are.

    Raises:
        OutOfScope: there are none.
    """
    folder = context_of(request).data_dir
    if folder is None:
        raise OutOfScope("rollouts")
    return folder


def trust_of(enrolment: Enrolment | None) -> TrustHeld:
    """Return the centre's trust documents; where there are none, asking for them is refused."""
    if enrolment is None:
        return TrustHeld(_no_trust)
    # Read when it is asked for: most pages show nothing that has to be judged.
    return TrustHeld(lambda: TrustDocuments(enrolment.trust, enrolment.fingerprint).get())


def _no_trust() -> bytes:
    raise BadInput("this centre holds no trust document")


def publishes(request: Request, unit: str) -> bool:
    """Tell whether a visitor may begin rollouts on a unit."""
    tree = context_of(request).registry.tree()
    return policy.may(visitor_of(request).actor, Action.PUBLISH, tree, unit)


def may(request: Request, act: str, unit: str) -> bool:
    """Tell whether a visitor may do something with a rollout whose target lies in a unit."""
    actor, tree = visitor_of(request).actor, context_of(request).registry.tree()
    return any(policy.may(actor, one, tree, unit) for one in BY[act])


def open_acts(request: Request, desk: Desk, one: Rollout, again: int) -> list[str]:
    """Return what a visitor may do with a rollout as it is now.

    Args:
        request: the visitor's.
        desk: opened for it.
        one: the rollout.
        again: how many devices could be tried again.
    """
    unit = desk.views.unit_of(one.target)
    newest = desk.book.newest(one.target)
    also = {
        "retry": again > 0,
        "back": one.what is What.RELEASE and newest is not None and newest.no == one.no,
        "approve": visitor_of(request).name not in desk.office.look.who_brought(one),
    }
    return [act for act in BY if fits(act, one) and also.get(act, True) and may(request, act, unit)]


def fits(act: str, one: Rollout) -> bool:
    """Tell whether an act fits the state a rollout is in."""
    return one.state in _IN[act]


class Placings:
    """Which devices have no placement that fits: read off the loop, once for all pages.

    Anew when the register or a placement changed, and once a minute.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._turn = asyncio.Lock()
        self._at: tuple[int, ...] = ()
        self._found: Sequence[Unplaced] = ()

    async def unplaced(self, book: RolloutBook) -> Sequence[Unplaced]:
        """Return them, of the whole region."""
        context = self._context
        folder, now_ms = context.data_dir, context.clock()
        if folder is None:
            return ()
        async with self._turn:
            at = (context.registry.revision(), book.changes(), now_ms // _MINUTE_MS)
            if at != self._at:
                epoch = trust_of(context.enrolment).placing_epoch()
                self._found = await asyncio.to_thread(_read, folder, epoch, now_ms)
                self._at = at
            return self._found


def _read(folder: Path, epoch: int | None, now_ms: int) -> Sequence[Unplaced]:
    with Registry(folder / "registry.db") as registry, RolloutBook(folder / BOOK) as book:
        return list(placing.unplaced(book, registry, epoch, now_ms))


def placings_of(request: Request) -> Placings:
    """Return what all pages share."""
    found: Placings = request.app.state.placings
    return found
