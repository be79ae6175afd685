"""Whether a bundle is accepted. Pure: documents and what is held in, a verdict out.

Runs in the judging child; what a device holds after it is kept by the supervisor.

Invariants:
1. Nothing of a document is believed before a key with authority over its target has signed it.
2. The line of versions of a target, and of the placement, never goes back, whatever the clock says,
   and one number never stands for two contents.
3. No layer can be left out: neither one the placement names nor one that was accepted before.
4. What collects never becomes wider by one holder's word.
5. A refusal changes nothing that is held.
6. Only the region's keys and the trust document move the time: a school's key ends nobody's. And
   a region's key not for good: see ``signed_time``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ketang_agent.remote import signed_time
from ketang_agent.remote.holding import Held, Line, Mark
from ketang_agent.remote.version_order import is_older
from ketang_contract import config, layers
from ketang_contract.config import Config, Level, Said
from ketang_contract.errors import Refused
from ketang_contract.layers import (
    HOLDERS_TO_WIDEN,
    LAYER_TYPE,
    PLACEMENT_TYPE,
    Desired,
    Layer,
    LayerAt,
    Placement,
)
from ketang_contract.trust import Purpose, Trust, TrustedKey

Signers = Callable[[bytes, str, Sequence[str]], frozenset[str]]
"""``signatures.signed_by``: names of those of these keys (PEM) that signed an envelope."""
Payload = Callable[[bytes, str], bytes]
"""``signatures.unverified``: what an envelope of a type holds, believed by nobody yet."""


class Read(Protocol):
    """``validate.signed``: read a payload as one kind of document, strictly."""

    def __call__(self, kind: type[Any], payload: bytes, /) -> Any:
        """Return the document, or raise ``Refused``."""


class ConfigRefused(Refused):
    """The bundle is not accepted; the device goes on with what it has.

    ``reason`` is ``bad_desired``, ``bad_envelope``, ``bad_document``, ``forged``, ``mis_scoped``,
    ``wrong_target``, ``wrong_epoch``, ``rolled_back``, ``version_reused``, ``expired``,
    ``ill_timed`` (issued outside its key's time, after its own end, or in the future of a clock
    that somebody disciplines), ``left_out``, ``region_only``, ``one_holder``, ``agent_too_old`` or
    ``no_trust``.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Who judges, when, and by what."""

    device: str
    agent_version: str
    base: Config
    """What the device's profile says."""
    in_force: Config
    trust: Trust
    now_s: int
    """The device's clock, UTC seconds; the signed-time floor is taken into account here."""
    synced: bool = False
    """Somebody disciplines that clock."""
    signers: Signers
    payload: Payload
    read: Read


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A bundle that passed.

    ``config``: what its layers come to. ``fallback``: what is in force from now on until it has
    passed its trial, and after it did not: as before, narrowed by the new. ``held``: from now on.
    ``held_committed``: once it has passed.
    """

    hash: str
    layers: tuple[LayerAt, ...]
    config: Config
    fallback: Config
    by: Mapping[str, str]
    held: Held
    held_committed: Held


@dataclass(frozen=True, slots=True)
class _Document:
    """One that was signed by somebody with authority: what it says, and by how many."""

    body: Any
    digest: str
    holders: int
    of_region: bool
    """Whether a key of the whole region signed it: only such a one tells what time it is."""
    is_new: bool = True
    """It was not accepted before; what was has told its time already."""


def name_of(desired: Desired, payload: Payload) -> str:
    """Name a bundle by what it holds, judged or not: for telling which one was refused.

    Raises:
        Refused: ``bad_envelope``.
    """
    placement = layers.digest(PLACEMENT_TYPE, payload(desired.placement, PLACEMENT_TYPE))
    return layers.config_hash(
        placement, (layers.digest(LAYER_TYPE, payload(one, LAYER_TYPE)) for one in desired.layers)
    )


def judge(desired: Desired, held: Held, now: Situation) -> Accepted:
    """Accept a bundle, or refuse it.

    Raises:
        ConfigRefused: with one of its reasons; nothing changes.
    """
    moment_s = max(now.now_s, held.floor_s, now.trust.issued_s)
    placement = _placement(desired.placement, held, now, moment_s)
    place: Placement = placement.body
    path = {one.unit: one.level for one in place.path} | {place.device: Level.DEVICE}
    documents = [_layer(raw, path, held, now, moment_s) for raw in desired.layers]
    brought = {one.body.target: one for one in documents}
    if len(brought) != len(documents):
        raise ConfigRefused("bad_desired", "one target twice")
    _refuse_left_out(place, path, brought, held)
    contents = {target: _content(one.body, held, now.base) for target, one in brought.items()}
    merged = _merged(path, contents, now.base)
    _refuse_widening(placement, brought, contents, merged.config, held, now)
    return Accepted(
        hash=layers.config_hash(placement.digest, (one.digest for one in documents)),
        layers=tuple(
            sorted(
                LayerAt(target=t, key_epoch=one.body.key_epoch, version=one.body.version)
                for t, one in brought.items()
            )
        ),
        config=merged.config,
        fallback=_fallback(now.in_force, merged.config),
        by=merged.by,
        held=_held(held, placement, brought, contents, now, committed=False),
        held_committed=_held(held, placement, brought, contents, now, committed=True),
    )


# One document.


def _placement(raw: bytes, held: Held, now: Situation, moment_s: int) -> _Document:
    keys = now.trust.keys_for(Purpose.CONFIG, moment_s)
    region = [one for one in keys if not one.scope]
    made = _signed(raw, PLACEMENT_TYPE, Placement, region, keys, now)
    place: Placement = made.body
    if place.device != now.device:
        raise ConfigRefused("wrong_target", f"placement of {place.device}")
    _refuse_back("placement", place, made.digest, held.placement)
    if held.placement is not None and held.placement.digest == made.digest:
        return replace(made, is_new=False)
    _refuse_ill_timed(place, now)
    _refuse_old(place, now.trust.epoch_of(Purpose.CONFIG, ()), moment_s)
    return made


def _layer(
    raw: bytes, path: Mapping[str, Level], held: Held, now: Situation, moment_s: int
) -> _Document:
    # Whose it claims to be decides which keys may have signed it; believed only when one has.
    claimed: Layer = _read(raw, LAYER_TYPE, Layer, now)
    if path.get(claimed.target) is not claimed.level:
        raise ConfigRefused("wrong_target", f"{claimed.level} {claimed.target}")
    keys = now.trust.keys_for(Purpose.CONFIG, moment_s)
    over = _over(claimed.target, path)
    made = _signed(raw, LAYER_TYPE, Layer, [one for one in keys if one.scope in over], keys, now)
    line = held.lines.get(claimed.target)
    mark = line.mark if line else None
    _refuse_back(claimed.target, claimed, made.digest, mark)
    is_new = mark is None or mark.digest != made.digest
    if is_new:  # expiry gates acceptance, not what was accepted
        _refuse_ill_timed(claimed, now)
        # A device that left a unit keeps the epoch its own line has come to under it.
        epoch = now.trust.epoch_of(Purpose.CONFIG, over)
        _refuse_old(claimed, max(epoch, mark.key_epoch if mark else 0), moment_s)
    if claimed.level is not Level.REGION and (wrong := config.misplaced(claimed.content)):
        raise ConfigRefused("region_only", f"{claimed.target}: {', '.join(wrong)}")
    if is_older(now.agent_version, claimed.content.min_agent or ""):
        raise ConfigRefused("agent_too_old", f"{now.agent_version} < {claimed.content.min_agent}")
    return replace(made, is_new=is_new)


def _over(target: str, path: Mapping[str, Level]) -> frozenset[str]:
    """Scopes with authority over a target: the region's keys, its own, and those of units above."""
    floors = list(Level)
    at = floors.index(path[target])
    above = {unit for unit, level in path.items() if floors.index(level) < at}
    return frozenset({"", target, *above})


def _signed(
    raw: bytes,
    kind: str,
    body: type[Any],
    allowed: Sequence[TrustedKey],
    all_keys: Sequence[TrustedKey],
    now: Situation,
) -> _Document:
    by = now.signers(raw, kind, [one.public for one in allowed])
    if not by:
        anybody = now.signers(raw, kind, [one.public for one in all_keys])
        raise ConfigRefused("mis_scoped" if anybody else "forged", kind)
    made = _read(raw, kind, body, now)
    signed = [
        one
        for one in allowed
        if one.key_id in by and one.from_s <= made.issued_s < min(one.until_s, made.expires_s)
    ]
    if not signed:
        raise ConfigRefused("ill_timed", f"{kind} of {made.issued_s}")
    return _Document(
        body=made,
        digest=layers.digest(kind, now.payload(raw, kind)),
        holders=len({one.holder for one in signed}),
        of_region=any(not one.scope for one in signed),
    )


def _read(raw: bytes, kind: str, body: type[Any], now: Situation) -> Any:
    try:
        return now.read(body, now.payload(raw, kind))
    except ConfigRefused:
        raise
    except Refused as problem:
        raise ConfigRefused(problem.reason, str(problem)) from problem


def _refuse_ill_timed(document: Layer | Placement, now: Situation) -> None:
    # Not the floor, which documents have made: they would lead each other into the future.
    now_s = max(now.now_s, now.trust.issued_s)
    if signed_time.is_ahead(document.issued_s, now_s, synced=now.synced):
        raise ConfigRefused("ill_timed", f"of {document.issued_s}, now {now_s}")


def _refuse_old(document: Layer | Placement, epoch: int, moment_s: int) -> None:
    if document.key_epoch != epoch:
        raise ConfigRefused("wrong_epoch", f"{document.key_epoch}, in force: {epoch}")
    if document.expires_s <= moment_s:
        raise ConfigRefused("expired", f"at {document.expires_s}, now {moment_s}")


def _refuse_back(what: str, document: Layer | Placement, digest: str, mark: Mark | None) -> None:
    if mark is None:
        return
    said, known = (document.key_epoch, document.version), (mark.key_epoch, mark.version)
    if said < known:
        raise ConfigRefused("rolled_back", f"{what}: {said}, held: {known}")
    if said == known and digest != mark.digest:
        raise ConfigRefused("version_reused", f"{what}: {said}")


# All of them together.


def _refuse_left_out(
    place: Placement,
    path: Mapping[str, Level],
    brought: Mapping[str, _Document],
    held: Held,
) -> None:
    for one in place.least:
        there = brought.get(one.target)
        if there is None:
            raise ConfigRefused("left_out", one.target)
        if (there.body.key_epoch, there.body.version) < (one.key_epoch, one.version):
            raise ConfigRefused("rolled_back", f"{one.target}: older than the placement allows")
    for target in path:
        if target in held.lines and target not in brought:
            raise ConfigRefused("left_out", target)


def _content(layer: Layer, held: Held, base: Config) -> Config:
    """Return what a layer comes to here: an undo never lifts what was narrowed before it."""
    if layer.undoes is None or layer.target not in held.lines:
        return layer.content
    return config.narrowed(config.full(layer.level, layer.content, base), _stood(layer, held, base))


def _fallback(in_force: Config, merged: Config) -> Config:
    """Narrow what is in force by what was accepted; a model or a program that it lost is lost."""
    made = config.narrowed(in_force, merged)
    return replace(
        made,
        model=made.model if merged.model else None,
        foreground=made.foreground if merged.foreground else None,
    )


def _merged(
    path: Mapping[str, Level], contents: Mapping[str, Config], base: Config
) -> config.Merged:
    said = [Said(unit, level, contents[unit]) for unit, level in path.items() if unit in contents]
    return config.merge(base, said)


def _refuse_widening(
    placement: _Document,
    brought: Mapping[str, _Document],
    contents: Mapping[str, Config],
    merged: Config,
    held: Held,
    now: Situation,
) -> None:
    for target, one in brought.items():
        line = held.lines.get(target)
        wider = _wider(one.body.level, line.standing if line else None, contents[target], now.base)
        if wider and one.holders < HOLDERS_TO_WIDEN:
            raise ConfigRefused("one_holder", f"{target} widens {', '.join(wider)}")
    moved = any(was and was != placement.body.path for was in (held.path, held.brought))
    if moved and placement.holders < HOLDERS_TO_WIDEN:
        wider = config.widened(now.in_force, merged)
        if wider:
            raise ConfigRefused("one_holder", f"the new place widens {', '.join(wider)}")


def _wider(level: Level, before: Config | None, after: Config, base: Config) -> tuple[str, ...]:
    if level is Level.REGION:
        was = base if before is None else config.filled(base, before)
        return config.widened(was, config.filled(base, after))
    # A layer that was not there narrowed nothing, and one below the region's adds nothing.
    return () if before is None else config.widened(before, after)


def _held(
    held: Held,
    placement: _Document,
    brought: Mapping[str, _Document],
    contents: Mapping[str, Config],
    now: Situation,
    *,
    committed: bool,
) -> Held:
    lines = dict(held.lines)
    for target, one in brought.items():
        layer: Layer = one.body
        standing = contents[target]
        if not committed:
            said = config.full(layer.level, standing, now.base)
            standing = config.narrowed(_stood(layer, held, now.base), said)
        lines[target] = Line(Mark(layer.key_epoch, layer.version, one.digest), standing)
    place: Placement = placement.body
    telling = [one for one in (placement, *brought.values()) if one.of_region and one.is_new]
    floor_s = max([held.floor_s, now.trust.issued_s, *(one.body.issued_s for one in telling)])
    return replace(
        held,
        floor_s=floor_s,
        confirmed_s=floor_s if now.synced else held.confirmed_s,
        placement=Mark(place.key_epoch, place.version, placement.digest),
        path=place.path if committed else held.path,
        brought=place.path,
        lines=lines,
    )


def _stood(layer: Layer, held: Held, base: Config) -> Config:
    """Return what a layer finds: what is held of its target, or no limit."""
    line = held.lines.get(layer.target)
    return config.full(layer.level, line.standing if line else Config(), base)
