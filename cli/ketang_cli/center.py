"""``ketang center``: run the regional centre, back it up, keep its accounts and its audit log."""

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

_ELSEWHERE = {
    "account": center_accounts.run,
    "audit": center_accounts.run,
    "clones": center_clones.run,
    "units": center_units.run,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done, ``serve`` first."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    serve = actions.add_parser(
        "serve", help="take records in, compute figures, show them, until stopped"
    )
    name = actions.add_parser("id", help="print the name that devices are configured to obey")
    copy = actions.add_parser("backup", help="copy all its data, while it runs or not")
    copy.add_argument("target", type=Path, metavar="DIR", help="a folder that is not there yet")
    restored = actions.add_parser(
        "restored", help="finish a restore: after the files of a backup were put back"
    )
    for one in (serve, name, copy, restored):
        one.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")
    center_accounts.add_arguments(actions)
    center_clones.add_actions(actions)
    center_units.add_actions(actions)


def run(options: argparse.Namespace) -> int:
    """Do the chosen action; ``serve`` prints its counts as one JSON line when it ends.

    Raises:
        BadInput: settings are wrong: file, key, what is accepted.
    """
    elsewhere = _ELSEWHERE.get(options.action)
    if elsewhere is not None:
        return elsewhere(options)
    from ketang_center import service, settings

    chosen = settings.read(options.settings)
    if options.action == "id":
        print(service.center_id(chosen))
        return 0
    if options.action == "backup":
        return _back_up(chosen, options.target)
    if options.action == "restored":
        return _restored(chosen)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    center = service.Center(chosen)
    status = center.run()
    print(json.dumps(asdict(center.counts)))
    return status


def _back_up(chosen: "Settings", target: Path) -> int:
    from ketang_center import backup

    made = backup.back_up(chosen.data_dir, target)
    print(f"{target}: {made.databases} databases, {made.files} files, {made.size_bytes:,} bytes")
    return 0


def _restored(chosen: "Settings") -> int:
    from ketang_center import restoring

    found = restoring.bring_back(chosen, int(time.time()))
    print(
        f"{found.lines} lines of revocations, withdrawals, codes and certificates came back;"
        f" epoch {found.epoch}: devices send again what they still keep"
    )
    print(f"{found.stopped}")
    if found.stopped.rollouts:
        print("until each of these rollouts was resumed or cancelled, nothing is sent to devices")
    return 0
