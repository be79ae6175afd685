"""In front of every page: who asks, is it his own doing, and is it small enough.

Plain ASGI, so that no route can be added past it. Order: the host, the session, the size of the
body, the origin, the form token. What is open to everybody is listed here and nowhere else.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ketang_center.access.policy import NOBODY, Actor, Grant, Role
from ketang_center.access.throttle import source_of
from ketang_center.registry.values import Level
from ketang_center.settings import is_loopback
from ketang_center.web.csrf import (
    FIELD,
    HEADER,
    SAFE,
    Visits,
    cookie_of,
    foreign,
    same,
    set_cookie,
)
from ketang_center.web.render import problem
from ketang_center.web.visitor import Visitor, context_of, refused, visitor_of

OPEN = ("/static/", "/healthz", "/sign-in", "/oidc/begin", "/oidc/callback")
"""Paths that need no log-in; one that ends with ``/`` stands for everything below it."""
MOST_BYTES = 64 << 10
LARGER: dict[str, int] = {
    "/enrolment/upload": 2 << 20,
    "/rollouts/releases": 512 << 10,
    "/rollouts/placements": 128 << 20,
}
"""Paths whose bodies may be larger, with how many bytes: uploads. Placements have 1.2 KB each."""
_BEFORE_NEW_PASSWORD = ("/account", "/account/password", "/sign-out", "/static/", "/healthz")
_BODY_S = 30.0
_LEAST_BYTES_S = 1 << 20
"""A large body may take longer than ``_BODY_S``: as long as a line that carries so much needs."""
_IN_MEMORY = 1 << 20
"""What is more of a body lies on disk until the page has read it."""
_PIECE = 64 << 10
_Body = SpooledTemporaryFile[bytes]


class Gate:
    """The middleware. ``visits`` makes the cookies of those who have not logged in."""

    def __init__(self, app: ASGIApp, visits: Visits) -> None:
        self._app, self._visits = app, visits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to its page, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        source = source_of(request.client.host if request.client else "")
        _state(scope)["visitor"] = Visitor(source=source)
        if _strange_host(request):
            await PlainTextResponse("unknown host", 421)(scope, receive, send)
            return
        plain = under(request.url.path, ("/static/", "/healthz"))
        dress = _as_it_is if plain else self._recognise(request)
        with SpooledTemporaryFile[bytes](max_size=_IN_MEMORY) as body:
            try:
                whole = request.method in SAFE or await _keep_body(request, body)
            except ClientDisconnect:
                return
            if not whole:
                refused(request, "oversized", request.url.path)
                await problem(request, "oversized", 413)(scope, receive, send)
                return
            if plain:
                await self._app(scope, _replay(body, receive), send)
                return
            answer = await self._turned_away(Request(scope, _replay(body, receive)))
            await (answer or self._app)(scope, _replay(body, receive), dress(send))

    def _recognise(self, request: Request) -> Callable[[Send], Send]:
        """Put the visitor into the request; return what sets the cookies this made needful."""
        context, source = context_of(request), visitor_of(request).source
        now_ms, token = context.clock(), cookie_of(request, "session")
        session = context.sessions.find(token, now_ms) if token and not context.demo else None
        account = context.accounts.get(session.account) if session else None
        jar = Response()
        if session and account and not account.disabled:
            if _by_hand(request):
                context.sessions.touch(session, now_ms)
                if session.rotate and request.method == "GET":
                    token = context.sessions.renew(session)
                    session = context.sessions.find(token, now_ms) or session
                    set_cookie(jar, request, "session", token)
            visitor = Visitor(
                actor=account.actor,
                csrf=session.csrf,
                source=source,
                session=session,
                account=account,
            )
        else:
            visit = cookie_of(request, "visit")
            if not self._visits.own(visit):
                visit = self._visits.make()
                set_cookie(jar, request, "visit", visit)
            visitor = Visitor(csrf=self._visits.form_token(visit), source=source)
            if context.demo:
                visitor = replace(visitor, actor=_demo_actor(request))
        _state(request.scope)["visitor"] = visitor
        return _adding(jar.headers.getlist("set-cookie"))

    async def _turned_away(self, request: Request) -> Response | None:
        """Return the answer that ends it here, or None when the page may run."""
        visitor, path = visitor_of(request), request.url.path
        unsafe = request.method not in SAFE
        if unsafe and foreign(request.url.scheme, request.headers):
            refused(request, "csrf", f"origin {path}")
            return problem(request, "csrf", 403)
        known = visitor.session is not None or context_of(request).demo
        if not known and not under(path, OPEN):
            return _to_sign_in(request)
        if unsafe and not same(await _token(request), visitor.csrf):
            refused(request, "csrf", path)
            return problem(request, "csrf", 403)
        if (
            visitor.account is not None
            and visitor.account.must_change_password
            # Whom a provider vouches for has no use for a password, and may not know one.
            and not (visitor.session and visitor.session.how == "oidc")
            and not under(path, _BEFORE_NEW_PASSWORD)
        ):
            return RedirectResponse("/account", 303)
        return None


def under(path: str, places: tuple[str, ...]) -> bool:
    """Tell whether a path is one of the places, or below one that ends with ``/``."""
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in places)


def _as_it_is(send: Send) -> Send:
    return send


def _state(scope: Scope) -> dict[str, object]:
    state: dict[str, object] = scope.setdefault("state", {})
    return state


def _strange_host(request: Request) -> bool:
    """Tell whether a plain request names a host that is not this machine.

    Against rebinding: another site's name that resolves to 127.0.0.1 would make its pages ours.
    Over HTTPS the certificate's name guards against that.
    """
    if request.url.scheme == "https":
        return False
    return not is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or "")


def _by_hand(request: Request) -> bool:
    """Tell whether a person asks: an open page renews itself and must not keep a session alive."""
    return "hx-request" not in request.headers and request.url.path != "/live"


def _demo_actor(request: Request) -> Actor:
    context = context_of(request)
    chosen, tree = request.cookies.get("unit", ""), context.registry.tree()
    if chosen not in tree or tree[chosen].level is Level.ROOM:
        chosen = context.home.root
    return Actor("", tuple(Grant(role, chosen) for role in Role))


def _to_sign_in(request: Request) -> Response:
    wanted = request.url.path if request.method in SAFE else ""
    if wanted and request.url.query:
        wanted = f"{wanted}?{request.url.query}"
    there = f"/sign-in?{urlencode({'next': wanted})}" if wanted not in {"", "/"} else "/sign-in"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": there})
    if request.url.path == "/live":
        return Response(status_code=401)
    return RedirectResponse(there, 303)


async def _keep_body(request: Request, kept: _Body) -> bool:
    """Read a body into a file, counting as it comes; False when it is too large or too slow."""
    visitor, path = visitor_of(request), request.url.path
    # What a stranger sends is thrown away, so he may send no more than any form needs.
    most = MOST_BYTES if visitor.actor == NOBODY else LARGER.get(path, MOST_BYTES)
    said = request.headers.get("content-length", "0")
    if not said.isdecimal() or int(said[:20]) > most:
        return False
    count = 0
    try:
        async with asyncio.timeout(_BODY_S + most / _LEAST_BYTES_S):
            async for part in request.stream():
                count += len(part)
                if count > most:
                    return False
                if count > _IN_MEMORY:
                    await asyncio.to_thread(kept.write, part)
                else:
                    kept.write(part)
    except TimeoutError:
        return False
    return True


def _replay(body: _Body, receive: Receive) -> Receive:
    """Give a body that was read to the next reader, from its start; then whatever comes after."""
    body.seek(0)
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        piece = body.read(_PIECE)
        given = len(piece) < _PIECE
        return {"type": "http.request", "body": piece, "more_body": not given}

    return replayed


async def _token(request: Request) -> str:
    """Return the form token in the header or the form."""
    named = request.headers.get(HEADER)
    if named is not None:
        return named
    try:
        async with request.form() as form:
            found = form.get(FIELD, "")
    except (HTTPException, MultiPartException):
        return ""
    return found if isinstance(found, str) else ""


def _adding(cookies: list[str]) -> Callable[[Send], Send]:
    """Return what adds cookies to an answer, unless the page set the same ones itself."""

    def dress(send: Send) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                own = {one.partition("=")[0] for one in headers.getlist("set-cookie")}
                for one in cookies:
                    if one.partition("=")[0] not in own:
                        headers.append("set-cookie", one)
            await send(message)

        return dressed

    return dress
