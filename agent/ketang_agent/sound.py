"""Imports all that a device needs of this release: ``python -m ketang_agent.sound``.

Asked of a release that was laid out, before it is ever started: a library that is missing, or does
not load on this machine, shows here and not in a lesson. Part of each release, so that each says
itself what it needs. Prints the version.
"""

import importlib
import sys

from ketang_agent import VERSION

_PARTS = (
    "ketang_agent.service",
    "ketang_agent.watch",
    "ketang_agent.remote.judging",
    "ketang_agent.remote.fetching",
    "ketang_agent.remote.agent_store",
    "ketang_agent.enrol.enrolling",
    "ketang_agent.enrol.renewing",
)
"""The supervisor, and what it starts; the worker that counts people is tried with its model."""


def main() -> int:
    """Import everything."""
    for name in _PARTS:
        importlib.import_module(name)
    sys.stdout.write(f"{VERSION}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
