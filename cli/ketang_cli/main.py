"""The ``ketang`` command: finds the asked sub-command's module and hands over to it.

Each sub-command is one module of this package with ``add_arguments(parser)`` and
``run(options) -> int``. Only the asked one is imported, so that the agent does not carry the centre
in memory; one that this installation lacks is not listed.
"""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol, cast

from ketang_contract.errors import KetangError

COMMANDS = {
    "agent": "run the device's agent, or ask it: run, status, doctor, spool, once",
    "enroll": "give this device its identity, from a code or a kit",
    "center": "run the regional centre: serve",
    "demo": "start broker, centre, this machine's agent and three simulated schools",
    "simulate": "act as many devices of fictitious schools",
    "profile": "check a device profile, or list those that come with this release",
    "broker": "configure and run a region's broker, and try whether it holds: config, run, check",
    "provision": "make keys and certificates",
    "config": "check, sign, push and follow what devices are told to do",
    "models": "publish models and agent releases as signed targets, and check them",
    "filing": "file models, algorithms and apps (备案), and sign filings and camera grants",
    "command": "ask one device for something from the closed list, and read its answer",
    "bench": "measure the product from outside",
}
"""Every sub-command there may be, in the order of the help: name, and what it does."""
EXTRAS = {"agent": "agent", "enroll": "agent", "center": "center", "broker": "center"}
"""What must be installed for a sub-command, where that is less than ``demo``, which has it all."""
REFUSED = 2
"""Exit status for a person's mistake; argparse uses the same."""
_INTERRUPTED = 130


class Command(Protocol):
    """What a sub-command's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare arguments."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it and return the exit status."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command and return the process's exit status.

    An error this project raises on purpose becomes one line on stderr and status 2.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = _parser(words).parse_args(words)
        return _load(options.command).run(options)
    except KetangError as problem:
        print(f"ketang: {problem}", file=sys.stderr)
        return REFUSED
    except ModuleNotFoundError as lack:
        if (lack.name or "ketang_").startswith("ketang_"):
            raise
        extra = EXTRAS.get(_asked(words) or "", "demo")
        print(
            f"ketang: this installation lacks {lack.name}: pip install 'ketang[{extra}]'",
            file=sys.stderr,
        )
        return REFUSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def available() -> list[str]:
    """Names of the sub-commands whose module is here, found without importing any."""
    return [name for name in COMMANDS if importlib.util.find_spec(f"{__package__}.{name}")]


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ketang", description="Edge software for schools: how classroom devices are used."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = _asked(words)
    for name in available():
        chosen = choices.add_parser(name, help=COMMANDS[name], description=COMMANDS[name])
        if name == asked:
            _load(name).add_arguments(chosen)
    return parser


def _asked(words: Sequence[str]) -> str | None:
    return next((word for word in words if not word.startswith("-")), None)


def _load(name: str) -> Command:
    return cast("Command", importlib.import_module(f"{__package__}.{name}"))


class _Version(argparse.Action):
    """Prints the installed version; looked up only when asked, since it reads package metadata."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        del namespace, values, option_string
        from importlib.metadata import version

        print(f"ketang {version('ketang')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
