"""Accounts, for those who administer a part of the tree."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ketang_center.access import passwords, policy
from ketang_center.access.accounts import Account, BadAccount
from ketang_center.access.policy import Action, Actor, Grant, Role
from ketang_center.access.scope import OutOfScope
from ketang_center.registry.tree import Tree
from ketang_center.web.render import render, units_below
from ketang_center.web.visitor import audit, context_of, reach, visitor_of

if TYPE_CHECKING:
    from ketang_center.access.door import Door

router = APIRouter(default_response_class=HTMLResponse)
_Text = Annotated[str, Form()]


@router.get("/accounts")
async def listing(request: Request, done: str = "", what: str = "") -> Response:
    """Show the accounts with a grant in the visitor's part of the tree."""
    return _list(request, done=what[:64] if done == "gone" else "")


@router.post("/accounts")
async def add(
    request: Request, name: _Text = "", display: _Text = "", role: _Text = "", unit: _Text = ""
) -> Response:
    """Add an account with a first grant, and show its first password, once."""
    context = context_of(request)
    grant = _grantable(request, role, unit)
    door: Door = request.app.state.door
    password = passwords.temporary()
    hashed = await door.desk.hashed(password)
    typed = name[:64], display[:64]
    try:
        name = context.accounts.free_name(name, display)
        audit(request, "account_added", f"{name} {grant.role}", unit)
        context.accounts.add(name, display, hashed, must_change=True, at_ms=context.clock())
    except BadAccount as bad:
        return _list(request, 400, fault=bad.reason, typed=typed)
    context.accounts.grant(name, grant)
    return render(request, "account_password.html", name=name, password=password)


@router.get("/accounts/{name}")
async def one(request: Request, name: str) -> Response:
    """Show one account."""
    return _one(request, _seen(request, name))


@router.post("/accounts/{name}/grant")
async def grant(request: Request, name: str, role: _Text = "", unit: _Text = "") -> Response:
    """Give a role; the account's sessions go on under new tokens."""
    account, given = _seen(request, name), _grantable(request, role, unit)
    context = context_of(request)
    if policy.clashes(context.registry.tree(), account.grants, given):
        return _one(request, account, 400, fault="both")
    audit(request, "account_granted", f"{account.name} {given.role}", unit)
    context.accounts.grant(account.name, given)
    context.sessions.mark(account.name)
    return _back(request, account)


@router.post("/accounts/{name}/revoke")
async def revoke(request: Request, name: str, role: _Text = "", unit: _Text = "") -> Response:
    """Take a role away."""
    account, context = _seen(request, name), context_of(request)
    taken = next((one for one in account.grants if (one.role, one.unit) == (role, unit)), None)
    if taken is None:
        raise OutOfScope(unit)
    policy.require(visitor_of(request).actor, Action.ACCOUNTS, context.registry.tree(), unit)
    audit(request, "account_revoked", f"{account.name} {taken.role}", unit)
    context.accounts.revoke(account.name, taken)
    context.sessions.mark(account.name)
    return _back(request, account)


@router.post("/accounts/{name}/disable")
async def disable(request: Request, name: str) -> Response:
    """Let the account log in no more, and end what it has open."""
    account = _governed(request, name)
    if account.name == visitor_of(request).actor.name:
        return _one(request, account, 400, fault="self")
    audit(request, "account_disabled", account.name, _unit(account))
    context_of(request).accounts.set_disabled(account.name, disabled=True)
    context_of(request).sessions.end_all(account.name)
    return _back(request, account)


@router.post("/accounts/{name}/enable")
async def enable(request: Request, name: str) -> Response:
    """Let a disabled account log in again."""
    account = _governed(request, name)
    audit(request, "account_enabled", account.name, _unit(account))
    context_of(request).accounts.set_disabled(account.name, disabled=False)
    return _back(request, account)


@router.post("/accounts/{name}/reset")
async def reset(request: Request, name: str) -> Response:
    """Give the account a new first password, shown once, and end what it has open."""
    account = _taken_over(request, name)
    if account.name == visitor_of(request).actor.name:
        return _one(request, account, 400, fault="self_reset")
    context, password = context_of(request), passwords.temporary()
    door: Door = request.app.state.door
    hashed = await door.desk.hashed(password)
    audit(request, "account_reset", account.name, _unit(account))
    context.accounts.set_password(account.name, hashed, must_change=True)
    context.sessions.end_all(account.name)
    return render(request, "account_password.html", name=account.name, password=password)


@router.post("/accounts/{name}/link")
async def link(request: Request, name: str, subject: _Text = "") -> Response:
    """Link the account to a subject of the provider; an empty subject ends the link."""
    account, context = _taken_over(request, name), context_of(request)
    if context.oidc is None:
        raise OutOfScope(name)
    if account.name == visitor_of(request).actor.name:
        # An open page would be enough to come in for ever, without the password.
        return _one(request, account, 400, fault="self_link")
    subject = subject.strip()
    done = "account_linked" if subject else "account_unlinked"
    try:
        context.accounts.check_link(account.name, context.oidc.issuer, subject)
        audit(request, done, f"{account.name} {subject}".strip(), _unit(account))
        context.accounts.link(account.name, context.oidc.issuer, subject)
    except BadAccount as bad:
        return _one(request, account, 400, fault=bad.reason)
    # Sessions that the former subject opened must not outlive its link.
    context.sessions.end_all(account.name)
    return _back(request, account)


def _list(
    request: Request,
    status: int = 200,
    *,
    fault: str = "",
    typed: tuple[str, str] = ("", ""),
    done: str = "",
) -> Response:
    tops = reach(request, Action.ACCOUNTS)
    context, actor = context_of(request), visitor_of(request).actor
    tree = context.registry.tree()
    accounts = [
        (one, _shown(actor, tree, one))
        for one in context.accounts.all()
        if policy.sees_account(actor, tree, one.grants)
    ]
    return render(
        request,
        "accounts.html",
        status,
        accounts=accounts,
        roles=_roles(actor, tree),
        units=units_below(tree, tops),
        fault=fault,
        typed=typed,
        done=done,
    )


def _one(request: Request, account: Account, status: int = 200, *, fault: str = "") -> Response:
    context, actor = context_of(request), visitor_of(request).actor
    tree = context.registry.tree()
    grants = _shown(actor, tree, account)
    return render(
        request,
        "account_one.html",
        status,
        account=account,
        grants=grants,
        elsewhere=len(account.grants) > len(grants),
        governed=policy.governs(actor, tree, account.grants),
        taken_over=policy.may_take_over(actor, tree, account.grants),
        roles=_roles(actor, tree),
        units=units_below(tree, reach(request, Action.ACCOUNTS)),
        oidc=context.oidc,
        own=account.name == actor.name,
        fault=fault,
    )


def _shown(actor: Actor, tree: Tree, account: Account) -> list[Grant]:
    """The grants in the actor's own part of the tree; of others he learns nothing."""
    return [
        one
        for one in account.grants
        if policy.may(actor, Action.ACCOUNTS, tree, one.unit)
        or (one.unit not in tree and policy.everywhere(actor, Action.ACCOUNTS, tree))
    ]


def _roles(actor: Actor, tree: Tree) -> list[Role]:
    """The roles an actor can hand out somewhere."""
    tops = policy.reach(actor, Action.ACCOUNTS, tree)
    held = {one.unit for one in actor.grants if one.unit in tree}
    places = {
        *tops,
        *(one for one in held if policy.may(actor, Action.ACCOUNTS, tree, one)),
    }
    return [
        role
        for role in Role
        if any(policy.can_grant(actor, tree, Grant(role, unit)) for unit in places)
    ]


def _grantable(request: Request, role: str, unit: str) -> Grant:
    if role not in set(Role):
        raise OutOfScope(unit)
    found = Grant(Role(role), unit)
    policy.require_grant(visitor_of(request).actor, context_of(request).registry.tree(), found)
    return found


def _seen(request: Request, name: str) -> Account:
    account = context_of(request).accounts.get(name)
    actor, tree = visitor_of(request).actor, context_of(request).registry.tree()
    if account is None or not policy.sees_account(actor, tree, account.grants):
        raise OutOfScope(name)
    return account


def _governed(request: Request, name: str) -> Account:
    account = _seen(request, name)
    actor, tree = visitor_of(request).actor, context_of(request).registry.tree()
    if not policy.governs(actor, tree, account.grants):
        raise OutOfScope(name)
    return account


def _taken_over(request: Request, name: str) -> Account:
    account = _seen(request, name)
    actor, tree = visitor_of(request).actor, context_of(request).registry.tree()
    if not policy.may_take_over(actor, tree, account.grants):
        raise OutOfScope(name)
    return account


def _unit(account: Account) -> str:
    """The unit an act on an account is filed under, for those who may read the audit there."""
    return account.grants[0].unit if account.grants else ""


def _back(request: Request, account: Account) -> Response:
    """Go where the visitor may still go: by his own act the account may be out of his sight."""
    context, me = context_of(request), visitor_of(request)
    tree, now = context.registry.tree(), context.accounts.get(account.name) or account
    own = context.accounts.get(me.actor.name)
    actor = own.actor if own else me.actor
    if policy.sees_account(actor, tree, now.grants):
        return RedirectResponse(f"/accounts/{account.name}", 303)
    if policy.reach(actor, Action.ACCOUNTS, tree):
        return RedirectResponse(f"/accounts?done=gone&what={account.name}", 303)
    return RedirectResponse("/account?done=gave_up", 303)
