"""A person's own account: password, sessions, what was granted."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center.access import passwords
from ketang_center.access.accounts import Account
from ketang_center.access.door import Door, Locked, NotLetIn
from ketang_center.access.scope import OutOfScope
from ketang_center.access.sessions import Session
from ketang_center.web.csrf import set_cookie
from ketang_center.web.render import render
from ketang_center.web.visitor import audit, context_of, visitor_of

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/account")
async def own(request: Request) -> Response:
    """Show the visitor's account."""
    return _page(request)


@router.post("/account/password")
async def change(
    request: Request,
    current: Annotated[str, Form()] = "",
    new: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Set another password; every other session ends, and this one gets a new token."""
    account, session = _me(request)
    door: Door = request.app.state.door
    if new != again:
        return _page(request, 400, fault="different")
    fault = passwords.fault_of(new, account.name)
    if fault or new == current:
        return _page(request, 400, fault=fault or "same")
    try:
        await door.enter(visitor_of(request).source, account.name, current)
    except NotLetIn:
        return _page(request, 401, fault="wrong")
    except Locked as locked:
        return _page(request, 429, fault="locked", minutes=-(-int(locked.wait_s) // 60))
    context, hashed = context_of(request), await door.desk.hashed(new)
    audit(request, "password_changed", account.name)
    context.accounts.set_password(account.name, hashed, must_change=False)
    context.sessions.end_all(account.name, but=session.id)
    answer = RedirectResponse("/account?done=password", 303)
    set_cookie(answer, request, "session", context.sessions.renew(session))
    return answer


@router.post("/account/sessions")
async def end(request: Request, session: Annotated[str, Form()] = "") -> Response:
    """End one of the visitor's other sessions, or ``others``, or ``all``."""
    account, own_session = _me(request)
    context = context_of(request)
    sessions = context.sessions
    known = {str(one.id) for one in sessions.of(account.name, context.clock())}
    if session not in {"all", "others", *known}:
        raise OutOfScope(session)
    audit(request, "session_ended", session)
    if session in known:
        sessions.end(account.name, int(session))
    else:
        sessions.end_all(account.name, but=own_session.id if session == "others" else None)
    return RedirectResponse("/account?done=sessions", 303)


def _me(request: Request) -> tuple[Account, Session]:
    visitor = visitor_of(request)
    if visitor.account is None or visitor.session is None:
        raise OutOfScope("account")
    return visitor.account, visitor.session


def _page(request: Request, status: int = 200, *, fault: str = "", minutes: int = 0) -> Response:
    account, session = _me(request)
    context = context_of(request)
    done = request.query_params.get("done", "")
    return render(
        request,
        "account.html",
        status,
        account=account,
        sessions=context.sessions.of(account.name, context.clock()),
        current=session,
        fault=fault,
        minutes=minutes,
        done=done if done in {"password", "sessions", "gave_up"} else "",
    )
