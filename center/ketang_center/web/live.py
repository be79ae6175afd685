"""The live stream: one poll a second for the whole server, told to every page that follows it.

A page hears only *that* something in its scope changed, and fetches its own fragment through the
same scoped view as the page itself, and events are numbered page by page; so the stream can leak
nothing, not even how much happens elsewhere.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from ketang_center.store.base import Reading

log = logging.getLogger("ketang.console")

POLL_S = 1.0
TICK_POLLS = 30
"""Ages grow without anything changing: every page is told this often."""
MOST_LISTENERS = 500
_KEEPALIVE_S = 15.0


@dataclass(eq=False)
class Listener:
    """One open page. ``hears`` decides from the changed devices; None means every page."""

    hears: Callable[[frozenset[str] | None], bool]
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """Polls, and wakes listeners. All on the event loop's thread."""

    def __init__(self, reading: Reading, generation: Callable[[], int]) -> None:
        self._reading = reading
        self._generation = generation
        self._listeners: set[Listener] = set()
        self._closed = self._deaf = False
        self.no = 0
        self._seen = 0

    @property
    def full(self) -> bool:
        """Whether another page would be too many."""
        return len(self._listeners) >= MOST_LISTENERS

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
    ) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events. ``again``: the browser reconnected and may have missed some."""
        listener = Listener(hears)
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
