"""Models and agent releases as TUF targets: where they lie, what is said of each, how long for.

The metadata is TUF's (The Update Framework, specification 1.0), made and judged by ``tuf``; this is
what both sides have to agree on besides. Standard library only: a device's supervisor asks here
what a target is called.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ketang_contract.errors import Refused
from ketang_contract.ids import is_identifier

METADATA, TARGETS = "/updates/metadata/", "/updates/targets/"
"""Paths at the centre's enrolment service."""
DAY_S = 86_400
ROOT_LASTS_S = 365 * DAY_S
TARGETS_LASTS_S = 90 * DAY_S
SNAPSHOT_LASTS_S = 7 * DAY_S
TIMESTAMP_LASTS_S = DAY_S
MAX_TARGET_BYTES = 128 << 20
MAX_METADATA_BYTES: Mapping[str, int] = {
    "root": 64 << 10,
    "timestamp": 8 << 10,
    "snapshot": 64 << 10,
    "targets": 1 << 20,
}
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
_DIGEST = re.compile(r"(?:[0-9a-f]{64})?")
_AGENT_VERSION = re.compile(r"(?:\d{1,4}\.\d{1,4}\.\d{1,4})?")


class Kind(StrEnum):
    """What a target is."""

    MODEL = "model"
    AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the metadata says of one target, besides TUF's own length and hash.

    Attributes:
        file: its name in the folder of its kind and name.
        min_agent: the oldest agent that can use it; empty: any.
        digest: of a model, as its card and its filing name it; empty for a release.
        golden: SHA-256 of the answers to the golden pictures, for people; empty for a release.

    Raises:
        ValueError: a name that is none, or would lead out of its folder.
    """

    kind: Kind
    name: str
    version: str
    file: str
    min_agent: str = ""
    digest: str = ""
    golden: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be the name of a file, whoever signed it."""
        sound = (
            is_identifier(self.name)
            and _VERSION.fullmatch(self.version)
            and _FILE.fullmatch(self.file)
            and _AGENT_VERSION.fullmatch(self.min_agent)
            and _DIGEST.fullmatch(self.digest)
            and _DIGEST.fullmatch(self.golden)
        )
        if not sound:
            raise ValueError(f"{self.name!r} {self.version!r} {self.file!r}: not a target's names")

    @property
    def path(self) -> str:
        """Its name in TUF's metadata."""
        return f"{self.kind}/{self.name}/{self.file}"

    def custom(self) -> dict[str, str]:
        """Write it as TUF's custom metadata."""
        return {name: str(getattr(self, name)) for name in self.__slots__}


def model(name: str, version: str, **more: str) -> Target:
    """Name a model's archive.

    Raises:
        ValueError: a name that is none.
    """
    return Target(kind=Kind.MODEL, name=name, version=version, file=f"{version}.zip", **more)


def read_custom(said: Any, path: str) -> Target:
    """Read a target's custom metadata, strictly; it must be of this path.

    Raises:
        Refused: ``bad_target``.
    """
    fields = set(Target.__slots__)
    if (
        not isinstance(said, dict)
        or set(said) != fields
        or not all(isinstance(one, str) for one in said.values())
    ):
        raise Refused("bad_target", f"{path}: not said what it is")
    try:
        target = Target(**{**said, "kind": Kind(said["kind"])})
    except ValueError as problem:
        raise Refused("bad_target", f"{path}: {problem}") from None
    if target.path != path:
        raise Refused("bad_target", f"{path}: says that it is {target.path}")
    return target


def is_served(path: str) -> bool:
    """Tell whether a path under ``/updates/`` can be that of a repository's file."""
    return _SERVED.fullmatch(path) is not None


_SERVED = re.compile(
    r"metadata/(?:timestamp|[1-9][0-9]{0,9}\.(?:root|snapshot|targets))\.json"
    r"|targets/(?:model|agent)/[a-z0-9-]{1,36}/[0-9a-f]{64}\.[A-Za-z0-9][A-Za-z0-9._+-]{0,119}"
)
"""Consistent snapshots: every name but one carries its version or its hash."""
