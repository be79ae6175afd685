"""Whether enough people have signed a release: counted as every device counts.

A device narrows an undo by what it holds, so that one never widens; of a field without a direction
(programs, the model) it cannot tell, and asks for two holders there too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ketang_contract import signatures
from ketang_contract.config import DIRECTIONS, Config, Level, widened
from ketang_contract.errors import BadInput, Refused
from ketang_contract.layers import HOLDERS_TO_WIDEN, LAYER_TYPE
from ketang_contract.releases import Release
from ketang_contract.trust import Purpose, Trust
from ketang_provisioning.signing import NOTHING, Before, Place, Stood, opened


@dataclass(frozen=True, slots=True)
class Standing:
    """Who has signed a release, and what that is enough for.

    ``holders``: of keys with authority that signed both documents. ``widens``: fields in which it
    widens what devices hold; ``undo_widens``: what its undo brings back; ``older_widens``: in which
    it widens what a device may hold that is new, or has missed a release.
    """

    holders: tuple[str, ...]
    widens: tuple[str, ...]
    undo_widens: tuple[str, ...]
    older_widens: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether devices that follow accept it."""
        return len(self.holders) >= (HOLDERS_TO_WIDEN if self.widens else 1)

    @property
    def complete(self) -> bool:
        """Whether every device accepts it, and its undo."""
        wide = self.widens or self.undo_widens or self.older_widens
        return len(self.holders) >= (HOLDERS_TO_WIDEN if wide else 1)


def standing(
    release: Release,
    at: Place,
    stood: Before,
    bases: Sequence[Config],
    trust: Trust,
    now_s: int,
) -> Standing:
    """Tell who has signed a release, and what that is enough for.

    Args:
        release: as far as it is signed.
        at: whose layer it is.
        stood: what stood there before it.
        bases: what the profiles of the region's devices say (``ketang_profiles.configured``).
        trust: the document in force.
        now_s: when it is asked.
    """
    pair = opened(release)
    after, back = pair.layer.content, pair.undo.content
    older = {
        name
        for one in stood.older
        for content in (Stood(after), Stood(back, None if one is None else one.content))
        for name in widening(at.level, one, content, bases)
    }
    return Standing(
        holders=_holders(release, at, trust, now_s),
        widens=widening(at.level, stood.standing, Stood(after), bases),
        undo_widens=widening(at.level, Stood(after), Stood(back, after), bases),
        older_widens=tuple(name for name in DIRECTIONS if name in older),
    )


def widening(
    level: Level, was: Stood | None, after: Stood, bases: Sequence[Config]
) -> tuple[str, ...]:
    """Name the fields in which a layer widens what a device holds of its target.

    Args:
        level: of the layer.
        was: what is held; None for nothing. A layer below the region's that was not there narrowed
            nothing; at the region's the profile stood in its place.
        after: what the layer says.
        bases: what the profiles say; one at least for a region's layer.
    """
    if level is not Level.REGION:
        return () if was is None else widened(was.on(level, NOTHING), after.on(level, NOTHING))
    found = {
        name
        for base in bases
        for name in widened(base if was is None else was.on(level, base), after.on(level, base))
    }
    return tuple(name for name in DIRECTIONS if name in found)


def _holders(release: Release, at: Place, trust: Trust, now_s: int) -> tuple[str, ...]:
    allowed = [one for one in trust.keys_for(Purpose.CONFIG, now_s) if one.scope in at.scopes]
    keys = [one.public for one in allowed]
    try:
        both = signatures.signed_by(release.layer, LAYER_TYPE, keys) & signatures.signed_by(
            release.undo, LAYER_TYPE, keys
        )
    except Refused as problem:
        raise BadInput(f"not a release: {problem}") from problem
    return tuple(sorted({one.holder for one in allowed if one.key_id in both}))
