"""The update repository's off-line half: its root and its list of targets, made where the keys are.

A repository is a folder: ``metadata/`` (``N.root.json``, ``N.targets.json``, and what the centre
adds, ``updates_online``) and ``targets/``. It is made and changed on a machine without a network,
and carried to the centre as a whole (``updates_online.take``). Consistent snapshots: a file that
was written is never changed.

Keys are named by the hash that the trust document uses, so that one can be found in the other. The
root's key is the one that the trust document names for updates; a device believes no other.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from ketang_contract.errors import BadInput, Refused
from ketang_contract.updates import (
    MAX_TARGET_BYTES,
    ROOT_LASTS_S,
    TARGETS_LASTS_S,
    Target,
    read_custom,
)
from ketang_provisioning.keys import key_id, write_private

Role = TypeVar("Role", Root, Targets, Snapshot, Timestamp)
HASH = "sha256"
ROLES = ("root", "targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class Release:
    """A file to be published, and what is said of it."""

    target: Target
    content: bytes


def create(
    folder: Path,
    root: Ed25519PrivateKey,
    targets: Ed25519PrivateKey,
    online: Mapping[str, Ed25519PublicKey],
    now: datetime,
) -> None:
    """Make an empty repository: root and targets, version 1.

    Args:
        folder: a new one, or empty.
        root: the key that the trust document names for updates.
        targets: signs the list of targets.
        online: public halves of the centre's ``snapshot`` and ``timestamp`` keys.
        now: an aware time.

    Raises:
        BadInput: there is a repository already.
    """
    if versions(folder, "root"):
        raise BadInput(f"{folder}: holds a repository already; nothing is overwritten")
    first = Root(version=1, expires=_until(now, ROOT_LASTS_S), consistent_snapshot=True)
    named = {"root": root.public_key(), "targets": targets.public_key(), **online}
    for role in ROLES:
        first.add_key(tuf_key(named[role]), role)
    # The list before the root: who is stopped in between begins again, and nothing is named twice.
    _write(folder, "targets", Targets(version=1, expires=_until(now, TARGETS_LASTS_S)), [targets])
    _write(folder, "root", first, [root])


def publish(
    folder: Path,
    key: Ed25519PrivateKey,
    now: datetime,
    *,
    releases: Sequence[Release] = (),
    withdrawn: Sequence[str] = (),
) -> int:
    """Sign the next list of targets, with these added and those taken out; return its version.

    With neither, the list is signed again, and holds for another 90 days.

    Raises:
        BadInput: not this root's targets key; a version that stands for another content already; a
            target to be withdrawn that is not listed; a list in the folder that this root's key has
            not signed.
    """
    root = roots(folder)[-1].signed
    listed = listing(folder).signed
    _check_key(root, "targets", key)
    for name in withdrawn:
        if listed.targets.pop(name, None) is None:
            raise BadInput(f"{name}: is not listed; ketang models list shows what is")
    for one in releases:
        made = _target_file(one)
        held = listed.targets.get(one.target.path)
        if held is not None and held.hashes != made.hashes:
            raise BadInput(
                f"{one.target.path}: is published with another content; a changed file needs a"
                " version of its own"
            )
        listed.targets[one.target.path] = made
        path = target_file(folder, made)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, one.content)
    return _next_list(folder, listed, key, now)


def rotate(
    folder: Path,
    signers: Sequence[Ed25519PrivateKey],
    now: datetime,
    *,
    replaced: Mapping[str, Ed25519PublicKey] | None = None,
    targets_key: Ed25519PrivateKey | None = None,
) -> int:
    """Sign the next root; return its version.

    Args:
        folder: the repository.
        signers: root keys, of the root in force and of the one that follows.
        now: an aware time.
        replaced: roles, each with the only key it has from now on; none: the root is renewed.
        targets_key: the new one, where ``targets`` is replaced: the list is signed with it at once.

    Raises:
        BadInput: the signers are not enough, or the list of targets would stand without a signature
            that counts.
    """
    changed = dict(replaced or {})
    before = roots(folder)[-1]
    root = deepcopy(before.signed)
    for role, public in changed.items():
        for name in list(root.roles[role].keyids):
            root.revoke_key(name, role)
        root.add_key(tuf_key(public), role)
    root.version, root.expires = before.signed.version + 1, _until(now, ROOT_LASTS_S)
    made = _signed(root, signers)
    for judge in (before.signed, root):
        if not is_signed(judge, "root", made):
            raise BadInput("not signed by the root key in force and by the one that follows")
    if "targets" in changed:
        if targets_key is None:
            raise BadInput("the new targets key has to sign the list of targets")
        _check_key(root, "targets", targets_key)
        # First the list, then the root: until that is there, the centre keeps to the old list.
        _next_list(folder, listing(folder).signed, targets_key, now)
    write_metadata(folder, f"{root.version}.root", made.to_bytes())
    return root.version


def roots(folder: Path) -> list[Metadata[Root]]:
    """Return every root, oldest first, each signed by the one before it.

    Raises:
        BadInput: there is none, one cannot be read, or the chain is broken.
    """
    found: list[Metadata[Root]] = []
    for path in versions(folder, "root"):
        one = read(path, Root)
        before = found[-1].signed if found else one.signed
        follows = one.signed.version == before.version + bool(found)
        if not (follows and is_signed(before, "root", one) and is_signed(one.signed, "root", one)):
            raise BadInput(f"{path}: does not follow the root before it")
        found.append(one)
    if not found:
        raise BadInput(f"{folder}: no update repository; ketang models init makes one")
    return found


def listing(folder: Path) -> Metadata[Targets]:
    """Return the latest list of targets.

    Raises:
        BadInput: there is none, or the targets key of the root in force has not signed it.
    """
    root, lists = roots(folder)[-1].signed, versions(folder, "targets")
    found = read(lists[-1], Targets) if lists else None
    if found is None or not is_signed(root, "targets", found):
        raise BadInput(f"{folder}: its latest list of targets is not signed by the root's key")
    return found


def described(listed: Targets) -> Iterator[tuple[Target, TargetFile]]:
    """Yield what is said of each target.

    Raises:
        Refused: of one, nothing that this release understands.
    """
    for path, one in sorted(listed.targets.items()):
        yield read_custom(one.custom, path), one


def check(folder: Path, now: datetime) -> Iterator[tuple[str, bool]]:
    """Look a repository over: one line for each thing, and whether it is in order."""
    root = roots(folder)[-1].signed
    listed = listing(folder).signed
    for role, one in (("root", root), ("targets", listed)):
        until = one.expires.strftime("%Y-%m-%d")
        yield f"{role} {one.version}: until {until}", not one.is_expired(now)
    for path, made in sorted(listed.targets.items()):
        try:
            read_custom(made.custom, path)
        except Refused as why:
            yield str(why), False
            continue
        yield f"{path}: {made.length} bytes, {made.hashes[HASH]}", is_whole(folder, made)


def is_whole(folder: Path, made: TargetFile) -> bool:
    """Tell whether a target's file is there and is the one the list names."""
    try:
        with target_file(folder, made).open("rb") as content:
            made.verify_length_and_hashes(content)
    except (OSError, RepositoryError):
        return False
    return True


def target_file(folder: Path, made: TargetFile) -> Path:
    """Return where a target lies: its name behind its hash."""
    return folder / "targets" / made.get_prefixed_paths()[0]


def tuf_key(public: Ed25519PublicKey) -> SSlibKey:
    """Describe a public key to TUF, under the name that the trust document gives it."""
    return SSlibKey.from_crypto(public, keyid=key_id(public))


def versions(folder: Path, role: str) -> list[Path]:
    """Return the files of a role, by their version."""
    numbered = [
        (int(number), path)
        for path in (folder / "metadata").glob(f"*.{role}.json")
        if (number := path.name.partition(".")[0]).isdecimal()
    ]
    return [path for _, path in sorted(numbered)]


def read(path: Path, kind: type[Role]) -> Metadata[Role]:
    """Read a metadata file; who signed it is not asked.

    Raises:
        BadInput: it cannot be read, or is of another kind.
    """
    try:
        found: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from None
    except RepositoryError:
        raise BadInput(f"{path}: not TUF metadata") from None
    if not isinstance(found.signed, kind):
        raise BadInput(f"{path}: not the metadata of {kind.type}")
    return found


def is_signed(root: Root, role: str, found: Metadata[Any]) -> bool:
    """Tell whether the keys that a root names for a role have signed a document."""
    try:
        root.verify_delegate(role, found.signed_bytes, found.signatures)
    except (RepositoryError, UnverifiedSignatureError, ValueError):
        return False
    return True


def sign(signed: Role, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Sign a document; return the file's content."""
    return _signed(signed, keys).to_bytes()


def write_metadata(folder: Path, name: str, content: bytes) -> None:
    """Write a metadata file whole, or not at all."""
    path = folder / "metadata" / f"{name}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, content)


def _next_list(folder: Path, listed: Targets, key: Ed25519PrivateKey, now: datetime) -> int:
    listed.version += 1
    listed.expires = _until(now, TARGETS_LASTS_S)
    _write(folder, "targets", listed, [key])
    return listed.version


def _write(folder: Path, role: str, signed: Role, keys: Sequence[Ed25519PrivateKey]) -> None:
    write_metadata(folder, f"{signed.version}.{role}", sign(signed, keys))


def _signed(signed: Role, keys: Sequence[Ed25519PrivateKey]) -> Metadata[Role]:
    made = Metadata(signed)
    for key in keys:
        made.sign(CryptoSigner(key, tuf_key(key.public_key())), append=True)
    return made


def _check_key(root: Root, role: str, key: Ed25519PrivateKey) -> None:
    if key_id(key.public_key()) not in root.roles[role].keyids:
        raise BadInput(f"this key is not the one that root {root.version} names for {role}")


def _target_file(one: Release) -> TargetFile:
    if len(one.content) > MAX_TARGET_BYTES:
        raise BadInput(f"{one.target.path}: larger than {MAX_TARGET_BYTES} bytes")
    made = TargetFile.from_data(one.target.path, one.content, [HASH])
    made.unrecognized_fields["custom"] = one.target.custom()
    return made


def _until(now: datetime, lasts_s: int) -> datetime:
    return (now.astimezone(UTC) + timedelta(seconds=lasts_s)).replace(microsecond=0)
