"""``ketang center``: run the regional centre, ask its name, keep its accounts and its audit log."""

import argparse
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_cli import center_accounts, center_clones, center_units

if TYPE_CHECKING:
    from ketang_center.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``serve``, ``id``, ``restored``, ``account``, ``audit`` and ``clones``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    serve = actions.add_parser(
        "serve", help="take records in, compute figures, show them, until stopped"
    )
    name = actions.add_parser("id", help="print the name that devices are configured to obey")
    restored = actions.add_parser(
        "restored", help="finish a restore: after the files of a backup were put back"
    )
    for one in (serve, name, restored):
        one.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")
    center_accounts.add_arguments(actions)
    center_clones.add_actions(actions)
    center_units.add_actions(actions)


def run(options: argparse.Namespace) -> int:
    """Do the chosen action; ``serve`` prints its counts as one JSON line when it ends.

    Raises:
        BadInput: settings are wrong: file, key, what is accepted.
    """
    if options.action in {"account", "audit"}:
        return center_accounts.run(options)
    if options.action == "clones":
        return center_clones.run(options)
    if options.action == "units":
        return center_units.run(options)
    from ketang_center import service, settings

    chosen = settings.read(options.settings)
    if options.action == "id":
        print(service.center_id(chosen))
        return 0
    if options.action == "restored":
        return _restored(chosen)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    center = service.Center(chosen)
    status = center.run()
    print(json.dumps(asdict(center.counts)))
    return status


def _restored(chosen: "Settings") -> int:
    from ketang_center import restoring

    found = restoring.bring_back(chosen, int(time.time()))
    print(
        f"{found.lines} lines of revocations, codes and certificates came back;"
        f" epoch {found.epoch}: devices send again what they still keep"
    )
    return 0
