"""The laying-out child: ``python -m ketang_agent.remote.agent_store VERSIONS ARCHIVE VERSION SUM``.

It lays a release of the agent out beside the others, tries it, and only then gives it its name;
which one is used is not decided here. Prints one JSON line; exit status 0 when the release is
there. It may be killed at any moment.

The release is a virtual environment of this device's Python. Its wheels are unpacked here and not
by pip: many devices have none, a wheel from our own archive needs no more than unpacking (its tags
were matched where the archive was made), no code of it runs meanwhile, and nothing can ask a
network for anything. Nothing is believed of the archive but its hash: what it holds is capped in
number and size, and no name in it leads out of the folder.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ketang_agent import versions
from ketang_contract import agent_release
from ketang_contract.agent_release import MAX_RELEASE_BYTES, RELEASE, WHEELS, Manifest
from ketang_contract.errors import Refused
from ketang_contract.updates import MAX_TARGET_BYTES

MOST_FILES = 30_000
MOST_BYTES = 768 << 20
ROOM_BYTES = 512 << 20
"""What has to stay free for the records, besides what a release unpacks to."""
_UNPACKS_TO = 4
"""Times an archive's size; one of wheels unpacks to half of that."""
_CHECK_S = 120.0
_CHUNK_BYTES = 1 << 20
_NICE = 10
_DRAFT, _GONE = ".draft", ".gone"
_DATA_PARTS = 3
"""``NAME.data/WHERE/PATH`` (the wheel format, PEP 427)."""
_IN_THE_WAY = (FileExistsError, NotADirectoryError, IsADirectoryError)
_INTO_PACKAGES = frozenset({"purelib", "platlib"})


class ReleaseRefused(Refused):
    """The release cannot be used here; the one in use stays.

    ``reason`` is ``wrong_content``, ``bad_release``, ``does_not_fit``, ``too_large``,
    ``version_reused``, ``does_not_run`` or, for now only, ``no_room``.
    """


@dataclass(frozen=True, slots=True)
class Wanted:
    """A release, as the configuration names it. ``sha256`` is the archive's."""

    version: str
    sha256: str


@dataclass(slots=True)
class _Budget:
    """What may yet be written."""

    files: int = MOST_FILES
    size: int = MOST_BYTES

    def take(self, *, files: int = 0, size: int = 0) -> None:
        self.files -= files
        self.size -= size
        if self.files < 0 or self.size < 0:
            raise ReleaseRefused(
                "too_large", f"more than {MOST_FILES} files or {MOST_BYTES >> 20} MB"
            )


def lay(folder: Path, archive: Path, wanted: Wanted, check_s: float = _CHECK_S) -> Path:
    """Lay a release out, or find that it is there; nothing else changes.

    Args:
        folder: of the releases (``versions``).
        archive: as it was fetched.
        wanted: what it must be.
        check_s: how long each of its own answers may take.

    Raises:
        ReleaseRefused: it is not what is wanted, does not fit, or does not run here.
        OSError: it cannot be written.
    """
    home = versions.home_of(folder, wanted.version)
    if versions.is_laid(folder, wanted.version, wanted.sha256):
        return home
    _check_sum(archive, wanted)
    if home.exists() and wanted.version in in_use(folder):
        raise ReleaseRefused("version_reused", f"{wanted.version} runs, from another archive")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < archive.stat().st_size * _UNPACKS_TO + ROOM_BYTES:
        raise ReleaseRefused("no_room", f"{folder}: less than {ROOM_BYTES >> 20} MB would be left")
    draft = folder / f"{_DRAFT}-{wanted.version}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _build(archive, draft, wanted)
        check(draft, wanted.version, check_s)
        versions.mark_laid(draft, wanted.version, wanted.sha256)
        _flush_all(draft)
        _remove(home)  # damaged by the disk, or another by this name
        draft.rename(home)
        versions.flush(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return home


def check(home: Path, version: str, within_s: float = _CHECK_S) -> None:
    """Let a release say its version, load all its parts, and read every collector once.

    Raises:
        ReleaseRefused: ``does_not_run``.
    """
    told = _ask(home, within_s, "-m", "ketang_cli.main", "--version").split()
    if told != ["ketang", version]:
        raise ReleaseRefused("does_not_run", f"asked for its version, it says {told}"[:200])
    told = _ask(home, within_s, "-m", "ketang_agent.sound").split()
    if told != [version]:
        raise ReleaseRefused("does_not_run", f"its agent says that it is {told}"[:200])
    _ask(home, within_s, "-m", "ketang_cli.main", "agent", "once", "--json")


def in_use(folder: Path) -> set[str]:
    """Name the releases that the watcher runs, or would go back to."""
    now = versions.standing(folder, versions.INSTALLED)
    return {now.current, now.before} - {versions.INSTALLED}


def prune(folder: Path, needed: set[str]) -> None:
    """Remove every release that nobody needs, and what a loss of power left half done."""
    needed = needed | in_use(folder)
    for one in folder.glob(f"{_DRAFT}-*"):
        shutil.rmtree(one, ignore_errors=True)
    for one in folder.glob(f"{_GONE}-*"):
        shutil.rmtree(one, ignore_errors=True)
    for version in versions.laid(folder):
        if version not in needed:
            _remove(folder / version)


def _check_sum(archive: Path, wanted: Wanted) -> None:
    if archive.stat().st_size > MAX_TARGET_BYTES:
        raise ReleaseRefused("too_large", f"{archive.name}: more than {MAX_TARGET_BYTES} bytes")
    with archive.open("rb") as content:
        told = hashlib.file_digest(content, "sha256").hexdigest()
    if told != wanted.sha256:
        raise ReleaseRefused("wrong_content", f"{wanted.version}: not the archive that was named")


def _build(archive: Path, draft: Path, wanted: Wanted) -> None:
    # No activate scripts or prompts are needed, and no pip: its own folder is all that it is.
    venv.EnvBuilder(symlinks=os.name != "nt", with_pip=False).create(draft)
    packages = _packages_of(draft)
    wheel = draft / "wheel.zip"
    budget = _Budget()
    try:
        with zipfile.ZipFile(archive) as opened:
            manifest = _manifest(opened, wanted)
            fit = manifest.fit(_python(), agent_release.platform_tag(sysconfig.get_platform()))
            for name in fit.wheels:
                _take_out(opened, name, manifest.sums[name], wheel)
                _unpack(wheel, packages, budget)
                wheel.unlink()
    except ReleaseRefused:
        raise
    except _IN_THE_WAY as why:
        raise ReleaseRefused("bad_release", f"two wheels have one file: {why}") from None
    except Refused as why:
        raise ReleaseRefused(why.reason, str(why)) from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as why:
        raise ReleaseRefused("bad_release", f"{archive.name}: not an archive ({why})") from None


def _manifest(opened: zipfile.ZipFile, wanted: Wanted) -> Manifest:
    try:
        with opened.open(RELEASE) as source:
            manifest = agent_release.read(source.read(MAX_RELEASE_BYTES + 1))
    except KeyError:
        raise ReleaseRefused("bad_release", f"holds no {RELEASE}") from None
    if manifest.version != wanted.version:
        raise ReleaseRefused("bad_release", f"it is {manifest.version}, not {wanted.version}")
    return manifest


def _take_out(opened: zipfile.ZipFile, name: str, sha256: str, target: Path) -> None:
    """Write one wheel of the archive to a file, and check it."""
    summed = hashlib.sha256()
    try:
        with opened.open(f"{WHEELS}{name}") as source, target.open("wb") as out:
            _copy(source, out, _Budget(size=MAX_TARGET_BYTES), summed.update)
    except KeyError:
        raise ReleaseRefused("bad_release", f"{name}: named, and not there") from None
    if summed.hexdigest() != sha256:
        raise ReleaseRefused("wrong_content", f"{name}: not what its sum says")


def _unpack(wheel: Path, packages: Path, budget: _Budget) -> None:
    """Lay a wheel's files into a folder of packages (PEP 427); what is only for people is left."""
    with zipfile.ZipFile(wheel) as opened:
        for entry in opened.infolist():
            inside = _place_of(entry)
            if inside is None:
                continue
            path = packages / inside
            budget.take(files=1)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Never over another wheel's file.
            with opened.open(entry) as source, path.open("xb") as out:
                _copy(source, out, budget)


def _place_of(entry: zipfile.ZipInfo) -> PurePosixPath | None:
    """Say where a wheel's entry goes; None: nowhere."""
    name = entry.filename
    path = PurePosixPath(name)
    astray = not path.parts or path.is_absolute() or ".." in path.parts
    if astray or "\\" in name or ":" in name or not name.isprintable():
        raise ReleaseRefused("bad_release", f"{name[:100]!r}: leads out of its folder")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ReleaseRefused("bad_release", f"{name[:100]!r}: a link")
    if entry.is_dir():
        return None
    if not path.parts[0].endswith(".data"):
        return path
    if len(path.parts) < _DATA_PARTS or path.parts[1] not in _INTO_PACKAGES:
        return None  # scripts, headers: the agent is started as a module
    return PurePosixPath(*path.parts[2:])


def _copy(
    source: IO[bytes],
    out: IO[bytes],
    budget: _Budget,
    seen: Callable[[bytes], object] | None = None,
) -> None:
    """Copy; what counts is what comes out, not what the archive's list says."""
    while chunk := source.read(_CHUNK_BYTES):
        budget.take(size=len(chunk))
        if seen is not None:
            seen(chunk)
        out.write(chunk)


def _packages_of(home: Path) -> Path:
    named = {"base": str(home), "platbase": str(home)}
    return Path(sysconfig.get_path("purelib", "venv", named))


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _ask(home: Path, within_s: float, *words: str) -> str:
    """Run a release's own interpreter, without a word of our environment that leads astray."""
    said = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    said.pop("VIRTUAL_ENV", None)
    try:
        done = subprocess.run(
            [str(versions.python_of(home)), "-P", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=said,
            cwd=home,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ReleaseRefused("does_not_run", f"{' '.join(words)}: no end in time") from None
    except OSError as problem:
        raise ReleaseRefused("does_not_run", f"{' '.join(words)}: {problem}") from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ReleaseRefused("does_not_run", f"{' '.join(words)}: {done.returncode} {last}"[:300])
    return done.stdout[:1000].decode(errors="replace")


def _remove(folder: Path) -> None:
    """Take a folder away: out of its name at once, then file by file."""
    gone = folder.with_name(f"{_GONE}-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def _flush_all(folder: Path) -> None:
    """Bring a folder to the disk before it gets its name."""
    if hasattr(os, "sync"):
        os.sync()  # one call for some thousand files
        return
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("r+b") as file:
                os.fsync(file.fileno())


def main(arguments: list[str]) -> int:
    """Lay out what the command line names."""
    folder, archive, version, sha256 = arguments
    if hasattr(os, "nice"):
        os.nice(_NICE)  # a lesson is going on
    try:
        home = lay(Path(folder), Path(archive), Wanted(version, sha256))
    except ReleaseRefused as why:
        _say({"laid": "", "why": why.reason, "what": str(why)[:300]})
        return 1
    except (OSError, ValueError) as problem:
        _say({"laid": "", "why": "failed", "what": str(problem)[:300]})
        return 1
    _say({"laid": str(home), "version": version})
    return 0


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
