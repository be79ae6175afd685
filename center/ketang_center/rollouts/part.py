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
from ketang_center.rollouts.sending import Taken
from ketang_center.settings import Settings
from ketang_center.store.reading import StoreReader

log = logging.getLogger("ketang.rollouts")

_LOOK_S = 0.5
_STUMBLED_S = 5.0
_REST_S = 0.1
"""Between two steps: words that come together are taken in together."""


class Rollouts:
    """``run`` in a thread of its own until ``stop``; ``inbox`` is ingest's."""

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str, bytes], Taken],
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
        """Keep at it; what it stumbles over is told once, and it is tried again.

        To end would take the ingest down with it. The console says since when it stands still.
        """
        with ExitStack() as stack:
            engine = self._engine(stack)
            stumbled = ""
            while not self._stopping.is_set():
                self.inbox.wait(_LOOK_S)
                try:
                    engine.step(_now_ms())
                except Exception as problem:
                    passing = isinstance(problem, sqlite3.OperationalError)
                    if repr(problem) != stumbled:
                        log.warning(
                            "rollouts.failing why=%s",
                            problem,
                            exc_info=None if passing else problem,
                        )
                    stumbled = repr(problem)
                    self._stopping.wait(_LOOK_S if passing else _STUMBLED_S)
                    continue
                if stumbled:
                    log.info("rollouts.go_on")
                stumbled = ""
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
                hearing_since_ms=lambda: None if book.is_held() else self._hearing_since_ms(),
                revisions=lambda: (filings.version(), trust.latest().version),
                barred=Bans(enrolled, time.monotonic),
            ),
        )


def _now_ms() -> int:
    return time.time_ns() // 10**6
