"""``ketang command``: ask a device for something from the closed list, and read its answer.

For the centre's operator at the centre's machine. What is asked is written down here; the running
centre signs and sends it within a second.

Who asks is read by people in the room, and is never free text: it is the login at this machine, or
an account of the console that may ask those devices.
"""

import argparse
import json
import shutil
import time
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_contract.commands import COUNTDOWN_LEAST_S, COUNTDOWN_MOST_S, What
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ketang_center.access.accounts import Account
    from ketang_center.access.audit import Audit
    from ketang_center.command_jobs import Job, Jobs
    from ketang_center.commanding import Wish
    from ketang_center.registry.tree import Tree

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
        one.add_argument(
            "--as",
            dest="account",
            metavar="ACCOUNT",
            help="an operator of these devices, shown to people in the room; else your login",
        )
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
        BadInput: no such device, job or account, a device was asked too often, or is not the
            account's to ask.
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
            with closing(_audit(folder)) as audit:
                _copy(folder, _job(jobs, options.job), options.out, audit)
    return 0


def _ask(folder: Path, options: argparse.Namespace) -> int:
    from ketang_center import commanding
    from ketang_center.enrolment.book import Book
    from ketang_center.enrolment_views import school_of
    from ketang_center.registry.database import Registry

    now_ms = _now_ms()
    account = _account(folder, options.account) if options.account is not None else None
    with (
        _jobs(folder) as jobs,
        Registry(folder / "registry.db") as registry,
        Book(folder / "enrolment.db") as book,
        closing(_audit(folder)) as audit,
    ):
        units = commanding.units_of(
            options.device,
            lambda device: school_of(book, registry, device, now_ms),
            book.is_barred,
        )
        wish = commanding.Wish(
            what=_ASKS[options.action][0],
            by="",
            units=units,
            countdown_s=getattr(options, "countdown", None),
        )
        made = _asked(jobs, audit, wish, account, registry.tree(), now_ms)
        asked = [one.job for one in made]
        _wait(jobs, asked, options.wait)
        found = [_job(jobs, one) for one in asked]
    for job in found:
        print(_as_json(job))
    return int(options.wait > 0 and any(one.state != "done" for one in found))


def _asked(
    jobs: "Jobs", audit: "Audit", wish: "Wish", account: "Account | None", tree: "Tree", now_ms: int
) -> "list[Job]":
    """Ask as an account, or as whoever is logged in here."""
    from ketang_center import commanding
    from ketang_center.access.scope import OutOfScope
    from ketang_center.rollouts.office import this_person

    person = this_person()
    if account is None:
        by = person.partition(":")[2]
        return commanding.ask(jobs, audit, replace(wish, by=by, logged_as=person), now_ms)
    wish = replace(wish, logged_with=f"({person})")
    try:
        return commanding.ask_as(account.actor, tree, jobs, audit, wish, now_ms)
    except OutOfScope as where:
        raise BadInput(
            f"--as {account.name}: is no operator of {where}; name one who is, or leave --as out"
        ) from None


def _account(folder: Path, name: str) -> "Account":
    """Return an account that may sign in.

    Raises:
        BadInput: there is none of this name, or it was disabled.
    """
    from ketang_center.access.accounts import Accounts
    from ketang_center.access.database import AccountsFile

    with closing(AccountsFile(folder / "accounts.db")) as people:
        found = Accounts(people).get(name)
    if found is None or found.disabled:
        raise BadInput(f"--as: {name[:64]!r} is no account that may sign in")
    return found


def _wait(jobs: "Jobs", asked: list[str], wait_s: int) -> None:
    until_s = time.monotonic() + wait_s
    while time.monotonic() < until_s:
        if all(_job(jobs, one).is_over for one in asked):
            return
        time.sleep(_LOOK_S)


def _copy(folder: Path, job: "Job", out: Path, audit: "Audit") -> None:
    """Hand an archive out; that it leaves is in the audit log before it does."""
    from ketang_center.commanding import archive_of
    from ketang_center.rollouts.office import this_person

    archive = archive_of(folder, job.job)
    if not archive.exists():
        raise BadInput(f"job {job.job} ({job.what}, {job.state}): has no archive here")
    subject = f"{job.device} {job.job}"
    audit.note(_now_ms(), this_person(), "command_archive_taken", subject, job.unit)
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


def _audit(folder: Path) -> "Audit":
    from ketang_center.access.audit import Audit

    return Audit(folder / "audit.db")


def _now_ms() -> int:
    return time.time_ns() // 10**6


def _as_json(job: "Job") -> str:
    from ketang_center.commanding import result_of

    said = asdict(job) | {"result": result_of(job)}
    del said["envelope"]
    return json.dumps(said, ensure_ascii=False)
