"""The one place that decides who may do what: a table of roles, and questions over it. Pure.

Invariants:
- A right is held on a unit and on everything below it, never beside or above.
- What may not be seen and what does not exist are refused alike.
- Nobody hands out, or takes over, more than what he holds himself on the same unit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ketang_center.access.scope import OutOfScope, Scope
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Level


class Role(StrEnum):
    """What an account may be on a unit."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    APPROVER = "approver"
    ADMIN = "admin"


class Action(StrEnum):
    """What can be asked for."""

    VIEW = "view"
    ENROL = "enrol"
    REVOKE = "revoke"
    DECIDE_CLONES = "decide_clones"
    CONFIGURE = "configure"
    PUBLISH = "publish"
    APPROVE = "approve"
    SEE_SECURITY = "see_security"
    ACCOUNTS = "accounts"
    AUDIT = "audit"


MAY: Mapping[Role, frozenset[Action]] = {
    Role.VIEWER: frozenset({Action.VIEW}),
    Role.OPERATOR: frozenset(
        {
            Action.VIEW,
            Action.ENROL,
            Action.REVOKE,
            Action.DECIDE_CLONES,
            Action.CONFIGURE,
            Action.SEE_SECURITY,
        }
    ),
    Role.PUBLISHER: frozenset({Action.VIEW, Action.PUBLISH}),
    Role.APPROVER: frozenset({Action.VIEW, Action.APPROVE}),
    Role.ADMIN: frozenset({Action.VIEW, Action.SEE_SECURITY, Action.ACCOUNTS, Action.AUDIT}),
}
"""Publishing and approving are apart, so that one person's account alone widens nothing."""


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A role on a unit and all below it."""

    role: Role
    unit: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks."""

    name: str
    grants: tuple[Grant, ...]


NOBODY = Actor("", ())


def may(actor: Actor, action: Action, tree: Tree, unit: str) -> bool:
    """Tell whether an actor may do something on a unit; never on one that does not exist."""
    return any(action in MAY[one.role] and tree.holds(one.unit, unit) for one in actor.grants)


def require(actor: Actor, action: Action, tree: Tree, unit: str) -> None:
    """Let an action on a unit pass.

    Raises:
        OutOfScope: it is not allowed there, or there is no such unit.
    """
    if not may(actor, action, tree, unit):
        raise OutOfScope(unit)


def reach(actor: Actor, action: Action, tree: Tree) -> tuple[str, ...]:
    """Return the topmost units on which, and below which, an actor may do something."""
    held = {one.unit: None for one in actor.grants if action in MAY[one.role] and one.unit in tree}
    return tuple(
        one for one in held if not any(top != one and tree.holds(top, one) for top in held)
    )


def everywhere(actor: Actor, action: Action, tree: Tree) -> bool:
    """Tell whether an actor may do something on the whole tree."""
    tops = reach(actor, action, tree)
    return bool(tops) and all(one.id in tops for one in tree.roots())


def offices(actor: Actor, tree: Tree) -> tuple[str, ...]:
    """Return the units with whose eyes an actor may look: those granted, the highest first.

    Not the units below them: what is a school's own is seen by who has a grant on the school.
    """
    units = {one.unit for one in actor.grants if Action.VIEW in MAY[one.role] and one.unit in tree}
    return tuple(sorted(units, key=lambda one: (len(tree.path(one)), one)))


def scope_of(actor: Actor, tree: Tree, chosen: str = "") -> Scope:
    """Return what views show an actor: the office chosen if it is one of his, else his highest.

    Raises:
        OutOfScope: there is nothing the actor may look at.
    """
    units = [one for one in offices(actor, tree) if tree[one].level is not Level.ROOM]
    if not units:
        raise OutOfScope(chosen)
    unit = chosen if chosen in units else units[0]
    return Scope(tree[unit].level, unit, actor.name)


def require_grant(actor: Actor, tree: Tree, grant: Grant) -> None:
    """Let an actor hand a role out.

    Raises:
        OutOfScope: the unit is not in the actor's own subtree, is a room, or the role holds more
            than the actor's own roles there.
    """
    if not can_grant(actor, tree, grant):
        raise OutOfScope(grant.unit)


def can_grant(actor: Actor, tree: Tree, grant: Grant) -> bool:
    """Tell whether an actor may hand a role out."""
    return (
        may(actor, Action.ACCOUNTS, tree, grant.unit)
        and tree[grant.unit].level is not Level.ROOM
        and _holds(actor, tree, grant)
    )


def clashes(tree: Tree, held: Iterable[Grant], new: Grant) -> bool:
    """Tell whether a role would let one account both publish and approve on the same units."""
    apart = {Role.PUBLISHER, Role.APPROVER}
    return any(
        {one.role, new.role} == apart
        and (
            one.unit == new.unit or tree.holds(one.unit, new.unit) or tree.holds(new.unit, one.unit)
        )
        for one in held
    )


def sees_account(actor: Actor, tree: Tree, grants: Iterable[Grant]) -> bool:
    """Tell whether an actor administers at least a part of what an account may do."""
    grants = tuple(grants)
    return everywhere(actor, Action.ACCOUNTS, tree) or any(
        may(actor, Action.ACCOUNTS, tree, one.unit) for one in grants
    )


def governs(actor: Actor, tree: Tree, grants: Iterable[Grant]) -> bool:
    """Tell whether an actor may disable an account: all it may do lies in his subtree."""
    grants = tuple(grants)
    if not grants:
        return everywhere(actor, Action.ACCOUNTS, tree)
    return all(may(actor, Action.ACCOUNTS, tree, one.unit) for one in grants)


def may_take_over(actor: Actor, tree: Tree, grants: Iterable[Grant]) -> bool:
    """Tell whether an actor may set an account's password or link.

    Whoever sets a password can log in with it, so the account must hold nothing he does not hold.
    """
    grants = tuple(grants)
    return governs(actor, tree, grants) and all(_holds(actor, tree, one) for one in grants)


def _holds(actor: Actor, tree: Tree, grant: Grant) -> bool:
    """A role, or roles that together allow all of it, on the unit itself."""
    held = [MAY[one.role] for one in actor.grants if tree.holds(one.unit, grant.unit)]
    own = any(one.role is grant.role and tree.holds(one.unit, grant.unit) for one in actor.grants)
    return own or MAY[grant.role] <= frozenset[Action]().union(*held)
