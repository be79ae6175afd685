"""Which devices nothing can be sent to, since no signed placement fits where they stand."""

from collections.abc import Iterable
from dataclasses import dataclass

from ketang_center.registry.database import Registry
from ketang_center.registry.tree import Tree
from ketang_center.rollouts import placing
from ketang_center.rollouts.book import RolloutBook
from ketang_contract.layers import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A device in service that nothing can be sent to as it is.

    ``room``: where the register has it. ``personal``: it is told by its id, without the room.
    ``why`` is ``missing``, ``elsewhere`` or ``old_key``.
    """

    device: str
    room: str
    personal: bool
    why: str


def unplaced(
    book: RolloutBook, registry: Registry, epoch: int | None, now_ms: int
) -> list[Unplaced]:
    """Return the devices in service without a signed placement that fits, and why.

    Args:
        book: of the rollouts.
        registry: who stands where.
        epoch: of the keys in force; None: not known, so it is not asked.
        now_ms: UTC milliseconds.
    """
    tree, placed, found = registry.tree(), book.all_placed(), []
    ways = dict[str, tuple[Step, ...]]()
    for one in registry.in_service(now_ms, now_ms + 1):
        if one.room not in ways:
            ways[one.room] = placing.way(tree, one.room)
        held = placed.get(one.device.id)
        if held is None:
            why = "missing"
        elif held.path != ways[one.room]:
            why = "elsewhere"
        elif epoch is not None and held.key_epoch != epoch:
            why = "old_key"
        else:
            continue
        device = one.device
        found.append(Unplaced(device=device.id, room=one.room, personal=device.personal, why=why))
    return found


def below(tree: Tree, found: Iterable[Unplaced], target: str) -> list[Unplaced]:
    """Return those that the register has below a unit, or that are the target itself."""
    return [one for one in found if one.device == target or tree.holds(target, one.room)]
