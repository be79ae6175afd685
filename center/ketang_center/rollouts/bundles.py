"""What a device is to have, put together from what others have signed.

Nothing is made here: a bundle is the device's placement as signed and, for each unit on its way,
the layer whose turn has come for it, or the one before.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.trusting import TrustHeld
from ketang_center.rollouts.values import Placed, Signed
from ketang_contract.layers import Desired, Step, config_hash, write_desired

Permits = Callable[[str, Sequence[Step]], tuple[bytes, ...]]
"""``filings.Filings.permits_for``: a device and its way, the envelopes that apply there."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one device is to have. ``stamp`` names it with its permits."""

    device: str
    hash: str
    stamp: str
    layers: tuple[Signed, ...]
    desired: Desired
    trust_version: int
    """Of the newest document in it; 0: none."""

    def write(self, attempt: int) -> bytes:
        """Write it for the wire.

        Raises:
            Refused: ``too_large``.
        """
        said = self.desired
        return write_desired(
            Desired(
                placement=said.placement,
                layers=said.layers,
                permits=said.permits,
                trust=said.trust,
                attempt=attempt,
            )
        )


class Composer:
    """Puts bundles together from the book. One thread."""

    def __init__(self, book: RolloutBook, trust: TrustHeld, permits: Permits) -> None:
        self._book, self._trust, self._permits = book, trust, permits
        self._layers: dict[str, Signed] = {}

    def forget(self) -> None:
        """Read envelopes anew: one may have been signed by another holder since."""
        self._layers.clear()

    def compose(
        self, placed: Placed, override: Mapping[str, str] | None = None, trust_version: int = 0
    ) -> Bundle | None:
        """Put a device's bundle together; None where no unit on its way has a layer.

        Args:
            placed: its placement.
            override: layers whose turn comes just now, by target: digests.
            trust_version: of the document the device holds, as far as it told; 0: not known.
        """
        chosen = self.layers_for(placed, override)
        if not chosen:
            return None
        permits = self._permits(placed.device, placed.path)
        named = config_hash(placed.digest, (one.digest for one in chosen))
        trust = self._trust.newer_than(trust_version)
        return Bundle(
            device=placed.device,
            hash=named,
            stamp=hashlib.sha256(b"\n".join([named.encode(), *permits])).hexdigest(),
            layers=chosen,
            desired=Desired(
                placement=placed.envelope,
                layers=tuple(one.envelope for one in chosen),
                permits=permits,
                trust=trust,
            ),
            trust_version=self._trust.latest().version if trust else 0,
        )

    def layers_for(
        self, placed: Placed, override: Mapping[str, str] | None = None
    ) -> tuple[Signed, ...]:
        """Return the layers a device is to have, the region's first."""
        chosen = self._book.grounds() | self._book.turns(placed.device) | dict(override or {})
        digests = (chosen[target] for target in placed.targets if target in chosen)
        return tuple(self._layer(one) for one in digests)

    def _layer(self, digest: str) -> Signed:
        if digest not in self._layers:
            found = self._book.layer(digest)
            if found is None:
                raise KeyError(digest)
            self._layers[digest] = found
        return self._layers[digest]
