"""The one place that decides what a viewer may see; every view query takes a ``Scope``.

Invariants (PRIVACY rules 6 and 7):
- Nothing outside the scope's subtree is ever returned.
- A single device's use is the school's own, and never that of a personal device.
- Above school level a cell of use covers three rooms or more; what is hidden cannot be found again
  by subtracting what is shown, because the hidden parts of a unit also cover three rooms or more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Device, Level
from ketang_contract.errors import KetangError

LEAST_ROOMS = 3


class OutOfScope(KetangError):
    """The viewer may not see this, or it does not exist; the two are not told apart."""


class SchoolsOwn(KetangError):
    """It exists inside the viewer's subtree, but such detail belongs to the school alone."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A role and the part of the tree it looks after. ``who`` looks; empty where nobody logs in."""

    role: Level
    root: str
    who: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Name the viewer for the audit log."""
        return self.who or f"{self.role}:{self.root}"

    @property
    def at_school(self) -> bool:
        """Whether this viewer belongs to the school itself."""
        return self.role is Level.SCHOOL

    def holds(self, tree: Tree, unit: str) -> bool:
        """Tell whether a unit lies in the subtree."""
        return tree.holds(self.root, unit)

    def narrow(self, tree: Tree, unit: str | None) -> str:
        """Return the unit asked for, or the root.

        Raises:
            OutOfScope: it is not in the subtree, or is a room and the viewer above the school.
        """
        if unit is None or unit == self.root:
            return self.root
        if not self.holds(tree, unit) or tree[unit].level not in self.levels():
            raise OutOfScope(unit)
        return unit

    def levels(self) -> tuple[Level, ...]:
        """Return the floors this viewer may walk; rooms are the school's own."""
        floors = list(Level)[list(Level).index(self.role) :]
        return tuple(floors if self.at_school else floors[:-1])

    def sees_use_of(self, device: Device) -> bool:
        """Tell whether a single device's use, day and occupancy may be shown."""
        return self.at_school and not device.personal

    @staticmethod
    def sees_connection_of(device: Device) -> bool:
        """Tell whether a single device's connection may be shown: of a personal one it is use."""
        return not device.personal

    def open_cells(self, tree: Tree, rooms: Mapping[str, int]) -> frozenset[str]:
        """Return the units whose figures of use may be shown.

        Args:
            tree: the organisation.
            rooms: per unit, how many rooms its figures cover, for all of the subtree.
        """
        if self.at_school:
            return frozenset(one.id for one in tree.walk(self.root))
        shown: set[str] = set()
        if rooms.get(self.root, 0) >= LEAST_ROOMS:
            self._open(tree, self.root, rooms, shown)
        return frozenset(shown)

    def _open(self, tree: Tree, unit: str, rooms: Mapping[str, int], shown: set[str]) -> None:
        shown.add(unit)
        children = [
            (rooms.get(one.id, 0), one.id)
            for one in tree.children(unit)
            if one.level in self.levels() and rooms.get(one.id, 0)
        ]
        children.sort()
        small = [count for count, _ in children if count < LEAST_ROOMS]
        hidden = len(small)
        # A remainder under three rooms would be the difference of shown figures: hide one more.
        while (
            0 < hidden < len(children)
            and sum(count for count, _ in children[:hidden]) < LEAST_ROOMS
        ):
            hidden += 1
        for _, child in children[hidden:]:
            self._open(tree, child, rooms, shown)
