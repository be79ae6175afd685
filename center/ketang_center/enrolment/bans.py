"""Who is barred, for whoever handles messages: known within a second, whatever the broker does."""

from collections.abc import Callable

from ketang_center.enrolment.book import Book

_LOOK_S = 1.0


class Bans:
    """One thread. Asked before every message, so it only looks into the book once a second.

    ``book`` is its own, a connection that nobody else holds: ingest must not wait for a page of the
    console. ``heard`` is told each barred device that was asked for: it is connected still.
    """

    def __init__(
        self,
        book: Book,
        monotonic_s: Callable[[], float],
        heard: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._book, self._monotonic_s, self.heard = book, monotonic_s, heard
        self._barred: frozenset[str] = frozenset()
        self._version, self._look_at_s = -1, 0.0

    def __contains__(self, device: object) -> bool:
        now_s = self._monotonic_s()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_S
            version = self._book.rows.version()
            if version != self._version:
                self._barred = frozenset(one.device for one in self._book.revocations())
                self._version = version
        barred = device in self._barred
        if barred:
            self.heard(str(device))
        return barred
