"""Where devices stand, for those who sign it: the register's word against the signed one."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ketang_center.registry.database import Registry
from ketang_center.registry.tree import Tree
from ketang_center.rollouts.book import RolloutBook
from ketang_contract.config import Level
from ketang_contract.layers import LayerAt, Step
from ketang_contract.records import to_json
from ketang_contract.trust import Purpose, Trust


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


def way(tree: Tree, room: str) -> tuple[Step, ...]:
    """Return the way from the region to a room."""
    return tuple(Step(level=Level(one.level.value), unit=one.id) for one in tree.path(room))


def unplaced(
    book: RolloutBook, registry: Registry, epoch: int | None, now_ms: int
) -> Iterator[Unplaced]:
    """Yield the devices in service without a signed placement that fits, and why.

    Args:
        book: of the rollouts.
        registry: who stands where.
        epoch: of the keys in force; None: not known, so it is not asked.
        now_ms: UTC milliseconds.
    """
    tree, placed, ways = registry.tree(), book.all_placed(), dict[str, tuple[Step, ...]]()
    for one in registry.in_service(now_ms, now_ms + 1):
        if one.room not in ways:
            ways[one.room] = way(tree, one.room)
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
        yield Unplaced(device=device.id, room=one.room, personal=device.personal, why=why)


def below(tree: Tree, found: Iterable[Unplaced], target: str) -> list[Unplaced]:
    """Return those that the register has below a unit, or that are the target itself."""
    return [one for one in found if one.device == target or tree.holds(target, one.room)]


def to_sign(book: RolloutBook, registry: Registry, trust: Trust, now_ms: int) -> Iterator[str]:
    """Yield what is to be signed, a line of JSON for each device.

    ``version`` is the least that passes; ``least`` the layers the device must not be without.
    """
    placed, tree = book.all_placed(), registry.tree()
    epoch = trust.epoch_of(Purpose.CONFIG, ())
    for one in unplaced(book, registry, epoch, now_ms):
        device, path = one.device, way(tree, one.room)
        held = placed.get(device)
        after = held.version if held and held.key_epoch == epoch else 0
        said = {
            "device": device,
            "path": to_json(path),
            "least": to_json(_least(book, device, path)),
            "key_epoch": epoch,
            "version": after + 1,
        }
        yield json.dumps(said, ensure_ascii=False)


def _least(book: RolloutBook, device: str, path: tuple[Step, ...]) -> tuple[LayerAt, ...]:
    chosen = book.grounds() | book.turns(device)
    digests = (chosen[one] for one in (*(step.unit for step in path), device) if one in chosen)
    found = (book.layer(one) for one in digests)
    return tuple(one.at for one in found if one is not None)
