"""``ketang enroll``: give this device its identity, from a code or a kit."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_contract import kit
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_contract.kit import RawKit

FOLDER = Path("/etc/ketang")
_CODE = (
    "a code, with --url; - reads it from standard input, where no list of processes shows it;"
    " without it, a terminal is asked"
)
_MOST_TYPED = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the code comes from, and what this device is."""
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--kit", metavar="KIT", help="a kit's folder, .zip, or line of a QR code")
    given.add_argument("--code", metavar="XXXX-XXXX-XXXX", help=_CODE)
    parser.add_argument("--url", help="the centre's enrolment service, https://HOST[:PORT]")
    parser.add_argument(
        "--dir", type=Path, default=FOLDER, help=f"where the identity is kept ({FOLDER})"
    )
    parser.add_argument(
        "--root", default="", metavar="FINGERPRINT", help="where no installer left it in --dir"
    )
    parser.add_argument("--serial", help="instead of what the firmware tells")
    parser.add_argument("--asset", default="", help="this device's inventory number")
    parser.add_argument("--owner", default="", metavar="ACCOUNT", help="whom the agent runs as")
    parser.add_argument(
        "--wait", type=float, default=300.0, metavar="SECONDS", help="for a person or a busy centre"
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="get a new identity for the one there is, which stays until then",
    )
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Enrol; prints the device id. Has it an identity already, nothing happens.

    Raises:
        KetangError: what is wrong and what to do, in one line.
    """
    from ketang_agent.enrol import enrolling, files, machine

    place = files.prepare(options.dir, options.owner)
    serial = options.serial
    asking = enrolling.Asking(
        kit=_kit(options),
        fingerprint=enrolling.read_fingerprint(place, options.root),
        serial=machine.serial_of_this_machine() if serial is None else serial,
        asset=options.asset,
        owner=options.owner,
        patience_s=options.wait,
        again=options.again,
    )
    device = enrolling.enrol(place, asking)
    if options.json:
        print(json.dumps({"device": device, "settings": str(place.settings)}))
    else:
        print(f"enrolled as {device}; start it: ketang agent run --settings {place.settings}")
    return 0


def _kit(options: argparse.Namespace) -> "RawKit":
    if options.kit:
        return kit.open_kit(options.kit)
    if not options.url or not (options.code or sys.stdin.isatty()):
        raise BadInput("name --kit KIT, or --code XXXX-XXXX-XXXX with --url https://HOST:PORT")
    return kit.Line(kit.center_url(options.url), kit.normalise_code(_code(options.code)))


def _code(given: str | None) -> str:
    """Return the code of the command line, or read one line for it."""
    if given and given != "-":
        return given
    if sys.stdin.isatty():
        print("Code: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline(_MOST_TYPED)
