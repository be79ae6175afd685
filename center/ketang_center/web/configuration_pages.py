"""One device's configuration: what it says it runs, what it is to have, and who set each value."""

from dataclasses import dataclass
from typing import cast

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from ketang_center.access.scope import OutOfScope
from ketang_center.registry.tree import Tree
from ketang_center.rollouts.book import Rollout
from ketang_center.rollouts.looking import Explained
from ketang_center.rollouts.values import Member
from ketang_center.web import rollout_words
from ketang_center.web.render import language_of, render
from ketang_center.web.rollout_desk import Desk, desk_of
from ketang_center.web.text import words
from ketang_center.web.visitor import context_of
from ketang_contract.config import DIRECTIONS
from ketang_contract.errors import BadInput
from ketang_provisioning import config_words
from ketang_provisioning.config_words import Language

MOST_ROLLOUTS = 5
router = APIRouter(default_response_class=HTMLResponse)


@dataclass(frozen=True, slots=True)
class Value:
    """One field of what a device is to have. ``unit`` set it; empty: its profile did."""

    title: str
    text: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A device's configuration, for a template.

    Attributes:
        runs: the releases it says it runs, the region's first; None: it said nothing of it.
        as_wanted: whether that is what it is to have.
        personal: it is told by its id alone, and without times.
        reason: why it is not, in its own words.
        rollouts: those that brought it something, the newest first.
    """

    device: str
    said: Explained
    runs: tuple[str, ...]
    as_wanted: bool
    personal: bool
    reason: str
    values: tuple[Value, ...]
    rollouts: tuple[tuple[Rollout, Member, str], ...]


def configuration_of(request: Request, desk: Desk, device: str) -> Configuration | None:
    """Say what is known of a device's configuration; None where nothing is.

    Whether the visitor may see the device is the caller's question.
    """
    try:
        said = desk.office.look.explain(device)
    except BadInput:
        return None
    context, lang = context_of(request), language_of(request)
    known, t = context.registry.device(device), words(lang)
    report = said.reported
    return Configuration(
        device=device,
        said=said,
        runs=_runs(desk, said),
        as_wanted=report is not None and report.running == (said.wanted_hash or None),
        personal=known is None or known.personal,
        reason=rollout_words.reason(report.reason, t) if report else "",
        values=_values(said, cast("Language", lang), context.registry.tree()),
        rollouts=tuple(
            (one, member, rollout_words.reason(member.reason, t))
            for one, member in said.memberships[:MOST_ROLLOUTS]
        ),
    )


def _runs(desk: Desk, said: Explained) -> tuple[str, ...]:
    """Name the releases a device says it runs, the region's first."""
    if said.reported is None:
        return ()
    order = said.placed.targets if said.placed else ()
    found = sorted(
        said.reported.layers,
        key=lambda one: order.index(one.target) if one.target in order else len(order),
    )
    names = []
    for at in found:
        same = (one for one in desk.book.layers_of(at.target) if one.at == at)
        layer = next(same, None)
        name = f"{at.target} {at.version}" if layer is None else layer.release
        names.append(f"{name} ↩" if layer is not None and layer.undoes is not None else name)
    return tuple(names)


def _values(said: Explained, lang: Language, tree: Tree) -> tuple[Value, ...]:
    by = said.merged.by
    return tuple(
        Value(
            config_words.title(name, lang),
            config_words.words(name, value, lang),
            tree[by[name]].name(lang) if by.get(name, "") in tree else by.get(name, ""),
        )
        for name in DIRECTIONS
        if name != "schema" and (value := getattr(said.merged.config, name)) is not None
    )


@router.get("/rollouts/device/{device}")
async def one(request: Request, device: str) -> Response:
    """Show one device's configuration to whoever looks after it; nothing here tells of its use."""
    with desk_of(request) as desk:
        if not desk.views.holds(device) or desk.views.is_unit(device):
            raise OutOfScope(device[:60])
        found = configuration_of(request, desk, device)
        if found is None:
            raise OutOfScope(device[:60])
        way = desk.views.way(device)
    known = context_of(request).registry.device(device)
    return render(request, "device_config.html", config=found, kind=known, way=way[:-1])
