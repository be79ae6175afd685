"""``ketang config``: what devices are told to do, from a person's file to the devices' answers."""

import argparse
import importlib
from typing import Any, Protocol, cast

_PARTS = ("config_reading", "config_signing", "config_placing", "config_rollouts")


class Part(Protocol):
    """Some of the actions, in a module of their own."""

    def add_actions(self, actions: Any) -> None:
        """Declare them."""

    def run(self, options: argparse.Namespace) -> int:
        """Do the chosen one and return the exit status."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions of every part."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name in _PARTS:
        before = set(actions.choices)
        _load(name).add_actions(actions)
        for added in set(actions.choices) - before:
            actions.choices[added].set_defaults(part=name)


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: a person's mistake, in one line.
        Refused: a file is no document of the kind that is needed.
    """
    return _load(options.part).run(options)


def _load(name: str) -> Part:
    return cast("Part", importlib.import_module(f"{__package__}.{name}"))
