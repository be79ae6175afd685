"""The security situation: one page, for who may see it."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from ketang_center import security_views as views
from ketang_center.access import policy
from ketang_center.access.policy import Action
from ketang_center.web.render import render
from ketang_center.web.visitor import context_of, reach, visitor_of

router = APIRouter(default_response_class=HTMLResponse)
PLACES = {
    views.Standing.CLONES: ("/clones", Action.DECIDE_CLONES),
    views.Standing.WAITING: ("/enrolment", Action.ENROL),
    views.Standing.ENDED: ("/enrolment", Action.VIEW),
    views.Standing.ENDING: ("/enrolment", Action.VIEW),
}
"""Where a person does something about what stands out, and who may go there."""


@router.get("/security")
async def situation(request: Request) -> Response:
    """Show what was refused, what stands out, and who was thrown out."""
    reach(request, Action.SEE_SECURITY)
    context, actor = context_of(request), visitor_of(request).actor
    tree = context.registry.tree()
    log = await asyncio.to_thread(views.read_log, context, context.clock())
    found = views.situation(context, actor, log)
    return render(
        request,
        "security.html",
        page=found,
        places={
            what: path
            for what, (path, action) in PLACES.items()
            if policy.reach(actor, action, tree)
        },
        kind_of=views.kind_of,
        day_ago_ms=context.clock() - views.DAY_MS,
    )
