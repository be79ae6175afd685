"""The console's application: headers, language, routes. All reads run on the loop's thread."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ketang_center.access import policy
from ketang_center.access.door import Door
from ketang_center.access.passwords import Busy
from ketang_center.access.scope import OutOfScope, SchoolsOwn
from ketang_center.view_values import Context
from ketang_center.web import (
    account_pages,
    audit_pages,
    clone_pages,
    code_pages,
    command_pages,
    config_pages,
    configuration_pages,
    decision_pages,
    enrolment_pages,
    filing_pages,
    own_pages,
    pages,
    placement_pages,
    rollout_live,
    rollout_pages,
    security_pages,
    sign_in,
    upload_pages,
)
from ketang_center.web.csrf import Visits
from ketang_center.web.gate import Gate
from ketang_center.web.live import Followed, Hub
from ketang_center.web.render import problem
from ketang_center.web.rollout_desk import Placings
from ketang_center.web.rollout_live import RolloutNews
from ketang_center.web.text import LANGUAGES
from ketang_center.web.visitor import context_of, refused, visitor_of

if TYPE_CHECKING:
    from ketang_center.access.oidc import Provider

_STATIC = Path(__file__).parent / "static"
_YEAR_S = 365 * 86400
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(context: Context) -> FastAPI:
    """Make the application over a context; nothing is opened here and nothing is closed."""
    followed = Followed(context)
    hub = Hub(context.reading, context.rollups.generation, followed)
    rollout_news = RolloutNews(context)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        polling = [asyncio.create_task(one.run()) for one in (hub, rollout_news.hub)]
        yield
        for one in polling:
            one.cancel()
            with suppress(asyncio.CancelledError):
                await one
        rollout_news.watch.close()

    app = FastAPI(
        title="Ketang", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.context, app.state.hub, app.state.followed = context, hub, followed
    app.state.door = Door(context.accounts, context.audit, context.security, context.clock)
    app.state.rollout_news, app.state.placings = rollout_news, Placings(context)
    app.state.provider = _provider(context)
    app.state.uploads = upload_pages.Uploads(context.clock)
    app.state.chain = audit_pages.Chain(context.audit, context.clock)
    app.state.reading_cases = asyncio.Lock()
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    for router in _ROUTERS:
        app.include_router(router)
    app.add_api_route("/healthz", _health, include_in_schema=False)
    for what, handler in _HANDLERS.items():
        app.add_exception_handler(what, handler)
    # The last one added stands outermost.
    app.add_middleware(Gate, visits=Visits())
    app.add_middleware(_Dress)
    return app


def _provider(context: Context) -> "Provider | None":
    if context.oidc is None:
        return None
    # Authlib and an HTTP client are loaded where a provider is configured, and nowhere else.
    from ketang_center.access.oidc import Provider  # noqa: PLC0415

    return Provider(context.oidc)


async def _health() -> PlainTextResponse:
    return PlainTextResponse("ok")


async def _not_found(request: Request, _: Exception) -> HTMLResponse:
    if ".." in request.url.path.replace("\\", "/").split("/"):
        refused(request, "forbidden", request.url.path)
    return problem(request, "not_found", 404)


async def _out_of_scope(request: Request, _: Exception) -> HTMLResponse:
    if not policy.offices(visitor_of(request).actor, context_of(request).registry.tree()):
        return problem(request, "nothing_granted", 403)
    refused(request, "forbidden", request.url.path)
    return problem(request, "not_found", 404)


async def _schools_own(request: Request, _: Exception) -> HTMLResponse:
    return problem(request, "schools_own", 403)


async def _not_understood(request: Request, _: Exception) -> HTMLResponse:
    return problem(request, "not_understood", 400)


async def _wrong_method(request: Request, _: Exception) -> HTMLResponse:
    return problem(request, "not_found", 405)


async def _busy(request: Request, _: Exception) -> HTMLResponse:
    return problem(request, "busy", 503)


_ROUTERS = (
    pages.router,
    sign_in.router,
    own_pages.router,
    account_pages.router,
    audit_pages.router,
    enrolment_pages.router,
    decision_pages.router,
    code_pages.router,
    upload_pages.router,
    security_pages.router,
    clone_pages.router,
    command_pages.router,
    filing_pages.router,
    config_pages.router,
    placement_pages.router,
    configuration_pages.router,
    rollout_live.router,
    rollout_pages.router,
)
"""A new room of pages is one router here; the gate stands before it without being told."""
_HANDLERS: dict[int | type[Exception], Callable[[Request, Exception], Awaitable[HTMLResponse]]] = {
    OutOfScope: _out_of_scope,
    SchoolsOwn: _schools_own,
    RequestValidationError: _not_understood,
    Busy: _busy,
    404: _not_found,
    405: _wrong_method,
}


class _Dress:
    """Adds security headers, keeps the language asked for. Plain ASGI: streams stay streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("lang", [""])[-1]
        fixed = scope["path"].startswith("/static/")

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = f"max-age={_YEAR_S}"
                headers["Cache-Control"] = "public, max-age=3600" if fixed else "no-store"
                if asked in LANGUAGES:
                    headers.append("Set-Cookie", _language_cookie(asked))
            await send(message)

        await self._app(scope, receive, dressed)


def _language_cookie(lang: str) -> str:
    return f"lang={lang}; Max-Age={_YEAR_S}; Path=/; HttpOnly; SameSite=Lax"
