"""``ketang profile``: check a device profile before it is used, or list the shipped ones."""

import argparse
from pathlib import Path

from ketang_profiles import profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``check FILE`` and ``list``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="tell whether a profile is right, in one line")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    actions.add_parser("list", help="list the kinds of device that have a profile")


def run(options: argparse.Namespace) -> int:
    """Check, or list.

    Raises:
        BadInput: the first file that is wrong: file, key, what is accepted.
    """
    if options.action == "list":
        for kind in profile.kinds():
            print(_summary(profile.shipped(kind)))
        return 0
    for path in options.files:
        print(f"{path}: ok: {_summary(profile.read(path))}")
    return 0


def _summary(one: profile.Profile) -> str:
    collected = ", ".join(f"{name} {every_s} s" for name, every_s in one.intervals_s.items())
    return f"{one.kind} ({one.title_zh}, {one.title_en}), by {one.reported_by}: {collected}"
