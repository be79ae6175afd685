"""The live stream of a rollout's page: told when what this visitor sees of it has changed.

Events are numbered page by page, and none is sent for what happens in other parts of the tree.
"""

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from ketang_center.rollout_views import RolloutViews
from ketang_center.rollouts.book import Rollout
from ketang_center.rollouts.office import BOOK
from ketang_center.view_values import Context
from ketang_center.web.live import Hub
from ketang_center.web.rollout_desk import desk_of
from ketang_center.web.rollout_words import number_of
from ketang_center.web.visitor import context_of, scope_of, still_there, visitor_of

TICK_MS = 30_000
"""Ages, and who is connected, change without the book: a page is told this often."""
router = APIRouter()


class Watch:
    """A number that changes with every commit to the book of rollouts; 0 while there is none."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / BOOK if folder else None
        self._db: sqlite3.Connection | None = None

    def __call__(self) -> int:
        """Return it. On one thread."""
        if self._db is None:
            if self._path is None or not self._path.exists():
                return 0
            self._db = sqlite3.connect(self._path, isolation_level=None)
        found: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return found

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None


class RolloutNews:
    """What pages of rollouts follow. On the event loop's thread."""

    def __init__(self, context: Context) -> None:
        self.watch = Watch(context.data_dir)
        self.hub = Hub(context.reading, self.watch)
        self._at = 0
        self._marks: dict[tuple[int, str], str] = {}

    def mark(self, no: int, root: str, make: Callable[[], str]) -> str:
        """Return what a page's content is known by: read once for all pages that show the same."""
        at = self.watch()
        if at != self._at:
            self._at, self._marks = at, {}
        if (no, root) not in self._marks:
            self._marks[no, root] = make()
        return self._marks[no, root]


def news_of(request: Request) -> RolloutNews:
    """Return what all pages share."""
    found: RolloutNews = request.app.state.rollout_news
    return found


def shown(rollout: Rollout, views: RolloutViews) -> str:
    """Name what a page shows of a rollout; another name when it shows something else."""
    return hashlib.sha256(repr(views.mark(rollout)).encode()).hexdigest()[:16]


@router.get("/rollouts/{no}/live")
async def live(request: Request, no: str, seen: str = "") -> Response:
    """Tell a rollout's page that something it shows has changed, as server-sent events.

    Args:
        request: the page's.
        no: the rollout's number.
        seen: names what the page showed when it was made: it may be old by now.
    """
    news, session = news_of(request), visitor_of(request).session
    whose, now = session.id if session else 0, _mark(request, number_of(no))
    if news.hub.full(whose):
        return Response(status_code=503, headers={"Retry-After": "30"})

    async def told() -> AsyncIterator[bytes]:
        again = "last-event-id" in request.headers or seen not in {"", now[1]}
        known, count = now, 0
        follow = news.hub.follow(lambda changed: changed is None, again=again, whose=whose)
        async with aclosing(follow) as stream:
            async for one in stream:
                if not still_there(request):
                    return
                if not one.startswith(b"id:"):
                    yield one
                    continue
                mark = _mark(request, number_of(no))
                if mark != known or (again and not count):
                    known, count = mark, count + 1
                    yield f"id: {count}\nevent: change\ndata: {count}\n\n".encode()

    return StreamingResponse(
        told(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


def _mark(request: Request, no: int) -> tuple[int, str]:
    """Say what the page shows, and when.

    Raises:
        OutOfScope: nothing, to this visitor.
    """

    def make() -> str:
        with desk_of(request) as desk:
            return shown(desk.views.rollout(no), desk.views)

    tick = context_of(request).clock() // TICK_MS
    return tick, news_of(request).mark(no, scope_of(request).root, make)
