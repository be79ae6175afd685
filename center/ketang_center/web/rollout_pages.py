"""Rollouts: where each stands, live, device by device; and what people do with them.

Before anything is done it is said how many devices it concerns.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center.access.scope import OutOfScope
from ketang_center.registry.tree import Tree
from ketang_center.rollout_views import PAGE_DEVICES
from ketang_center.rollouts import placing
from ketang_center.rollouts.book import CENTER, Rollout
from ketang_center.rollouts.looking import AT_MACHINE
from ketang_center.rollouts.office import AGAIN, MOST_ATTEMPTS
from ketang_center.rollouts.placing import Unplaced
from ketang_center.rollouts.plan import State
from ketang_center.rollouts.values import Event, RolloutState
from ketang_center.web import rollout_words
from ketang_center.web.config_pages import lines, undo_of
from ketang_center.web.enrolment_pages import paged
from ketang_center.web.render import language_of, render
from ketang_center.web.rollout_bars import SEGMENTS, bar, bars
from ketang_center.web.rollout_csv import written
from ketang_center.web.rollout_desk import (
    BY,
    Desk,
    desk_of,
    fits,
    folder_of,
    may,
    open_acts,
    placings_of,
)
from ketang_center.web.rollout_live import shown
from ketang_center.web.rollout_words import MOST_WHY, number_of, refusal, why_of
from ketang_center.web.text import Words, words
from ketang_center.web.visitor import audit, context_of, scope_of, visitor_of
from ketang_contract.errors import BadInput
from ketang_provisioning import config_words

PAGE_ROLLOUTS = 50
MOST_NAMED = 50
DONE = ("began", *BY)
router = APIRouter(default_response_class=HTMLResponse)
_Text = Annotated[str, Form()]


@router.get("/rollouts")
async def listing(
    request: Request, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1
) -> Response:
    """Show the rollouts that concern the visitor, the newest first."""
    with desk_of(request) as desk:
        found = desk.views.rollouts()
        some, page, pages = paged(found, page, PAGE_ROLLOUTS)
        progress, still_ms = desk.views.progress(some), desk.views.engine_still_ms()
        left = await placings_of(request).unplaced(desk.book)
    tree, root = context_of(request).registry.tree(), scope_of(request).root
    return render(
        request,
        "rollouts.html",
        rows=[(one, bar(0, progress[one.no], None)) for one in some],
        total=len(found),
        page=page,
        pages=pages,
        lacking=len(placing.below(tree, left, root)),
        still_ms=still_ms,
        stop=_stops(request),
    )


@router.get("/rollouts/{no}")
async def one(
    request: Request,
    no: str,
    state: str = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    done: str = "",
) -> Response:
    """Show where a rollout stands."""
    with desk_of(request) as desk:
        found = desk.views.rollout(number_of(no))
        left = await placings_of(request).unplaced(desk.book)
        return _one(request, desk, found, left, state=state, page=page, done=done)


@router.get("/rollouts/{no}/devices.csv")
async def table(request: Request, no: str, state: str = "") -> Response:
    """Give every device of a rollout in the visitor's part that passes the filter."""
    with desk_of(request) as desk:
        found = desk.views.rollout(number_of(no))
    audit(request, "rollout_exported", f"{found.no} {found.release}", scope_of(request).root)
    text = await asyncio.to_thread(
        written,
        folder_of(request),
        scope_of(request),
        found,
        _state_of(state),
        words(language_of(request)),
        context_of(request).clock(),
    )
    name = f"rollout-{found.no}.csv"
    return Response(
        text.encode("utf-8-sig"),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get("/rollouts/{no}/{act}")
async def ask(request: Request, no: str, act: str, device: str = "") -> Response:
    """Say what an act would do, in numbers, and ask whether that is meant."""
    with desk_of(request) as desk:
        found = _acted_on(request, desk, no, act)
        if not fits(act, found):
            told = words(language_of(request))("rollout.changed")
            return _ask(request, desk, found, act, 409, device=device, fault=told)
        return _ask(request, desk, found, act, device=device)


@router.post("/rollouts/{no}/{act}")
async def do(request: Request, no: str, act: str, why: _Text = "", device: _Text = "") -> Response:
    """Do it, and show what became of it."""
    with desk_of(request) as desk:
        found, who = _acted_on(request, desk, no, act), visitor_of(request).name
        after = found.no
        try:
            if act == "approve":
                desk.office.approve(found.no, who)
            elif act == "pause":
                desk.office.pause(found.no, who, why_of(why))
            elif act == "resume":
                desk.office.resume(found.no, who)
            elif act == "cancel":
                desk.office.cancel(found.no, who)
            elif act == "retry":
                desk.office.retry_failed(found.no, who, [device] if device else ())
            else:
                after = desk.office.roll_back(found.no, who, why_of(why))
        except BadInput as problem:
            told = refusal(problem, language_of(request))
            return _ask(request, desk, found, act, 409, device=device, fault=told)
    return RedirectResponse(f"/rollouts/{after}?done={act}", 303)


def _acted_on(request: Request, desk: Desk, no: str, act: str) -> Rollout:
    """Return a rollout on which the visitor may do something.

    Raises:
        OutOfScope: he may not, or there is no such act or rollout.
    """
    found = desk.views.rollout(number_of(no))
    if act not in BY or not may(request, act, desk.views.unit_of(found.target)):
        raise OutOfScope(no[:60])
    return found


def _state_of(text: str) -> State | None:
    return State(text) if text in {one.value for one in State} else None


def _stops(request: Request) -> "_Stops":
    """Return what says why a rollout stands still, as far as this visitor may know."""
    context, scope = context_of(request), scope_of(request)
    tree = context.registry.tree()
    own = "" if tree[scope.root].parent is None else scope.root
    return _Stops(words(language_of(request)), tree, own)


@dataclass(frozen=True, slots=True)
class _Stops:
    t: Words
    tree: Tree
    own: str

    def __call__(self, text: str, *, whole: bool) -> str:
        """Say it; ``whole``: the rollout lies in the visitor's part, all of it."""
        return rollout_words.stop(text, self.t, self.tree, "" if whole else self.own)


def _one(
    request: Request,
    desk: Desk,
    found: Rollout,
    left: Sequence[Unplaced],
    *,
    state: str,
    page: int,
    done: str,
) -> Response:
    context, chosen = context_of(request), _state_of(state)
    tree, root = context.registry.tree(), scope_of(request).root
    seen = shown(found, desk.views)
    standing = desk.views.standing(found, context.reading)
    count = standing.counts.get(chosen, 0) if chosen else standing.total
    some, page, pages = paged(range(count), page, PAGE_DEVICES)
    skip = some[0] if some else 0
    rows = desk.views.rows(found, context.reading, chosen, PAGE_DEVICES, skip)
    lacking = placing.below(tree, placing.below(tree, left, found.target), root)
    return render(
        request,
        "rollout.html",
        one=found,
        seen=seen,
        still_ms=desk.views.engine_still_ms(),
        unit=desk.views.unit_of(found.target),
        **_people(request, desk, found),
        standing=standing,
        planned=_planned(desk, found),
        whole_bar=bar(0, standing.counts, None),
        bars=bars(standing),
        rows=rows,
        count=count,
        state=chosen,
        states=list(State),
        segments=SEGMENTS,
        page=page,
        pages=pages,
        lacking=lacking[:MOST_NAMED],
        lacking_n=len(lacking),
        acts=open_acts(request, desk, found, _again(desk, found)),
        history=desk.views.history(found.no),
        told=_Told(_stops(request), standing.whole),
        stop=_stops(request),
        reason=rollout_words.reason,
        reasons=desk.views.reasons(found) if found.state is RolloutState.PAUSED else [],
        takes_again=AGAIN,
        most_attempts=MOST_ATTEMPTS,
        done=done if done in DONE else "",
    )


def _people(request: Request, desk: Desk, found: Rollout) -> dict[str, Any]:
    """Say who brought what is rolled out, and whether the visitor had no hand in it."""
    look = desk.office.look
    return {
        "release": desk.book.release(found.release),
        "admitted": look.who_admitted(found.release),
        "is_other": visitor_of(request).name not in look.who_brought(found),
    }


def _planned(desk: Desk, one: Rollout) -> int | None:
    """Count whom a rollout that waits for approval would go to; None: not told, or under way."""
    if one.state is not RolloutState.AWAITING or not desk.views.holds(one.target):
        return None
    return len(desk.book.below(one.target))


def _again(desk: Desk, one: Rollout) -> int:
    marks = ", ".join("?" * len(AGAIN))
    found = desk.book.rows.table(
        f"SELECT count(*) FROM member WHERE rollout = ? AND attempt < ? AND state IN ({marks})",  # nosec B608  # noqa: S608  (text of ours)
        one.no,
        MOST_ATTEMPTS,
        *(state.value for state in AGAIN),
    )
    return int(found[0][0])


@dataclass(frozen=True, slots=True)
class _Told:
    """Says a line of the history in words."""

    stops: _Stops
    whole: bool

    def __call__(self, event: Event) -> str:
        t = self.stops.t
        what = t.by_key.get(f"rollout_event.{event.what}", event.what)
        detail = event.detail
        if event.what == "began":
            detail = detail.partition(" ")[2]
        elif event.what == "retried":
            # How many there are elsewhere is not told to who sees a part alone.
            count = int(detail.partition(" ")[0] or 0)
            detail = t("rollout.devices_n", n=count) if self.whole else ""
        elif event.what == "approved" and detail:
            detail = t("rollout.at_machine", who=detail.removeprefix(AT_MACHINE))
        elif event.who == CENTER or event.what in {"paused", "rolled_back"}:
            detail = self.stops(detail, whole=self.whole)
        return f"{what}: {detail}" if detail else what

    def who(self, event: Event) -> str:
        """Name who did it."""
        return self.stops.t("rollout.center") if event.who == CENTER else event.who


def _ask(
    request: Request,
    desk: Desk,
    found: Rollout,
    act: str,
    status: int = 200,
    *,
    device: str = "",
    fault: str = "",
) -> Response:
    context, lang = context_of(request), language_of(request)
    standing = desk.views.standing(found, context.reading)
    release = desk.views.release(found.release)
    counts = standing.counts
    numbers = {
        "total": standing.total,
        "pending": counts.get(State.PENDING, 0),
        "off_line": standing.off_line,
        "trying": sum(counts.get(one, 0) for one in SEGMENTS["trying"]),
        "have": counts.get(State.COMMITTED, 0),
        "trouble": sum(counts.get(one, 0) for one in SEGMENTS["trouble"]),
        "again": 1 if device else _again(desk, found),
        "given": desk.views.given(found),
        "per_minute": found.rules.per_minute,
    }
    numbers["total"] = numbers["total"] or _planned(desk, found) or 0
    return render(
        request,
        "rollout_act.html",
        status,
        one=found,
        unit=desk.views.unit_of(found.target),
        release=release,
        admitted=desk.office.look.who_admitted(found.release),
        most_attempts=MOST_ATTEMPTS,
        act=act,
        device=device[:64],
        numbers=numbers,
        differs=lines(release.before, release.content, lang, release.widens),
        undo=undo_of(release, lang),
        widens=[config_words.title(one, "zh" if lang == "zh" else "en") for one in release.widens],
        most_why=MOST_WHY,
        fits=fits(act, desk.views.rollout(found.no)),
        fault=fault,
    )
