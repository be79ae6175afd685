"""One archive with a release of the agent: wheels for the platforms it fits, and what says so.

``release.json`` names the version, the platforms, which wheels make it up on each, and the SHA-256
of each wheel; the wheels lie under ``wheels/``, each once, however many platforms use it. Standard
library only. TUF vouches for the archive (``updates``), the archive for its wheels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ketang_contract import strict_json
from ketang_contract.errors import Refused
from ketang_contract.strict_json import listed, text, whole
from ketang_contract.updates import Kind, Target

RELEASE, WHEELS = "release.json", "wheels/"
MAX_RELEASE_BYTES = 256 << 10
MOST_FITS, MOST_WHEELS = 16, 512
NAME = "ketang"
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")
_PYTHON = re.compile(r"3\.\d{1,2}")
_PLATFORM = re.compile(r"[a-z0-9_]{1,40}")
_WHEEL = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.+!]+(?:-\d[\w.]*)?-[\w.]+-[\w.]+-[\w.]+\.whl")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fit:
    """What a release consists of on one platform, e.g. ``3.11`` on ``linux_x86_64``.

    ``platform`` is ``sysconfig.get_platform()`` with an underscore for what is no letter or digit.
    """

    python: str
    platform: str
    wheels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the archive holds. ``sums``: SHA-256 by the wheel's name, of every wheel in it."""

    version: str
    fits: tuple[Fit, ...]
    sums: Mapping[str, str]

    def fit(self, python: str, platform: str) -> Fit:
        """Return what makes it up here.

        Raises:
            Refused: ``does_not_fit``.
        """
        for one in self.fits:
            if (one.python, one.platform) == (python, platform):
                return one
        there = ", ".join(f"{one.python} {one.platform}" for one in self.fits)
        raise Refused("does_not_fit", f"this is {python} {platform}, the release is for {there}")


def target(version: str) -> Target:
    """Name a release's archive in the update repository.

    Raises:
        ValueError: no version.
    """
    return Target(kind=Kind.AGENT, name=NAME, version=version, file=f"{version}.zip")


def platform_tag(platform: str) -> str:
    """Write what ``sysconfig.get_platform()`` says as wheels do."""
    return re.sub(r"[^a-z0-9]", "_", platform.lower())


def is_wheel(name: str) -> bool:
    """Tell whether this is a wheel's file name, and nothing that leads elsewhere."""
    return _WHEEL.fullmatch(name) is not None


def write(manifest: Manifest) -> bytes:
    """Write ``release.json``, in one form only."""
    said = {
        "schema": 1,
        "version": manifest.version,
        "fits": [
            {"python": one.python, "platform": one.platform, "wheels": list(one.wheels)}
            for one in manifest.fits
        ],
        "sha256": dict(manifest.sums),
    }
    return strict_json.canonical(said) + b"\n"


def read(raw: bytes) -> Manifest:
    """Read ``release.json``.

    Raises:
        Refused: ``bad_release``.
    """
    try:
        return _manifest(raw)
    except ValueError as problem:
        raise Refused("bad_release", f"{RELEASE}: {problem}") from None


def _manifest(raw: bytes) -> Manifest:
    if len(raw) > MAX_RELEASE_BYTES:
        raise ValueError(f"larger than {MAX_RELEASE_BYTES} bytes")
    said = whole(strict_json.load(raw), ("schema", "version", "fits", "sha256"), "release")
    if said["schema"] != 1:
        raise ValueError("a schema this program does not know")
    sums = _sums(said["sha256"])
    fits = tuple(_fit(one, sums) for one in listed(said["fits"], MOST_FITS, "fits"))
    return Manifest(_matching(_VERSION, said["version"], "version"), fits, sums)


def _sums(said: Any) -> dict[str, str]:
    if not isinstance(said, dict) or len(said) > MOST_WHEELS:
        raise ValueError(f"sha256: not at most {MOST_WHEELS} wheels")
    return {
        _matching(_WHEEL, name, "a wheel"): _matching(_DIGEST, digest, "a sum")
        for name, digest in said.items()
    }


def _fit(said: Any, sums: Mapping[str, str]) -> Fit:
    one = whole(said, ("python", "platform", "wheels"), "fit")
    wheels = tuple(
        _matching(_WHEEL, name, "a wheel") for name in listed(one["wheels"], MOST_WHEELS, "wheels")
    )
    if not set(wheels) <= set(sums) or len(set(wheels)) != len(wheels):
        raise ValueError("wheels: one twice, or without its sum")
    return Fit(
        _matching(_PYTHON, one["python"], "python"),
        _matching(_PLATFORM, one["platform"], "platform"),
        wheels,
    )


def _matching(pattern: re.Pattern[str], said: Any, what: str) -> str:
    told = text(said, what, most=160)
    if pattern.fullmatch(told) is None:
        raise ValueError(f"{what}: not of its form")
    return told
