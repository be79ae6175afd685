"""Models that were fetched, side by side, and which of them is in use. Standard library only.

``models/<name>/<version>/`` holds a model that passed every check; it appears by one rename, whole.
``models/current.json`` says which is in use, and which was before while the new one is on trial; it
changes by one rename, too. So a loss of power at any moment leaves the old one or the new one, and
the old one stays until the new one has committed. Without a word there, the model that shipped with
the program is in use.

Steps: ``lay`` → ``activate`` → ``keep``, or ``forget`` to go back.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from ketang_agent.enrol.files import write_private
from ketang_contract.ids import is_identifier
from ketang_models import archive as archives
from ketang_models import registry
from ketang_models.manifest import ModelRefused
from ketang_models.registry import Model

_POINTER, _DRAFT, _GONE = "current.json", ".draft", ".gone"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model that was fetched: its name, version, and digest (``registry.Model.digest``)."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Which model is in use; None: the one that shipped with the program.

    ``before`` means something only while ``on_trial``: what ``forget`` goes back to.
    """

    current: Chosen | None = None
    before: Chosen | None = None
    on_trial: bool = False


def place_of(store: Path, name: str, version: str) -> Path:
    """Return where a model lies, or would.

    Raises:
        ModelRefused: no name of a model, or one that leads elsewhere.
    """
    if not is_identifier(name) or _VERSION.fullmatch(version) is None:
        raise ModelRefused(f"{name[:40]!r} {version[:40]!r}: not a model's name and version")
    return store / name / version


def is_shipped(wanted: Chosen) -> bool:
    """Tell whether a model came with the program, and is not to be fetched."""
    try:
        model = registry.shipped(wanted.name)
    except ModelRefused:
        return False
    return _is(model, wanted)


def lay(store: Path, archive: Path, wanted: Chosen, check: Callable[[Path], None]) -> Model:
    """Put a model beside the others; nothing else changes.

    Args:
        store: the folder ``models`` in the agent's data folder.
        archive: as it was fetched.
        wanted: what it must be.
        check: tries the model in a folder (``inference.golden.check``); it is not laid before.

    Raises:
        ModelRefused: it is not what is wanted, or does not pass.
        OSError: it cannot be written.
    """
    folder = place_of(store, wanted.name, wanted.version)
    try:
        return found(store, wanted)
    except ModelRefused:
        _remove(folder)  # damaged by the disk, or none at all
    draft = folder.with_name(f"{_DRAFT}-{wanted.version}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    try:
        _check_is(archives.unpack(archive, draft), wanted)
        check(draft)
        for one in (*draft.iterdir(), draft):
            _flush(one)
        draft.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return found(store, wanted)


def found(store: Path, wanted: Chosen) -> Model:
    """Open a model that was laid; every file is checked.

    Raises:
        ModelRefused: it is not there, or not what is wanted.
    """
    model = registry.open_model(place_of(store, wanted.name, wanted.version))
    registry.verify(model)
    _check_is(model, wanted)
    return model


def standing(store: Path) -> Standing:
    """Tell which model is in use."""
    try:
        said = json.loads((store / _POINTER).read_bytes())
        return Standing(_chosen(said["current"]), _chosen(said["before"]), said["on_trial"] is True)
    except (OSError, ValueError, KeyError, TypeError):
        return Standing()


def in_use(store: Path, name: str) -> Model:
    """Open the model in use of this name: the chosen one, or else the one that shipped.

    Raises:
        ModelRefused: there is none.
    """
    chosen = standing(store).current
    if chosen is not None and chosen.name == name:
        return found(store, chosen)
    return registry.shipped(name)


def activate(store: Path, wanted: Chosen | None) -> Standing:
    """Take a model into use, on trial; None: the one that shipped.

    Twice is as once. While one is on trial already, what stood before that one stays the way back.

    Raises:
        ModelRefused: it was not laid, or has been damaged since.
    """
    now = standing(store)
    if now.current == wanted:
        return now
    if wanted is not None:
        found(store, wanted)
    before = now.before if now.on_trial else now.current
    return _point(store, Standing(wanted, before, on_trial=True))


def keep(store: Path) -> Standing:
    """The model in use has committed: the one before it goes."""
    now = standing(store)
    if not now.on_trial:
        return now
    kept = _point(store, replace(now, before=None, on_trial=False))
    _let_go(store, now.before, kept)
    return kept


def forget(store: Path) -> Standing:
    """The model on trial did harm: go back to the one before, and let it go."""
    now = standing(store)
    if not now.on_trial:
        return now
    back = _point(store, Standing(now.before))
    _let_go(store, now.current, back)
    return back


def tidy(store: Path, wanted: Collection[Chosen] = ()) -> None:
    """Remove what a loss of power left half done, and every model that nobody needs."""
    now = standing(store)
    needed = {(one.name, one.version) for one in (now.current, now.before, *wanted) if one}
    for folder in store.glob("*/*"):
        if (folder.parent.name, folder.name) not in needed:
            _remove(folder)


def _point(store: Path, said: Standing) -> Standing:
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = {
        "current": _told(said.current),
        "before": _told(said.before),
        "on_trial": said.on_trial,
    }
    write_private(store / _POINTER, json.dumps(told).encode())
    return said


def _told(one: Chosen | None) -> list[str] | None:
    return None if one is None else [one.name, one.version, one.digest]


def _chosen(said: list[str] | None) -> Chosen | None:
    return None if said is None else Chosen(*said)


def _check_is(model: Model, wanted: Chosen) -> None:
    if not _is(model, wanted):
        named = model.manifest
        raise ModelRefused(f"{named.name} {named.version}: not the model that was asked for")


def _is(model: Model, wanted: Chosen) -> bool:
    return wanted == Chosen(model.manifest.name, model.manifest.version, model.digest)


def _let_go(store: Path, one: Chosen | None, now: Standing) -> None:
    if one is not None and one != now.current:
        _remove(place_of(store, one.name, one.version))


def _remove(folder: Path) -> None:
    """Take a folder away: out of its name at once, then file by file."""
    gone = folder.with_name(f"{_GONE}-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def _flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
