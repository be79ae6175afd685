"""Where devices stand, as it was signed: who has no placement that fits, and what to do then.

A device believes a placement's signature alone, so the work is done where the keys are: the list is
taken there, signed, and brought back here.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import APIRouter, File, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center.access import policy
from ketang_center.access.policy import Action, Actor
from ketang_center.access.scope import OutOfScope
from ketang_center.registry.tree import Tree
from ketang_center.rollouts import placing
from ketang_center.rollouts.taking import Taken
from ketang_center.view_values import Context
from ketang_center.web.enrolment_pages import paged
from ketang_center.web.render import language_of, render
from ketang_center.web.rollout_desk import (
    Desk,
    desk_of,
    folder_of,
    office_beside,
    placings_of,
)
from ketang_center.web.rollout_words import number_of, refusal
from ketang_center.web.visitor import audit, context_of, reach, scope_of, visitor_of
from ketang_contract import signatures, validate
from ketang_contract.errors import BadInput, Refused
from ketang_contract.layers import PLACEMENT_TYPE, Placement
from ketang_contract.signatures import MAX_SEALED_BYTES

PAGE_PLACEMENTS = 100
MOST_REFUSED = 50
WHY = ("missing", "elsewhere", "old_key")
_NOT_YOURS = "not_yours"
_MOST_LINE = MAX_SEALED_BYTES + 2
router = APIRouter(default_response_class=HTMLResponse)
_Upload = Annotated[UploadFile | None, File()]


@router.get("/rollouts/placements")
async def listing(
    request: Request,
    *,
    unit: str = "",
    why: str = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    taken: str = "",
    same: str = "",
) -> Response:
    """Show the devices of the visitor's part without a placement that fits."""
    with desk_of(request) as desk:
        done = (number_of(taken), number_of(same)) if taken else ()
        return await _list(request, desk, unit=unit, why=why, page=page, done=done)


@router.get("/rollouts/placements/export")
async def export(request: Request) -> Response:
    """Give what is to be signed, of the units where the visitor publishes, for the laptop."""
    tops = reach(request, Action.PUBLISH)
    context, folder = context_of(request), folder_of(request)
    try:
        lines = await asyncio.to_thread(_to_sign, context, folder, tops)
    except BadInput as why:
        with desk_of(request) as desk:
            return await _list(request, desk, 400, fault=refusal(why, language_of(request)))
    for top in tops:
        audit(request, "placements_exported", f"{len(lines)} devices", top)
    return Response(
        "".join(f"{one}\n" for one in lines).encode(),
        media_type="application/jsonl",
        headers={"Content-Disposition": 'attachment; filename="devices.jsonl"'},
    )


@router.post("/rollouts/placements")
async def take(request: Request, file: _Upload = None) -> Response:
    """Take signed placements in, one a line; what is wrong is told line by line."""
    reach(request, Action.PUBLISH)
    actor, who = visitor_of(request).actor, visitor_of(request).name
    context, folder = context_of(request), folder_of(request)
    found, fault = Taken(0, 0), ""
    if file is not None:
        try:
            found = await asyncio.to_thread(_taken, context, folder, actor, who, file.file)
        except BadInput as why:
            fault = refusal(why, language_of(request))
    if found == Taken(0, 0):
        with desk_of(request) as desk:
            return await _list(request, desk, 400, fault=fault or "no_file")
    if not found.turned_away and not found.stopped:
        there = f"/rollouts/placements?taken={found.taken}&same={found.same}"
        return RedirectResponse(there, 303)
    with desk_of(request) as desk:
        return await _list(request, desk, 400, found=found)


def _to_sign(context: Context, folder: Path, tops: Sequence[str]) -> list[str]:
    with office_beside(context, folder) as (office, registry):
        tree = registry.tree()
        return [one for one in office.export_placements() if _below(tops, tree, one)]


def _below(tops: Sequence[str], tree: Tree, line: str) -> bool:
    """Tell whether a line of the export is about a device below one of some units."""
    path = json.loads(line)["path"]
    return bool(path) and any(tree.holds(top, path[-1]["unit"]) for top in tops)


def _taken(context: Context, folder: Path, actor: Actor, who: str, file: BinaryIO) -> Taken:
    """Hand placements to the office; those of units where he does not publish are turned away."""
    with office_beside(context, folder) as (office, registry):
        tree, strange, count = registry.tree(), list[tuple[str, str]](), 0

        def own() -> Iterator[bytes]:
            nonlocal count
            for raw in _lines(file):
                device, unit = _read(raw)
                if not device or policy.may(actor, Action.PUBLISH, tree, unit):
                    yield raw
                    continue
                count += 1
                if len(strange) < MOST_REFUSED:
                    strange.append((device, _NOT_YOURS))

        found = office.take_placements(own(), who)
    return replace(found, refused=(*strange, *found.refused), turned_away=found.turned_away + count)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Read a file line by line; of one that is too long for a placement, the beginning alone."""
    while raw := file.readline(_MOST_LINE):
        line = raw.strip()
        if line:
            yield line
        while len(raw) == _MOST_LINE and not raw.endswith(b"\n"):
            raw = file.readline(_MOST_LINE)


def _read(raw: bytes) -> tuple[str, str]:
    """Return whom a placement is of and the unit it says, unjudged; empty: it is none."""
    try:
        said = validate.signed(Placement, signatures.unverified(raw, PLACEMENT_TYPE))
    except Refused:
        return "", ""
    return said.device, said.path[-1].unit if said.path else ""


async def _list(
    request: Request,
    desk: Desk,
    status: int = 200,
    *,
    unit: str = "",
    why: str = "",
    page: int = 1,
    done: tuple[int, ...] = (),
    fault: str = "",
    found: Taken | None = None,
) -> Response:
    context, scope = context_of(request), scope_of(request)
    tree, now_ms = context.registry.tree(), context.clock()
    if unit and not (desk.views.concerns(unit)):
        raise OutOfScope(unit[:60])
    lacking = placing.below(tree, await placings_of(request).unplaced(desk.book), scope.root)
    if unit and tree.holds(scope.root, unit):
        lacking = placing.below(tree, lacking, unit)
    elif unit and unit not in tree:
        lacking = [one for one in lacking if one.device == unit]
    chosen = [one for one in lacking if why in {"", one.why}]
    some, page, pages = paged(chosen, page, PAGE_PLACEMENTS)
    service = sum(
        tree.holds(scope.root, one.room) for one in context.registry.in_service(now_ms, now_ms + 1)
    )
    return render(
        request,
        "placements.html",
        status,
        rows=some,
        lacking=len(lacking),
        count=len(chosen),
        service=service,
        by_why={one: sum(row.why == one for row in lacking) for one in WHY},
        unit=unit,
        why=why,
        page=page,
        pages=pages,
        publishes=bool(policy.reach(visitor_of(request).actor, Action.PUBLISH, tree)),
        done=done,
        fault=fault,
        found=found,
        refused=_refused(found, language_of(request)),
        refused_n=found.turned_away if found else 0,
    )


def _refused(found: Taken | None, lang: str) -> list[tuple[str, str]]:
    told = found.refused if found else ()
    return [
        (device, why if why == _NOT_YOURS else refusal(f"{device}: {why}", lang))
        for device, why in told[:MOST_REFUSED]
    ]
