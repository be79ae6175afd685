"""The console's application: headers, language, routes. All reads run on the loop's thread."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ketang_center.access.scope import OutOfScope, SchoolsOwn
from ketang_center.view_values import Context
from ketang_center.web import pages
from ketang_center.web.live import Hub
from ketang_center.web.text import LANGUAGES

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
    hub = Hub(context.reading, context.rollups.generation)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        polling = asyncio.create_task(hub.run())
        yield
        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling

    app = FastAPI(
        title="Ketang", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.context, app.state.hub = context, hub
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.include_router(pages.router)
    app.add_exception_handler(OutOfScope, _not_found)
    app.add_exception_handler(404, _not_found)
    app.add_exception_handler(SchoolsOwn, _schools_own)
    app.add_middleware(_Dress)
    return app


async def _not_found(request: Request, _: Exception) -> HTMLResponse:
    return pages.problem(request, "not_found", 404)


async def _schools_own(request: Request, _: Exception) -> HTMLResponse:
    return pages.problem(request, "schools_own", 403)


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
                headers["Cache-Control"] = "public, max-age=3600" if fixed else "no-store"
                if asked in LANGUAGES:
                    headers.append("Set-Cookie", _language_cookie(asked))
            await send(message)

        await self._app(scope, receive, dressed)


def _language_cookie(lang: str) -> str:
    return f"lang={lang}; Max-Age={_YEAR_S}; Path=/; HttpOnly; SameSite=Lax"
