"""``ketang command``: ask a device for something from the closed list, and read its answer.

For the centre's operator at the centre's machine. What is asked is written down here; the running
centre signs and sends it within a second.
"""

import argparse
import json
import shutil
import time
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_contract.commands import COUNTDOWN_LEAST_S, COUNTDOWN_MOST_S, What
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ketang_center.command_jobs import Job, Jobs

WHO = "console"
"""How people in the room and the audit log read who asked, at the machine itself."""
_ASKS = {
    "inventory": (What.READ_INVENTORY, "have a device's description read anew"),
    "probe": (What.NETWORK_PROBE, "see how a device reaches the broker"),
    "restart": (What.RESTART_AGENT, "start a device's agent anew"),
    "diagnostics": (What.DIAGNOSTICS, "get an archive, if a person at the device agrees"),
    "shut-down": (What.SHUT_DOWN, "switch devices off after hours, if nobody in the room minds"),
}
_LOOK_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (what, says) in _ASKS.items():
        one = actions.add_parser(name, help=says, description=says)
        one.add_argument("--device", required=True, nargs="+", metavar="D", help="one or several")
        one.add_argument("--who", default=WHO, metavar="NAME", help="shown to people in the room")
        one.add_argument(
            "--wait", type=int, default=0, metavar="S", help="wait so long for the answers"
        )
        if what is What.SHUT_DOWN:
            one.add_argument(
                "--countdown",
                type=int,
                metavar="S",
                help=f"{COUNTDOWN_LEAST_S} to {COUNTDOWN_MOST_S} s in which anyone may cancel",
            )
    status = actions.add_parser("status", help="print what became of a job, as one JSON line")
    status.add_argument("job", metavar="JOB")
    listing = actions.add_parser("list", help="print the latest jobs, as JSON lines")
    listing.add_argument("--device", nargs="+", metavar="D")
    archive = actions.add_parser("archive", help="write a job's diagnostics archive to a file")
    archive.add_argument("job", metavar="JOB")
    archive.add_argument("--out", type=Path, required=True, metavar="FILE")
    for one in actions.choices.values():
        one.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")


def run(options: argparse.Namespace) -> int:
    """Ask, or read: 0 when it was done; with ``--wait``, 1 when not every job is done by then.

    Raises:
        BadInput: no such device or job, or a device was asked too often.
    """
    from ketang_center import settings

    folder = settings.read(options.settings).data_dir
    if options.action in _ASKS:
        return _ask(folder, options)
    with _jobs(folder) as jobs:
        if options.action == "list":
            for one in jobs.of(options.device):
                print(_as_json(one))
        elif options.action == "status":
            print(_as_json(_job(jobs, options.job)))
        else:
            _copy(folder, _job(jobs, options.job), options.out)
    return 0


def _ask(folder: Path, options: argparse.Namespace) -> int:
    from ketang_center import commanding
    from ketang_center.access.audit import Audit
    from ketang_center.enrolment.book import Book
    from ketang_center.enrolment_views import school_of
    from ketang_center.registry.database import Registry

    now_ms = _now_ms()
    with (
        _jobs(folder) as jobs,
        Registry(folder / "registry.db") as registry,
        Book(folder / "enrolment.db") as book,
        closing(Audit(folder / "audit.db")) as audit,
    ):
        units = commanding.units_of(
            options.device,
            lambda device: school_of(book, registry, device, now_ms),
            book.is_barred,
        )
        wish = commanding.Wish(
            what=_ASKS[options.action][0],
            by=options.who,
            units=units,
            countdown_s=getattr(options, "countdown", None),
        )
        asked = [one.job for one in commanding.ask(jobs, audit, wish, now_ms)]
        _wait(jobs, asked, options.wait)
        found = [_job(jobs, one) for one in asked]
    for job in found:
        print(_as_json(job))
    return int(options.wait > 0 and any(one.state != "done" for one in found))


def _wait(jobs: "Jobs", asked: list[str], wait_s: int) -> None:
    until_s = time.monotonic() + wait_s
    while time.monotonic() < until_s:
        if all(_job(jobs, one).is_over for one in asked):
            return
        time.sleep(_LOOK_S)


def _copy(folder: Path, job: "Job", out: Path) -> None:
    from ketang_center.commanding import archive_of

    archive = archive_of(folder, job.job)
    if not archive.exists():
        raise BadInput(f"job {job.job} ({job.what}, {job.state}): has no archive here")
    try:
        shutil.copyfile(archive, out)
    except OSError as problem:
        raise BadInput(f"{out}: {problem.strerror}") from None


def _job(jobs: "Jobs", name: str) -> "Job":
    job = jobs.get(name)
    if job is None:
        raise BadInput(f"there is no job {name!r}")
    return job


@contextmanager
def _jobs(folder: Path) -> "Iterator[Jobs]":
    from ketang_center.command_jobs import Jobs

    with Jobs(folder / "commands.db") as jobs:
        yield jobs


def _now_ms() -> int:
    return time.time_ns() // 10**6


def _as_json(job: "Job") -> str:
    from ketang_center.commanding import result_of

    said = asdict(job) | {"result": result_of(job)}
    del said["envelope"]
    return json.dumps(said, ensure_ascii=False)
