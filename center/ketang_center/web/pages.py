"""The pages: read the question from the URL, ask one view, fill one template."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ketang_center import views
from ketang_center.access.scope import Scope
from ketang_center.metrics.figures import DayState
from ketang_center.metrics.windows import CELL_MS, State
from ketang_center.registry.calendars import day_of, day_starts_ms
from ketang_center.registry.values import Level
from ketang_center.states import Connection, Freshness
from ketang_center.view_values import Context, Filters
from ketang_center.web import shape
from ketang_center.web.text import choose, words

if TYPE_CHECKING:
    from ketang_center.web.live import Hub

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
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(
    shape=shape,
    urlencode=urlencode,
    DayState=DayState,
    State=State,
    Connection=Connection,
    Freshness=Freshness,
)


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


def scope_of(request: Request) -> Scope:
    """Return who is looking: the centre's own setting, or in a demo the role chosen there."""
    context = _context(request)
    chosen = request.cookies.get("unit", "") if context.demo else ""
    tree = context.registry.tree()
    if chosen in tree and tree[chosen].level is not Level.ROOM:
        return Scope(tree[chosen].level, chosen)
    return context.home


def _render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    context = _context(request)
    scope = scope_of(request)
    lang = choose(
        request.query_params.get("lang"),
        request.cookies.get("lang"),
        request.headers.get("accept-language", ""),
    )
    tree = context.registry.tree()

    def link(path: str, **changes: object) -> str:
        """The same place with a changed question; None takes a part away."""
        asked: dict[str, object] = {
            key: value for key, value in request.query_params.items() if key != "lang"
        }
        if path != request.url.path:
            asked = {key: asked[key] for key in ("day",) if key in asked}
        asked = {key: value for key, value in (asked | changes).items() if value not in {None, ""}}
        return f"{path}?{urlencode(asked)}" if asked else path

    page = _templates.get_template(template).render(
        t=words(lang),
        lang=lang,
        scope=scope,
        tree=tree,
        demo=context.demo,
        link=link,
        here=request.url.path,
        now_ms=context.clock(),
        today=day_of(context.clock()),
        units=[
            one
            for root in tree.roots()
            for one in tree.walk(root.id)
            if one.level is not Level.ROOM
        ]
        if context.demo
        else [],
        depth=lambda unit: len(tree.path(unit)) - 1,
        neighbours=shape.neighbours,
        **values,
    )
    return HTMLResponse(page, status)


def problem(request: Request, what: str, status: int) -> HTMLResponse:
    """Return a page that says what is wrong and where to go from there."""
    return _render(request, "problem.html", status, what=what)


def _day(request: Request, asked: str | None) -> date:
    """Read the day from the URL; anything that is no past day is today."""
    today = day_of(_context(request).clock())
    try:
        return min(date.fromisoformat(asked), today) if asked else today
    except ValueError:
        return today


def _now_cell(request: Request, day: date) -> float | None:
    """Return where now is on a day's band, in cells; None on another day."""
    now_ms = _context(request).clock()
    if day_of(now_ms) != day:
        return None
    return round((now_ms - day_starts_ms(day)) / CELL_MS, 1)


@router.get("/")
async def overview(request: Request, day: str | None = None, unit: str | None = None) -> Response:
    """Show the figures of the viewer's part of the tree."""
    found = views.overview(_context(request), scope_of(request), _day(request, day), unit or None)
    return _render(
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
    context, scope = _context(request), scope_of(request)
    rows = views.devices(context, scope, at, filters)
    pages = max(1, -(-len(rows) // PAGE_ROWS))
    page = min(page, pages)
    tree = context.registry.tree()
    places = [one for one in tree.walk(scope.root) if one.level in scope.levels()]
    return _render(
        request,
        "devices.html",
        rows=rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS],
        total=len(rows),
        page=page,
        pages=pages,
        filters=filters,
        day=at,
        places=places,
    )


@router.get("/device/{device}")
async def device(request: Request, device: str, day: str | None = None) -> Response:
    """Show one device's day to its school."""
    found = views.device_day(_context(request), scope_of(request), device, _day(request, day))
    start_ms = day_starts_ms(found.day)
    return _render(
        request,
        "device.html",
        page=found,
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


@router.get("/definitions")
async def definitions(request: Request) -> Response:
    """Show what every figure means."""
    return _render(request, "definitions.html", names=DEFINITIONS)


@router.get("/role")
async def role(request: Request, unit: str = "") -> Response:
    """In a demo, look with the eyes of another office; elsewhere there is no such page."""
    context = _context(request)
    if not context.demo or unit not in context.registry.tree():
        return problem(request, "not_found", 404)
    answer = RedirectResponse("/", 303)
    answer.set_cookie("unit", unit, httponly=True, samesite="lax")
    return answer


@router.get("/live")
async def live(request: Request, device: str | None = None) -> Response:
    """Tell a page that something it shows has changed, as server-sent events."""
    hub: Hub = request.app.state.hub
    if hub.full:
        return Response(status_code=503, headers={"Retry-After": "30"})
    context, scope = _context(request), scope_of(request)
    visible = views.visible_devices(context, scope)

    def hears(changed: frozenset[str] | None) -> bool:
        nonlocal visible
        if changed is None:
            visible = views.visible_devices(context, scope)
            return True
        mine = changed & visible
        return bool(mine) and (device is None or device in mine)

    return StreamingResponse(
        hub.follow(hears, again="last-event-id" in request.headers),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )
