"""Clones: devices that turned out to be two machines, and a person's decision on them.

A case reads every row kept of its device, so cases are read beside the page's thread, on a reader
of their own, of the visitor's devices alone, and one page's at a time.
"""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center import clones
from ketang_center.access import policy
from ketang_center.access.policy import Action
from ketang_center.access.scope import OutOfScope
from ketang_center.clones import Case
from ketang_center.enrolment.office import Office, Why
from ketang_center.registry.calendars import local
from ketang_center.registry.values import Device
from ketang_center.store.reading import StoreReader
from ketang_center.store.sightings import Future, Ruling
from ketang_center.web import shape
from ketang_center.web.render import render
from ketang_center.web.visitor import allow, audit, context_of, reach, visitor_of
from ketang_contract.errors import BadInput

MOST_DECIDED = 100
MOST_BOOTS = 100
MAX_BOOT = 64
router = APIRouter(default_response_class=HTMLResponse)
_deciding = asyncio.Lock()


@router.get("/clones")
async def listing(request: Request, done: str = "", what: str = "") -> Response:
    """Show the cases that wait for a decision, and those that were decided."""
    reach(request, Action.DECIDE_CLONES)
    folder = _folder(request)
    rulings = await asyncio.to_thread(_rulings, folder)
    mine = {one.device for one in rulings if _school_of(request, one.device)}
    waiting = {one.device for one in rulings if one.decided_ms is None} & mine
    cases = await _open_cases(request, waiting)
    decided = [one for one in rulings if one.device in mine and one.decided_ms is not None]
    decided.sort(key=lambda one: -(one.decided_ms or 0))
    return render(
        request,
        "clones.html",
        cases=[(one, _device(request, one.device), _unit(request, one.device)) for one in cases],
        decided=[
            (one, _device(request, one.device), _unit(request, one.device))
            for one in decided[:MOST_DECIDED]
        ],
        more=max(0, len(decided) - MOST_DECIDED),
        at=_at,
        done=done if done in {one.value for one in Future} else "",
        what=what[:MAX_BOOT],
    )


@router.get("/clones/{device}")
async def one_case(
    request: Request,
    device: str,
    admit: Annotated[Sequence[str], Query()] = (),
    then: str = "",
) -> Response:
    """Show a case with its boots; once it is said which of them count, what that means."""
    return await _case(request, device, admit, then)


@router.post("/clones/{device}")
async def decide(
    request: Request,
    device: str,
    admit: Annotated[Sequence[str], Form()] = (),
    then: Annotated[str, Form()] = "",
    sure: Annotated[str, Form()] = "",
) -> Response:
    """Decide a case; where the id ends, its certificates end first."""
    school = _allowed(request, device)
    if then not in set(Future) or sure != "yes":
        return await _case(request, device, admit, then, status=400)
    context, by = context_of(request), visitor_of(request).name
    future, folder, now_ms = Future(then), _folder(request), context.clock()
    async with _deciding:
        found = await _open_cases(request, {device})
        known = {one.boot_id for case in found for one in case.boots}
        if not found or not set(admit) <= known:
            return await _case(request, device, admit, then, status=409)
        if future is Future.REVOKE:
            if context.book is None:
                raise OutOfScope(device)
            policy.require(
                visitor_of(request).actor, Action.REVOKE, context.registry.tree(), school
            )
            office = Office(context.book, context.registry, context.audit, context.clock)
            # First, for a crash between the two leaves a case that still asks.
            office.throw_out(device, Why.CLONE, by)
        audit(request, "clone_decided", f"{device} {future.value}", school)
        try:
            await asyncio.to_thread(_decided, folder, device, admit, future, by, now_ms)
        except BadInput:
            return await _case(request, device, admit, then, status=409)
    return RedirectResponse(f"/clones?done={future.value}&what={device}", 303)


async def _case(
    request: Request, device: str, admit: Collection[str], then: str, status: int = 200
) -> Response:
    school = _allowed(request, device)
    found = await _open_cases(request, {device})
    if not found:
        return await _settled(request, device)
    (case,) = found
    context = context_of(request)
    known = [one.boot_id for one in case.boots]
    chosen = [one for one in dict.fromkeys(admit) if one in known]
    return render(
        request,
        "clone.html",
        status,
        case=case,
        boots=case.boots[-MOST_BOOTS:],
        cut=max(0, len(case.boots) - MOST_BOOTS),
        device=_device(request, device),
        unit=context.registry.tree()[school],
        admit=chosen,
        then=then if then in set(Future) else "",
        may_revoke=context.book is not None
        and policy.may(visitor_of(request).actor, Action.REVOKE, context.registry.tree(), school),
        at=_at,
        gone=status == 409,  # noqa: PLR2004  (conflict)
    )


async def _settled(request: Request, device: str) -> Response:
    """Answer for a device without an open case: one that has another is named in the list."""
    rulings = await asyncio.to_thread(_rulings, _folder(request))
    if not any(one.device == device for one in rulings):
        raise OutOfScope(device)
    return RedirectResponse("/clones#decided", 303)


def _allowed(request: Request, device: str) -> str:
    school = _school_of(request, device)
    if not school:
        allow(request, Action.DECIDE_CLONES, "")
    return school


def _school_of(request: Request, device: str) -> str:
    """The school of a device that the visitor may decide on; else empty."""
    context, actor = context_of(request), visitor_of(request).actor
    tree = context.registry.tree()
    school = context.registry.school_of(device, context.clock()) or ""
    return school if policy.may(actor, Action.DECIDE_CLONES, tree, school) else ""


def _device(request: Request, device: str) -> Device | None:
    return context_of(request).registry.device(device)


def _unit(request: Request, device: str) -> str:
    context = context_of(request)
    return context.registry.school_of(device, context.clock()) or ""


def _at(at_ms: int, device: Device | None) -> str:
    """Write a moment; of a personal device the day alone, since its hours are one person's."""
    if device is None or device.personal:
        return local(at_ms).strftime("%Y-%m-%d")
    return shape.stamp(at_ms)


def _folder(request: Request) -> Path:
    folder = context_of(request).data_dir
    if folder is None:
        raise OutOfScope("clones")
    return folder


def _rulings(folder: Path) -> list[Ruling]:
    with StoreReader(folder) as reading:
        return reading.rulings()


async def _open_cases(request: Request, devices: Collection[str]) -> list[Case]:
    if not devices:
        return []
    turn: asyncio.Lock = request.app.state.reading_cases
    async with turn:  # impatient people ask again and again
        return await asyncio.to_thread(_read_open, _folder(request), devices)


def _read_open(folder: Path, devices: Collection[str]) -> list[Case]:
    with StoreReader(folder) as reading:
        return clones.cases(reading, devices, only_open=True)


def _decided(
    folder: Path, device: str, admit: Collection[str], future: Future, by: str, now_ms: int
) -> None:
    with StoreReader(folder) as reading:
        clones.decide(reading, device, admit, future, by=by, now_ms=now_ms)
