"""Where a device keeps who it is: one folder (0700), key and certificate together in one file.

Together, so that one rename swaps both: no loss of power can leave a key beside the certificate of
another. Standard library only, since the supervisor looks here too.
"""

import importlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier

FINGERPRINT = "root.fingerprint"
"""Comes with the installer; the only thing a device trusts from the start."""
_LOCK_S = 10.0
_LOCK_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Place:
    """The folder's files."""

    folder: Path

    @property
    def fingerprint(self) -> Path:
        """Fingerprint of the region's root, from the installer."""
        return self.folder / FINGERPRINT

    @property
    def trust(self) -> Path:
        """The trust document as last accepted."""
        return self.folder / "trust.json"

    @property
    def servers(self) -> Path:
        """Authorities that vouch for the centre's servers, PEM; follows from the document."""
        return self.folder / "servers-ca.pem"

    @property
    def identity(self) -> Path:
        """Key and certificate in use, PEM."""
        return self.folder / "identity.pem"

    @property
    def next(self) -> Path:
        """The renewed pair, until it has connected once."""
        return self.folder / "identity.next.pem"

    @property
    def facts(self) -> Path:
        """What the identity says, in JSON, for those who cannot read a certificate."""
        return self.folder / "identity.json"

    @property
    def new_key(self) -> Path:
        """A key that has no certificate yet."""
        return self.folder / "asking.key"

    @property
    def again_key(self) -> Path:
        """The key that asks for another identity; the one in use stays in force meanwhile."""
        return self.folder / "again.key"

    @property
    def refusal(self) -> Path:
        """What the centre last said to this pair's renewal, where that was no."""
        return self.folder / "refusal.json"

    @property
    def answer(self) -> Path:
        """The centre's answer, until all that follows from it is written."""
        return self.folder / "answer.json"

    @property
    def settings(self) -> Path:
        """What the agent is started with."""
        return self.folder / "agent.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of the identity in use. Times are UTC seconds."""

    device: str
    url: str
    """Of the enrolment service."""
    from_s: int
    until_s: int


def read_facts(place: Place) -> Facts | None:
    """Return what is known of the identity; None where there is none."""
    try:
        said = json.loads(place.facts.read_bytes())
        facts = Facts(
            device=str(said["device"]),
            url=str(said["url"]),
            from_s=int(said["from_s"]),
            until_s=int(said["until_s"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts if is_identifier(facts.device) else None


def write_facts(place: Place, facts: Facts) -> None:
    """Keep what is known of the identity."""
    write_private(place.facts, json.dumps(asdict(facts)).encode())


def prepare(folder: Path, owner: str = "") -> Place:
    """Make the folder private, and the service account's, where one is named.

    Raises:
        BadInput: it cannot be made, or the account is not there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "nt":
            _close_on_windows(folder, owner)
        else:
            folder.chmod(0o700)
            if owner:
                shutil.chown(folder, owner)
    except (OSError, LookupError, subprocess.SubprocessError) as problem:
        raise BadInput(f"{folder}: cannot be made private: {problem}") from None
    return Place(folder)


def hand_over(place: Place, owner: str) -> None:
    """Give every file to the service account, which owns the folder.

    It may have put a link there, and we are root: no link is followed.
    """
    if owner and os.name != "nt":
        import pwd  # noqa: PLC0415  (not on Windows)

        account = pwd.getpwnam(owner).pw_uid
        for file in place.folder.iterdir():
            if file.is_file() and not file.is_symlink():
                os.chown(file, account, -1, follow_symlinks=False)


def write_private(path: Path, content: bytes) -> None:
    """Write a file (0600) whole or not at all: beside its place, to the disk, then renamed."""
    draft = path.with_name(f".{path.name}.partial")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
    _flush_folder(path.parent)


def remove(path: Path) -> None:
    """Take a file away for good: after a loss of power it is not there again."""
    path.unlink(missing_ok=True)
    _flush_folder(path.parent)


@contextmanager
def alone(place: Place) -> Iterator[None]:
    """Keep a second enrolment or renewal in this folder out.

    Raises:
        BadInput: one is at work.
    """
    # Never through a link: the folder is the service account's, and this may be root.
    how = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    take = _take_on_windows if os.name == "nt" else _take
    with os.fdopen(os.open(place.folder / ".lock", how, 0o600), "wb") as lock:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                take(lock.fileno())
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise BadInput(f"{place.folder}: another enrolment is at work here") from None
                time.sleep(_LOCK_LOOK_S)
        yield


def _take(handle: int) -> None:
    import fcntl  # noqa: PLC0415  (not on Windows)

    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _take_on_windows(handle: int) -> None:
    """Lock the file's first byte; closing the file lets it go. Not run on Windows yet."""
    locking = importlib.import_module("msvcrt")  # there only
    locking.locking(handle, locking.LK_NBLCK, 1)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _close_on_windows(folder: Path, owner: str) -> None:
    """Leave the folder to the system, administrators and the service, and to nobody by descent."""
    grants = ["*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"]  # system, administrators
    grants += [f"{owner}:(OI)(CI)M"] if owner else []
    words = [word for grant in grants for word in ("/grant:r", grant)]
    subprocess.run(
        ["icacls", str(folder), "/inheritance:r", *words], check=True, capture_output=True
    )
