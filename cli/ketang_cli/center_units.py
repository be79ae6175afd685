"""``ketang center units``: load the region's cities, counties, schools and rooms."""

import argparse
import getpass
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from ketang_contract.errors import BadInput


def add_actions(actions: Any) -> None:
    """Declare ``units``."""
    units = actions.add_parser(
        "units", help="load cities, counties, schools and rooms, CSV or XLSX"
    )
    units.add_argument("file", type=Path, metavar="FILE")
    units.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")
    units.add_argument("--check", action="store_true", help="say what would be; write nothing")


def run(options: argparse.Namespace) -> int:
    """Load them, all or none; prints how many of each level.

    Raises:
        BadInput: one line for each row that is wrong.
    """
    from ketang_center import settings
    from ketang_center.access.audit import Audit
    from ketang_center.registry.database import Registry
    from ketang_center.registry.imports import BadRows
    from ketang_center.registry.unit_rows import read_units
    from ketang_center.registry.values import Data, Level

    folder = settings.read(options.settings).data_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Registry(folder / "registry.db") as registry:
        try:
            units = read_units(options.file, registry.tree())
        except BadRows as wrong:
            raise BadInput("\n".join(str(one) for one in wrong.problems)) from None
        if not options.check:
            with closing(Audit(folder / "audit.db")) as audit:
                audit.note(time.time_ns() // 10**6, f"cli:{_login()}", "units", options.file.name)
            registry.load(Data(units=units))
    counts = {level: sum(one.level is level for one in units) for level in Level}
    said = ", ".join(f"{count} {level}" for level, count in counts.items() if count)
    print(f"{'would load' if options.check else 'loaded'}: {said}")
    return 0


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in a bare container
        return "unknown"
