"""Fetches one target of the update repository: judged by TUF, over the centre's HTTPS.

Only for a child process: it loads ``tuf`` and ``cryptography``.

Invariants:
1. The first root is the trust document's (``updates_root``), and so is the last.
2. Time is the later of the clock and every signed time seen: a clock that was set back makes
   nothing fresh again.
3. A file gets its name only when TUF's length and hash are its own; until then it is a part, kept
   for the next try, whatever broke off.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api import exceptions
from tuf.api.metadata import Metadata, TargetFile, Timestamp
from tuf.ngclient import Updater, UpdaterConfig

from ketang_agent.enrol.files import Place, alone, write_private
from ketang_agent.enrol.talking import Stranger, Unreachable
from ketang_agent.remote.updates_https import Depot, Fetcher, Missing, Pace, Timing
from ketang_agent.remote.updates_root import MOST_ROOTS, UpdateRefused, first, is_named
from ketang_contract.errors import KetangError, Refused
from ketang_contract.trust import Trust
from ketang_contract.updates import (
    MAX_METADATA_BYTES,
    MAX_TARGET_BYTES,
    METADATA,
    TARGETS,
    TIMESTAMP_LASTS_S,
    Target,
    read_custom,
)

_HASH = "sha256"
_VAIN_TRIES = 5
_LEAST_PROGRESS_BYTES = 1024
"""What a try has to bring to be none in vain."""
_FIRST_WAIT_S, _MOST_WAIT_S = 1.0, 30.0
_PARTS_KEPT = 2
_RESERVE_BYTES = 256 << 20
"""What is left to the records and to everybody else."""
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.ExpiredMetadataError, "expired"),
    (exceptions.BadVersionNumberError, "rolled_back"),
    (exceptions.UnsignedMetadataError, "forged"),
    (exceptions.LengthOrHashMismatchError, "wrong_content"),
    (exceptions.DownloadLengthMismatchError, "too_large"),
    (exceptions.RepositoryError, "bad_metadata"),
)
"""What ``tuf`` says and what we call it; the first that fits."""


class NoRoom(KetangError):
    """The disk has no room for it and the records besides. Caller: try again when it has."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A target that is here, whole, and what is said of it."""

    path: Path
    target: Target


def fetch(
    folder: Path,
    url: str,
    servers_pem: str,
    trust: Trust,
    target_name: str,
    download_kbps: int | None,
    now_s: int,
    timing: Timing | None = None,
) -> Fetched:
    """Fetch a target, or find that it is here already.

    Args:
        folder: the update client's own: metadata, parts and whole files.
        url: of the centre's enrolment service.
        servers_pem: authorities that vouch for it.
        trust: the document held; its keys for updates decide.
        target_name: e.g. ``model/mtcnn/1.0.0.zip``.
        download_kbps: kbit/s in the mean; None: uncapped.
        now_s: UTC seconds: the later of the clock and the signed-time floor the caller keeps.
        timing: how time passes.

    Raises:
        UpdateRefused: with one of its reasons; nothing that was fetched before is touched.
        Unreachable: the centre does not answer, or too slowly; what came is kept.
        NoRoom: the disk is nearly full.
        OSError: a file cannot be written.
    """
    passing = timing or Timing()
    depot = Depot(url, servers_pem, Pace(download_kbps, passing), passing)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(Place(folder)), _named_errors():
        found = _look_up(folder / "metadata", depot, trust, target_name, max(now_s, trust.issued_s))
        target = read_custom(found.custom, target_name)
        return Fetched(_content(folder / "targets", depot, found, passing), target)


def _look_up(
    metadata: Path, depot: Depot, trust: Trust, target_name: str, now_s: int
) -> TargetFile:
    """Bring the metadata up to date, and return what it says of a target."""
    metadata.mkdir(mode=0o700, exist_ok=True)
    most = MAX_METADATA_BYTES["root"]
    root = first(
        metadata,
        trust,
        now_s,
        lambda version: b"".join(depot.read(f"{METADATA}{version}.root.json", most)),
    )
    updater = _DatedUpdater(metadata, depot, root, trust, now_s)
    found = updater.get_targetinfo(target_name)
    if found is None:
        raise UpdateRefused("no_target", f"{target_name[:100]}: the repository does not list it")
    if found.length > MAX_TARGET_BYTES or _HASH not in found.hashes:
        raise UpdateRefused("too_large", f"{target_name}: {found.length} bytes")
    return found


class _DatedUpdater(Updater):
    """``tuf``'s client with the caller's time, and files that survive a loss of power."""

    def __init__(self, metadata: Path, depot: Depot, root: bytes, trust: Trust, now_s: int) -> None:
        most = MAX_METADATA_BYTES
        super().__init__(
            str(metadata),
            f"{depot.url}{METADATA}",
            fetcher=Fetcher(depot, lambda path: most[path.split(".")[-2].rpartition("/")[2]]),
            config=UpdaterConfig(
                max_root_rotations=MOST_ROOTS,
                max_delegations=0,
                root_max_length=most["root"],
                timestamp_max_length=most["timestamp"],
                snapshot_max_length=most["snapshot"],
                targets_max_length=most["targets"],
            ),
            bootstrap=root,
        )
        self._trust, self._now_s = trust, now_s

    def _load_timestamp(self) -> None:
        root = self._trusted_set.root
        # Where the roots lead has to be the trust document's as well.
        if not is_named(root, self._trust, self._now_s):
            raise UpdateRefused(
                "root_not_named", f"root {root.version} has a key the trust document does not name"
            )
        # Before this, no time has been asked for.
        self._trusted_set.reference_time = max(_moment(self._now_s), self._issued())
        super()._load_timestamp()

    def _issued(self) -> datetime:
        """When the timestamp that is held was signed: it cannot be earlier than that now.

        Only where this root's key has signed it: what a burnt key said of the time does not count.
        """
        held = Path(self._dir, f"{Timestamp.type}.json")
        try:
            found: Metadata[Any] = Metadata.from_bytes(held.read_bytes())
            self._trusted_set.root.verify_delegate(
                Timestamp.type, found.signed_bytes, found.signatures
            )
            signed_s = int(found.signed.expires.timestamp()) - TIMESTAMP_LASTS_S
            return _moment(signed_s)
        except (OSError, ValueError, exceptions.RepositoryError):
            return _moment(0)

    def _persist_file(self, filename: str, data: bytes) -> None:
        write_private(Path(filename), data)

    def _update_root_symlink(self) -> None:
        """Leave it: which root to begin from is ``updates_root``'s to say."""


def _moment(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _content(folder: Path, depot: Depot, found: TargetFile, timing: Timing) -> Path:
    """Fetch a target's content, from where an earlier try broke off."""
    folder.mkdir(mode=0o700, exist_ok=True)
    whole = folder / found.hashes[_HASH]
    if not _is_whole(whole, found):
        part = folder / f"{whole.name}.part"
        _tidy(folder, (whole.name, part.name))
        _check_room(folder, found.length)
        path = f"{TARGETS}{found.get_prefixed_paths()[0]}"
        _complete(part, depot, path, found.length, timing)
        if not _is_whole(part, found):
            part.unlink()  # beginning anew is all that can mend it
            raise UpdateRefused("wrong_content", f"{found.path}: not what its hash says")
        part.replace(whole)
    return whole


def _check_room(folder: Path, length: int) -> None:
    """Refuse to fill the disk: a model is here twice for a moment, once to be unpacked."""
    free = shutil.disk_usage(folder).free
    if free < 2 * length + _RESERVE_BYTES:
        raise NoRoom(f"{folder}: {free >> 20} MB free; {2 * length + _RESERVE_BYTES >> 20} needed")


def _complete(part: Path, depot: Depot, path: str, length: int, timing: Timing) -> None:
    """Bring a part up to its length; patient with breaks, not with a centre that only drips."""
    in_vain, why = 0, Unreachable("nothing came")
    with part.open("ab") as file:
        if file.tell() > length:
            file.truncate(0)
            file.seek(0)
        while file.tell() < length:
            begin = file.tell()
            try:
                for chunk in depot.part(path, begin, min(begin + depot.part_bytes, length), length):
                    file.write(chunk)
            except (Missing, Stranger):
                raise
            except Unreachable as problem:
                why = problem
            file.flush()
            os.fsync(file.fileno())
            brought = file.tell() - begin
            if file.tell() == length or brought >= _LEAST_PROGRESS_BYTES:
                in_vain = 0
                continue
            in_vain += 1
            if in_vain >= _VAIN_TRIES:
                raise Unreachable(f"{why}; {file.tell()} of {length} bytes came and are kept")
            timing.sleep(timing.jitter() * min(_FIRST_WAIT_S * 2**in_vain, _MOST_WAIT_S))


def _is_whole(path: Path, found: TargetFile) -> bool:
    try:
        with path.open("rb") as content:
            found.verify_length_and_hashes(content)
    except (OSError, exceptions.LengthOrHashMismatchError):
        return False
    return True


def _tidy(folder: Path, wanted: tuple[str, ...]) -> None:
    """Let go of all but the latest of what nobody asks for now."""
    others = [one for one in folder.iterdir() if one.name not in wanted]
    for one in sorted(others, key=lambda file: file.stat().st_mtime)[:-_PARTS_KEPT]:
        one.unlink(missing_ok=True)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Give what ``tuf`` raises the names our callers know."""
    try:
        yield
    except exceptions.DownloadHTTPError as problem:
        raise Unreachable(f"the centre has no update repository: {problem}") from None
    except tuple(kind for kind, _ in _REASONS) as problem:
        reason = next(word for kind, word in _REASONS if isinstance(problem, kind))
        raise UpdateRefused(reason, str(problem)[:200]) from None
    except exceptions.DownloadError as problem:
        raise Unreachable(str(problem)[:200]) from None
    except UpdateRefused:
        raise
    except Refused as problem:
        raise UpdateRefused("bad_target", str(problem)[:200]) from None
