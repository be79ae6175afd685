"""Models that were fetched, side by side. Standard library only.

``models/<name>/<version>/`` holds a model that passed every check; it appears by one rename, whole.
Which one counts is the configuration's to say, and which ones stay (``tidying``): the one in force,
the one before it, and the one that is tried. So a loss of power at any moment leaves each of them
whole, or not there.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ketang_contract.ids import is_identifier
from ketang_models import archive as archives
from ketang_models import registry
from ketang_models.manifest import ModelRefused
from ketang_models.registry import Model

_DRAFT, _GONE = ".draft", ".gone"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model that was fetched: its name, version, and digest (``registry.Model.digest``)."""

    name: str
    version: str
    digest: str


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


def tidy(store: Path, wanted: Collection[Chosen] = ()) -> None:
    """Remove what a loss of power left half done, and every model that nobody wants."""
    kept = {(one.name, one.version) for one in wanted}
    for folder in store.glob("*/*"):
        if (folder.parent.name, folder.name) not in kept:
            _remove(folder)


def _check_is(model: Model, wanted: Chosen) -> None:
    if not _is(model, wanted):
        named = model.manifest
        raise ModelRefused(f"{named.name} {named.version}: not the model that was asked for")


def _is(model: Model, wanted: Chosen) -> bool:
    return wanted == Chosen(model.manifest.name, model.manifest.version, model.digest)


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
