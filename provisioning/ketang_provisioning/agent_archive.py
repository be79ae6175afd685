r"""Makes the archive of a release of the agent, to be published as a target.

Once for each kind of device, on any machine that reaches a package index, a folder is filled with
the wheels of ketang[agent] and of all it needs (``vision`` too, where devices count people)::

    pip wheel --no-deps --wheel-dir house/3.11-linux_x86_64 .
    pip download --dest house/3.11-linux_x86_64 --only-binary :all: --python-version 3.11 \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
        --constraint constraints.txt "house/3.11-linux_x86_64/ketang-0.2.0-py3-none-any.whl[agent]"

The folder's name says which Python the devices have and what ``sysconfig.get_platform()`` says on
them. One release may hold several folders; a wheel that they share is in the archive once. Then,
where the off-line keys are, and without a network::

    python -m ketang_provisioning.agent_archive 0.2.0 house/* --out 0.2.0.zip
    ketang models publish --agent 0.2.0.zip ...

The bytes follow from the wheels: who makes it again gets the same hash, which is what the region's
layer names beside the version.
"""

import argparse
import hashlib
import stat
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ketang_contract import agent_release
from ketang_contract.agent_release import NAME, RELEASE, WHEELS, Fit, Manifest
from ketang_contract.errors import BadInput, Refused
from ketang_contract.updates import MAX_TARGET_BYTES

_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = (stat.S_IFREG | 0o644) << 16


@dataclass(frozen=True, slots=True)
class House:
    """Wheels for one platform, as ``agent_release.Fit`` names it."""

    python: str
    platform: str
    wheels: tuple[Path, ...]


def read_house(folder: Path) -> House:
    """Take a folder named ``PYTHON-PLATFORM``, with wheels in it and nothing else.

    Raises:
        BadInput: another name, or something else in it.
    """
    python, _, platform = folder.name.partition("-")
    try:
        found = sorted(folder.iterdir())
    except OSError as problem:
        raise BadInput(f"{folder}: cannot be read: {problem.strerror}") from None
    for one in found:
        if not agent_release.is_wheel(one.name):
            raise BadInput(f"{one}: not a wheel; pip download --only-binary :all: brings no others")
    return House(python, platform, tuple(found))


def build(houses: Sequence[House], version: str) -> bytes:
    """Return the archive; its bytes follow from the wheels.

    Raises:
        BadInput: no ketang of this version in a house, a distribution in two versions, the same
            name for two contents, no sound version or platform, or too large.
    """
    contents: dict[str, bytes] = {}
    fits = []
    for house in sorted(houses, key=lambda one: (one.python, one.platform)):
        names = tuple(sorted(one.name for one in house.wheels))
        _check_house(house, names, version)
        for path in house.wheels:
            raw = _read(path)
            if contents.setdefault(path.name, raw) != raw:
                raise BadInput(f"{path}: in another folder this name has another content")
        fits.append(Fit(house.python, house.platform, names))
    sums = {name: hashlib.sha256(raw).hexdigest() for name, raw in sorted(contents.items())}
    told = agent_release.write(Manifest(version, tuple(fits), sums))
    try:
        agent_release.read(told)
        agent_release.target(version)
    except (Refused, ValueError) as problem:
        raise BadInput(f"{version}: no release can be made of this: {problem}") from None
    return _packed({RELEASE: told, **{f"{WHEELS}{name}": contents[name] for name in sums}})


def _check_house(house: House, names: Sequence[str], version: str) -> None:
    where = f"{house.python}-{house.platform}"
    dists = [name.partition("-")[0].lower() for name in names]
    if twice := {one for one in dists if dists.count(one) > 1}:
        raise BadInput(f"{where}: more than one wheel of {', '.join(sorted(twice))}")
    if not any(name.startswith(f"{NAME}-{version}-") for name in names):
        raise BadInput(f"{where}: holds no wheel of {NAME} {version}")


def _packed(files: dict[str, bytes]) -> bytes:
    made = BytesIO()
    # Stored: wheels are compressed already.
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, _MODE
            archive.writestr(entry, content)
    if made.tell() > MAX_TARGET_BYTES:
        raise BadInput(f"larger than {MAX_TARGET_BYTES} bytes; leave out platforms or vision")
    return made.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from None


def main(arguments: Sequence[str]) -> int:
    """Make an archive of folders; print its hash, as the layer names it."""
    parser = argparse.ArgumentParser(prog="python -m ketang_provisioning.agent_archive")
    parser.add_argument("version")
    parser.add_argument("houses", nargs="+", type=Path, metavar="PYTHON-PLATFORM")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    said = parser.parse_args(arguments)
    try:
        made = build([read_house(one) for one in said.houses], said.version)
        said.out.write_bytes(made)
    except (BadInput, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    sys.stdout.write(f"{hashlib.sha256(made).hexdigest()}  {said.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
