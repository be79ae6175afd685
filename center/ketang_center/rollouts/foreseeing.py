"""What a release comes to on the devices below its target, before it is sent to any.

Layers are each written with sense and may have none together: hours of a school in the morning and
of its region in the afternoon leave no hour in which use and heads are counted.
"""

from collections import defaultdict
from collections.abc import Iterable

from ketang_center.registry.database import Registry
from ketang_center.rollouts.admitting import stands
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.values import Release, Signed
from ketang_contract import config
from ketang_contract.config import Config
from ketang_profiles.configured import as_config
from ketang_profiles.profile import shipped

_OTHERS = """
SELECT x.device, coalesce(t.layer, g.layer) AS chosen FROM step x JOIN step s ON s.device = x.device
  LEFT JOIN turn t ON t.device = s.device AND t.target = s.unit
  LEFT JOIN ground g ON g.target = s.unit
  WHERE x.unit = ? AND s.unit <> ? AND chosen IS NOT NULL
"""


def without_hours(book: RolloutBook, registry: Registry, release: Release) -> int:
    """Count the devices below a release's target that would have no hours left with it."""
    if release.content.hours is None:
        return 0
    layer = book.layer(release.layer)
    if layer is None:
        return 0
    chosen: dict[str, set[str]] = defaultdict(set)
    for device, digest in book.rows.table(_OTHERS, release.target, release.target):
        chosen[device].add(digest)
    kinds = {one.id: one.kind.value for one in registry.devices()}
    known: dict[tuple[str, frozenset[str]], bool] = {}
    count = 0
    for device in book.below(release.target):
        made = kinds.get(device, ""), frozenset(chosen[device])
        if made not in known:
            others = (book.layer(one) for one in made[1])
            said = [layer, *(one for one in others if one is not None)]
            known[made] = config.hours_are_empty(_merged(book, made[0], said))
        count += known[made]
    return count


def _merged(book: RolloutBook, kind: str, layers: Iterable[Signed]) -> Config:
    base = as_config(shipped(kind)) if kind else Config()
    ordered = sorted(layers, key=lambda one: list(config.Level).index(one.level))
    said = [config.Said(one.target, one.level, stands(book, one, base)) for one in ordered]
    return config.merge(base, said).config
