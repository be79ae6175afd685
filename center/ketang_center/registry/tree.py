"""The organisation as a tree: pure look-ups over a list of units."""

from collections.abc import Iterable, Iterator

from ketang_center.registry.values import Level, Unit


class Tree:
    """Units by id, children in the order they were given. Never changes once made."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._units = {unit.id: unit for unit in units}
        self._children: dict[str | None, list[Unit]] = {}
        for unit in self._units.values():
            self._children.setdefault(unit.parent, []).append(unit)

    def __contains__(self, unit: str) -> bool:
        return unit in self._units

    def __getitem__(self, unit: str) -> Unit:
        return self._units[unit]

    def roots(self) -> tuple[Unit, ...]:
        """Return the units without a parent."""
        return tuple(self._children.get(None, ()))

    def children(self, unit: str) -> tuple[Unit, ...]:
        """Return the units right below."""
        return tuple(self._children.get(unit, ()))

    def walk(self, unit: str) -> Iterator[Unit]:
        """Yield a unit and all below it, parents first."""
        yield self._units[unit]
        for child in self.children(unit):
            yield from self.walk(child.id)

    def path(self, unit: str) -> tuple[Unit, ...]:
        """Return the units from the top down to this one."""
        found: list[Unit] = []
        at: str | None = unit
        while at is not None:
            found.append(self._units[at])
            at = self._units[at].parent
        return tuple(reversed(found))

    def above(self, unit: str, level: Level) -> Unit | None:
        """Return the unit itself or the one above it on a level; None where there is none."""
        return next((one for one in self.path(unit) if one.level is level), None)

    def holds(self, top: str, unit: str) -> bool:
        """Tell whether a unit is ``top`` or lies below it."""
        return unit in self._units and any(one.id == top for one in self.path(unit))
