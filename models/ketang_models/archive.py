"""A model as one file, to be published and fetched: a ZIP whose bytes follow from its content.

Standard library only. Stored, not compressed (weights do not shrink), with one fixed date: the same
model gives the same archive on every machine, so its hash means something.
"""

import stat
import zipfile
from io import BytesIO
from pathlib import Path

from ketang_models.manifest import Manifest, ModelRefused
from ketang_models.registry import MAX_MODEL_BYTES, Model, open_model, verify

MANIFEST, CARD = "manifest.toml", "CARD.md"
MAX_ARCHIVE_BYTES = 96 << 20
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = (stat.S_IFREG | 0o644) << 16
_CHUNK_BYTES = 1 << 20


def pack(model: Model) -> bytes:
    """Make a model's archive; its files are checked first.

    Raises:
        ModelRefused: a file is missing, not the one the manifest names, or all are too large.
    """
    verify(model)
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in _names(model.manifest):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, _MODE
            try:
                archive.writestr(entry, (model.folder / name).read_bytes())
            except OSError as problem:
                raise ModelRefused(
                    f"{model.folder / name}: cannot be read ({problem.strerror})"
                ) from None
    if made.tell() > MAX_ARCHIVE_BYTES:
        raise ModelRefused(f"{model.folder}: larger than {MAX_ARCHIVE_BYTES} bytes as an archive")
    return made.getvalue()


def unpack(archive: Path, folder: Path) -> Model:
    """Lay a model's files into a folder, and check each against the manifest.

    Nothing is believed of the archive: it holds the files a manifest names and no other, each in
    the folder itself and within its cap, whatever its own lists say.

    Args:
        archive: the file.
        folder: there, and empty.

    Raises:
        ModelRefused: it is no model's archive; what was written stays for the caller to remove.
        OSError: a file cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            if MANIFEST not in names:
                raise ModelRefused(f"{archive.name}: holds no {MANIFEST}")
            _lay(opened, MANIFEST, folder)
            model = open_model(folder)
            if sorted(names) != sorted(_names(model.manifest)):
                raise ModelRefused(f"{archive.name}: not the files that its manifest names")
            left_bytes = MAX_ARCHIVE_BYTES
            for name in names:
                left_bytes -= _lay(opened, name, folder)
                if left_bytes < 0:
                    raise ModelRefused(f"{archive.name}: larger than {MAX_ARCHIVE_BYTES} bytes")
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as problem:
        raise ModelRefused(f"{archive.name}: not an archive ({problem})") from None
    verify(model)
    return model


def _names(manifest: Manifest) -> list[str]:
    files = (one.file for one in manifest.files)
    return [MANIFEST, CARD, manifest.origin.licence_file, manifest.golden.file, *files]


def _lay(opened: zipfile.ZipFile, name: str, folder: Path) -> int:
    """Write one file; what is counted is what comes out, not what the archive's list says."""
    written = 0
    with opened.open(name) as source, (folder / name).open("wb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > MAX_MODEL_BYTES:
                raise ModelRefused(f"{name}: larger than {MAX_MODEL_BYTES} bytes")
            target.write(chunk)
    return written
