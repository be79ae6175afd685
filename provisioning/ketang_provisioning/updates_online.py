"""The update repository's online half: the centre takes over a list, and says daily that it stands.

The centre's two keys say *which* list is in force and that it still is; what the list holds, only
the off-line key says. So a stolen centre can hold back an update, for a day, and can make up none.

The number of a snapshot or a timestamp is a count, and at least the seconds since 2024: a centre
that was put back from a backup does not begin again with numbers that devices have seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from ketang_contract.errors import BadInput
from ketang_contract.updates import SNAPSHOT_LASTS_S, TIMESTAMP_LASTS_S
from ketang_provisioning import updates
from ketang_provisioning.keys import key_id, load_private, write_private
from ketang_provisioning.updates import HASH, is_signed, is_whole, read, roots, versions

KEY_FILES = {"snapshot": "tuf-snapshot.key", "timestamp": "tuf-timestamp.key"}
_NUMBERS_FROM = datetime(2024, 1, 1, tzinfo=UTC)
_AGAIN = 0.25
"""What part of its life has passed when one is signed again."""
_SNAPSHOTS_KEPT = 20
_LISTED = "targets.json"


@dataclass(frozen=True, slots=True)
class OnlineKeys:
    """The keys a centre holds; worthless without the list that the off-line key has signed."""

    snapshot: Ed25519PrivateKey
    timestamp: Ed25519PrivateKey


def load_keys(folder: Path) -> OnlineKeys:
    """Read the centre's keys from the folder that ``provision init`` made for it.

    Raises:
        BadInput: one is missing, or no Ed25519 key.
    """
    found: dict[str, Ed25519PrivateKey] = {}
    for role, name in KEY_FILES.items():
        key = load_private(folder / name, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise BadInput(f"{folder / name}: not an Ed25519 key")
        found[role] = key
    return OnlineKeys(**found)


def refresh(folder: Path, keys: OnlineKeys, now: datetime) -> bool:
    """Sign snapshot and timestamp where that is due; true when something was signed.

    The latest list is taken that the root's targets key has signed and whose files are all there;
    while a newer one is still on its way, the one before it stays in force, and is confirmed.

    Args:
        folder: the repository.
        keys: the centre's.
        now: an aware time.

    Raises:
        BadInput: the root names other keys, or there is no list in order; or, after what is in
            force was signed, that a newer list is not.
    """
    root = roots(folder)[-1].signed
    for role, key in (("snapshot", keys.snapshot), ("timestamp", keys.timestamp)):
        if key_id(key.public_key()) not in root.roles[role].keyids:
            raise BadInput(f"root {root.version} names another key for {role} than this centre's")
    snapshot = _in_force(folder, root)
    held = snapshot.signed.meta[_LISTED].version if snapshot else 0
    chosen, amiss = _chosen(folder, root, held)
    wanted = _meta(chosen)
    signed = False
    if snapshot is None or snapshot.signed.meta != {_LISTED: wanted} or _due(snapshot, now):
        made = Snapshot(
            version=_next(versions(folder, "snapshot"), now),
            expires=_until(now, SNAPSHOT_LASTS_S),
            meta={_LISTED: wanted},
        )
        updates.write_metadata(
            folder, f"{made.version}.snapshot", updates.sign(made, [keys.snapshot])
        )
        signed = True
    signed |= _confirm(folder, root, keys, now)
    _tidy(folder)
    if amiss:
        raise BadInput(amiss)
    return signed


def take(source: Path, folder: Path) -> tuple[int, int]:
    """Take over what was signed off line: files first, then lists, then roots.

    Args:
        source: the repository as it was carried here.
        folder: the centre's; made where it is missing.

    Returns:
        The versions of root and list that the centre's folder has now.

    Raises:
        BadInput: it is older than what is here, is another repository, or a file is damaged.
    """
    theirs, listed = roots(source), updates.listing(source)
    ours = roots(folder) if versions(folder, "root") else []
    for mine, yours in zip(ours, theirs, strict=False):
        if mine.to_bytes() != yours.to_bytes():
            raise BadInput(f"{source}: another repository; root {mine.signed.version} differs")
    latest = max((_version(path) for path in versions(folder, "targets")), default=0)
    if len(theirs) < len(ours) or listed.signed.version < latest:
        raise BadInput(f"{source}: older than what is here; was it signed from an old copy?")
    for made in listed.signed.targets.values():
        if not is_whole(source, made):
            raise BadInput(f"{updates.target_file(source, made)}: missing or damaged")
    _copy(source, folder, (updates.target_file(source, one) for one in _made(listed)))
    _copy(source, folder, versions(source, "targets"))
    _copy(source, folder, versions(source, "root"))
    return theirs[-1].signed.version, listed.signed.version


def _made(listed: Metadata[Targets]) -> Iterable[TargetFile]:
    return listed.signed.targets.values()


def _copy(source: Path, folder: Path, files: Iterable[Path]) -> None:
    for one in files:
        path = folder / one.relative_to(source)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, one.read_bytes())


def _chosen(folder: Path, root: Root, held: int) -> tuple[Path, str]:
    """Return the list to be in force, and what is wrong with a newer one, if anything."""
    amiss = ""
    for path in reversed(versions(folder, "targets")):
        found = read(path, Targets)
        if not is_signed(root, "targets", found):
            amiss = amiss or f"{path}: not signed by the targets key of root {root.version}"
        elif found.signed.version != held and not all(
            is_whole(folder, made) for made in found.signed.targets.values()
        ):
            amiss = amiss or f"{path}: names a file that is missing or damaged"
        else:
            return path, amiss
    raise BadInput(amiss or f"{folder}: no list of targets")


def _in_force(folder: Path, root: Root) -> Metadata[Snapshot] | None:
    """Return the latest snapshot, if this root's key has signed it."""
    there = versions(folder, "snapshot")
    found = read(there[-1], Snapshot) if there else None
    return found if found is not None and is_signed(root, "snapshot", found) else None


def _confirm(folder: Path, root: Root, keys: OnlineKeys, now: datetime) -> bool:
    """Sign a timestamp for the latest snapshot, unless a fresh one names it."""
    path, wanted = folder / "metadata" / "timestamp.json", _meta(versions(folder, "snapshot")[-1])
    held = read(path, Timestamp) if path.exists() else None
    if (
        held is not None
        and is_signed(root, "timestamp", held)
        and held.signed.snapshot_meta == wanted
        and not _due(held, now)
    ):
        return False
    before = held.signed.version if held is not None else 0
    made = Timestamp(
        version=max(before + 1, _count(now)),
        expires=_until(now, TIMESTAMP_LASTS_S),
        snapshot_meta=wanted,
    )
    updates.write_metadata(folder, "timestamp", updates.sign(made, [keys.timestamp]))
    return True


_LASTS_S: Mapping[str, int] = {"snapshot": SNAPSHOT_LASTS_S, "timestamp": TIMESTAMP_LASTS_S}


def _due(held: Metadata[Any], now: datetime) -> bool:
    """Tell whether it has used up its part, or was signed by a clock that stood wrong."""
    life_s = _LASTS_S[held.signed.type]
    left_s = (held.signed.expires - now).total_seconds()
    return not life_s * (1 - _AGAIN) <= left_s <= life_s


def _meta(path: Path) -> MetaFile:
    return MetaFile.from_data(_version(path), path.read_bytes(), [HASH])


def _version(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _next(there: list[Path], now: datetime) -> int:
    return max(_version(there[-1]) + 1 if there else 1, _count(now))


def _count(now: datetime) -> int:
    return int((now - _NUMBERS_FROM).total_seconds())


def _until(now: datetime, lasts_s: int) -> datetime:
    return (now.astimezone(UTC) + timedelta(seconds=lasts_s)).replace(microsecond=0)


def _tidy(folder: Path) -> None:
    """Forget snapshots that no device can be in the middle of."""
    for path in versions(folder, "snapshot")[:-_SNAPSHOTS_KEPT]:
        path.unlink(missing_ok=True)
