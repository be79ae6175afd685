"""Enrolment: how far each school is, who waits for a decision, and throwing a device out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import FormData

from ketang_center import enrolment_views as views
from ketang_center.access.policy import Action, may
from ketang_center.access.scope import OutOfScope
from ketang_center.enrolment.office import Office, Why
from ketang_center.enrolment.values import Reason
from ketang_center.registry.values import Level, Unit
from ketang_center.web.render import render
from ketang_center.web.visitor import allow, context_of, reach, visitor_of
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_center.enrolment.book import Book

PAGE_REQUESTS = 100
PAGE_SCHOOLS = 200
PAGE_DEVICES = 200
MOST_SUGGESTED = 500
MAX_NUMBER = 64
REASONS_OUT = (Why.LOST, Why.STOLEN, Why.SCRAPPED, Why.STOCK)
WAIT_REASONS = (
    Reason.ALREADY_CLAIMED,
    Reason.NOT_REGISTERED,
    Reason.DOUBTFUL_SERIAL,
    Reason.ASKED,
    Reason.EXPIRED_TOO_LONG,
    Reason.SUPERSEDED,
)
"""Why a request may wait; any other reason turns it away at once."""
router = APIRouter(default_response_class=HTMLResponse)
T = TypeVar("T")
_Page = Annotated[int, Query(ge=1, le=1_000_000)]
_Count = Annotated[int, Query(ge=0, le=100_000)]


def paged(items: Sequence[T], page: int, size: int) -> tuple[Sequence[T], int, int]:
    """Return a page of items, its number and how many there are; past the end, the last one."""
    pages = max(1, -(-len(items) // size))
    page = min(page, pages)
    return items[(page - 1) * size : page * size], page, pages


def book_of(request: Request) -> "Book":
    """Return the enrolment book.

    Raises:
        OutOfScope: nothing of enrolment is shown here.
    """
    book = context_of(request).book
    if book is None:
        raise OutOfScope("enrolment")
    return book


def schools_for(request: Request, action: Action) -> list[Unit]:
    """Return the schools where the visitor may do something.

    Raises:
        OutOfScope: nowhere.
    """
    reach(request, action)
    tree = context_of(request).registry.tree()
    return views.schools(tree, visitor_of(request).actor, action)


def school_for(request: Request, action: Action, school: str) -> Unit:
    """Return a school where the visitor may do something.

    Raises:
        OutOfScope: he may not, it is no school, or there is none.
    """
    allow(request, action, school)
    unit = context_of(request).registry.tree()[school]
    if unit.level is not Level.SCHOOL:
        raise OutOfScope(school)
    return unit


def text_of(form: FormData, key: str) -> str:
    """Return a field of a form as text, without blanks around it; of a file nothing."""
    found = form.get(key, "")
    return found.strip()[:MAX_NUMBER] if isinstance(found, str) else ""


@router.get("/enrolment")
async def overview(
    request: Request,
    *,
    school: str = "",
    reason: str = "",
    page: _Page = 1,
    schools: _Page = 1,
    all: str = "",  # noqa: A002  (the name in the address)
    done: str = "",
    n: _Count = 0,
    missed: _Count = 0,
) -> Response:
    """Show who waits for a decision, and how far each school is."""
    book, context = book_of(request), context_of(request)
    now_ms, tree = context.clock(), context.registry.tree()
    actor = visitor_of(request).actor
    seen = views.counts(book, schools_for(request, Action.VIEW), now_ms)
    mine = {one.id for one in views.schools(tree, actor, Action.ENROL)}
    requests = views.queue(book, mine, school=school[:MAX_NUMBER], reason=reason[:MAX_NUMBER])
    everyone = views.queue(book, mine)
    some, page, pages = paged(requests, page, PAGE_REQUESTS)
    rows, rows_page, rows_pages = paged(seen, schools, PAGE_SCHOOLS)
    return render(
        request,
        "enrolment.html",
        plans=views.plans(book, tree, some, now_ms),
        asked=(school, reason),
        total=len(requests),
        everyone=len(everyone),
        oldest_ms=min((one.asked_ms for one in everyone), default=0),
        at=[tree[one] for one in dict.fromkeys(one.school for one in everyone)],
        reasons=[one for one in WAIT_REASONS if any(w.reason is one for w in everyone)],
        page=page,
        pages=pages,
        rows=rows,
        rows_page=rows_page,
        rows_pages=rows_pages,
        sums=[
            sum(getattr(one, name) for one in seen)
            for name in ("registered", "enrolled", "unclaimed", "out", "no_agent")
        ],
        ended=sum(one.ended for one in seen),
        ending=sum(one.ending for one in seen),
        mine=mine,
        all=bool(all),
        done=done if done in {"approved", "refused", "registered"} else "",
        n=n,
        missed=missed,
    )


@router.get("/enrolment/waiting")
async def waiting(request: Request) -> Response:
    """Give the mark in the menu: how many requests wait for this visitor."""
    context = context_of(request)
    count = views.waiting_for(context.book, context.registry.tree(), visitor_of(request).actor)
    return render(request, "_waiting.html", n=count or 0)


@router.get("/enrolment/school/{school}")
async def one_school(
    request: Request,
    school: str,
    *,
    state: str = "",
    q: str = "",
    page: _Page = 1,
    done: str = "",
    what: str = "",
) -> Response:
    """Show a school's registered devices, each with its state and certificate."""
    unit, book = school_for(request, Action.ENROL, school), book_of(request)
    context = context_of(request)
    now_ms, sought = context.clock(), q.strip()[:MAX_NUMBER]
    rows = views.assets(book, school)
    chosen = _narrowed(rows, state, sought, now_ms + views.ENDS_SOON_MS)
    some, page, pages = paged(chosen, page, PAGE_DEVICES)
    (count,) = views.counts(book, [unit], now_ms)
    return render(
        request,
        "enrolment_school.html",
        unit=unit,
        count=count,
        rows=some,
        total=len(chosen),
        states=list(views.AssetState),
        asked=(state, sought),
        page=page,
        pages=pages,
        soon_ms=now_ms + views.ENDS_SOON_MS,
        may_throw_out=may(
            visitor_of(request).actor, Action.REVOKE, context.registry.tree(), school
        ),
        open_codes=sum(
            views.code_state(one, now_ms) is views.CodeState.OPEN for one in book.codes(school)
        ),
        done=done if done == "out" else "",
        what=what[:MAX_NUMBER],
    )


@router.get("/enrolment/out/{device}")
async def ask_out(request: Request, device: str) -> Response:
    """Say what throwing a device out means, and ask why it is done."""
    return _out(request, device)


@router.post("/enrolment/out/{device}")
async def throw_out(
    request: Request,
    device: str,
    why: Annotated[str, Form()] = "",
    sure: Annotated[str, Form()] = "",
) -> Response:
    """Bar a device for ever."""
    if why not in {one.value for one in REASONS_OUT} or sure != "yes":
        return _out(request, device, 400, why=why)
    school = _school_of(request, device)
    try:
        office_of(request).throw_out(device, Why(why), visitor_of(request).name)
    except BadInput:
        raise OutOfScope(device) from None
    told = urlencode({"done": "out", "what": device})
    return RedirectResponse(f"/enrolment/school/{quote(school, safe='')}?{told}", 303)


def _narrowed(
    rows: Sequence[views.AssetRow], state: str, sought: str, soon_ms: int
) -> list[views.AssetRow]:
    """The rows of a state, or whose certificate ends soon, that bear a text."""
    low = sought.casefold()
    return [
        one
        for one in rows
        if (
            state in {"", one.state.value}
            or (state == "ending" and one.until_ms is not None and one.until_ms <= soon_ms)
        )
        and any(
            low in text.casefold() for text in (one.asset.asset, one.asset.device, one.asset.serial)
        )
    ]


def _out(request: Request, device: str, status: int = 200, why: str = "") -> Response:
    school, context, book = _school_of(request, device), context_of(request), book_of(request)
    certificates = book.certificates_of(device)
    return render(
        request,
        "enrolment_out.html",
        status,
        device=device,
        known=context.registry.device(device),
        asset=book.asset_of(device),
        unit=context.registry.tree()[school],
        room=next((one.room for one in reversed(context.registry.placements(device))), ""),
        until_ms=max((one.until_ms for one in certificates if one.revoked_ms is None), default=0),
        barred=book.is_barred(device),
        reasons=REASONS_OUT,
        why=why,
    )


def _school_of(request: Request, device: str) -> str:
    context = context_of(request)
    school = views.school_of(book_of(request), context.registry, device, context.clock())
    allow(request, Action.REVOKE, school)
    return school


def office_of(request: Request) -> Office:
    """Return the office that lets in and throws out, for this request."""
    context = context_of(request)
    return Office(book_of(request), context.registry, context.audit, context.clock)
