"""The rollouts as a part of the running centre: their files, and the thread that keeps at them."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from ketang_center.enrolment.bans import Bans
from ketang_center.enrolment.book import Book
from ketang_center.registry.database import Registry
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.bundles import Composer
from ketang_center.rollouts.engine import Engine, Sources
from ketang_center.rollouts.filings import Filings
from ketang_center.rollouts.hearing import Inbox
from ketang_center.rollouts.office import BOOK, FILINGS, trust_of
from ketang_center.settings import Settings
from ketang_center.store.reading import StoreReader

log = logging.getLogger("ketang.rollouts")

_LOOK_S = 0.5
_REST_S = 0.1
"""Between two steps: words that come together are taken in together."""


class Rollouts:
    """``run`` in a thread of its own until ``stop``; ``inbox`` is ingest's."""

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str, bytes], None],
        hearing_since_ms: Callable[[], int | None],
    ) -> None:
        self._settings, self._say = settings, say
        self._hearing_since_ms = hearing_since_ms
        self._stopping = threading.Event()
        self.inbox = Inbox()

    def stop(self) -> None:
        """Let the step at hand finish. Signal-safe."""
        self._stopping.set()

    def run(self) -> None:
        """Keep at it; while the disk refuses, it is tried again."""
        with ExitStack() as stack:
            engine = self._engine(stack)
            failing = False
            while not self._stopping.is_set():
                self.inbox.wait(_LOOK_S)
                try:
                    engine.step(_now_ms())
                except sqlite3.OperationalError as problem:
                    if not failing:
                        log.warning("rollouts.failing why=%s", problem)
                    failing = True
                    self._stopping.wait(_LOOK_S)
                    continue
                if failing:
                    log.info("rollouts.go_on")
                failing = False
                self._stopping.wait(_REST_S)

    def _engine(self, stack: ExitStack) -> Engine:
        folder = self._settings.data_dir
        book = stack.enter_context(RolloutBook(folder / BOOK))
        reading = stack.enter_context(StoreReader(folder))
        filings = stack.enter_context(Filings(folder / FILINGS, _now_ms))
        enrolled = stack.enter_context(Book(folder / "enrolment.db"))
        trust = trust_of(self._settings)
        return Engine(
            book,
            stack.enter_context(Registry(folder / "registry.db")),
            Composer(book, trust, filings.permits_for),
            self._say,
            self.inbox,
            Sources(
                presence=reading.presence,
                hearing_since_ms=self._hearing_since_ms,
                revisions=lambda: (filings.version(), trust.latest().version),
                barred=Bans(enrolled, time.monotonic),
            ),
        )


def _now_ms() -> int:
    return time.time_ns() // 10**6
