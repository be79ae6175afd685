"""What a publisher brings is judged as a device would judge it, and refused in one line.

A device believes nobody but the signatures; this only spares a fleet what it would refuse, and
finds what widens, so that a second person at the centre is asked too.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ketang_center.registry.database import Registry
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.values import Placed, Release, Signed
from ketang_contract import config, layers, releases, signatures, validate
from ketang_contract.config import Config, Level
from ketang_contract.errors import BadInput, Refused
from ketang_contract.layers import (
    HOLDERS_TO_WIDEN,
    LAYER_TYPE,
    PLACEMENT_TYPE,
    Layer,
    Placement,
    Step,
)
from ketang_contract.trust import Purpose, Trust, TrustedKey
from ketang_profiles.configured import agents, as_config
from ketang_profiles.profile import shipped

T = TypeVar("T", Layer, Placement)
_AHEAD_S = 86_400


@dataclass(frozen=True, slots=True)
class Admitted:
    """A release that may be kept: its two layers, and what is known of it.

    It may be known already: then another holder has signed it since, and nothing else is new.
    """

    layer: Signed
    undo: Signed
    release: Release


class HereAlready(BadInput):
    """The very release, with these signatures or more, is here. Caller: go on with ``release``."""

    def __init__(self, release: str) -> None:
        super().__init__(f"{release}: it, with these signatures, is here already")
        self.release = release


class Judge:
    """Judges by one trust document at one moment. One thread: the registry's."""

    def __init__(self, book: RolloutBook, registry: Registry, trust: Trust, now_ms: int) -> None:
        self._book, self._registry, self._trust, self._now_ms = book, registry, trust, now_ms
        self._now_s = max(now_ms // 1000, trust.issued_s)

    def release(self, raw: bytes, who: str) -> Admitted:
        """Judge a release file.

        Raises:
            BadInput: in one line, what a device would refuse it for.
        """
        said = releases.read(raw)
        layer = _document(Layer, said.layer, LAYER_TYPE)
        undo = _document(Layer, said.undo, LAYER_TYPE)
        over = self.over(layer)
        _refuse_unfit(layer, undo)
        holders = self._signers(said.layer, LAYER_TYPE, over, layer.release)
        self._signers(said.undo, LAYER_TYPE, over, f"the undo of {layer.release}")
        for one in (layer, undo):
            self._refuse_times(one, over, layer.release)
        wrong = config.misplaced(layer.content) or config.misplaced(undo.content)
        if layer.level is not Level.REGION and wrong:
            raise BadInput(f"{layer.release}: only the region may say {', '.join(wrong)}")
        widens = self._widens(layer)
        if widens and len(holders) < HOLDERS_TO_WIDEN:
            raise BadInput(
                f"{layer.release}: widens {', '.join(widens)}: two holders have to sign, it has"
                f" {', '.join(sorted(holders))}"
            )
        kept, kept_undo = _signed(layer, said.layer), _signed(undo, said.undo)
        self._refuse_known(kept, kept_undo, holders)
        return Admitted(
            kept, kept_undo, self._release(layer, undo, kept, kept_undo, widens, holders, who)
        )

    def placement(self, raw: bytes) -> Placed:
        """Judge where a device is said to stand.

        Raises:
            BadInput: in one line; ``device: why``.
        """
        said = _document(Placement, raw, PLACEMENT_TYPE)
        holders = self._signers(raw, PLACEMENT_TYPE, frozenset({""}), said.device)
        self._refuse_times(said, (), said.device)
        held = self._book.placed(said.device)
        made = _placed(said, raw)
        if held is not None and (held.key_epoch, held.version) >= (said.key_epoch, said.version):
            if held.digest == made.digest:
                return made
            raise BadInput(f"{said.device}: a placement as new as this one is held already")
        if self._way(said.device) != said.path:
            raise BadInput(f"{said.device}: the register has it elsewhere; export and sign again")
        if held is not None and held.path != said.path and len(holders) < HOLDERS_TO_WIDEN:
            wider = self._moves_wider(held, made)
            if wider:
                raise BadInput(
                    f"{said.device}: its new place widens {', '.join(wider)}: two have to sign"
                )
        return made

    def _way(self, device: str) -> tuple[Step, ...]:
        return way_of(self._registry, device, self._now_ms)

    def _moves_wider(self, held: Placed, made: Placed) -> tuple[str, ...]:
        device = self._registry.device(held.device)
        base = as_config(shipped(device.kind)) if device else Config()

        def comes_to(placed: Placed) -> Config:
            chosen = self._book.grounds() | self._book.turns(placed.device)
            digests = [chosen[one] for one in placed.targets if one in chosen]
            found = [one for one in map(self._book.layer, digests) if one is not None]
            said = [
                config.Said(one.target, one.level, stands(self._book, one, base)) for one in found
            ]
            return config.merge(base, said).config

        return config.widened(comes_to(held), comes_to(made))

    def over(self, layer: Layer) -> frozenset[str]:
        """Return the scopes with authority over a layer's target: its own and those above.

        Raises:
            BadInput: the register knows no such target.
        """
        return frozenset({"", *self.over_target(layer.target, layer.level, layer.release)})

    def over_target(self, target: str, level: Level, what: str) -> tuple[str, ...]:
        """Return a target and every unit above it, the region first.

        Raises:
            BadInput: the register knows no such target; the line begins with ``what``.
        """
        tree = self._registry.tree()
        if level is Level.DEVICE:
            way = self._way(target)
            if not way:
                raise BadInput(f"{what}: no device {target} stands anywhere here")
            return (*(one.unit for one in way), target)
        if target not in tree or tree[target].level.value != level.value:
            raise BadInput(f"{what}: there is no {level} {target} here")
        return tuple(one.id for one in tree.path(target))

    def _signers(self, raw: bytes, kind: str, over: Collection[str], what: str) -> frozenset[str]:
        """Return the holders with authority who signed."""
        keys = self._trust.keys_for(Purpose.CONFIG, self._now_s)
        allowed = [one for one in keys if one.scope in over]
        by = _signed_by(raw, kind, allowed)
        if not by and _signed_by(raw, kind, keys):
            raise BadInput(f"{what}: signed by keys with no authority there")
        if not by:
            raise BadInput(f"{what}: not signed by a key of the trust document in force")
        return frozenset(one.holder for one in allowed if one.key_id in by)

    def _refuse_times(self, one: Layer | Placement, over: Iterable[str], what: str) -> None:
        epoch = self._trust.epoch_of(Purpose.CONFIG, over)
        if one.key_epoch != epoch:
            raise BadInput(f"{what}: key epoch {one.key_epoch}, in force is {epoch}: sign it anew")
        if one.expires_s <= self._now_s:
            raise BadInput(f"{what}: has expired: sign it anew")
        if one.issued_s > self._now_s + _AHEAD_S:
            # Devices believe a signed time for ever: a laptop's clock may have been wrong.
            raise BadInput(f"{what}: was signed in days to come: check both clocks, sign it anew")

    def _refuse_known(self, layer: Signed, undo: Signed, holders: Collection[str]) -> None:
        known = self._book.release(layer.release)
        if known is not None:
            same = (known.layer, known.undo) == (layer.digest, undo.digest)
            if same and set(holders) > set(known.holders):
                return
            if same:
                raise HereAlready(layer.release)
            raise BadInput(f"{layer.release}: another release of this name is here already")
        newest = next(iter(self._book.layers_of(layer.target)), None)
        if newest and (newest.key_epoch, newest.version) >= (layer.key_epoch, layer.version):
            raise BadInput(
                f"{layer.release}: version {layer.version} of {layer.target}, but"
                f" {newest.version} is here already: sign it with a higher one"
            )

    def _widens(self, layer: Layer) -> tuple[str, ...]:
        """Name the fields in which a layer allows more than any device may hold of its target."""
        found = [self._book.layer(one) for one in self._book.given(layer.target)]
        held = [one for one in found if one is not None]
        wider: set[str] = set()
        for base in agents() if layer.level is Level.REGION else [Config()]:
            after = config.full(layer.level, layer.content, base)
            stood = [stands(self._book, one, base) for one in held]
            if not stood and layer.level is Level.REGION:
                stood = [base]
            wider.update(*(config.widened(was, after) for was in stood))
        return tuple(name for name in config.DIRECTIONS if name in wider)

    def _release(
        self,
        layer: Layer,
        undo: Layer,
        kept: Signed,
        kept_undo: Signed,
        widens: tuple[str, ...],
        holders: Collection[str],
        who: str,
    ) -> Release:
        return Release(
            name=layer.release,
            target=layer.target,
            level=layer.level,
            key_epoch=layer.key_epoch,
            version=layer.version,
            undo_version=undo.version,
            layer=kept.digest,
            undo=kept_undo.digest,
            widens=widens,
            holders=tuple(sorted(holders)),
            admitted_by=who,
            admitted_ms=self._now_ms,
            expires_s=layer.expires_s,
            content=layer.content,
            before=undo.content,
        )


def stands(book: RolloutBook, one: Signed, base: Config) -> Config:
    """Return what a layer comes to on a device: an undo never lifts what stood before it."""
    content = config.full(one.level, one.content, base)
    if one.undoes is not None:
        for other in book.layers_of(one.target):
            if (other.key_epoch, other.version) == (one.key_epoch, one.undoes):
                undone = config.full(one.level, other.content, base)
                content = config.narrowed(content, undone)
    return content


def way_of(registry: Registry, device: str, at_ms: int) -> tuple[Step, ...]:
    """Return a device's way from the region to its room, as the register has it; empty: none."""
    stays = [one for one in registry.placements(device) if one.from_ms <= at_ms]
    if not stays or (stays[-1].until_ms is not None and stays[-1].until_ms <= at_ms):
        return ()
    return tuple(
        Step(level=Level(one.level.value), unit=one.id)
        for one in registry.tree().path(stays[-1].room)
    )


def _refuse_unfit(layer: Layer, undo: Layer) -> None:
    if layer.undoes is not None:
        raise BadInput(f"{layer.release}: is an undo itself, not a release")
    fits = (undo.target, undo.level, undo.key_epoch, undo.undoes) == (
        layer.target,
        layer.level,
        layer.key_epoch,
        layer.version,
    ) and undo.version > layer.version
    if not fits:
        raise BadInput(f"{layer.release}: the undo that came along does not take it back")


def _document(kind: type[T], raw: bytes, payload_type: str) -> T:
    try:
        return validate.signed(kind, signatures.unverified(raw, payload_type))
    except Refused as why:
        raise BadInput(f"not a {kind.__name__.lower()} that can be read: {why}") from None


def _signed_by(raw: bytes, kind: str, keys: Sequence[TrustedKey]) -> frozenset[str]:
    return signatures.signed_by(raw, kind, [one.public for one in keys])


def _signed(one: Layer, raw: bytes) -> Signed:
    return Signed(
        digest=layers.digest(LAYER_TYPE, signatures.unverified(raw, LAYER_TYPE)),
        target=one.target,
        level=one.level,
        key_epoch=one.key_epoch,
        version=one.version,
        release=one.release,
        undoes=one.undoes,
        content=one.content,
        issued_s=one.issued_s,
        expires_s=one.expires_s,
        envelope=raw,
    )


def _placed(one: Placement, raw: bytes) -> Placed:
    return Placed(
        device=one.device,
        key_epoch=one.key_epoch,
        version=one.version,
        digest=layers.digest(PLACEMENT_TYPE, signatures.unverified(raw, PLACEMENT_TYPE)),
        path=one.path,
        least=one.least,
        expires_s=one.expires_s,
        envelope=raw,
    )
