"""Finds the models that ship with the program and hands out bytes whose hash was checked.

Standard library only: the agent's supervisor asks here what a model is, and never loads one.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ketang_models.manifest import Golden, Manifest, ModelFile, ModelRefused, read_manifest

SHIPPED = Path(__file__).resolve().parent
MAX_MODEL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Model:
    """A manifest and the folder its files lie in."""

    folder: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """One sha256 for the whole model: its files' digests and roles, in the manifest's order."""
        together = hashlib.sha256()
        for one in self.manifest.files:
            together.update(f"{one.role}:{one.sha256}\n".encode())
        return together.hexdigest()


def shipped_names() -> list[str]:
    """Name the models that ship with the program."""
    return sorted(each.parent.name for each in SHIPPED.glob("*/manifest.toml"))


def shipped(name: str) -> Model:
    """Open a shipped model by name.

    Raises:
        ModelRefused: there is none of that name, or its manifest is refused.
    """
    if name not in shipped_names():
        raise ModelRefused(f"no model named {name!r}; there are: {', '.join(shipped_names())}")
    return open_model(SHIPPED / name)


def open_model(folder: Path) -> Model:
    """Read the manifest of the model in a folder; its files are looked at by ``verify``."""
    return Model(folder, read_manifest(folder / "manifest.toml"))


def verify(model: Model) -> None:
    """Check every file of a model against its manifest.

    Raises:
        ModelRefused: a file is missing, too large, or not the one the manifest names.
    """
    for _ in contents(model):
        pass
    golden_answers(model)


def contents(model: Model) -> Iterator[tuple[ModelFile, bytes]]:
    """Yield each file with its bytes, checked: what is hashed is what the caller gets."""
    for one in model.manifest.files:
        yield one, _read(model.folder / one.file, one)


def golden_answers(model: Model) -> bytes:
    """Return what the networks must answer to the golden pictures, checked (``manifest.Golden``).

    Raises:
        ModelRefused: the file is missing, too large, or not the one the manifest names.
    """
    golden = model.manifest.golden
    return _read(model.folder / golden.file, golden)


def _read(path: Path, expected: ModelFile | Golden) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MODEL_BYTES + 1)
    except OSError as problem:
        raise ModelRefused(f"{path}: cannot be read ({problem.strerror})") from None
    if len(content) > MAX_MODEL_BYTES:
        raise ModelRefused(f"{path}: larger than {MAX_MODEL_BYTES} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != expected.sha256:
        raise ModelRefused(f"{path}: sha256 {found}, the manifest says {expected.sha256}")
    return content
