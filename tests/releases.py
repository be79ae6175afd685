"""Releases of the agent for tests: wheels, archives and folders of releases.

``reduced``: our own packages with another version and a small agent, which behaves in one of a few
ways; it is laid out, tried and started as any other. ``whole``: the real one with another version,
and the distributions it needs as they are installed here, made wheels again.
"""

import hashlib
import importlib.metadata
import sys
import sysconfig
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

from ketang_agent import VERSION
from ketang_contract.agent_release import platform_tag
from ketang_provisioning.agent_archive import House, build

ROOT = Path(__file__).resolve().parents[1]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PLATFORM = platform_tag(sysconfig.get_platform())
_NEVER = frozenset({"pip", "setuptools"})


def write_wheel(folder, name, version, files):
    """Write a wheel of these files, and say so in its own lists; return its path."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    lists = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for inside, content in {**files, **lists}.items():
            made.writestr(inside, content)
    return path


def archive_of(wheels, version, python=PYTHON, platform=PLATFORM):
    """Return an archive for this machine, and its hash."""
    made = build([House(python, platform, tuple(wheels))], version)
    return made, hashlib.sha256(made).hexdigest()


def reduced(folder, version, behaviour="well", *, told=None):
    """Write the wheel of a release that is ``tests/faults/updated_agent.py`` on our own packages.

    It needs nothing else. It says that it is ``told``, or its version.
    """
    files = _packages("contract", "device_profiles", "agent")
    _rename(files, version)
    files["ketang_agent/sound.py"] = f'print("{told or version}")\n'
    files["ketang_cli/__init__.py"] = ""
    files["ketang_cli/main.py"] = (ROOT / "tests" / "faults" / "updated_agent.py").read_bytes()
    files["ketang_cli/behaviour.txt"] = behaviour
    return write_wheel(folder, "ketang", version, files)


def whole(folder, version, added=""):
    """Write the wheels of this project under another version, and of all that it needs.

    ``added`` stands at the end of its ``service.py``.
    """
    folder.mkdir()
    files = _packages("contract", "device_profiles", "models", "provisioning", "agent", "cli")
    _rename(files, version)
    files["ketang_agent/service.py"] += added.encode()
    needed = [_repacked(folder, name) for name in _needs("ketang", ("agent",))]
    return [write_wheel(folder, "ketang", version, files), *needed]


def _packages(*floors):
    return {
        str(path.relative_to(ROOT / floor)): path.read_bytes()
        for floor in floors
        for path in sorted((ROOT / floor).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _rename(files, version):
    named, said = files["ketang_agent/__init__.py"].decode(), 'VERSION = "{}"'
    assert said.format(VERSION) in named
    changed = named.replace(said.format(VERSION), said.format(version))
    files["ketang_agent/__init__.py"] = changed


def _needs(name, extras=(), known=None):
    known = {} if known is None else known
    for line in importlib.metadata.distribution(name).requires or ():
        need = Requirement(line)
        if need.marker and not any(need.marker.evaluate({"extra": one}) for one in (*extras, "")):
            continue
        if need.name.lower() not in {*known, *_NEVER}:
            known[need.name.lower()] = need.name
            _needs(need.name, tuple(need.extras), known)
    return sorted(known.values())


def _repacked(folder, name):
    found = importlib.metadata.distribution(name)
    tag = found.read_text("WHEEL").split("Tag: ")[1].split()[0]
    path = folder / f"{name.replace('-', '_')}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        for one in found.files:
            if one.parts[0] != ".." and "__pycache__" not in one.parts and one.locate().is_file():
                made.write(one.locate(), str(one))
    return path
