"""Where devices stand, for those who sign it: the register's word against the signed one."""

import json
from collections.abc import Iterator

from ketang_center.registry.database import Registry
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Posted
from ketang_center.rollouts.book import RolloutBook
from ketang_contract.config import Level
from ketang_contract.layers import LayerAt, Step
from ketang_contract.records import to_json
from ketang_contract.trust import Purpose, Trust


def way(tree: Tree, room: str) -> tuple[Step, ...]:
    """Return the way from the region to a room."""
    return tuple(Step(level=Level(one.level.value), unit=one.id) for one in tree.path(room))


def unsigned(book: RolloutBook, registry: Registry, epoch: int, now_ms: int) -> Iterator[Posted]:
    """Yield the devices in service whose signed placement is missing, old, or elsewhere."""
    placed, tree = book.all_placed(), registry.tree()
    for one in registry.in_service(now_ms, now_ms + 1):
        held = placed.get(one.device.id)
        if held is None or held.path != way(tree, one.room) or held.key_epoch != epoch:
            yield one


def to_sign(book: RolloutBook, registry: Registry, trust: Trust, now_ms: int) -> Iterator[str]:
    """Yield what is to be signed, a line of JSON for each device.

    ``version`` is the least that passes; ``least`` the layers the device must not be without.
    """
    placed, tree = book.all_placed(), registry.tree()
    epoch = trust.epoch_of(Purpose.CONFIG, ())
    for one in unsigned(book, registry, epoch, now_ms):
        device, path = one.device.id, way(tree, one.room)
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
