"""``ketang filing submit | review | approve | withdraw | take | list``: the centre's register.

What is done here is done as an account of the console (``--as``, proved by its password), with that
account's roles: who submits does not approve. The audit log says that it was done at the machine
itself.
"""

import argparse
import getpass
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_cli import own_account
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_center.access.policy import Actor
    from ketang_center.rollouts.filing_desk import FilingDesk
    from ketang_center.rollouts.filings import Filings


@dataclass(frozen=True, slots=True)
class _Open:
    """The register, and who acts on it."""

    filings: "Filings"
    desk: "FilingDesk"
    actor: "Actor"
    by: str


def add_actions(actions: Any) -> None:
    """Declare what is done at the centre."""
    submit = actions.add_parser("submit", help="hand a proposal in: a publisher's act")
    submit.add_argument("file", type=Path, metavar="PROPOSAL.TOML")
    review = actions.add_parser("review", help="find it right, and write what is to be signed")
    review.add_argument("no", type=int, metavar="NO")
    what = review.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="PROPOSAL.TOML", help="it is right; for `sign`")
    what.add_argument("--send-back", default="", metavar="WHY", help="it is not")
    approve = actions.add_parser("approve", help="take in the filing that the approver has signed")
    approve.add_argument("no", type=int, metavar="NO")
    approve.add_argument("file", type=Path, metavar="FILING.JSON")
    withdraw = actions.add_parser(
        "withdraw", help="take a filing back: devices stop what it allowed"
    )
    withdraw.add_argument("no", type=int, metavar="NO")
    withdraw.add_argument("--why", required=True, metavar="TEXT")
    take = actions.add_parser("take", help="take in a camera grant that both have signed")
    take.add_argument("file", type=Path, metavar="GRANT.JSON")
    listing = actions.add_parser("list", help="list filings, or camera grants")
    listing.add_argument("--grants", action="store_true", help="camera grants, by school")
    listing.add_argument("--soon", action="store_true", help="only what ends within 30 days")
    listing.add_argument("--json", action="store_true")
    listing.add_argument("--csv", type=Path, metavar="FILE")
    for one in (submit, review, approve, withdraw, take):
        own_account.add_arguments(one)
    for one in (submit, review, approve, withdraw, take, listing):
        one.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: a person's mistake, or not this account's to do; in one line.
    """
    from ketang_center.access.scope import OutOfScope

    if options.action == "list":
        return _list(options)
    try:
        with _opened(options) as found:
            print(_DOES[options.action](found, options))
    except OutOfScope as unit:
        raise BadInput(f"{options.account}: may not do this at {str(unit)[:60]!r}") from None
    return 0


def _submit(found: _Open, options: argparse.Namespace) -> str:
    from ketang_provisioning.permits import read_proposal

    no = found.desk.submit(found.actor, read_proposal(options.file), found.by)
    return f"filing {no}: submitted; next: ketang filing review {no}"


def _review(found: _Open, options: argparse.Namespace) -> str:
    from ketang_center.rollouts.filing_desk import proposal_of
    from ketang_cli.listing import write
    from ketang_provisioning.permits import write_proposal

    no, right = options.no, options.out is not None
    if right and options.out.exists():
        raise BadInput(f"{options.out}: is there already; nothing is overwritten")
    found.desk.review(found.actor, no, right=right, note=options.send_back, by=found.by)
    if not right:
        return f"filing {no}: sent back"
    one = found.filings.filing(no)
    if one is not None:
        write(options.out, write_proposal(proposal_of(one)).encode())
    return f"{options.out}: for the approver, to sign off line: ketang filing sign"


def _approve(found: _Open, options: argparse.Namespace) -> str:
    from ketang_cli.filing import read_file

    made = found.desk.approve(found.actor, options.no, read_file(options.file), found.by)
    return f"filing {made.no}: approved by {made.approver}, number {made.number}"


def _withdraw(found: _Open, options: argparse.Namespace) -> str:
    found.desk.withdraw(found.actor, options.no, options.why, found.by)
    return f"filing {options.no}: withdrawn"


def _take(found: _Open, options: argparse.Namespace) -> str:
    from ketang_cli.filing import read_file

    made = found.desk.take_grant(found.actor, read_file(options.file), found.by)
    return f"{made.school} {made.target}: granted by {made.holder} and {made.approver}"


_DOES = {
    "submit": _submit,
    "review": _review,
    "approve": _approve,
    "withdraw": _withdraw,
    "take": _take,
}


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[_Open]:
    """Open the register for an account.

    Raises:
        BadInput: there is no such account, it was disabled, or it is not proved to be one's own.
    """
    from ketang_center import settings
    from ketang_center.access.audit import Audit
    from ketang_center.enrolment.book import Book
    from ketang_center.registry.database import Registry
    from ketang_center.rollouts.filing_desk import FilingDesk, trust_in
    from ketang_center.rollouts.filings import Filings

    chosen = settings.read(options.settings)
    folder = chosen.data_dir
    trust = chosen.enrolment.trust if chosen.enrolment else None
    with ExitStack() as stack:
        registry = stack.enter_context(Registry(folder / "registry.db"))
        filings = stack.enter_context(Filings(folder / "filings.db", _now_ms))
        audit = Audit(folder / "audit.db")
        stack.callback(audit.close)
        account = own_account.proved(folder, options.account, password_stdin=options.password_stdin)
        book = stack.enter_context(Book(folder / "enrolment.db"))
        desk = FilingDesk(filings, registry.tree(), audit, lambda: trust_in(trust), _now_ms, book)
        yield _Open(filings, desk, account.actor, f"(cli:{_login()})")


def _list(options: argparse.Namespace) -> int:
    from ketang_center import settings
    from ketang_center.rollouts.filings import Filings
    from ketang_cli import listing

    folder = settings.read(options.settings).data_dir
    if not (folder / "filings.db").exists():
        listing.show(options, [], "nothing filed yet")
        return 0
    with Filings(folder / "filings.db", _now_ms) as filings:
        rows = (_grant_rows if options.grants else _filing_rows)(filings, soon=options.soon)
    listing.show(options, rows, "none")
    return 0


def _filing_rows(filings: "Filings", *, soon: bool) -> list[dict[str, object]]:
    now_s = _now_ms() // 1000
    return [
        {
            "no": one.no,
            "state": one.state_at(now_s).value,
            "days_left": _days(one.days_left(now_s)),
            "subject": one.subject,
            "name": one.name,
            "version": one.version,
            "number": one.number,
            "scope": one.scope,
            "purpose": one.purpose,
            "data": one.data,
            "approver": one.approver,
            "submitted_by": one.submitted_by,
        }
        for one in (filings.expiring(now_s) if soon else filings.filings())
    ]


def _grant_rows(filings: "Filings", *, soon: bool) -> list[dict[str, object]]:
    from ketang_contract.permits import SOON_S

    now_s = _now_ms() // 1000
    return [
        {
            "school": one.school,
            "target": one.target,
            "days_left": _days(one.days_left(now_s)),
            "withdrawn": bool(one.withdrawn_ms),
            "holder": one.holder,
            "approver": one.approver,
            "digest": one.digest[:12],
        }
        for one in filings.all_grants()
        if not soon or (one.days_left(now_s) is not None and one.until_s <= now_s + SOON_S)
    ]


def _days(left: int | None) -> object:
    return "" if left is None else left


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in a bare container
        return "unknown"


def _now_ms() -> int:
    return time.time_ns() // 10**6
