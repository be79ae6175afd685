"""Which root a device begins from: the one whose keys the trust document names for updates.

TUF begins with a root that was "obtained out of band". Here that is the trust document, which came
with the installer's fingerprint and is renewed by the region's root holders: a root is believed
when every key that may sign its successor is named there for updates, over the whole region, is in
time and not revoked. So no root file has to travel with the installer; the first is fetched, and a
key that was burnt is out on every device as soon as a trust document says so.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from ketang_agent.remote.updates_https import Missing
from ketang_contract.errors import Refused
from ketang_contract.trust import Purpose, Trust

MOST_ROOTS = 64
_HISTORY = "root_history"


class UpdateRefused(Refused):
    """The repository, or what it offers, is not accepted; what the device has stays in use.

    ``reason`` is ``root_not_named``, ``forged``, ``rolled_back``, ``expired``, ``bad_metadata``,
    ``too_large``, ``no_target``, ``bad_target``, ``wrong_content`` or ``agent_too_old``.
    """


def is_named(root: Root, trust: Trust, now_s: int) -> bool:
    """Tell whether the trust document names every key that may sign this root's successor."""
    names = [
        SSlibKey.from_crypto(load_pem_public_key(one.public.encode()))
        for one in trust.keys_for(Purpose.UPDATES, now_s, "")
    ]
    allowed = {(one.keytype, one.scheme, one.keyval["public"]) for one in names}
    keys = [root.keys[name] for name in root.roles["root"].keyids if name in root.keys]
    said = {(one.keytype, one.scheme, one.keyval.get("public")) for one in keys}
    return bool(said) and said <= allowed


def first(folder: Path, trust: Trust, now_s: int, read: Callable[[int], bytes]) -> bytes:
    """Return the root to begin from: the latest held, or the first on offer that is believed.

    Where the latest one held is not believed any more, its key was burnt or has ended: it goes,
    with all that led to it. What the device remembers of the other roles stays, and counts for as
    long as the new root names the keys that signed it.

    Args:
        folder: of the metadata.
        trust: the document held.
        now_s: UTC seconds.
        read: fetches a root by its version; raises ``Missing`` where there is none.

    Raises:
        UpdateRefused: ``root_not_named``.
        Unreachable: the centre does not answer.
    """
    history = folder / _HISTORY
    for raw in _held(history):
        found = _root(raw)
        if found is None:
            continue  # damaged: an older one leads to it again
        if is_named(found, trust, now_s):
            return raw
        break
    shutil.rmtree(history, ignore_errors=True)
    for version in range(1, MOST_ROOTS + 1):
        try:
            raw = read(version)
        except Missing:
            break
        found = _root(raw)
        if found is not None and found.version == version and is_named(found, trust, now_s):
            return raw
    raise UpdateRefused(
        "root_not_named", "the trust document names no key of the repository's roots for updates"
    )


def _held(history: Path) -> Iterator[bytes]:
    named = [
        (int(number), path)
        for path in history.glob("*.root.json")
        if (number := path.name.partition(".")[0]).isdecimal()
    ]
    for _, path in sorted(named, reverse=True):
        yield path.read_bytes()


def _root(raw: bytes) -> Root | None:
    """Read a root that its own keys have signed."""
    try:
        found: Metadata[Any] = Metadata.from_bytes(raw)
        if not isinstance(found.signed, Root):
            return None
        found.signed.verify_delegate("root", found.signed_bytes, found.signatures)
    except (RepositoryError, ValueError):
        return None
    return found.signed
