"""Signing in, by password or by the region's provider, and out."""

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center.access.accounts import Account
from ketang_center.access.door import UNKNOWN, Door, Locked, NotLetIn
from ketang_center.access.scope import OutOfScope
from ketang_center.access.vouching import NoProvider, NotVouched
from ketang_center.web.csrf import cookie_of, set_cookie
from ketang_center.web.render import problem, render
from ketang_center.web.visitor import audit, context_of, visitor_of

if TYPE_CHECKING:
    from ketang_center.access.oidc import Provider

router = APIRouter(default_response_class=HTMLResponse)
_MOST_NEXT = 2000


def onward(asked: str) -> str:
    """Return the place on this very site that was asked for; the first page for any other text."""
    try:
        parts = urlsplit(asked)
    except ValueError:
        return "/"
    fine = (
        asked.startswith("/")
        and not asked.startswith("//")
        and not parts.scheme
        and not parts.netloc
        and "\\" not in asked
        and asked.isascii()
        and asked.isprintable()
        and len(asked) <= _MOST_NEXT
    )
    return asked if fine else "/"


@router.get("/sign-in")
async def form(request: Request, next: str = "") -> Response:  # noqa: A002  (its name in the URL)
    """Show the form; who is signed in already goes on."""
    if context_of(request).demo or visitor_of(request).session is not None:
        return RedirectResponse(onward(next), 303)
    return _form(request, next)


@router.post("/sign-in")
async def enter(
    request: Request,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "",  # noqa: A002
) -> Response:
    """Check name and password, and begin a session."""
    if context_of(request).demo:
        raise OutOfScope("sign-in")
    door: Door = request.app.state.door
    try:
        account = await door.enter(visitor_of(request).source, name, password)
    except NotLetIn:
        return _form(request, next, 401, name=name, fault="wrong")
    except Locked as locked:
        answer = _form(
            request, next, 429, name=name, fault="locked", minutes=-(-int(locked.wait_s) // 60)
        )
        answer.headers["Retry-After"] = str(int(locked.wait_s) + 1)
        return answer
    onwards = RedirectResponse(onward(next), 303)
    _begin(request, onwards, account, "password")
    return onwards


@router.post("/sign-out")
async def leave(request: Request) -> Response:
    """End the session."""
    visitor = visitor_of(request)
    if visitor.session is not None:
        context_of(request).sessions.end(visitor.session.account, visitor.session.id)
        audit(request, "logout", "")
    answer = RedirectResponse("/sign-in", 303)
    set_cookie(answer, request, "session", "")
    return answer


@router.get("/oidc/begin")
async def begin(request: Request, next: str = "") -> Response:  # noqa: A002
    """Send the browser to the provider; nothing changes here but what was asked is kept."""
    provider, context = _provider(request), context_of(request)
    callback = str(request.url.replace(path="/oidc/callback", query="", fragment=""))
    try:
        there, token = await provider.begin(request, callback, onward(next), context.clock())
    except NoProvider:
        return problem(request, "no_provider", 502)
    answer = RedirectResponse(there, 303)
    set_cookie(answer, request, "flow", token)
    return answer


@router.get("/oidc/callback")
async def back(request: Request) -> Response:
    """Take the provider's answer: a linked account gets a session, any other subject nothing."""
    provider, context = _provider(request), context_of(request)
    door: Door = request.app.state.door
    source = visitor_of(request).source
    try:
        subject, there = await provider.finish(request, cookie_of(request, "flow"), context.clock())
    except NoProvider:
        return problem(request, "no_provider", 502)
    except NotVouched as why:
        door.refused(source, "", f"oidc: {why}")
        answer = _form(request, "", 401, fault="oidc")
        set_cookie(answer, request, "flow", "")
        return answer
    account = context.accounts.linked(provider.settings.issuer, subject)
    if account is None or account.disabled:
        shown = subject if subject.isprintable() else UNKNOWN
        door.refused(source, account.name if account else "", "oidc: no account")
        context.audit.note(context.clock(), UNKNOWN, "oidc_no_account", shown[:200])
        return _form(request, "", 403, fault="no_account", subject=shown[:200])
    # Not a redirect: a browser counts that as the provider's doing, and keeps Strict cookies back.
    answer = render(request, "onward.html", there=there)
    _begin(request, answer, account, "oidc")
    set_cookie(answer, request, "flow", "")
    return answer


def _provider(request: Request) -> "Provider":
    provider: Provider | None = request.app.state.provider
    if provider is None or context_of(request).demo:
        raise OutOfScope("oidc")
    return provider


def _begin(request: Request, answer: Response, account: Account, how: str) -> None:
    """Give the browser a session made now, and end the one it came with."""
    context, before = context_of(request), visitor_of(request).session
    if before is not None:
        context.sessions.end(before.account, before.id)
    set_cookie(
        answer, request, "session", context.sessions.open(account.name, how, context.clock())
    )
    context.audit.note(context.clock(), account.name, "login", how)


def _form(
    request: Request,
    there: str,
    status: int = 200,
    *,
    name: str = "",
    fault: str = "",
    minutes: int = 0,
    subject: str = "",
) -> HTMLResponse:
    provider: Provider | None = request.app.state.provider
    return render(
        request,
        "sign_in.html",
        status,
        there=onward(there),
        name=name[:64],
        fault=fault,
        minutes=minutes,
        subject=subject,
        provider=provider.settings if provider else None,
    )
