"""What each role may see: the privacy rules 6 and 7, in one place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_center.access.scope import LEAST_ROOMS, OutOfScope, Scope
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Device, Kind, Level, Unit


def unit(one, level, parent):
    return Unit(id=one, level=level, parent=parent, name_zh=one, name_en=one)


def tree_of(rooms_by_school):
    """Two counties under one city; schools dealt to them in turn. Rooms are counted, not made."""
    units = [
        unit("r", Level.REGION, None),
        unit("c", Level.CITY, "r"),
        unit("k0", Level.COUNTY, "c"),
        unit("k1", Level.COUNTY, "c"),
    ]
    rooms = {"r": 0, "c": 0, "k0": 0, "k1": 0}
    for no, count in enumerate(rooms_by_school):
        county = f"k{no % 2}"
        units.append(unit(f"s{no}", Level.SCHOOL, county))
        rooms[f"s{no}"] = count
        for one in ("r", "c", county):
            rooms[one] += count
    return Tree(units), rooms


def test_a_school_of_two_rooms_is_merged_and_cannot_be_subtracted_from_its_county():
    tree, rooms = tree_of([2, 9, 5, 9, 7, 9])
    shown = Scope(Level.COUNTY, "k0").open_cells(tree, rooms)
    assert shown == {"k0", "s4"}, "s0 is too small, and s2 is hidden so that s0 does not follow"


def test_small_schools_that_cover_three_rooms_together_hide_nobody_else():
    tree, rooms = tree_of([2, 9, 1, 9, 7, 9])
    assert Scope(Level.COUNTY, "k0").open_cells(tree, rooms) == {"k0", "s4"}


def test_a_subtree_under_three_rooms_shows_nothing_above_school_level():
    tree, rooms = tree_of([2])
    assert Scope(Level.REGION, "r").open_cells(tree, rooms) == frozenset()


@given(st.lists(st.integers(0, 6), max_size=12))
def test_no_shown_cell_and_no_difference_of_shown_cells_covers_under_three_rooms(counts):
    tree, rooms = tree_of(counts)
    shown = Scope(Level.REGION, "r").open_cells(tree, rooms)
    for one in shown:
        assert rooms[one] >= LEAST_ROOMS
        hidden = [
            rooms[child.id]
            for child in tree.children(one)
            if child.id not in shown and rooms[child.id]
        ]
        assert not hidden or sum(hidden) >= LEAST_ROOMS
        assert one == "r" or tree[one].parent in shown


def test_a_school_sees_all_of_its_own_and_nobody_elses():
    tree, _ = tree_of([1, 1])
    scope = Scope(Level.SCHOOL, "s0")
    assert scope.open_cells(tree, {}) == {"s0"}
    assert scope.narrow(tree, None) == "s0"
    for other in ("s1", "k0", "r", "nowhere"):
        with pytest.raises(OutOfScope):
            scope.narrow(tree, other)


def test_rooms_are_the_schools_own():
    tree = Tree(
        [
            unit("r", Level.REGION, None),
            unit("c", Level.CITY, "r"),
            unit("k", Level.COUNTY, "c"),
            unit("s", Level.SCHOOL, "k"),
            unit("m", Level.ROOM, "s"),
        ]
    )
    assert Scope(Level.SCHOOL, "s").narrow(tree, "m") == "m"
    with pytest.raises(OutOfScope):
        Scope(Level.COUNTY, "k").narrow(tree, "m")


@pytest.mark.parametrize("role", [Level.REGION, Level.CITY, Level.COUNTY])
def test_above_the_school_no_single_devices_use_is_shown(role):
    assert not Scope(role, "x").sees_use_of(Device(id="d", kind=Kind.IFP, name="d"))


def test_a_personal_devices_use_and_connection_are_shown_to_nobody():
    scope, tablet = Scope(Level.SCHOOL, "s"), Device(id="t", kind=Kind.STUDENT_TABLET, name="t")
    assert not scope.sees_use_of(tablet)
    assert not scope.sees_connection_of(tablet)
    assert scope.sees_use_of(Device(id="d", kind=Kind.IFP, name="d"))
