"""Connections of strangers: how many there may be, and how long one may take.

Whoever connects and says nothing holds a place. So one address has so many places and no more, a
request has to be whole within seconds, and no connection lasts longer than a minute. A school's
devices share an address, and come in quickly one after the other.
"""

import asyncio
import socket
import sqlite3
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ketang_center.access.throttle import source_of

MOST, MOST_OF_SOURCE = 512, 64
REQUEST_S = 10.0
LIFE_S = 60.0
_TELL_S = 1.0


class Doorstep(socket.socket):
    """A listening socket that accepts so many connections at once, and so many of one source.

    Counted where they are accepted: a connection in the middle of its TLS handshake holds a place
    too, and the process has only so many files.

    Args:
        opened: is listening; it is taken over.
        turned_away: told who was refused, and how often: ``(source, count)``.
    """

    def __init__(self, opened: socket.socket, turned_away: Callable[[str, int], None]) -> None:
        super().__init__(opened.family, opened.type, opened.proto, fileno=opened.detach())
        self._turned_away = turned_away
        self._held: list[tuple[str, weakref.ref[socket.socket]]] = []
        self._refused: Counter[str] = Counter()
        self._told_s = time.monotonic()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            ConnectionAbortedError: there was one too many; it is closed. What asyncio expects of a
                connection that went away again.
        """
        self._tell()
        made, address = super().accept()
        source = source_of(str(address[0]))
        self._held = [(whose, one) for whose, one in self._held if _is_open(one)]
        of_source = sum(whose == source for whose, _ in self._held)
        if len(self._held) >= MOST or of_source >= MOST_OF_SOURCE:
            made.close()
            self._refused[source] += 1
            raise ConnectionAbortedError
        self._held.append((source, weakref.ref(made)))
        return made, address

    def _tell(self) -> None:
        now_s = time.monotonic()
        if self._refused and now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            refused, self._refused = self._refused, Counter()
            for source, count in refused.most_common(MOST):
                try:
                    self._turned_away(source, count)
                except sqlite3.Error:
                    return  # a busy log must not close the door


def _is_open(one: "weakref.ref[socket.socket]") -> bool:
    held = one()
    return held is not None and held.fileno() >= 0


class Patient(H11Protocol):
    """HTTP, for so long: a request whole in ``REQUEST_S``, everything in ``LIFE_S``."""

    _waits: asyncio.TimerHandle | None = None
    _ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._ends = self.loop.call_later(LIFE_S, transport.abort)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting until the request is whole."""
        super().data_received(data)
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._wait_no_more()
        elif self._waits is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wait_no_more()
        if self._ends is not None:
            self._ends.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waits = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None
