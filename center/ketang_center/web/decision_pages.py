"""Decisions on requests: what one does is said first, then done exactly as it was said."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import FormData

from ketang_center import enrolment_views as views
from ketang_center.access.policy import Action, may
from ketang_center.access.scope import OutOfScope
from ketang_center.enrolment.office import Office
from ketang_center.enrolment.values import Waiting
from ketang_center.web.enrolment_pages import PAGE_REQUESTS, book_of, office_of, text_of
from ketang_center.web.render import render
from ketang_center.web.visitor import allow, context_of, refused, visitor_of
from ketang_contract.errors import BadInput

MOST_SUGGESTED = 500
router = APIRouter(default_response_class=HTMLResponse)


@router.get("/enrolment/decide")
async def decide(
    request: Request,
    no: Annotated[Sequence[int], Query()] = (),
    what: str = "approve",
) -> Response:
    """Say what approving or refusing these requests does, and ask whether that is meant."""
    asked = _asked(request, no)
    return _decision(request, asked, refusing=what == "refuse", skipped=len(set(no)) - len(asked))


@router.post("/enrolment/approve")
async def approve(request: Request) -> Response:
    """Let devices in that waited; anything that would do other than was shown is shown first."""
    form, book, context = await request.form(), book_of(request), context_of(request)
    numbers = _numbers(form)
    asked = _asked(request, numbers)
    typed = {one.no: text_of(form, f"asset-{one.no}") for one in asked}
    plans = views.plans(book, context.registry.tree(), asked, context.clock(), typed)
    for plan in plans:
        if plan.loses:
            allow(request, Action.REVOKE, plan.school.id)
    shown = all(text_of(form, f"loses-{one.waiting.no}") == one.loses for one in plans)
    unsure = any(one.loses for one in plans) and form.get("sure") != "yes"
    problem = ""
    if any(one.fault for one in plans):
        problem = "fault"
    elif not shown:
        problem = "changed"
    elif unsure:
        problem = "unsure"
    if problem:
        return _decision(request, asked, refusing=False, typed=typed, problem=problem)
    office, done = office_of(request), 0
    for plan in plans:
        done += _approved(request, office, plan)
        # Each is some durable writes: others are answered in between.
        await asyncio.sleep(0)
    return _back("approved", done, len(set(numbers)) - done)


@router.post("/enrolment/refuse")
async def refuse(request: Request) -> Response:
    """Turn devices away that waited."""
    form = await request.form()
    numbers = _numbers(form)
    asked = _asked(request, numbers)
    office, done = office_of(request), 0
    for one in asked:
        try:
            office.refuse(one.no, visitor_of(request).name)
            done += 1
        except BadInput:
            continue
        await asyncio.sleep(0)
    return _back("refused", done, len(set(numbers)) - done)


def _approved(request: Request, office: Office, plan: views.Plan) -> bool:
    """Approve one request as it was shown; false where it is not so any more."""
    book, context = book_of(request), context_of(request)
    no, tree = plan.waiting.no, context.registry.tree()
    try:
        # In one transaction: a device may claim the asset between the look and the act.
        with book.transaction():
            now = views.plans(book, tree, [plan.waiting], context.clock(), {no: plan.typed})[0]
            if plan.asset is None or (now.asset, now.loses) != (plan.asset, plan.loses):
                return False
            office.approve(no, visitor_of(request).name, plan.asset.asset)
    except BadInput:
        return False  # another person was faster
    return True


def _numbers(form: FormData) -> list[int]:
    found = [one for one in form.getlist("no") if isinstance(one, str)]
    return [int(one) for one in found[:PAGE_REQUESTS] if one.isdecimal() and len(one) < 16]  # noqa: PLR2004  (far below 2^63)


def _asked(request: Request, numbers: Sequence[int]) -> list[Waiting]:
    """The requests of these numbers that wait at schools of the visitor's, one at least.

    Decided ones, other schools' and unknown ones are passed over alike.
    """
    book, context = book_of(request), context_of(request)
    actor, tree = visitor_of(request).actor, context.registry.tree()
    found = []
    for no in list(dict.fromkeys(numbers))[:PAGE_REQUESTS]:
        one = book.waiting_no(no) if 0 < no < 1 << 53 else None
        if one is not None and not one.verdict:
            found.append(one)
    own = [one for one in found if may(actor, Action.ENROL, tree, one.school)]
    if not own:
        raise OutOfScope("enrolment")
    if len(own) < len(found):
        refused(request, "forbidden", request.url.path)
    return own


def _decision(
    request: Request,
    asked: Sequence[Waiting],
    *,
    refusing: bool,
    typed: dict[int, str] | None = None,
    problem: str = "",
    skipped: int = 0,
) -> Response:
    book, context = book_of(request), context_of(request)
    found = views.plans(book, context.registry.tree(), asked, context.clock(), typed)
    places = {} if refusing else {one.school.id: one.school for one in found}
    free = {
        school: [
            one.asset for one in views.assets(book, school) if one.state is not views.AssetState.OUT
        ][:MOST_SUGGESTED]
        for school in places
    }
    alone = refusing or len(found) == 1
    return render(
        request,
        "enrolment_decide.html",
        400 if problem else 200,
        plans=[one for one in found if alone or not one.plain],
        plain=[] if alone else [one for one in found if one.plain],
        count=len(found),
        refusing=refusing,
        free={school: [one for one in of if one.claimed_ms is None] for school, of in free.items()},
        loses=sum(bool(one.loses) for one in found),
        problem=problem,
        skipped=skipped,
    )


def _back(done: str, n: int, missed: int) -> Response:
    return RedirectResponse(f"/enrolment?done={done}&n={n}&missed={max(0, missed)}", 303)
