"""What a region's publishers sign, for tests: releases, placements, keys with a scope.

``Signers(region)`` holds the keys that ``tests.regions.Region`` made; nothing is checked here, so
that a test may sign what no tool would.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from ketang_contract import signatures
from ketang_contract.config import Config, Level
from ketang_contract.layers import (
    LAYER_TYPE,
    PLACEMENT_TYPE,
    Layer,
    LayerAt,
    Placement,
    Step,
    payload,
)
from ketang_contract.releases import Release
from ketang_contract.trust import Purpose, Trust, TrustedKey, read_accepted
from ketang_contract.validate import signed
from ketang_provisioning import trust_changes
from ketang_provisioning.keys import key_id, load_private, make_ed25519, public_pem

DAY_S = 86_400
PATH = (
    (Level.REGION, "lan"),
    (Level.CITY, "lan-shi"),
    (Level.COUNTY, "lan-xian"),
    (Level.SCHOOL, "s1"),
    (Level.ROOM, "s1-r1"),
)
"""The way to a device of ``Region``'s first school."""


def now_s() -> int:
    return int(time.time())


class Signers:
    """Two holders of the region's configuration keys, its roots, and keys that were added.

    ``keys`` are the private keys of the two holders, in order; ``trust`` is the document in force.
    """

    def __init__(self, region) -> None:
        self.folder = region.folder
        self._passphrases = region.passphrases
        self.keys = tuple(self._load("offline", name) for name in ("config-1", "config-2"))
        self.trust: Trust = read_accepted((self.folder / "center" / "trust.json").read_bytes())
        self._last_placement = 0

    def release(
        self,
        target: str,
        level: Level | str,
        content: Config,
        *,
        previous: Release | None = None,
        holders: int = 2,
        keys: Sequence | None = None,
        epoch: int = 1,
        version: int | None = None,
        release: str = "",
        issued_s: int | None = None,
        lasts_s: int = 30 * DAY_S,
    ) -> Release:
        """Sign a layer and its undo.

        ``previous`` decides the version and what the undo restores; ``holders`` is how many of the
        region's keys sign, ``keys`` says which instead.
        """
        before = None if previous is None else self.layer(previous.layer)
        if version is None:
            version = 1 if before is None else before.version + 2
        issued = now_s() if issued_s is None else issued_s
        layer = Layer(
            target=target,
            level=Level(level),
            key_epoch=epoch,
            version=version,
            release=release or f"{target[:20]}-{version}",
            content=content,
            issued_s=issued,
            expires_s=issued + lasts_s,
        )
        undo = replace(
            layer,
            version=version + 1,
            content=Config() if before is None else before.content,
            undoes=version,
        )
        chosen = self.keys[:holders] if keys is None else keys
        return Release(self.seal(layer, chosen), self.seal(undo, chosen))

    def placement(
        self,
        device: str,
        path: Sequence[tuple[Level | str, str]] = PATH,
        least: Sequence[LayerAt] = (),
        *,
        holders: int = 1,
        keys: Sequence | None = None,
        epoch: int = 1,
        version: int | None = None,
        lasts_s: int = 30 * DAY_S,
    ) -> bytes:
        """Sign where a device stands; each is newer than the one before."""
        issued = now_s()
        if version is None:
            version = self._last_placement = max(issued, self._last_placement + 1)
        made = Placement(
            device=device,
            key_epoch=epoch,
            version=version,
            path=tuple(Step(level=Level(level), unit=unit) for level, unit in path),
            least=tuple(least),
            issued_s=issued,
            expires_s=issued + lasts_s,
        )
        return self.seal(made, self.keys[:holders] if keys is None else keys)

    def seal(self, document: Layer | Placement, keys: Sequence) -> bytes:
        """Sign any document with any keys."""
        kind = LAYER_TYPE if isinstance(document, Layer) else PLACEMENT_TYPE
        return signatures.seal(payload(document), kind, keys)

    def layer(self, envelope: bytes) -> Layer:
        """Read a layer back; its signatures are not asked."""
        return signed(Layer, signatures.unverified(envelope, LAYER_TYPE))

    def at(self, release: Release) -> LayerAt:
        """Name a release's place in its line of versions, for a placement's ``least``."""
        layer = self.layer(release.layer)
        return LayerAt(target=layer.target, key_epoch=layer.key_epoch, version=layer.version)

    def add_key(
        self,
        scope: str,
        holder: str = "head",
        *,
        purpose: Purpose = Purpose.CONFIG,
        epoch: int = 1,
        days: int = 365,
    ) -> tuple[object, bytes]:
        """Name another key in the next trust document: the private key and the document.

        The document is signed by all roots and held in ``trust``; it is written nowhere.
        """
        key, now = make_ed25519(), now_s()
        public = key.public_key()
        named = TrustedKey(
            key_id(public),
            public_pem(public),
            purpose,
            scope,
            holder,
            now,
            now + days * DAY_S,
            epoch,
        )
        return key, self.sign_trust(trust_changes.add_key(self.trust, named, now))

    def sign_trust(self, trust: Trust) -> bytes:
        """Have all roots sign a trust document, and take it for the one in force."""
        raw = trust_changes.draft(trust)
        for at in (1, 2, 3):
            root = self._load(f"holder-{at}", "root", f"holder-{at}")
            raw = trust_changes.sign(raw, root, self.trust)
        self.trust = trust
        return raw

    def _load(self, folder: str, name: str, passphrase: str = ""):
        said = self._passphrases[passphrase or name].encode()
        return load_private(self.folder / folder / f"{name}.key", said)
