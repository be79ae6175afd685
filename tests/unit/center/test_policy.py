"""One place decides: the table of roles, subtrees, and what may be handed on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_center.access import policy
from ketang_center.access.policy import MAY, Action, Actor, Grant, Role
from ketang_center.access.scope import OutOfScope, Scope
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Level, Unit

PARENTS = {
    "r": (None, Level.REGION),
    "c": ("r", Level.CITY),
    "k1": ("c", Level.COUNTY),
    "k2": ("c", Level.COUNTY),
    "s1": ("k1", Level.SCHOOL),
    "s2": ("k2", Level.SCHOOL),
    "m1": ("s1", Level.ROOM),
}
TREE = Tree(
    Unit(id=one, level=level, parent=parent, name_zh=one, name_en=one)
    for one, (parent, level) in PARENTS.items()
)
GRANTS = st.builds(Grant, st.sampled_from(Role), st.sampled_from([*PARENTS, "nowhere"]))
ACTORS = st.builds(Actor, st.just("a"), st.lists(GRANTS, max_size=4).map(tuple))


def actor(*grants):
    return Actor("a", tuple(Grant(role, unit) for role, unit in grants))


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.VIEWER, "view"),
        (Role.OPERATOR, "view enrol revoke decide_clones configure see_security"),
        (Role.PUBLISHER, "view publish"),
        (Role.APPROVER, "view approve"),
        (Role.ADMIN, "view see_security accounts audit"),
    ],
)
def test_each_role_may_what_the_table_says_on_its_unit_and_below_and_nowhere_else(role, allowed):
    one = actor((role, "k1"))
    for action in Action:
        for unit in (*PARENTS, "nowhere"):
            fine = action in allowed.split() and unit in {"k1", "s1", "m1"}
            assert policy.may(one, action, TREE, unit) is fine
            if not fine:
                with pytest.raises(OutOfScope):
                    policy.require(one, action, TREE, unit)


def test_no_single_role_may_both_publish_and_approve():
    assert not any({Action.PUBLISH, Action.APPROVE} <= actions for actions in MAY.values())


@given(ACTORS, st.sampled_from(Action), st.sampled_from(list(PARENTS)))
def test_reach_is_exactly_what_may_be_done(one, action, unit):
    tops = policy.reach(one, action, TREE)
    assert policy.may(one, action, TREE, unit) == any(TREE.holds(top, unit) for top in tops)
    assert not any(a != b and TREE.holds(a, b) for a in tops for b in tops)


def test_views_show_an_office_that_was_granted_and_never_one_below_it():
    county = actor((Role.VIEWER, "k1"))
    assert policy.scope_of(county, TREE) == Scope(Level.COUNTY, "k1")
    assert policy.scope_of(county, TREE, "s1") == Scope(Level.COUNTY, "k1")
    assert policy.scope_of(county, TREE).who == "a"
    both = actor((Role.OPERATOR, "s1"), (Role.VIEWER, "r"))
    assert policy.scope_of(both, TREE) == Scope(Level.REGION, "r")
    assert policy.scope_of(both, TREE, "s1") == Scope(Level.SCHOOL, "s1")
    for one in (actor(), actor((Role.VIEWER, "nowhere")), actor((Role.VIEWER, "m1"))):
        with pytest.raises(OutOfScope):
            policy.scope_of(one, TREE)


@pytest.mark.parametrize(
    ("grant", "allowed"),
    [
        ((Role.VIEWER, "k1"), True),
        ((Role.ADMIN, "s1"), True),
        ((Role.OPERATOR, "s1"), True),
        ((Role.OPERATOR, "k1"), False),
        ((Role.PUBLISHER, "s1"), False),
        ((Role.VIEWER, "k2"), False),
        ((Role.ADMIN, "r"), False),
        ((Role.VIEWER, "m1"), False),
        ((Role.VIEWER, "nowhere"), False),
    ],
)
def test_an_admin_grants_in_his_subtree_and_never_more_than_he_holds_there(grant, allowed):
    admin = actor((Role.ADMIN, "k1"), (Role.OPERATOR, "s1"), (Role.PUBLISHER, "k2"))
    assert policy.can_grant(admin, TREE, Grant(*grant)) is allowed
    if not allowed:
        with pytest.raises(OutOfScope):
            policy.require_grant(admin, TREE, Grant(*grant))


@given(ACTORS, GRANTS)
def test_nobody_gains_anything_by_granting_himself_what_he_may_grant(one, grant):
    if policy.can_grant(one, TREE, grant):
        more = Actor("a", (*one.grants, grant))
        for action in Action:
            for unit in PARENTS:
                assert policy.may(more, action, TREE, unit) == policy.may(one, action, TREE, unit)


@given(ACTORS, ACTORS)
def test_a_password_may_be_set_only_for_who_may_do_nothing_more(admin, other):
    if policy.may_take_over(admin, TREE, other.grants):
        for action in Action:
            for unit in PARENTS:
                assert policy.may(admin, action, TREE, unit) or not policy.may(
                    other, action, TREE, unit
                )


def test_an_account_that_also_acts_elsewhere_is_seen_and_not_governed():
    admin, both = actor((Role.ADMIN, "k1")), (Grant(Role.VIEWER, "s1"), Grant(Role.VIEWER, "s2"))
    assert policy.sees_account(admin, TREE, both)
    assert not policy.governs(admin, TREE, both)
    assert not policy.sees_account(admin, TREE, both[1:])
    assert not policy.sees_account(admin, TREE, ())
    assert policy.governs(actor((Role.ADMIN, "r")), TREE, ())


@pytest.mark.parametrize(
    ("held", "new", "clash"),
    [
        (("publisher", "k1"), ("approver", "k1"), True),
        (("publisher", "r"), ("approver", "s1"), True),
        (("approver", "s1"), ("publisher", "c"), True),
        (("publisher", "k1"), ("approver", "k2"), False),
        (("publisher", "k1"), ("publisher", "s1"), False),
        (("admin", "k1"), ("approver", "k1"), False),
        (("publisher", "nowhere"), ("approver", "nowhere"), True),
    ],
)
def test_publishing_and_approving_stay_apart_on_units_that_overlap(held, new, clash):
    def grant(one):
        return Grant(Role(one[0]), one[1])

    assert policy.clashes(TREE, [grant(held)], grant(new)) is clash
