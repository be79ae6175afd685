"""Filings (备案) and camera grants: the register, and what people do to it.

Nothing is approved by a click: what is approved is the document its approver has signed off line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center import enrolment_views
from ketang_center.access import policy
from ketang_center.access.policy import Action
from ketang_center.access.scope import OutOfScope
from ketang_center.enrolment.book import Book
from ketang_center.registry.values import Unit
from ketang_center.rollouts.filing_desk import MAX_NOTE, FilingDesk, proposal_of, trust_in
from ketang_center.rollouts.filing_refusals import FilingRefused
from ketang_center.rollouts.filing_values import FilingEntry, FilingState
from ketang_center.rollouts.filings import Filings
from ketang_center.web.enrolment_pages import paged
from ketang_center.web.render import render, units_below
from ketang_center.web.visitor import context_of, reach, scope_of, visitor_of
from ketang_contract.errors import BadInput
from ketang_contract.permits import SOON_S, DataUsed, Subject
from ketang_provisioning.permits import proposed, write_proposal

PAGE_FILINGS = 100
MOST_DIGITS = 15
DONE = ("submitted", "reviewed", "sent_back", "approved", "withdrawn", "taken", "grant_withdrawn")
_TYPED = ("subject", "name", "version", "sha256", "number", "purpose", "scope")
router = APIRouter(default_response_class=HTMLResponse)
_Text = Annotated[str, Form()]
_Upload = Annotated[UploadFile | None, File()]


@router.get("/filings")
async def listing(
    request: Request,
    *,
    state: str = "",
    soon: str = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    done: str = "",
) -> Response:
    """Show the filings that hold in the visitor's part of the tree, the newest first."""
    return _list(request, state=state, soon=bool(soon), page=page, done=done)


@router.post("/filings")
async def submit(request: Request) -> Response:
    """Hand a filing in."""
    reach(request, Action.PUBLISH)
    form = await request.form()
    typed = {name: str(form.get(name, "")).strip() for name in _TYPED}
    data = [one for one in form.getlist("data") if isinstance(one, str)]
    said = {name: text for name, text in typed.items() if text or name != "sha256"}
    with _desk(request) as desk:
        try:
            no = desk.submit(visitor_of(request).actor, proposed({**said, "data": data}, ""))
        except FilingRefused as why:
            return _list(request, 409, fault=why.reason, typed=typed, data=data)
        except BadInput as why:
            wrong = str(why).removeprefix(": ").partition(":")[0]
            return _list(request, 400, fault="field", wrong=wrong, typed=typed, data=data)
    return RedirectResponse(f"/filings/{no}?done=submitted", 303)


@router.get("/filings/grants")
async def grants(request: Request, school: str = "", done: str = "") -> Response:
    """Show the camera grants of the visitor's schools, those that end first at the top."""
    return _grants(request, school=school, done=done)


@router.post("/filings/grants")
async def take(request: Request, file: _Upload = None) -> Response:
    """Take in a grant that the school and the approver have signed."""
    if not any(_acts(request, one.id) for one in _schools(request)):
        raise OutOfScope("grants")
    raw = await file.read() if file is not None else b""
    with _desk(request) as desk:
        try:
            made = desk.take_grant(visitor_of(request).actor, raw)
        except FilingRefused as why:
            return _grants(request, 400, fault=why.reason, detail=why.detail)
    return RedirectResponse(f"/filings/grants?school={made.school}&done=taken", 303)


@router.post("/filings/grants/{digest}/withdraw")
async def withdraw_grant(request: Request, digest: str) -> Response:
    """Take a grant back: the cameras it opened close."""
    with _desk(request) as desk:
        try:
            desk.withdraw_grant(visitor_of(request).actor, digest)
        except FilingRefused as why:
            return _grants(request, 409, fault=why.reason)
    return RedirectResponse("/filings/grants?done=grant_withdrawn", 303)


@router.get("/filings/{no}")
async def one(request: Request, no: str, done: str = "") -> Response:
    """Show one filing, and what may be done with it by this visitor."""
    return _one(request, _seen(request, no), done=done)


@router.get("/filings/{no}/proposal")
async def proposal(request: Request, no: str) -> Response:
    """Give the file that the approver signs off line."""
    found = _seen(request, no)
    name = f"filing-{found.no}.toml"
    return Response(
        write_proposal(proposal_of(found)).encode(),
        media_type="application/toml",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.post("/filings/{no}/review")
async def review(request: Request, no: str, verdict: _Text = "", note: _Text = "") -> Response:
    """Find a filing right, so that it may be signed, or send it back with a why."""
    found, right = _seen(request, no), verdict == "right"
    if verdict not in {"right", "back"}:
        return _one(request, found, 400, fault="verdict")
    with _desk(request) as desk:
        try:
            actor = visitor_of(request).actor
            desk.review(actor, found.no, right=right, note="" if right else note)
        except FilingRefused as why:
            return _one(request, found, 409, fault=why.reason)
    done = "reviewed" if right else "sent_back"
    return RedirectResponse(f"/filings/{found.no}?done={done}", 303)


@router.post("/filings/{no}/approve")
async def approve(request: Request, no: str, file: _Upload = None) -> Response:
    """Take in the document that the approver has signed."""
    found = _seen(request, no)
    raw = await file.read() if file is not None else b""
    with _desk(request) as desk:
        try:
            desk.approve(visitor_of(request).actor, found.no, raw)
        except FilingRefused as why:
            return _one(request, found, 409, fault=why.reason, detail=why.detail)
    return RedirectResponse(f"/filings/{found.no}?done=approved", 303)


@router.post("/filings/{no}/withdraw")
async def withdraw(request: Request, no: str, note: _Text = "") -> Response:
    """Take a filing back: devices stop what it allowed."""
    found = _seen(request, no)
    with _desk(request) as desk:
        try:
            desk.withdraw(visitor_of(request).actor, found.no, note)
        except FilingRefused as why:
            return _one(request, found, 409, fault=why.reason)
    return RedirectResponse(f"/filings/{found.no}?done=withdrawn", 303)


@contextmanager
def _opened(request: Request) -> Iterator[Filings]:
    """Open the register.

    Raises:
        OutOfScope: this centre keeps none.
    """
    context = context_of(request)
    if context.data_dir is None:
        raise OutOfScope("filings")
    with Filings(context.data_dir / "filings.db", context.clock) as found:
        yield found


@contextmanager
def _desk(request: Request) -> Iterator[FilingDesk]:
    context = context_of(request)
    trust = context.enrolment.trust if context.enrolment else None
    if context.data_dir is None:
        raise OutOfScope("filings")
    with _opened(request) as filings, Book(context.data_dir / "enrolment.db") as book:
        yield FilingDesk(
            filings,
            context.registry.tree(),
            context.audit,
            lambda: trust_in(trust),
            context.clock,
            book,
        )


def _shown(request: Request, entry: FilingEntry) -> bool:
    """Tell whether a filing holds for a part of what the visitor looks after, or around it."""
    tree, root = context_of(request).registry.tree(), scope_of(request).root
    return tree.holds(root, entry.scope) or tree.holds(entry.scope, root)


def _seen(request: Request, no: str) -> FilingEntry:
    number = int(no) if no.isascii() and no.isdecimal() and len(no) <= MOST_DIGITS else 0
    with _opened(request) as filings:
        found = filings.filing(number)
    if found is None or not _shown(request, found):
        raise OutOfScope(no[:MOST_DIGITS])
    return found


def _units(request: Request, action: Action) -> list[Unit]:
    tree = context_of(request).registry.tree()
    return units_below(tree, policy.reach(visitor_of(request).actor, action, tree))


def _list(
    request: Request,
    status: int = 200,
    *,
    state: str = "",
    soon: bool = False,
    page: int = 1,
    done: str = "",
    fault: str = "",
    wrong: str = "",
    typed: dict[str, str] | None = None,
    data: list[str] | None = None,
) -> Response:
    now_s = context_of(request).clock() // 1000
    with _opened(request) as filings:
        ending = {one.no for one in filings.expiring(now_s)}
        own = [one for one in filings.filings() if _shown(request, one)]
    chosen = [
        one
        for one in own
        if state in {"", one.state_at(now_s).value} and (not soon or one.no in ending)
    ]
    if soon:
        chosen.sort(key=lambda one: (one.expires_s, one.no))
    some, page, pages = paged(chosen, page, PAGE_FILINGS)
    return render(
        request,
        "filings.html",
        status,
        rows=some,
        total=len(chosen),
        ending=sum(one.no in ending for one in own),
        soon_nos=ending,
        now_s=now_s,
        states=list(FilingState),
        asked=(state, soon),
        page=page,
        pages=pages,
        units=_units(request, Action.PUBLISH),
        subjects=list(Subject),
        kinds=list(DataUsed),
        typed=typed or dict.fromkeys(_TYPED, ""),
        data=data or [],
        fault=fault,
        wrong=wrong,
        done=done if done in DONE else "",
    )


def _one(
    request: Request,
    found: FilingEntry,
    status: int = 200,
    *,
    fault: str = "",
    detail: str = "",
    done: str = "",
) -> Response:
    context, actor = context_of(request), visitor_of(request).actor
    tree, now_s = context.registry.tree(), context.clock() // 1000
    approves = policy.may(actor, Action.APPROVE, tree, found.scope)
    return render(
        request,
        "filing.html",
        status,
        one=found,
        state=found.state_at(now_s),
        left=found.days_left(now_s),
        soon=found.expires_s <= now_s + SOON_S,
        approves=approves,
        own=found.submitted_by == visitor_of(request).name,
        may_withdraw=approves or policy.may(actor, Action.PUBLISH, tree, found.scope),
        most_note=MAX_NOTE,
        fault=fault,
        detail=detail,
        done=done if done in DONE else "",
    )


def _grants(
    request: Request,
    status: int = 200,
    *,
    school: str = "",
    fault: str = "",
    detail: str = "",
    done: str = "",
) -> Response:
    now_s, schools = context_of(request).clock() // 1000, _schools(request)
    mine = {one.id for one in schools}
    with _opened(request) as filings:
        found = filings.grants({school} & mine if school else mine)
    acts = {one for one in mine if _acts(request, one)}
    return render(
        request,
        "grants.html",
        status,
        rows=found,
        schools=schools,
        school=school if school in mine else "",
        acts=acts,
        now_s=now_s,
        soon_s=now_s + SOON_S,
        fault=fault,
        detail=detail,
        done=done if done in DONE else "",
    )


def _schools(request: Request) -> list[Unit]:
    tree = context_of(request).registry.tree()
    return enrolment_views.schools(tree, visitor_of(request).actor, Action.VIEW)


def _acts(request: Request, school: str) -> bool:
    tree, actor = context_of(request).registry.tree(), visitor_of(request).actor
    return any(
        policy.may(actor, action, tree, school) for action in (Action.CONFIGURE, Action.APPROVE)
    )
