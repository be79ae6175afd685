"""The local page's server: loopback only, a thread of its own, nothing but a snapshot to read.

It answers on 127.0.0.1 (and ::1 where it can). What guards it:

1. ``Host`` must name this machine, so that a foreign site's name cannot be pointed at it.
2. A change needs ``Origin`` (or ``Referer``) of this page and the token that this start gave out.
3. Who asks is told by the kernel (``visitor``), never by the request.
4. At most eight requests at a time, each over in seconds: a busy page costs the device nothing.
"""

import errno
import json
import logging
import os
import secrets
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ketang_agent import judged
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.local_page.desk import Desk
from ketang_agent.local_page.visitor import visitor_of
from ketang_agent.remote.commands_room import Room, Said, Word
from ketang_agent.status import Status, to_json

log = logging.getLogger("ketang.local_page")

_AT_ONCE = 8
_REQUEST_S = 5.0
"""A visitor's longest silence."""
_VISIT_S = 15.0
"""And the longest visit, however it is dragged out: one look into the spool may take five."""
_MOST_BODY = 1024
_LOOK_S = 60.0
"""How often an idle server wakes for nothing."""
_WAKE_TRIES = 20
_WEEK_MS = 7 * 24 * 3_600_000
_WORDS = {f"/{one}": one for one in Word}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class LocalPage:
    """``start`` and ``stop`` it; ``show`` it each new status. None of them raises for the port."""

    def __init__(self, port: int, url_file: Path, spool: Path, switch: KillSwitch) -> None:
        self._port = port
        self._url_file = url_file
        self.room = Room()
        self._desk = Desk(spool, switch, self.room)
        self._servers: list[_Server] = []
        self.url = ""
        """Where it is; empty while it is nowhere."""

    def show(self, status: Status) -> None:
        """Swap in what the next visitor will see."""
        self._desk.status = status

    @property
    def shown(self) -> Status | None:
        """What the next visitor will see."""
        return self._desk.status

    def start(self) -> None:
        """Begin to answer; a port in use is told once and stops nobody."""
        try:
            first = self._first()
        except OSError as problem:
            log.warning("local_page.none port=%d why=%s", self._port, problem.strerror)
            return
        self._servers = [first]
        port = int(first.server_address[1])
        if not isinstance(first, _Server6):
            with suppress(OSError):  # no IPv6 here, or its port is taken: one address is enough
                self._servers.append(_Server6(("::1", port), self._desk))
        for one in self._servers:
            threading.Thread(
                target=one.serve_forever, args=(_LOOK_S,), name="ketang-page", daemon=True
            ).start()
        host = "[::1]" if isinstance(first, _Server6) else "127.0.0.1"
        self.url = f"http://{host}:{port}/"
        try:
            self._url_file.write_text(f"{self.url}\n", "ascii")
        except OSError as problem:
            log.warning("local_page.url_not_written why=%s", problem.strerror)
        log.info("local_page.open url=%s", self.url)

    def _first(self) -> "_Server":
        """Open the port on 127.0.0.1, or on ::1 where this machine has no IPv4 at all."""
        try:
            return _Server(("127.0.0.1", self._port), self._desk)
        except OSError as problem:
            if problem.errno != errno.EADDRNOTAVAIL:
                raise
            return _Server6(("::1", self._port), self._desk)

    def stop(self) -> None:
        """Answer nobody any more."""
        for one in self._servers:
            one.end()
        if self._servers:
            with suppress(OSError):
                self._url_file.unlink(missing_ok=True)
        self._servers, self.url = [], ""


class _Server(ThreadingHTTPServer):
    """Bounded: whoever comes while all places are taken is turned away."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], desk: Desk) -> None:
        self.desk = desk
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking the DNS for our own name, which may hang."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def end(self) -> None:
        """Stop serving; the loop is woken by a visit, so that it need not wake by itself."""
        ending = threading.Thread(target=self.shutdown, daemon=True)
        ending.start()
        for _ in range(_WAKE_TRIES):
            with suppress(OSError):
                host, port = str(self.server_address[0]), int(self.server_address[1])
                socket.create_connection((host, port), timeout=1).close()
            ending.join(1 / _WAKE_TRIES)
            if not ending.is_alive():
                break
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if there is a place."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the place back, whatever happens."""
        ending = threading.Timer(_VISIT_S, _hang_up, (request,))
        ending.daemon = True
        with suppress(RuntimeError):  # no thread to be had: then only silence ends a visit
            ending.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            ending.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor who goes away in mid-sentence is no news."""
        del request, client_address
        log.debug("local_page.request_failed why=%r", sys.exception())


def _hang_up(visit: socket.socket) -> None:
    """End a visit from outside: whoever waits for it reads that it is over."""
    with suppress(OSError):
        visit.shutdown(socket.SHUT_RDWR)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    """One request, then the connection closes."""

    server: _Server
    server_version = "ketang"
    sys_version = ""
    timeout = _REQUEST_S

    def do_GET(self) -> None:
        """Show something."""
        path = urlsplit(self.path).path
        pages: Mapping[str, Callable[[], None]] = {
            "/": lambda: self._page(of_records=False),
            "/sent": lambda: self._page(of_records=True),
            "/diagnostics": self._diagnostics,
            "/page.css": self._style,
            "/status.json": self._status_json,
            "/leaving.json": self._leaving_json,
        }
        if not self._is_for_here():
            self._plain(421, "this page answers to 127.0.0.1 and localhost only")
        elif path not in pages:
            self._notice(404, "not_found")
        else:
            pages[path]()

    def do_POST(self) -> None:
        """Turn the switch, or take a word about what a command asks for."""
        path = urlsplit(self.path).path
        visitor = visitor_of(*self._ends(), os.geteuid())
        form = self._form() if self._is_for_here() else None
        if form is None:
            self._notice(403, "not_from_here")
        elif path in _WORDS:
            self._take_word(_WORDS[path], form)
        elif path == "/stop":
            log.warning("switch.stopped uid=%s", visitor.uid)
            self._turn(self.server.desk.switch.engage, "not_saved")
        elif path == "/allow" and visitor.administrator:
            log.warning("switch.allowed uid=%s", visitor.uid)
            self._turn(self.server.desk.switch.release, "not_released")
        elif path == "/allow":
            self._notice(403, "not_allowed")
        else:
            self._notice(404, "not_found")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (http.server's name)
        """Who looked at the page is nobody's business."""
        del format, args

    # Pages.

    def _page(self, *, of_records: bool) -> None:
        from ketang_agent.local_page import ledger, page  # noqa: PLC0415  (only a visitor pays)

        desk, status = self.server.desk, self.server.desk.status
        if status is None:
            self._notice(503, "starting")
            return
        visitor = visitor_of(*self._ends(), os.geteuid())
        skip = self._skip() if of_records else 0
        lines, readable = None, True
        if visitor.administrator or visitor.since_ms is not None:
            week_ms = int(time.time() * 1000) - _WEEK_MS
            from_ms = week_ms if visitor.administrator else max(week_ms, visitor.since_ms or 0)
            try:
                lines = ledger.sent(
                    desk.spool,
                    acked_from_ms=from_ms,
                    made_from_ms=0 if visitor.administrator else from_ms,
                    skip=skip,
                    most=page.PAGE_LINES if of_records else page.FIRST_LINES,
                )
            except sqlite3.Error:
                readable = False
        view = page.View(
            status=status,
            visitor=visitor,
            lang=self._language(),
            token=desk.token,
            stopped=desk.switch.engaged,
            lines=lines,
            readable=readable,
            skip=skip,
            leaving=desk.room.leaving,
            asking=desk.room.asking,
            judged=judged.read(desk.data_dir),
        )
        self._html(200, page.records(view) if of_records else page.front(view))

    def _diagnostics(self) -> None:
        from ketang_agent.local_page import page  # noqa: PLC0415  (only a visitor pays)

        desk = self.server.desk
        shown = page.diagnostics(desk.room.asking, self._language(), desk.token)
        self._html(200, shown) if shown else self._notice(404, "nothing_asked")

    def _take_word(self, word: Word, form: Mapping[str, list[str]]) -> None:
        """Anyone in the room may say it; who did is not asked."""
        said = Said(word, *(form.get(name, [""])[0] for name in ("job", "sha256")))
        self._back() if self.server.desk.room.say(said) else self._notice(409, "nothing_asked")

    def _style(self) -> None:
        style = (Path(__file__).parent / "page.css").read_bytes()
        self._answer(200, "text/css; charset=utf-8", style)

    def _status_json(self) -> None:
        status = self.server.desk.status
        if status is None:
            self._plain(503, "starting")
            return
        found = judged.read(self.server.desk.data_dir)
        self._json(to_json(status) | {"judged": judged.to_json(found)})

    def _leaving_json(self) -> None:
        from ketang_agent.local_page import asking  # noqa: PLC0415  (only a visitor pays)

        desk = self.server.desk
        self._json(asking.announcement(desk.room.leaving, desk.token))

    def _notice(self, code: int, key: str) -> None:
        from ketang_agent.local_page import page  # noqa: PLC0415  (only a visitor pays)

        self._html(code, page.notice(self._language(), key))

    def _turn(self, turn: Callable[[], None], failed: str) -> None:
        try:
            turn()
        except OSError as problem:
            log.error("switch.not_saved why=%s", problem)  # noqa: TRY400  (a full disk, no bug)
            self._notice(500, failed)
            return
        self._back()

    def _back(self) -> None:
        self.send_response(303)
        self.send_header("Location", f"/?lang={self._language()}")
        self._end(0)

    # Guards.

    def _ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        here = self.connection.getsockname()
        return (self.client_address[0], self.client_address[1]), (here[0], here[1])

    def _names(self) -> tuple[str, ...]:
        port = self.connection.getsockname()[1]
        return tuple(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))

    def _is_for_here(self) -> bool:
        hosts = self.headers.get_all("Host") or []
        return len(hosts) == 1 and hosts[0].strip().lower() in self._names()

    def _form(self) -> Mapping[str, list[str]] | None:
        """Read what was asked for on this very page; None where it was asked for elsewhere."""
        said = self.headers.get("Origin")
        if said is None:
            referer = urlsplit(self.headers.get("Referer") or "")
            said = f"{referer.scheme}://{referer.netloc}"
        here = (self.headers.get("Host") or "").strip().lower()
        if said.lower() != f"http://{here}":
            return None
        length = self.headers.get("Content-Length") or ""
        if not length.isdecimal() or int(length) > _MOST_BODY:
            return None
        form = parse_qs(self.rfile.read(int(length)).decode("ascii", "replace"))
        token = form.get("token", [""])[0].encode()
        return form if secrets.compare_digest(token, self.server.desk.token.encode()) else None

    # Answers.

    def _query(self, name: str) -> str | None:
        try:
            return parse_qs(urlsplit(self.path).query, max_num_fields=8).get(name, [None])[0]
        except ValueError:
            return None

    def _skip(self) -> int:
        said = self._query("skip") or ""
        return int(said) if said.isascii() and said.isdecimal() and len(said) < 7 else 0  # noqa: PLR2004

    def _language(self) -> str:
        from ketang_agent.local_page.words import language_of  # noqa: PLC0415

        return language_of(self._query("lang"), self.headers.get("Accept-Language") or "")

    def _html(self, code: int, text: str) -> None:
        self._answer(code, "text/html; charset=utf-8", text.encode("utf-8", "replace"))

    def _json(self, said: Mapping[str, Any]) -> None:
        self._answer(200, "application/json", json.dumps(said, ensure_ascii=False).encode())

    def _plain(self, code: int, text: str) -> None:
        self._answer(code, "text/plain; charset=utf-8", f"{text}\n".encode())

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self._end(len(body))
        self.wfile.write(body)

    def _end(self, length: int) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
