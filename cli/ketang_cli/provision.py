"""``ketang provision``: a region's keys and certificates, and what a school enrols with."""

import argparse
import importlib
import importlib.util
from typing import Any, Protocol, cast

_PARTS = ("provision_region", "provision_trust", "provision_school")


class Part(Protocol):
    """Some of the actions, in a module of their own."""

    def add_actions(self, actions: Any) -> None:
        """Declare them."""

    def run(self, options: argparse.Namespace) -> int:
        """Do the chosen one and return the exit status."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions of every part that is there."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name in _PARTS:
        if importlib.util.find_spec(f"{__package__}.{name}"):
            before = set(actions.choices)
            part = _load(name)
            part.add_actions(actions)
            for added in set(actions.choices) - before:
                actions.choices[added].set_defaults(part=name)


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: a person's mistake, in one line.
    """
    return _load(options.part).run(options)


def _load(name: str) -> Part:
    return cast("Part", importlib.import_module(f"{__package__}.{name}"))
