"""``ketang center clones``: devices that are two machines, and a person's decision on them."""

import argparse
import json
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ketang_center.clones import Case
    from ketang_center.store.reading import StoreReader

WHO = "console"
"""How a case names who decided at the machine itself; the audit log does too."""


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare ``clones`` below ``ketang center``."""
    clones = actions.add_parser(
        "clones", help="list devices that are two machines, and decide which of them counts"
    )
    what = clones.add_subparsers(dest="what", required=True, metavar="WHAT")
    listing = what.add_parser("list", help="print each case as one JSON line, the latest first")
    listing.add_argument("--open", action="store_true", help="only those nobody has decided")
    decide = what.add_parser("decide", help="say which boots of an open case count")
    decide.add_argument("device", metavar="DEVICE")
    decide.add_argument(
        "--admit", nargs="+", default=[], metavar="BOOT", help="the others never count"
    )
    decide.add_argument(
        "--then",
        required=True,
        choices=("same", "revoke"),
        help="same: one machine goes on under this id, and boots heard from now on count;"
        " revoke: the id is thrown out for ever, and both machines must enrol anew",
    )
    for one in (listing, decide):
        one.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")


def run(options: argparse.Namespace) -> int:
    """List cases, or decide one; an id that ends is thrown out first.

    Raises:
        BadInput: there is no open case of the device, it has no such boot, or nobody knows it.
    """
    from ketang_center import clones, settings
    from ketang_center.store.reading import StoreReader

    folder = settings.read(options.settings).data_dir
    with StoreReader(folder) as reading:
        if options.what == "list":
            for one in clones.cases(reading, only_open=options.open):
                print(_as_json(one))
            return 0
        print(_as_json(_decide(reading, folder, options)))
    return 0


def _decide(reading: "StoreReader", folder: Path, options: argparse.Namespace) -> "Case":
    from ketang_center import clones
    from ketang_center.access.audit import Audit
    from ketang_center.enrolment.book import Book
    from ketang_center.enrolment.office import Office, Why
    from ketang_center.enrolment_views import school_of
    from ketang_center.registry.database import Registry
    from ketang_center.store.sightings import Future

    device, future, now_ms = options.device, Future(options.then), _now_ms()
    clones.undecided(reading, device, options.admit)
    with (
        Registry(folder / "registry.db") as registry,
        Book(folder / "enrolment.db") as book,
        closing(Audit(folder / "audit.db")) as audit,
    ):
        unit = school_of(book, registry, device, now_ms)
        if future is Future.REVOKE:
            # First, for a crash between the two leaves a case that still asks.
            Office(book, registry, audit, _now_ms).throw_out(device, Why.CLONE, WHO)
        audit.note(now_ms, WHO, "clone_decided", f"{device} {future.value}", unit)
    return clones.decide(reading, device, options.admit, future, by=WHO, now_ms=now_ms)


def _now_ms() -> int:
    return time.time_ns() // 10**6


def _as_json(case: "Case") -> str:
    return json.dumps(asdict(case), ensure_ascii=False)
