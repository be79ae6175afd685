"""The audit log, newest first, and whether its chain holds."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from ketang_center.access import policy
from ketang_center.access.audit import Asked, Audit, Entry, Verdict
from ketang_center.access.policy import Action
from ketang_center.web.render import render
from ketang_center.web.visitor import context_of, reach, visitor_of

router = APIRouter(default_response_class=HTMLResponse)
PAGE_ENTRIES = 100
_MOST_PAGES = 1_000_000
_AGAIN_MS = 60_000


class Chain:
    """Walks the chain at most once a minute, whoever asks, and not on the event loop's thread."""

    def __init__(self, audit: Audit, clock: Callable[[], int]) -> None:
        self._audit, self._clock = audit, clock
        self._turn = asyncio.Lock()
        self._found: tuple[int, Verdict] | None = None

    async def verdict(self) -> tuple[int, Verdict]:
        """Return when the chain was walked last, and what that found."""
        async with self._turn:
            if self._found is None or self._clock() - self._found[0] >= _AGAIN_MS:
                at_ms = self._clock()
                self._found = (at_ms, await asyncio.to_thread(self._audit.verify))
            return self._found


@dataclass(frozen=True, slots=True)
class _Look:
    entries: list[Entry]
    total: int
    page: int
    pages: int
    actions: list[str]


def _look(audit: Audit, asked: Asked, page: int) -> _Look:
    """Read a page of the log; slow over years of it, so not on the event loop's thread."""
    total = audit.count(asked)
    pages = max(1, -(-total // PAGE_ENTRIES))
    page = min(page, pages)
    entries = audit.page(asked, limit=PAGE_ENTRIES, skip=(page - 1) * PAGE_ENTRIES)
    return _Look(entries, total, page, pages, audit.actions(asked.units))


@router.get("/audit")
async def log(
    request: Request,
    who: str = "",
    action: str = "",
    page: Annotated[int, Query(ge=1, le=_MOST_PAGES)] = 1,
) -> Response:
    """Show what concerns the visitor's part of the tree; everything to who has all of it."""
    tops = reach(request, Action.AUDIT)
    context, actor = context_of(request), visitor_of(request).actor
    tree = context.registry.tree()
    units = None
    if not policy.everywhere(actor, Action.AUDIT, tree):
        units = frozenset(one.id for top in tops for one in tree.walk(top))
    asked = Asked(who=who.strip()[:64], action=action[:64], units=units)
    found = await asyncio.to_thread(_look, context.audit, asked, page)
    chain: Chain = request.app.state.chain
    at_ms, verdict = await chain.verdict()
    return render(
        request,
        "audit.html",
        entries=found.entries,
        total=found.total,
        page=found.page,
        pages=found.pages,
        asked=asked,
        actions=found.actions,
        verdict=verdict,
        verified_ms=at_ms,
        whole=units is None,
    )
