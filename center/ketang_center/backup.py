"""A copy of all that a centre keeps, made while it runs.

Each database is copied at one moment of its own, whatever is written meanwhile. The control
database comes first and the rows after it, so that no mark lacks its row (ADR 7). Keys and settings
are no part of it: they do not lie in this folder, and belong in a safe.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ketang_contract.errors import BadInput

FIRST = "control.db"
_MAGIC = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; the copy needs none of it."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup holds."""

    databases: int
    files: int
    size_bytes: int


def back_up(folder: Path, target: Path) -> Copied:
    """Copy a centre's data into a new folder, for its owner alone.

    It has its name when it is whole and on the disk: one that was cut short is never taken for it.

    Args:
        folder: the centre's data; it may be in use.
        target: where to; nothing is there yet.

    Raises:
        BadInput: something is there, it cannot be written, or a database is damaged.
    """
    target = target.absolute()
    if target.exists():
        raise BadInput(f"{target}: is there already; name a new folder for each backup")
    if not (folder / FIRST).exists():
        raise BadInput(f"{folder}: no centre has worked here; nothing to back up")
    if target.is_relative_to(folder.absolute()):
        raise BadInput(f"{target}: lies inside the centre's own folder; name one elsewhere")
    made: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        copied = _copy_all(folder, made)
        made.rename(target)
        _sync(target.parent)
    except OSError as problem:
        raise BadInput(f"{target}: cannot be written: {problem}") from None
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
    return copied


def _copy_all(folder: Path, made: Path) -> Copied:
    databases = files = size_bytes = 0
    for path in _in_order(folder):
        copy = made / path.relative_to(folder)
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent == folder and _is_database(path):
            _copy_database(path, copy)
            databases += 1
        else:
            try:
                shutil.copy2(path, copy)
            except FileNotFoundError:
                continue  # an archive whose month was over
            files += 1
        _sync(copy)
        size_bytes += copy.stat().st_size
    for one in (made, *(path for path in made.rglob("*") if path.is_dir())):
        _sync(one)
    return Copied(databases, files, size_bytes)


def _in_order(folder: Path) -> Iterator[Path]:
    """Yield every file: the control database, then all others by name.

    By name, ``updates/metadata`` comes before ``updates/targets``: what is named there is put there
    before it is named.
    """
    yield folder / FIRST
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path == folder / FIRST:
            continue
        if not path.name.endswith(_BESIDE):
            yield path


def _is_database(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
    return False


def _copy_database(path: Path, copy: Path) -> None:
    """Copy it as it is at one moment, and look the copy through.

    Raises:
        BadInput: it is damaged.
    """
    copy.touch(mode=0o600)
    source = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(source, uri=True, timeout=30)) as db,
            closing(sqlite3.connect(copy)) as other,
        ):
            db.backup(other)
            (found,) = other.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as problem:
        raise BadInput(f"{path}: cannot be copied: {problem}") from None
    if found != "ok":
        raise BadInput(f"{path}: is damaged: {found}; keep your earlier backups")
    for ending in _BESIDE:
        copy.with_name(copy.name + ending).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
