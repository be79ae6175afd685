"""Asking devices to switch off after hours: chosen from a list, said in numbers, then followed.

The command key is on line at the centre, so a request needs no file carried to a laptop: an
operator's own right and the audit log stand behind it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center import commanding
from ketang_center.access.scope import OutOfScope
from ketang_center.command_jobs import OPEN, Jobs
from ketang_center.command_views import IN_ROOM, Choice, Eyes, choices, mine, standings
from ketang_center.enrolment_views import school_of
from ketang_center.metrics.figures import DayState
from ketang_center.view_values import Filters
from ketang_center.web import command_words
from ketang_center.web.enrolment_pages import paged
from ketang_center.web.render import render
from ketang_center.web.visitor import context_of, scope_of, visitor_of
from ketang_contract.commands import COUNTDOWN_LEAST_S, COUNTDOWN_MOST_S, What
from ketang_contract.errors import BadInput

MOST_CHOSEN = 500
"""Devices on one page to choose from; a request's form stays below what the gate lets through."""
PAGE_REQUESTS = 50
COUNTDOWNS_S = (COUNTDOWN_LEAST_S, commanding.COUNTDOWN_S, 300, COUNTDOWN_MOST_S)
_PICKS = ("rests", "all")
router = APIRouter(default_response_class=HTMLResponse)
_Devices = Annotated[Sequence[str], Form()]


def can_ask(request: Request) -> bool:
    """Tell whether this visitor may ask devices for something, here and as this office.

    In the demo nobody: whoever opens it may take any role, and this machine is among its devices.
    """
    context = context_of(request)
    if context.demo or context.data_dir is None or context.book is None:
        return False
    return bool(_eyes(request).schools())


@router.get("/devices/shut-down")
async def choose(
    request: Request,
    unit: str | None = None,
    q: str = "",
    day_state: str = "",
    pick: str = "",
) -> Response:
    """Show the devices that could be asked, to choose from."""
    filters = Filters(unit=unit or None, q=q[:100], day_state=day_state)
    if day_state not in set(DayState) or not scope_of(request).at_school:
        filters = replace(filters, day_state="")
    with _jobs_of(request) as jobs:
        found = choices(context_of(request), _eyes(request), jobs, filters)
    return _choose(request, found, filters, pick=pick if pick in _PICKS else "")


@router.post("/devices/shut-down")
async def ask(
    request: Request,
    device: _Devices = (),
    countdown_s: Annotated[int, Form()] = commanding.COUNTDOWN_S,
    sure: Annotated[str, Form()] = "",
) -> Response:
    """Say what would be asked and of how many; once that is meant, ask."""
    chosen = list(dict.fromkeys(device))[:MOST_CHOSEN]
    with _jobs_of(request) as jobs:
        found = choices(context_of(request), _eyes(request), jobs, Filters())
        named = {one.row.posted.device.id: one for one in found}
        if not set(chosen) <= set(named):
            raise OutOfScope("device")
        if not _has_key(request):
            return _choose(request, found, Filters(), status=409)
        able = [named[one] for one in chosen if named[one].barrier is None]
        if not chosen or countdown_s not in COUNTDOWNS_S:
            fault = "nothing_chosen" if not chosen else "countdown"
            return _choose(request, found, Filters(), fault=fault, status=400)
        left = [named[one] for one in chosen if named[one].barrier is not None]
        if sure != "yes" or not able:
            return _confirm(request, able, left, countdown_s)
        try:
            made = _ask(request, jobs, able, countdown_s)
        except BadInput:
            # Asked by somebody else in this very moment: what is so now is said anew.
            return _confirm(request, able, left, countdown_s, fault="not_asked", status=409)
    return RedirectResponse(f"/devices/commands/{made}?done=asked", 303)


@router.get("/devices/commands")
async def listing(
    request: Request, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1
) -> Response:
    """Show what was asked for of devices in the visitor's part, the latest first."""
    eyes = _eyes(request)
    with _jobs_of(request) as jobs:
        found = jobs.requests(eyes.schools(), PAGE_REQUESTS + 1, (page - 1) * PAGE_REQUESTS)
        rows = [
            (one, command_words.counts(mine(eyes, jobs.of_request(one.name))))
            for one in found[:PAGE_REQUESTS]
        ]
    return render(
        request,
        "commands.html",
        rows=rows,
        page=page,
        pages=page + (len(found) > PAGE_REQUESTS),
        mark=command_words.mark,
        has_key=_has_key(request),
    )


@router.get("/devices/commands/{name}")
async def one(request: Request, name: str, done: str = "") -> Response:
    """Show a request, device by device; it comes anew by itself until all of it is over."""
    eyes = _eyes(request)
    with _jobs_of(request) as jobs:
        found = mine(eyes, jobs.of_request(name[:64]))
    if not found:
        raise OutOfScope(name[:64])
    some, page, pages = paged(found, _page_of(request), MOST_CHOSEN)
    rows = standings(context_of(request), eyes, some)
    return render(
        request,
        "command.html",
        first=found[0],
        rows=rows,
        total=len(found),
        page=page,
        pages=pages,
        counts=command_words.counts(found),
        is_open=any(one.state in OPEN for one in found),
        reason=command_words.reason,
        word=command_words.state,
        kind=command_words.kind,
        mark=command_words.mark,
        masked=any(one.job.reason == IN_ROOM for one in rows),
        done=done == "asked",
    )


def _ask(request: Request, jobs: Jobs, able: Sequence[Choice], countdown_s: int) -> str:
    """Ask in the visitor's name; return the request's.

    Raises:
        OutOfScope: he may not, for one of them at least.
        BadInput: one cannot be asked any more.
    """
    context = context_of(request)
    book, registry, now_ms = context.book, context.registry, context.clock()
    if book is None:
        raise OutOfScope("commands")
    units = commanding.units_of(
        [one.row.posted.device.id for one in able],
        lambda device: school_of(book, registry, device, now_ms),
        book.is_barred,
    )
    actor = visitor_of(request).actor
    wish = commanding.Wish(what=What.SHUT_DOWN, by=actor.name, units=units, countdown_s=countdown_s)
    made = commanding.ask_as(actor, registry.tree(), jobs, context.audit, wish, now_ms)
    return made[0].request


def _choose(
    request: Request,
    found: Sequence[Choice],
    filters: Filters,
    *,
    pick: str = "",
    fault: str = "",
    status: int = 200,
) -> Response:
    tree, scope = context_of(request).registry.tree(), scope_of(request)
    able = [one for one in found if one.barrier is None]
    return render(
        request,
        "command_choose.html",
        status,
        rows=found[:MOST_CHOSEN],
        total=len(found),
        able=len(able),
        resting=sum(one.rests for one in able),
        pick=pick,
        filters=filters,
        places=[one for one in tree.walk(scope.root) if one.level in scope.levels()],
        countdowns_s=COUNTDOWNS_S,
        countdown_s=commanding.COUNTDOWN_S,
        has_key=_has_key(request),
        most=MOST_CHOSEN,
        fault=fault,
    )


def _confirm(
    request: Request,
    able: Sequence[Choice],
    left: Sequence[Choice],
    countdown_s: int,
    *,
    fault: str = "",
    status: int = 200,
) -> Response:
    return render(
        request,
        "command_confirm.html",
        status,
        able=able,
        left=left,
        countdown_s=countdown_s,
        fault=fault,
    )


@contextmanager
def _jobs_of(request: Request) -> Iterator[Jobs]:
    """Open the file of commands for a visitor.

    Raises:
        OutOfScope: there is none here, or nothing may be asked by him.
    """
    folder = context_of(request).data_dir
    if folder is None or not can_ask(request):
        raise OutOfScope("commands")
    with Jobs(folder / commanding.FILE) as jobs:
        yield jobs


def _has_key(request: Request) -> bool:
    enrolment = context_of(request).enrolment
    return enrolment is not None and commanding.has_key(enrolment.kit_key)


def _eyes(request: Request) -> Eyes:
    tree = context_of(request).registry.tree()
    return Eyes(scope_of(request), visitor_of(request).actor, tree)


def _page_of(request: Request) -> int:
    said = request.query_params.get("page", "")
    return int(said) if said.isdecimal() and 0 < len(said) < 7 and int(said) else 1  # noqa: PLR2004
