"""Pre-registration: a device list is checked first, row by row, and registered as a whole or not.

What was checked waits in memory for its second step, a few lists at most and a quarter of an hour;
the second step holds it against the registry again. Both run beside the page's thread.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center.access.policy import Action
from ketang_center.access.scope import OutOfScope
from ketang_center.enrolment import registering
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.registering import Registered
from ketang_center.registry.database import Registry
from ketang_center.registry.imports import (
    COLUMNS,
    MOST_PROBLEMS,
    BadRows,
    Problem,
    Rows,
    kind_titles,
    read_rows,
)
from ketang_center.registry.values import Kind
from ketang_center.web.enrolment_pages import book_of, schools_for
from ketang_center.web.render import language_of, render
from ketang_center.web.row_words import in_words
from ketang_center.web.visitor import audit, context_of, visitor_of
from ketang_contract.errors import BadInput

KEPT_MS = 15 * 60_000
MOST_ROWS_KEPT = 20_000
MAX_NAME = 80
router = APIRouter(default_response_class=HTMLResponse)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A list that was found good, and who may register it."""

    rows: Rows
    add_rooms: bool
    who: str
    session: str
    at_ms: int


class Uploads:
    """Lists between their two steps. One is read at a time; the oldest go first."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._kept: dict[str, Checked] = {}
        self.turn = asyncio.Lock()

    def keep(self, one: Checked) -> str:
        """Keep a list and return its ticket."""
        ticket = secrets.token_urlsafe(16)
        self._kept[ticket] = one
        while len(self._kept) > 1 and self._rows() > MOST_ROWS_KEPT:
            del self._kept[next(iter(self._kept))]
        return ticket

    def take(self, ticket: str, who: str, session: str) -> Checked | None:
        """Return what a visitor kept, once; None where it is gone or another's."""
        least_ms = self._clock() - KEPT_MS
        self._kept = {key: one for key, one in self._kept.items() if one.at_ms >= least_ms}
        found = self._kept.get(ticket)
        if found is None or (found.who, found.session) != (who, session):
            return None
        return self._kept.pop(ticket)

    def _rows(self) -> int:
        return sum(len(one.rows.rows) for one in self._kept.values())


@router.get("/enrolment/upload")
async def ask(request: Request) -> Response:
    """Ask for a device list."""
    return _page(request)


@router.post("/enrolment/upload")
async def check(
    request: Request,
    file: Annotated[UploadFile | None, File()] = None,
    add_rooms: Annotated[str, Form()] = "",
) -> Response:
    """Say what a list would do, or everything that is wrong with it; nothing is written."""
    mine = frozenset(one.id for one in schools_for(request, Action.ENROL))
    folder, uploads = _folder(request), _uploads(request)
    raw = await file.read() if file is not None else b""
    if not raw or file is None:
        return _page(request, 400, fault="no_file")
    name, adds = _shown(file.filename or ""), bool(add_rooms)
    now_ms = context_of(request).clock()
    try:
        async with uploads.turn:
            rows = await asyncio.to_thread(read_rows, raw, name)
            found = await asyncio.to_thread(
                _held_against, folder, rows, mine, now_ms, add_rooms=adds
            )
    except BadRows as bad:
        return _page(request, 400, problems=bad.problems, more=bad.more, mine=mine, name=name)
    except BadInput as bad:
        text = str(bad).removeprefix(f"{name}: ")
        return _page(request, 400, problems=(Problem(name, 0, "", text),), mine=mine, name=name)
    visitor = visitor_of(request)
    ticket = uploads.keep(
        Checked(
            rows=rows,
            add_rooms=adds,
            who=visitor.name,
            session=_session(request),
            at_ms=now_ms,
        )
    )
    return _page(request, found=found, ticket=ticket, mine=mine, name=name, count=len(rows.rows))


@router.post("/enrolment/upload/import")
async def register(request: Request, ticket: Annotated[str, Form()] = "") -> Response:
    """Register a list that was checked, all of it."""
    mine = frozenset(one.id for one in schools_for(request, Action.ENROL))
    folder, uploads, visitor = _folder(request), _uploads(request), visitor_of(request)
    kept = uploads.take(ticket, visitor.name, _session(request))
    if kept is None:
        return _page(request, 409, fault="upload_gone")
    now_ms, name = context_of(request).clock(), kept.rows.file
    try:
        async with uploads.turn:
            await asyncio.to_thread(
                _held_against, folder, kept.rows, mine, now_ms, add_rooms=kept.add_rooms
            )
            # Who did it stands in the log before it is done.
            for school in sorted({one.school for one in kept.rows.rows}):
                audit(request, "register", f"{name}: {len(kept.rows.rows)} rows", school)
            done = await asyncio.to_thread(
                _written, folder, kept.rows, now_ms, add_rooms=kept.add_rooms
            )
    except BadRows as bad:
        return _page(request, 409, problems=bad.problems, more=bad.more, mine=mine, name=name)
    return RedirectResponse(f"/enrolment?done=registered&n={done.added + done.changed}", 303)


def _held_against(
    folder: Path, rows: Rows, mine: frozenset[str], now_ms: int, *, add_rooms: bool
) -> Registered:
    """Check a list against registry and book, both opened for it.

    Raises:
        BadRows: rows contradict them. A school of others' is answered as one that is not there.
    """
    strange = [
        Problem(
            rows.file,
            one.row,
            "school",
            f"there is no school {one.school}; check the code, or add the school",
        )
        for one in rows.rows
        if one.school not in mine
    ]
    own = replace(rows, rows=tuple(one for one in rows.rows if one.school in mine))
    with Registry(folder / "registry.db") as registry, Book(folder / "enrolment.db") as book:
        try:
            found = registering.check(registry, book, own, now_ms, add_rooms=add_rooms)
        except BadRows as bad:
            if not strange:
                raise
            strange += bad.problems
            raise _all(strange, bad.more) from None
    if strange:
        raise _all(strange, 0)
    return found


def _all(problems: list[Problem], more: int) -> BadRows:
    problems.sort(key=lambda one: one.row)
    return BadRows(problems[:MOST_PROBLEMS], more + max(0, len(problems) - MOST_PROBLEMS))


def _written(folder: Path, rows: Rows, now_ms: int, *, add_rooms: bool) -> Registered:
    with Registry(folder / "registry.db") as registry, Book(folder / "enrolment.db") as book:
        return registering.register(registry, book, rows, now_ms, add_rooms=add_rooms)


def _page(
    request: Request,
    status: int = 200,
    *,
    fault: str = "",
    problems: tuple[Problem, ...] = (),
    more: int = 0,
    found: Registered | None = None,
    ticket: str = "",
    mine: frozenset[str] = frozenset(),
    name: str = "",
    count: int = 0,
) -> Response:
    schools_for(request, Action.ENROL)
    book_of(request)
    lang = language_of(request)

    def told(some: tuple[Problem, ...]) -> list[tuple[int, str, str]]:
        return [(one.row, one.column, in_words(one.what, lang, mine)) for one in some]

    return render(
        request,
        "enrolment_upload.html",
        status,
        fault=fault,
        problems=told(problems),
        more=more,
        found=found,
        warnings=told(found.warnings) if found else [],
        ticket=ticket,
        name=name,
        count=count,
        columns=[
            (key, [one for one in names if one.isascii() is (lang != "zh")])
            for key, names in COLUMNS.items()
        ],
        kinds=[(one.value, *kind_titles(one)) for one in Kind],
    )


def _folder(request: Request) -> Path:
    folder = context_of(request).data_dir
    if folder is None:
        raise OutOfScope("upload")
    return folder


def _uploads(request: Request) -> Uploads:
    found: Uploads = request.app.state.uploads
    return found


def _session(request: Request) -> str:
    """What tells a visitor's log-ins apart; form tokens change with his rights."""
    visitor = visitor_of(request)
    return f"session {visitor.session.id}" if visitor.session else visitor.csrf


def _shown(name: str) -> str:
    """A stranger's file name, short and printable."""
    return "".join(one if one.isprintable() else "?" for one in name[-MAX_NAME:]) or "?"
