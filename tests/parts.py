"""The outside parts some tests need: what they are called, where they come from, are they here.

Standard library only: ``make test`` and ``.ci/run`` ask it before anything is installed.
"""

import argparse
import os
import shutil
import sys
from dataclasses import dataclass

_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Brokers live there on Debian, and an ordinary user's PATH does not name it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A program; ``name`` is also the pytest marker of the tests that need it."""

    name: str
    programs: tuple[str, ...]
    packages: tuple[str, ...]

    def find(self) -> str | None:
        """Path of the first of its programs that is here."""
        path = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}"
        found = (shutil.which(program, path=path) for program in self.programs)
        return next((one for one in found if one), None)


PARTS = (
    Part("mosquitto", ("mosquitto",), ("mosquitto",)),
    Part(
        "chromium",
        ("chromium", "chromium-browser", "google-chrome"),
        ("chromium", "fonts-noto-cjk"),
    ),
    Part("xvfb", ("Xvfb",), ("xvfb", "xdotool", "libxss1")),
    Part("dbus", ("dbus-daemon",), ("dbus", "dbus-daemon")),
    Part("ip", ("ip",), ("iproute2",)),
    Part("nft", ("nft",), ("nftables",)),
)
OTHERS = ("procps",)
"""Packages whose absence skips nothing yet, but which every full run should have."""


def find(name: str) -> str | None:
    """Path of a part's program, by the part's name."""
    return next(part.find() for part in PARTS if part.name == name)


def why_missing(name: str) -> str | None:
    """Say what is missing and what to install; None when the part is here."""
    part = next(part for part in PARTS if part.name == name)
    if part.find():
        return None
    return f"{part.programs[0]} is missing: sudo apt-get install {' '.join(part.packages)}"


def main() -> int:
    """Print the missing parts, or with ``--packages`` the names apt knows them by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", action="store_true")
    if parser.parse_args().packages:
        names = [name for part in PARTS for name in part.packages]
        sys.stdout.write(" ".join([*names, *OTHERS]) + "\n")
        return 0
    missing = [why for part in PARTS if (why := why_missing(part.name))]
    for why in missing:
        sys.stdout.write(f"outside part: {why} (tests that need it are skipped)\n")
    if not missing:
        sys.stdout.write("outside parts: all here\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
