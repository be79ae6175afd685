"""Fills a template: words, the visitor, the places he may go. Every page is made here."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ketang_center import enrolment_views
from ketang_center.access import policy
from ketang_center.access.policy import Action
from ketang_center.access.scope import OutOfScope
from ketang_center.metrics.figures import DayState
from ketang_center.metrics.windows import State
from ketang_center.registry.calendars import day_of
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Level, Unit
from ketang_center.states import Connection, Freshness
from ketang_center.web import shape
from ketang_center.web.text import choose, words
from ketang_center.web.visitor import Visitor, context_of, scope_of, visitor_of


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the menu: shown to who may do ``action`` somewhere."""

    path: str
    name: str
    action: Action | None = None
    below: str = ""
    """Pages whose path begins so count as this place."""
    keeps_day: bool = False


MENU = (
    Place("/", "overview", Action.VIEW, keeps_day=True),
    Place("/devices", "devices", Action.VIEW, below="/device", keeps_day=True),
    Place("/enrolment", "enrolment", Action.VIEW, below="/enrolment"),
    Place("/clones", "clones", Action.DECIDE_CLONES, below="/clones"),
    Place("/rollouts", "rollouts", Action.VIEW, below="/rollouts"),
    Place("/filings", "filings", Action.VIEW, below="/filings"),
    Place("/security", "security", Action.SEE_SECURITY),
    Place("/accounts", "accounts", Action.ACCOUNTS, below="/accounts"),
    Place("/audit", "audit", Action.AUDIT),
    Place("/definitions", "definitions"),
)
"""A new page is one line here, with a word ``nav.<name>`` in both languages."""
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


def language_of(request: Request) -> str:
    """Return the language a page is written in."""
    return choose(
        request.query_params.get("lang"),
        request.cookies.get("lang"),
        request.headers.get("accept-language", ""),
    )


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Fill a template for a visitor, with what every page needs besides its own values."""
    context, visitor = context_of(request), visitor_of(request)
    lang, tree, now_ms = language_of(request), context.registry.tree(), context.clock()
    try:
        scope = scope_of(request)
    except OutOfScope:
        scope = None

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
        visitor=visitor,
        csrf=visitor.csrf,
        menu=_menu(tree, visitor, known=scope is not None),
        waiting=enrolment_views.waiting_for(context.book, tree, visitor.actor),
        offices=_offices(tree, visitor, demo=context.demo),
        link=link,
        here=request.url.path,
        now_ms=now_ms,
        today=day_of(now_ms),
        depth=lambda unit: len(tree.path(unit)) - 1,
        neighbours=shape.neighbours,
        **values,
    )
    return HTMLResponse(page, status)


def problem(request: Request, what: str, status: int) -> HTMLResponse:
    """Return a page that says what is wrong and where to go from there."""
    return render(request, "problem.html", status, what=what)


def units_below(tree: Tree, tops: Iterable[str]) -> list[Unit]:
    """Return the units to choose from, parents first, without rooms."""
    return [one for top in tops for one in tree.walk(top) if one.level is not Level.ROOM]


def _menu(tree: Tree, visitor: Visitor, *, known: bool) -> list[Place]:
    if not known:
        return []
    return [
        one for one in MENU if one.action is None or policy.reach(visitor.actor, one.action, tree)
    ]


def _offices(tree: Tree, visitor: Visitor, *, demo: bool) -> list[Unit]:
    """The units a visitor may look as: any in a demo, else those he was granted."""
    if demo:
        return units_below(tree, (one.id for one in tree.roots()))
    return [tree[one] for one in policy.offices(visitor.actor, tree)]
