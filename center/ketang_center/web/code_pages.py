"""Enrolment codes: a list, making one that is shown once, its sheet and kit, withdrawing it."""

import logging
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center import enrolment_views as views
from ketang_center.access.policy import Action
from ketang_center.access.scope import OutOfScope
from ketang_center.enrolment import coding
from ketang_center.enrolment.settings import Enrolment
from ketang_center.enrolment.values import Code
from ketang_center.registry.values import Unit
from ketang_center.web.enrolment_pages import (
    MAX_NUMBER,
    book_of,
    paged,
    school_for,
    schools_for,
)
from ketang_center.web.render import render
from ketang_center.web.visitor import audit, context_of, visitor_of
from ketang_contract.errors import BadInput
from ketang_provisioning import codes, kits
from ketang_provisioning.keys import load_private

log = logging.getLogger("ketang.console")

PAGE_CODES = 100
USUAL_DAYS = 7
router = APIRouter(default_response_class=HTMLResponse)
_Text = Annotated[str, Form()]


@router.get("/enrolment/codes")
async def listing(
    request: Request,
    school: str = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    done: str = "",
    what: str = "",
) -> Response:
    """Show the codes of the visitor's schools, the newest first."""
    return _list(request, school[:MAX_NUMBER], page, done=done, what=what[:MAX_NUMBER])


@router.post("/enrolment/codes")
async def make(
    request: Request, school: _Text = "", uses: _Text = "", days: _Text = "", contact: _Text = ""
) -> Response:
    """Make a code and show it, this once: it is kept nowhere, so there is no way back to it."""
    unit, book, context = (
        school_for(request, Action.ENROL, school),
        book_of(request),
        context_of(request),
    )
    settings, contact = context.enrolment, contact.strip()
    if settings is None:
        return _list(request, school, fault="no_enrolment", status=409)
    asked = _number(uses, coding.MOST_USES), _number(days, coding.MOST_DAYS)
    if asked[0] is None or asked[1] is None or not coding.is_contact(contact):
        return _list(request, school, fault="code_numbers", status=400, typed=(uses, days, contact))
    now_ms = context.clock()
    try:
        text, made = coding.new_code(
            book,
            codes.read_key(settings.code_key),
            school=unit.id,
            uses=asked[0],
            days=asked[1],
            now_ms=now_ms,
            by=visitor_of(request).name,
        )
        audit(request, "code", f"{made.id}: {made.uses} uses, {asked[1]} days", unit.id)
        book.add_code(made)
    except BadInput as problem:
        # The reason names files of the server: it is for its operator, not for the page.
        log.warning("code.not_made why=%s", problem)
        return _list(request, school, fault="code_keys", status=500)
    return render(
        request,
        "enrolment_code.html",
        unit=unit,
        code=made,
        text=codes.show(text),
        url=settings.url,
        contact=contact,
        kit=_kit(settings, made, text) is not None,
        missing=sum(one.state is views.AssetState.UNCLAIMED for one in views.assets(book, unit.id)),
    )


@router.post("/enrolment/codes/{code_id}/sheet")
async def print_sheet(
    request: Request, code_id: str, code: _Text = "", contact: _Text = ""
) -> Response:
    """Give the page to print; the code comes from the page that shows it."""
    unit, made, settings, text = _shown(request, code_id, code)
    contact = contact.strip()
    page = coding.sheet_of(
        settings, unit, made, text, contact if coding.is_contact(contact) else ""
    )
    return _file(page, f"ketang-{made.id}.html", "text/html; charset=utf-8")


@router.post("/enrolment/codes/{code_id}/kit")
async def kit(request: Request, code_id: str, code: _Text = "") -> Response:
    """Give the kit for a USB stick; the code comes from the page that shows it."""
    _, made, settings, text = _shown(request, code_id, code)
    found = _kit(settings, made, text)
    if found is None:
        raise OutOfScope(code_id)
    return _file(found, f"ketang-{made.id}.zip", "application/zip")


@router.post("/enrolment/codes/{code_id}/withdraw")
async def withdraw(request: Request, code_id: str) -> Response:
    """Make a code useless; the devices it let in stay in."""
    made = _code(request, code_id)
    audit(request, "code_withdrawn", made.id, made.school)
    book_of(request).withdraw_code(made.id)
    return RedirectResponse(f"/enrolment/codes?done=withdrawn&what={made.id}", 303)


def _list(
    request: Request,
    school: str = "",
    page: int = 1,
    *,
    fault: str = "",
    status: int = 200,
    typed: tuple[str, str, str] = ("", "", ""),
    done: str = "",
    what: str = "",
) -> Response:
    book, context = book_of(request), context_of(request)
    schools = schools_for(request, Action.ENROL)
    mine, now_ms = {one.id for one in schools}, context.clock()
    found = [one for one in book.codes() if one.school in mine and school in {"", one.school}]
    some, page, pages = paged(found, page, PAGE_CODES)
    counts = views.counts(book, [one for one in schools if school == one.id], now_ms)
    return render(
        request,
        "enrolment_codes.html",
        status,
        codes=[(one, views.code_state(one, now_ms)) for one in some],
        total=len(found),
        page=page,
        pages=pages,
        schools=schools,
        school=school if school in mine else "",
        enrols=context.enrolment is not None,
        uses=typed[0] or (str(counts[0].unclaimed or 1) if counts else "1"),
        unclaimed=counts[0].unclaimed if counts else None,
        days=typed[1] or str(USUAL_DAYS),
        contact=typed[2][: coding.MAX_CONTACT],
        limits=(coding.MOST_USES, coding.MOST_DAYS, coding.MAX_CONTACT),
        fault=fault,
        done=done if done == "withdrawn" else "",
        what=what,
    )


def _kit(settings: Enrolment, made: Code, text: str) -> bytes | None:
    """The kit of a code; None, and a line in the log, where every device would refuse it."""
    try:
        return kits.zip_kit(
            coding.kit_of(settings, made, text),
            load_private(settings.kit_key, None),
            settings.trust.read_bytes(),
        )
    except (BadInput, OSError) as problem:
        log.warning("kit.not_made why=%s", problem)
        return None


def _code(request: Request, code_id: str) -> Code:
    found = book_of(request).code_named(code_id)
    if found is None:
        raise OutOfScope(code_id)
    school_for(request, Action.ENROL, found.school)
    return found


def _shown(request: Request, code_id: str, text: str) -> tuple[Unit, Code, Enrolment, str]:
    """A code whose text the visitor holds.

    Raises:
        OutOfScope: it is not his school's, or the text is not that of this code.
    """
    made, settings = _code(request, code_id), context_of(request).enrolment
    try:
        fits = settings is not None and (
            codes.fingerprint(text, codes.read_key(settings.code_key)) == made.fingerprint
        )
    except BadInput:
        fits = False
    if not fits or settings is None:
        raise OutOfScope(code_id)
    return context_of(request).registry.tree()[made.school], made, settings, codes.normalise(text)


def _file(content: bytes, name: str, media: str) -> Response:
    return Response(
        content, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _number(text: str, most: int) -> int | None:
    text = text.strip()
    if not text.isdecimal() or len(text) > len(str(most)):
        return None
    return int(text) if 1 <= int(text) <= most else None
