"""Who makes a request, for pages to ask: the gate puts it there before any page runs."""

from dataclasses import dataclass

from fastapi import Request

from ketang_center.access import policy
from ketang_center.access.accounts import Account
from ketang_center.access.policy import NOBODY, Action, Actor
from ketang_center.access.scope import OutOfScope, Scope
from ketang_center.access.sessions import Session
from ketang_center.view_values import Context

DEMO = "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """The maker of a request. ``csrf`` is what his forms must carry."""

    actor: Actor = NOBODY
    csrf: str = ""
    source: str = ""
    session: Session | None = None
    account: Account | None = None

    @property
    def name(self) -> str:
        """What the audit log calls him."""
        return self.actor.name or DEMO


def context_of(request: Request) -> Context:
    """Return what pages read from."""
    context: Context = request.app.state.context
    return context


def visitor_of(request: Request) -> Visitor:
    """Return who makes the request; nobody where the gate turned it away."""
    found: Visitor = getattr(request.state, "visitor", Visitor())
    return found


def scope_of(request: Request) -> Scope:
    """Return what views show this visitor.

    Raises:
        OutOfScope: nothing at all.
    """
    tree = context_of(request).registry.tree()
    return policy.scope_of(visitor_of(request).actor, tree, request.cookies.get("unit", ""))


def allow(request: Request, action: Action, unit: str) -> None:
    """Let a visitor act on a unit.

    Raises:
        OutOfScope: he may not, or there is no such unit.
    """
    policy.require(visitor_of(request).actor, action, context_of(request).registry.tree(), unit)


def reach(request: Request, action: Action) -> tuple[str, ...]:
    """Return the topmost units a visitor may act on, one at least.

    Raises:
        OutOfScope: there is none.
    """
    found = policy.reach(visitor_of(request).actor, action, context_of(request).registry.tree())
    if not found:
        raise OutOfScope(action)
    return found


def audit(request: Request, action: str, subject: str, unit: str = "") -> None:
    """Note in the audit log what this visitor did."""
    context = context_of(request)
    context.audit.note(context.clock(), visitor_of(request).name, action, subject, unit)


def refused(request: Request, what: str, detail: str = "") -> None:
    """Count a refusal in the security log."""
    context, visitor = context_of(request), visitor_of(request)
    context.security.note(context.clock(), what, visitor.actor.name, visitor.source, detail)


def still_there(request: Request) -> bool:
    """Tell whether the session behind a long answer still holds, with the same rights."""
    visitor, context = visitor_of(request), context_of(request)
    if visitor.session is None or visitor.account is None:
        return True
    account = context.accounts.get(visitor.account.name)
    kept = context.sessions.of(visitor.account.name, context.clock())
    return (
        account is not None
        and account.actor == visitor.actor
        and any(one.id == visitor.session.id for one in kept)
    )
