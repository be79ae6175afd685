"""What devices are told to do, signed by people with keys on a laptop: a layer and its undo.

Nothing here speaks to a centre: a draft is a release file with too few signatures, carried to
whoever holds the next key. The line of versions of a target: a release is n, its undo n + 1, the
release after it n + 2.

Invariants:
- What is sealed here with enough holders passes on every device that holds what ``Before`` says.
- A key signs only what the trust document lets it sign.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ketang_contract import signatures
from ketang_contract.config import (
    Config,
    Level,
    full,
    misplaced,
    narrowed,
)
from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier
from ketang_contract.layers import LAYER_TYPE, Layer, payload
from ketang_contract.releases import Release
from ketang_contract.trust import Purpose, Trust, TrustedKey
from ketang_contract.validate import signed
from ketang_provisioning.keys import key_id

DAY_S = 86_400
LASTS_S = 365 * DAY_S
"""How long a layer may be accepted, unless told; who accepted it goes on with it."""
MOST_LASTS_S = 400 * DAY_S
NOTHING = Config()
_MOST_NAME = 36
_UNIT_IN_NAME, _HASH_IN_NAME = 16, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose layer it is: a unit or a device, and every unit above it, from the region down."""

    target: str
    level: Level
    above: tuple[str, ...] = ()

    @property
    def scopes(self) -> frozenset[str]:
        """Scopes of keys with authority here."""
        return frozenset({"", self.target, *self.above})


@dataclass(frozen=True, slots=True)
class Stood:
    """What devices hold of a target: a content; ``by``: the one it took back, which narrows it."""

    content: Config
    by: Config | None = None

    def on(self, level: Level, base: Config) -> Config:
        """Say what it comes to where the profile says ``base``."""
        made = full(level, self.content, base)
        return made if self.by is None else narrowed(made, full(level, self.by, base))


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """Where a target's line of versions has come to.

    ``version``: the highest number signed, 0 for none. ``content``: what the next undo restores.
    ``standing``: what devices hold, None for nothing; ``older``: what some may hold still.
    """

    version: int = 0
    content: Config = NOTHING
    standing: Stood | None = None
    older: tuple[Stood | None, ...] = (None,)


@dataclass(frozen=True, slots=True)
class Pair:
    """A release's two documents, read; whoever signed them."""

    layer: Layer
    undo: Layer


def place(path: Sequence[str], level: Level | None = None) -> Place:
    """Say whose layer it is.

    Args:
        path: units from the region down to the one that is meant; a device may be the last.
        level: of the last; without it as many as there are on the path.

    Raises:
        BadInput: too long, a name that is none, or one twice.
    """
    levels = list(Level)
    if not 1 <= len(path) <= len(levels) or len(set(path)) != len(path):
        raise BadInput(f"a path has 1 to {len(levels)} different names, from the region down")
    for name in path:
        if not is_identifier(name):
            raise BadInput(f"{name[:40]!r} is no unit or device; accepted: a-z, 0-9 and '-'")
    found = levels[len(path) - 1] if level is None else level
    if found is not levels[len(path) - 1] and not (found is Level.DEVICE and len(path) > 1):
        raise BadInput(f"{'/'.join(path)} leads to a {levels[len(path) - 1]}, not to a {found}")
    return Place(target=path[-1], level=found, above=tuple(path[:-1]))


def opened(release: Release) -> Pair:
    """Read a release's two documents; who signed them is not asked.

    Raises:
        BadInput: they are not a layer and its undo.
        Refused: one of them is no layer.
    """
    layer, undo = (
        signed(Layer, signatures.unverified(one, LAYER_TYPE))
        for one in (release.layer, release.undo)
    )
    wanted = replace(layer, version=layer.version + 1, content=undo.content, undoes=layer.version)
    if layer.undoes is not None or undo != replace(wanted, release=undo.release):
        raise BadInput("not a release: its second document is not the undo of its first")
    return Pair(layer, undo)


def before(
    releases: Iterable[Release],
    at: Place,
    trust: Trust,
    *,
    after_undo: bool = False,
    unverified: bool = False,
) -> Before:
    """Tell where a line of versions has come to.

    Args:
        releases: of this target; the newest is followed, the others are what a device may still
            hold that missed it.
        at: whose.
        trust: the document in force.
        after_undo: the newest was taken back.
        unverified: believe releases whose signers the document names no more.

    Raises:
        BadInput: one of another target, or that nobody with authority signed.
    """
    pairs = []
    for one in releases:
        pair = opened(one)
        if (pair.layer.target, pair.layer.level) != (at.target, at.level):
            raise BadInput(f"{pair.layer.release}: is of {pair.layer.target}, not of {at.target}")
        if not unverified:
            _refuse_unsigned(one, pair.layer.release, at, trust)
        pairs.append(pair)
    if not pairs:
        return Before()
    pairs.sort(key=lambda pair: (pair.layer.key_epoch, pair.layer.version))
    newest = pairs[-1]
    if newest.layer.key_epoch > trust.epoch_of(Purpose.CONFIG, at.scopes):
        raise BadInput(f"{newest.layer.release}: of a later key epoch than the trust document")
    came, back = newest.layer.content, newest.undo.content
    said = [one for pair in pairs for one in (pair.layer.content, pair.undo.content)]
    return Before(
        version=max(pair.undo.version for pair in pairs),
        content=back if after_undo else came,
        standing=Stood(back, came) if after_undo else Stood(came),
        # Where trials failed, a device holds what several allow together; what is no wider than
        # each of them is no wider than that.
        older=(None, *map(Stood, said)),
    )


def compose(
    content: Config,
    at: Place,
    stood: Before,
    trust: Trust,
    *,
    now_s: int,
    lasts_s: int = LASTS_S,
    name: str = "",
) -> Pair:
    """Make the two documents of a release, signed by nobody.

    Args:
        content: what the layer says.
        at: whose layer it is.
        stood: what stands there (``before``).
        trust: the document in force; it says in which epoch the line is.
        now_s: when it is issued.
        lasts_s: how long it may be accepted.
        name: of the release, an identifier; made from its target and version unless told.

    Raises:
        BadInput: a field that is the region's alone, or a time that no device would take.
    """
    if at.level is not Level.REGION and (wrong := misplaced(content)):
        raise BadInput(f"the region's alone, not for a {at.level}: {', '.join(wrong)}")
    if not DAY_S <= lasts_s <= MOST_LASTS_S:
        raise BadInput(f"--days: 1 to {MOST_LASTS_S // DAY_S}")
    if name and not is_identifier(name):
        raise BadInput(f"--name {name[:40]!r}: accepted: a-z, 0-9 and '-', at most {_MOST_NAME}")
    layer = Layer(
        target=at.target,
        level=at.level,
        key_epoch=trust.epoch_of(Purpose.CONFIG, at.scopes),
        version=stood.version + 1,
        release=name or "-",
        content=content,
        issued_s=now_s,
        expires_s=now_s + lasts_s,
    )
    layer = replace(layer, release=name or _name(layer))
    undo = replace(layer, version=layer.version + 1, content=stood.content, undoes=layer.version)
    return Pair(layer, undo)


def sign_layer(
    pair: Pair, keys: Sequence[Ed25519PrivateKey], at: Place, trust: Trust, now_s: int
) -> Release:
    """Seal a release with one or more keys.

    Raises:
        BadInput: a key without authority here, or two of one holder.
        Refused: it says too much to fit into an envelope.
    """
    named = [authority(key_id(key.public_key()), at.scopes, trust, now_s) for key in keys]
    refuse_one_holder(named)
    layer, undo = (
        signatures.seal(payload(one), LAYER_TYPE, keys) for one in (pair.layer, pair.undo)
    )
    return Release(layer, undo)


def add_signature(
    release: Release, key: Ed25519PrivateKey, at: Place, trust: Trust, now_s: int
) -> Release:
    """Sign a release beside those who signed it before; its documents stay as they are.

    Raises:
        BadInput: a key without authority here, or a release that no device would take.
    """
    pair = opened(release)
    authority(key_id(key.public_key()), at.scopes, trust, now_s)
    if pair.layer.expires_s <= now_s:
        raise BadInput(f"{pair.layer.release}: has expired; it has to be made anew")
    if pair.layer.key_epoch != trust.epoch_of(Purpose.CONFIG, at.scopes):
        raise BadInput(f"{pair.layer.release}: of another key epoch; it has to be made anew")
    layer, undo = (
        signatures.add_signatures(one, LAYER_TYPE, [key]) for one in (release.layer, release.undo)
    )
    return Release(layer, undo)


def authority(name: str, scopes: Iterable[str], trust: Trust, now_s: int) -> TrustedKey:
    """Find a key that may sign here.

    Args:
        name: its id.
        scopes: of the keys that may.
        trust: the document in force.
        now_s: when it signs.

    Raises:
        BadInput: why it may not.
    """
    over = frozenset(scopes)
    for one in trust.keys_for(Purpose.CONFIG, now_s):
        if one.key_id == name and one.scope in over:
            return one
        if one.key_id == name:
            raise BadInput(f"key {name[:16]}: is over {one.scope} alone, and this is not within it")
    if name in {one.key_id for one in trust.revoked}:
        raise BadInput(f"key {name[:16]}: is revoked")
    if any(one.key_id == name and one.purpose is Purpose.CONFIG for one in trust.keys):
        raise BadInput(f"key {name[:16]}: is not in force at this time")
    raise BadInput(f"key {name[:16]}: the trust document does not name it for configurations")


def refuse_one_holder(named: Sequence[TrustedKey]) -> None:
    """Refuse two keys of one holder: they count once, and whoever names two means two people.

    Raises:
        BadInput: whose they are.
    """
    holders = [one.holder for one in named]
    twice = next((one for one in holders if holders.count(one) > 1), None)
    if twice is not None:
        raise BadInput(f"two keys of one holder, {twice}, count once; name one of them")


def _refuse_unsigned(release: Release, name: str, at: Place, trust: Trust) -> None:
    """Refuse to follow what nobody with authority signed: what it says would be signed again."""
    gone = {one.key_id for one in trust.revoked}
    keys = [
        one.public
        for one in trust.keys
        if one.purpose is Purpose.CONFIG and one.scope in at.scopes and one.key_id not in gone
    ]
    for envelope in (release.layer, release.undo):
        if not signatures.signed_by(envelope, LAYER_TYPE, keys):
            raise BadInput(
                f"{name}: signed by no key that the trust document names; look at it"
                " (ketang config diff), then say --unverified"
            )


def _name(layer: Layer) -> str:
    """Name a release after its target, version and content: one name never means two."""
    digest = hashlib.sha256(payload(layer)).hexdigest()[:_HASH_IN_NAME]
    return f"{layer.target[:_UNIT_IN_NAME]}-{layer.version}-{digest}"[:_MOST_NAME]
