"""The live stream: one poll a second for the whole server, told to every page that follows it.

A page hears only *that* something in its scope changed, and fetches its own fragment through the
same scoped view as the page itself, and events are numbered page by page; so the stream can leak
nothing, not even how much happens elsewhere.
"""

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ketang_center.access.scope import Scope
from ketang_center.registry.database import Registry
from ketang_center.store.base import Reading
from ketang_center.view_values import Context

log = logging.getLogger("ketang.console")

POLL_S = 1.0
TICK_POLLS = 30
"""Ages grow without anything changing: every page is told this often."""
MOST_LISTENERS = 500
MOST_OF_ONE = 8
"""Streams of one session: a person has a few pages open, not hundreds."""
_KEEPALIVE_S = 15.0
_MINUTE_MS = 60_000


@dataclass(eq=False)
class Listener:
    """One open page. ``hears`` decides from the changed devices; None means every page."""

    hears: Callable[[frozenset[str] | None], bool]
    whose: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Followed:
    """Which devices each part of the tree may follow: read once for all pages, not on the loop.

    Anew when the registry changed, and once a minute, since a stay may begin or end by its date.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._turn = asyncio.Lock()
        self._made_at: tuple[int, int] | None = None
        self._below: Mapping[str, frozenset[str]] = {}

    def below(self, unit: str) -> frozenset[str]:
        """Return the devices at a unit and below it, as of the last renewal."""
        return self._below.get(unit, frozenset())

    async def renew(self) -> None:
        """Read them anew where that is due."""
        async with self._turn:
            now_ms = self._context.clock()
            at = self._context.registry.revision(), now_ms // _MINUTE_MS
            if at != self._made_at:
                folder = self._context.data_dir
                self._below = (
                    await asyncio.to_thread(_read, folder, now_ms)
                    if folder is not None
                    else followed(self._context.registry, now_ms)
                )
                self._made_at = at


def followed(registry: Registry, now_ms: int) -> dict[str, frozenset[str]]:
    """Return, by unit, the devices whose connection and faults may be followed live from there.

    Read once for every page: over a region it takes a tenth of a second.
    """
    tree, found = registry.tree(), dict[str, set[str]]()
    for one in registry.in_service(now_ms, now_ms + 1):
        if one.school in tree and Scope.sees_connection_of(one.device):
            for unit in tree.path(one.school):
                found.setdefault(unit.id, set()).add(one.device.id)
    return {unit: frozenset(devices) for unit, devices in found.items()}


def _read(folder: Path, now_ms: int) -> Mapping[str, frozenset[str]]:
    with Registry(folder / "registry.db") as registry:
        return followed(registry, now_ms)


class Hub:
    """Polls, and wakes listeners. All on the event loop's thread."""

    def __init__(
        self, reading: Reading, generation: Callable[[], int], followed: Followed | None = None
    ) -> None:
        self._reading = reading
        self._generation = generation
        self._followed = followed
        self._listeners: set[Listener] = set()
        self._closed = self._deaf = False
        self.no = 0
        self._seen = 0

    def full(self, whose: int) -> bool:
        """Whether another page would be too many: of all, or of a session (0: of none)."""
        count = Counter(one.whose for one in self._listeners)
        return count.total() >= MOST_LISTENERS or (bool(whose) and count[whose] >= MOST_OF_ONE)

    async def run(self) -> None:
        """Poll until cancelled."""
        # Only what happens from now on is news; a ring of changes is short enough to walk once.
        self.no = self._catch_up()
        self._seen = self._generation()
        polls = 0
        while True:
            await asyncio.sleep(POLL_S)
            polls += 1
            try:
                if self._followed is not None and self._listeners:
                    await self._followed.renew()
                self._poll(tick=polls % TICK_POLLS == 0)
            except sqlite3.Error as problem:
                # Were this task to end here unseen, pages would say "live" and stand still.
                if not self._deaf:
                    log.warning("live.deaf why=%s", problem)
                self._deaf = True
            else:
                self._deaf = False

    def _poll(self, *, tick: bool) -> None:
        changed = frozenset(self._take())
        generation = self._generation()
        if generation != self._seen or tick:
            self._seen = generation
            self._tell(None)
        elif changed:
            self._tell(changed)

    def _catch_up(self) -> int:
        no = 0
        while changes := self._reading.changes(no):
            no = changes[-1].no
        return no

    def _take(self) -> set[str]:
        changes = self._reading.changes(self.no)
        if changes:
            self.no = changes[-1].no
        return {one.device for one in changes}

    def _tell(self, changed: frozenset[str] | None) -> None:
        for listener in self._listeners:
            if listener.hears(changed):
                listener.news.set()

    def close(self) -> None:
        """End every stream; called on the loop's thread."""
        self._closed = True
        for listener in self._listeners:
            listener.news.set()

    async def follow(
        self,
        hears: Callable[[frozenset[str] | None], bool],
        *,
        again: bool,
        whose: int = 0,
    ) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events; none when full.

        Args:
            hears: tells whether a page is concerned by these devices; None: every page is.
            again: the browser reconnected and may have missed some.
            whose: the session that follows; 0: none.
        """
        if self.full(whose):  # many may have been let through at once
            return
        listener = Listener(hears, whose)
        self._listeners.add(listener)
        told = 0
        try:
            yield b"retry: 2000\n\n"
            if again:
                listener.news.set()
            while not self._closed:
                try:
                    await asyncio.wait_for(listener.news.wait(), _KEEPALIVE_S)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                listener.news.clear()
                if self._closed:
                    return
                told += 1
                yield f"id: {told}\nevent: change\ndata: {told}\n\n".encode()
        finally:
            self._listeners.discard(listener)
