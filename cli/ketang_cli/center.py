"""``ketang center``: run the regional centre, or ask what devices must be told of it."""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``serve`` and ``id``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    serve = actions.add_parser(
        "serve", help="take records in, compute figures, show them, until stopped"
    )
    name = actions.add_parser("id", help="print the name that devices are configured to obey")
    for one in (serve, name):
        one.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")


def run(options: argparse.Namespace) -> int:
    """Do the chosen action; ``serve`` prints its counts as one JSON line when it ends.

    Raises:
        BadInput: settings are wrong: file, key, what is accepted.
    """
    from ketang_center import service, settings

    chosen = settings.read(options.settings)
    if options.action == "id":
        print(service.center_id(chosen))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    center = service.Center(chosen)
    status = center.run()
    print(json.dumps(asdict(center.counts)))
    return status
