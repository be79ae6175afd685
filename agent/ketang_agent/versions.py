"""Releases of the agent side by side, and what watcher and agent leave for each other.

A folder holds ``<version>/`` for each release that was laid out and tried (``remote.agent_store``),
``watch.json`` (the watcher's: which release runs, which is gone back to, which failed) and
``wish.json`` (the agent's: which release it asks for, which one said that it is well). Each has one
writer and changes by one rename, so a loss of power leaves the old word or the new one.

The release that the system's packages installed needs no folder: it is the last resort, and the
watcher's own. Standard library only, and little of it: the watcher lives on what is imported here.
"""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

UPDATE = 75
"""Exit status of an agent that asks, in its wish, for another release to be started."""
FOLDER_VARIABLE = "KETANG_VERSIONS"
"""Names the folder to an agent that runs under a watcher."""
INSTALLED = ""
"""Stands for the release that the system's packages installed."""
_WATCH, _WISH, _RELEASE = "watch.json", "wish.json", "release.json"
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the agent says to the watcher.

    Attributes:
        version: which release is to run.
        ask: what asks for it, e.g. a configuration's hash and attempt: what failed for one is not
            tried for the same again, and may be for another.
        healthy: the release that runs proved itself; None while that is open.
    """

    version: str = INSTALLED
    ask: str = ""
    healthy: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """Of the release that runs: until when, on the clock of which boot, and its deaths in it."""

    until_ms: int
    boot_id: str
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A release that did not pass here; ``reason`` is ``crashed`` or ``silent``."""

    version: str
    ask: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the watcher does. ``ask``: what the release that runs was asked for by."""

    installed: str
    current: str = INSTALLED
    ask: str = ""
    before: str = INSTALLED
    trial: Trial | None = None
    given_up: tuple[GivenUp, ...] = ()

    def reason(self, version: str, ask: str) -> str:
        """Say why a release was given up that this asked for; empty where it was not."""
        return next(
            (one.reason for one in self.given_up if (one.version, one.ask) == (version, ask)), ""
        )


def standing(folder: Path, installed: str) -> Standing:
    """Read what the watcher left; from the start where that is nothing, or damaged."""
    try:
        said = json.loads((folder / _WATCH).read_bytes())
        trial = said["trial"]
        return Standing(
            installed=installed,
            current=_named(said["current"]),
            ask=str(said["ask"]),
            before=_named(said["before"]),
            trial=Trial(**trial) if trial else None,
            given_up=tuple(GivenUp(**one) for one in said["given_up"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Standing(installed=installed)


def installed(folder: Path) -> str:
    """Read which version the watcher itself is; empty where it left no word."""
    try:
        return str(json.loads((folder / _WATCH).read_bytes())["installed"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def keep_standing(folder: Path, now: Standing) -> None:
    """Leave what the watcher does. The watcher's alone.

    Raises:
        OSError: the disk does not take it; the file is as before.
    """
    _write(folder / _WATCH, json.dumps(asdict(now)).encode())


def wish(folder: Path) -> Wish:
    """Read what the agent left; nothing is asked for where that is nothing, or damaged."""
    try:
        said = json.loads((folder / _WISH).read_bytes())
        healthy = said["healthy"]
        return Wish(
            version=_named(said["version"]),
            ask=str(said["ask"]),
            healthy=None if healthy is None else _named(healthy),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Wish()


def keep_wish(folder: Path, one: Wish) -> None:
    """Leave what the agent wants. The agent's alone.

    Raises:
        OSError: the disk does not take it; the file is as before.
    """
    _write(folder / _WISH, json.dumps(asdict(one)).encode())


def home_of(folder: Path, version: str) -> Path:
    """Return where a release lies, or would.

    Raises:
        ValueError: no version of ours, or one that leads elsewhere.
    """
    if _VERSION.fullmatch(version) is None:
        raise ValueError(f"{version[:40]!r}: not a version")
    return folder / version


def python_of(home: Path) -> Path:
    """Return the interpreter of a release that lies in a folder."""
    return home / "Scripts" / "python.exe" if os.name == "nt" else home / "bin" / "python"


def is_laid(folder: Path, version: str, sha256: str | None = None) -> bool:
    """Tell whether a release is there: laid out whole, from the archive with this hash."""
    try:
        said = json.loads((home_of(folder, version) / _RELEASE).read_bytes())
        return said["version"] == version and sha256 in {None, said["sha256"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def sum_of(folder: Path, version: str) -> str | None:
    """Return the hash of the archive that a release was laid out from; None where none is there."""
    try:
        said = json.loads((home_of(folder, version) / _RELEASE).read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) else None


def mark_laid(home: Path, version: str, sha256: str) -> None:
    """Say in a release's folder what it is; the last thing before the folder gets its name.

    Raises:
        OSError: the disk does not take it.
    """
    said = {"version": version, "sha256": sha256}
    _write(home / _RELEASE, json.dumps(said).encode())


def laid(folder: Path) -> list[str]:
    """Name the releases that are there, the drafts and the rest of them left out."""
    return sorted(one.name for one in folder.glob("*") if _VERSION.fullmatch(one.name))


def _named(said: object) -> str:
    if not isinstance(said, str) or not (said == INSTALLED or _VERSION.fullmatch(said)):
        raise ValueError("not a version")
    return said


def _write(path: Path, content: bytes) -> None:
    """Write a file (0600) whole or not at all: beside its place, to the disk, then renamed.

    As ``enrol.files`` does, whose imports would be a third of the watcher.
    """
    draft = path.with_name(f".{path.name}.partial")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
    flush(path.parent)


def flush(folder: Path) -> None:
    """Bring the names in a folder to the disk.

    Raises:
        OSError: the disk does not take it.
    """
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
