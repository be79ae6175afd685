"""Releases of configuration: what was handed in, what it says, and the beginning of its rollout.

What is to happen is said first, in words and in numbers, then done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center.access import policy
from ketang_center.access.policy import Action
from ketang_center.access.scope import OutOfScope
from ketang_center.rollouts.plan import Rules
from ketang_center.rollouts.values import Release
from ketang_center.web.enrolment_pages import paged
from ketang_center.web.render import language_of, render
from ketang_center.web.rollout_desk import Desk, desk_of, publishes
from ketang_center.web.rollout_words import refusal, rules_of
from ketang_center.web.visitor import context_of, reach, refused, visitor_of
from ketang_contract import releases, signatures, validate
from ketang_contract.config import DIRECTIONS, Config, Level, changed, full, narrowed
from ketang_contract.errors import BadInput, Refused
from ketang_contract.layers import LAYER_TYPE, Layer
from ketang_profiles.configured import agents
from ketang_provisioning import config_words
from ketang_provisioning.config_words import Language, Move

PAGE_RELEASES = 50
_USUAL = Rules()
USUAL = {
    "groups": ", ".join(map(str, _USUAL.groups)),
    "percents": ", ".join(map(str, _USUAL.percents)),
    "per_minute": str(_USUAL.per_minute),
}
"""How careful a rollout is where nobody says otherwise, as the form shows it."""
router = APIRouter(default_response_class=HTMLResponse)
_Upload = Annotated[UploadFile | None, File()]
_Text = Annotated[str, Form()]


@dataclass(frozen=True, slots=True)
class Line:
    """One field that differs, in words."""

    widens: bool
    move: str
    text: str


def lines(was: Config, after: Config, language: str, wide: Sequence[str] = ()) -> list[Line]:
    """Say what differs between two configurations, what widens first."""
    lang = cast("Language", language)
    moves = [config_words.move(name, was, after, wide) for name in changed(was, after)]
    widening = moves.count(Move.WIDENS)  # they are said first
    found = []
    for no, one in enumerate(config_words.differences(was, after, lang, wide)):
        move, _, text = one.partition("  ")
        found.append(Line(no < widening, move.strip().lower(), text.strip()))
    return found


@dataclass(frozen=True, slots=True)
class Back:
    """A field that taking a release back changes; empty values are those of the kind's profile."""

    title: str
    was: str
    after: str


@dataclass(frozen=True, slots=True)
class Undo:
    """What taking a release back changes on devices that have it, and what it cannot change.

    An undo widens nothing: a field that the release has narrowed stays so, on every kind of device
    where its old value would allow more, until a new release is signed.
    """

    changes: list[Back]
    stays: list[str]


def undo_of(release: Release, language: str) -> Undo:
    """Say what the undo of a release does."""
    lang, moved, stays = cast("Language", language), set[str](), set[str]()
    for base in agents():
        has, had = (full(release.level, one, base) for one in (release.content, release.before))
        comes = narrowed(had, has)
        moved.update(changed(has, comes))
        stays.update(changed(had, comes))

    def said(name: str, one: Config) -> str:
        value = getattr(one, name)
        if value is None and release.level is Level.REGION:
            return ""
        return config_words.words(name, value, lang)

    return Undo(
        [
            Back(
                config_words.title(name, lang),
                said(name, release.content),
                said(name, release.before),
            )
            for name in DIRECTIONS
            if name in moved
        ],
        [config_words.title(name, lang) for name in DIRECTIONS if name in stays],
    )


@router.get("/rollouts/releases")
async def listing(
    request: Request, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1
) -> Response:
    """Show the releases that concern the visitor, the newest first."""
    with desk_of(request) as desk:
        return _list(request, desk, page=page)


@router.post("/rollouts/releases")
async def admit(request: Request, file: _Upload = None) -> Response:
    """Take a release file in; nothing is sent by that."""
    reach(request, Action.PUBLISH)
    raw = await file.read() if file is not None else b""
    with desk_of(request) as desk:
        if not raw:
            return _list(request, desk, 400, fault="no_file")
        target = _target(raw)
        if target is not None and not publishes(request, desk.views.unit_of(target)):
            refused(request, "forbidden", request.url.path)
            return _list(request, desk, 400, fault="not_yours", detail=target)
        try:
            made = desk.office.admit(raw, visitor_of(request).name)
        except BadInput as why:
            return _list(request, desk, 400, fault="refused", detail=_told(request, why))
    return RedirectResponse(f"/rollouts/releases/{made.name}?done=admitted", 303)


@router.get("/rollouts/releases/{name}")
async def one(request: Request, name: str, done: str = "") -> Response:
    """Show what a release says, what it changes, and what taking it back would bring."""
    with desk_of(request) as desk:
        return _one(request, desk, desk.views.release(name), done=done == "admitted")


@router.get("/rollouts/releases/{name}/begin")
async def ask(
    request: Request, name: str, groups: str = "", percents: str = "", per_minute: str = ""
) -> Response:
    """Say how many devices a rollout would go to and in which steps, and ask."""
    with desk_of(request) as desk:
        found = _publishable(request, desk, name)
        rules = rules_of(groups, percents, per_minute)
        typed = {"groups": groups, "percents": percents, "per_minute": per_minute}
        if rules is None:
            return _one(request, desk, found, 400, fault="rules", typed=typed)
        return _ask(request, desk, found, rules, typed)


@router.post("/rollouts/releases/{name}/begin")
async def begin(
    request: Request, name: str, groups: _Text = "", percents: _Text = "", per_minute: _Text = ""
) -> Response:
    """Begin a rollout; one that widens waits for a second person."""
    with desk_of(request) as desk:
        found = _publishable(request, desk, name)
        rules = rules_of(groups, percents, per_minute)
        typed = {"groups": groups, "percents": percents, "per_minute": per_minute}
        if rules is None:
            return _one(request, desk, found, 400, fault="rules", typed=typed)
        try:
            no = desk.office.begin(found.name, visitor_of(request).name, rules)
        except BadInput as why:
            told = _told(request, why)
            return _one(request, desk, found, 409, fault="refused", detail=told, typed=typed)
    return RedirectResponse(f"/rollouts/{no}?done=began", 303)


def _told(request: Request, why: BadInput) -> str:
    return refusal(why, language_of(request))


def _target(raw: bytes) -> str | None:
    """Return whose layer a file brings, unjudged; None where it cannot be read."""
    try:
        envelope = releases.read(raw).layer
        return validate.signed(Layer, signatures.unverified(envelope, LAYER_TYPE)).target
    except (BadInput, Refused):
        return None


def _publishable(request: Request, desk: Desk, name: str) -> Release:
    """Return a release that the visitor may roll out."""
    found = desk.views.release(name)
    if not publishes(request, desk.views.unit_of(found.target)):
        raise OutOfScope(name[:60])
    return found


def _list(
    request: Request,
    desk: Desk,
    status: int = 200,
    *,
    page: int = 1,
    fault: str = "",
    detail: str = "",
) -> Response:
    found = desk.views.releases()
    some, page, pages = paged(found, page, PAGE_RELEASES)
    newest = {one.release: one for one in reversed(desk.views.rollouts())}
    return render(
        request,
        "releases.html",
        status,
        rows=some,
        total=len(found),
        page=page,
        pages=pages,
        rollouts=newest,
        publishes=_publishes_somewhere(request),
        now_s=context_of(request).clock() // 1000,
        fault=fault,
        detail=detail,
        most_kb=releases.MAX_RELEASE_BYTES >> 10,
    )


def _publishes_somewhere(request: Request) -> bool:
    tree, actor = context_of(request).registry.tree(), visitor_of(request).actor
    return bool(policy.reach(actor, Action.PUBLISH, tree))


def _one(
    request: Request,
    desk: Desk,
    found: Release,
    status: int = 200,
    *,
    done: bool = False,
    fault: str = "",
    detail: str = "",
    typed: dict[str, str] | None = None,
) -> Response:
    lang, now_s = language_of(request), context_of(request).clock() // 1000
    rolled = [one for one in desk.views.rollouts() if one.release == found.name]
    now = None if rolled else desk.office.look.current(found.target)
    unit = desk.views.unit_of(found.target)
    return render(
        request,
        "release.html",
        status,
        one=found,
        unit=unit,
        says=list(config_words.contents(found.content, cast("Language", lang))),
        stands=now.name if now else "",
        differs=lines(now.content if now else found.before, found.content, lang, found.widens),
        undo=undo_of(found, lang),
        widens=[config_words.title(one, cast("Language", lang)) for one in found.widens],
        rollouts=rolled,
        may_begin=publishes(request, unit) and found.expires_s > now_s,
        now_s=now_s,
        typed=typed or USUAL,
        usual=_USUAL,
        nobody=not desk.book.below(found.target),
        no_hours=0 if rolled else _no_hours(desk, found),
        done=done,
        fault=fault,
        detail=detail,
    )


def _no_hours(desk: Desk, found: Release) -> int:
    """Count who would have no hours left with a release, for who sees all that it goes to."""
    return desk.office.look.without_hours(found) if desk.views.holds(found.target) else 0


def _ask(
    request: Request, desk: Desk, found: Release, rules: Rules, typed: dict[str, str]
) -> Response:
    lang, now = language_of(request), desk.office.look.current(found.target)
    return render(
        request,
        "release_begin.html",
        one=found,
        unit=desk.views.unit_of(found.target),
        reach=desk.views.reach(found.target, rules, context_of(request).reading),
        rules=rules,
        typed=typed,
        no_hours=_no_hours(desk, found),
        differs=lines(now.content if now else found.before, found.content, lang, found.widens),
        widens=[config_words.title(one, cast("Language", lang)) for one in found.widens],
    )
