"""The pages: read the question from the URL, ask one view, fill one template."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import date
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from ketang_center import views
from ketang_center.access import policy
from ketang_center.access.scope import OutOfScope
from ketang_center.metrics.windows import CELL_MS
from ketang_center.registry.calendars import day_of, day_starts_ms
from ketang_center.view_values import Filters
from ketang_center.web import shape
from ketang_center.web.command_pages import can_ask
from ketang_center.web.configuration_pages import Configuration, configuration_of
from ketang_center.web.render import render
from ketang_center.web.rollout_desk import desk_of
from ketang_center.web.visitor import context_of, scope_of, still_there, visitor_of

if TYPE_CHECKING:
    from ketang_center.web.live import Followed, Hub

PAGE_ROWS = 200
DEFINITIONS = (
    "in_service",
    "coverage",
    "used",
    "on",
    "off",
    "lost",
    "unknown",
    "never",
    "attention",
    "use_rate",
    "connection",
    "freshness",
    "use",
    "band",
    "occupancy",
    "ledger",
    "privacy",
)
FACTS = (
    ("cpu_mean_pct", "%"),
    ("memory_used_pct", "%"),
    ("disk_free_pct", "%"),
    ("temperature_max_c", " °C"),
    ("battery_pct", "%"),
    ("uptime_s", "s"),
    ("link", "word"),
    ("link_mbps", " Mbps"),
    ("ipv4", "word"),
    ("ipv6", "word"),
    ("mqtt_family", "word"),
    ("rtt_ms", " ms"),
)
"""Facts of host and network on a device's page, with their unit."""
router = APIRouter(default_response_class=HTMLResponse)


def _day(request: Request, asked: str | None) -> date:
    """Read the day from the URL; anything that is no past day is today."""
    today = day_of(context_of(request).clock())
    try:
        return min(date.fromisoformat(asked), today) if asked else today
    except ValueError:
        return today


def _now_cell(request: Request, day: date) -> float | None:
    """Return where now is on a day's band, in cells; None on another day."""
    now_ms = context_of(request).clock()
    if day_of(now_ms) != day:
        return None
    return round((now_ms - day_starts_ms(day)) / CELL_MS, 1)


@router.get("/")
async def overview(request: Request, day: str | None = None, unit: str | None = None) -> Response:
    """Show the figures of the viewer's part of the tree."""
    found = views.overview(context_of(request), scope_of(request), _day(request, day), unit or None)
    return render(
        request,
        "overview.html",
        page=found,
        bars=shape.bars(found.own_cells),
        marks=[],
        lesson_cells=[],
        now_cell=_now_cell(request, found.day),
    )


@router.get("/devices")
async def devices(
    request: Request,
    *,
    day: str | None = None,
    unit: str | None = None,
    q: str = "",
    connection: str = "",
    freshness: str = "",
    day_state: str = "",
    attention: str = "",
    page: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """Show the devices that pass the filters in the URL."""
    at = _day(request, day)
    filters = Filters(
        unit=unit or None,
        q=q[:100],
        connection=connection,
        freshness=freshness,
        day_state=day_state,
        attention=bool(attention),
    )
    context, scope = context_of(request), scope_of(request)
    rows = views.devices(context, scope, at, filters)
    pages = max(1, -(-len(rows) // PAGE_ROWS))
    page = min(page, pages)
    tree = context.registry.tree()
    places = [one for one in tree.walk(scope.root) if one.level in scope.levels()]
    return render(
        request,
        "devices.html",
        rows=rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS],
        total=len(rows),
        page=page,
        pages=pages,
        filters=filters,
        day=at,
        places=places,
        can_ask=can_ask(request),
    )


@router.get("/device/{device}")
async def device(request: Request, device: str, day: str | None = None) -> Response:
    """Show one device's day to its school."""
    found = views.device_day(context_of(request), scope_of(request), device, _day(request, day))
    start_ms = day_starts_ms(found.day)
    return render(
        request,
        "device.html",
        page=found,
        config=_configuration(request, device),
        bars=shape.bars(found.cells),
        facts=FACTS,
        marks=shape.marks(found.events, found.day),
        curve=shape.curve(found.cells, found.day),
        has_heads=any(cell.seen is not None for cell in found.cells.values()),
        lesson_cells=[
            ((first - start_ms) / CELL_MS, (last - start_ms) / CELL_MS)
            for first, last in found.lessons
        ],
        now_cell=_now_cell(request, found.day),
    )


def _configuration(request: Request, device: str) -> Configuration | None:
    """Return what is known of a device's configuration; the views have let the visitor see it."""
    if context_of(request).data_dir is None:
        return None
    with desk_of(request) as desk:
        return configuration_of(request, desk, device)


@router.get("/definitions")
async def definitions(request: Request) -> Response:
    """Show what every figure means."""
    return render(request, "definitions.html", names=DEFINITIONS)


@router.post("/role")
async def role(request: Request, unit: Annotated[str, Form()] = "") -> Response:
    """Look with the eyes of another office: any in a demo, elsewhere one that was granted."""
    context, actor = context_of(request), visitor_of(request).actor
    tree = context.registry.tree()
    if unit not in (tree if context.demo else policy.offices(actor, tree)):
        raise OutOfScope(unit)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        "unit", unit, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return answer


@router.get("/live")
async def live(request: Request, device: str | None = None) -> Response:
    """Tell a page that something it shows has changed, as server-sent events."""
    hub: Hub = request.app.state.hub
    followed: Followed = request.app.state.followed
    session, root = visitor_of(request).session, scope_of(request).root
    whose = session.id if session else 0
    if hub.full(whose):
        return Response(status_code=503, headers={"Retry-After": "30"})
    await followed.renew()

    def hears(changed: frozenset[str] | None) -> bool:
        if changed is None:
            return True
        mine = changed & followed.below(root)
        return bool(mine) and (device is None or device in mine)

    async def told() -> AsyncIterator[bytes]:
        again = "last-event-id" in request.headers
        async with aclosing(hub.follow(hears, again=again, whose=whose)) as news:
            async for one in news:
                # A log-out, or other rights, end what was begun before them.
                if not still_there(request):
                    return
                yield one

    return StreamingResponse(
        told(),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )
