"""``ketang center account`` and ``ketang center audit``: what is done at the centre's own machine.

Whoever may write the centre's files needs nobody's leave here; so the first administrator is made
here, and what is done here is in the audit log as done by ``console``.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_center.access.accounts import Account, Accounts
    from ketang_center.access.audit import Audit
    from ketang_center.access.policy import Grant
    from ketang_center.access.sessions import Sessions

WHO = "console"
"""How the audit log names what was done at the machine itself."""
_ROLES = ("viewer", "operator", "publisher", "approver", "admin")
_NEEDED = {
    "short": "12 characters at least",
    "long": "256 characters at most",
    "name": "it must not contain the account's name",
    "common": "it is one of those everybody tries",
}


@dataclass(frozen=True, slots=True)
class _Books:
    accounts: "Accounts"
    sessions: "Sessions"
    audit: "Audit"
    folder: Path

    def note(self, action: str, subject: str, unit: str = "") -> None:
        self.audit.note(_now_ms(), WHO, action, subject, unit)


def add_arguments(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare ``account`` and ``audit`` below ``ketang center``."""
    _account_arguments(actions.add_parser("account", help="add, list, disable, grant, reset"))
    audit = actions.add_parser("audit", help="check the audit log's chain, or write it out")
    what = audit.add_subparsers(dest="what", required=True, metavar="WHAT")
    verify = what.add_parser("verify", help="walk the chain: 0 when it holds, 1 when it is broken")
    verify.add_argument(
        "--head", type=Path, metavar="FILE", help="heads kept off the machine: nothing was cut off"
    )
    export = what.add_parser("export", help="print every entry as one JSON line")
    for one in (verify, export):
        _settings(one)


def _account_arguments(account: argparse.ArgumentParser) -> None:
    what = account.add_subparsers(dest="what", required=True, metavar="WHAT")
    add = what.add_parser("add", help="add an account; prints its first password")
    grant = what.add_parser("grant", help="give a role on a unit, or take it away")
    reset = what.add_parser("reset", help="give a new first password, and end its sessions")
    disable = what.add_parser("disable", help="let it sign in no more, and end its sessions")
    listing = what.add_parser("list", help="print every account with its roles")
    for one in (add, grant, reset, disable):
        one.add_argument("name", metavar="NAME")
    for one in (add, grant):
        one.add_argument("--role", action="append", required=True, choices=_ROLES)
        one.add_argument("--unit", required=True, help="its id; the role holds below it too")
    for one in (add, reset):
        one.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )
    add.add_argument("--display", default="", metavar="TEXT", help="the name that pages show")
    grant.add_argument("--revoke", action="store_true", help="take the role away")
    disable.add_argument("--undo", action="store_true", help="let it sign in again")
    for one in (add, grant, reset, disable, listing):
        _settings(one)


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")


def run(options: argparse.Namespace) -> int:
    """Do what was asked of accounts or the audit log.

    Raises:
        BadInput: an account, unit, password or file is wrong; in one line.
    """
    from ketang_center import settings

    folder = settings.read(options.settings).data_dir
    if options.action == "audit":
        return _verify(folder, options.head) if options.what == "verify" else _export(folder)
    with _opened(folder) as books:
        {
            "add": _add,
            "grant": _grant,
            "reset": _reset,
            "disable": _disable,
            "list": _list,
        }[options.what](books, options)
    return 0


def _add(books: _Books, options: argparse.Namespace) -> None:
    from ketang_center.access.accounts import name_of

    name, grants = name_of(options.name), _grants(books, options)
    password, hashed = _password(name, from_stdin=options.password_stdin)
    books.accounts.free_name(name, options.display)
    for one in grants:
        books.note("account_added", f"{name} {one.role}", one.unit)
    books.accounts.add(
        name, options.display, hashed, must_change=not options.password_stdin, at_ms=_now_ms()
    )
    for one in grants:
        books.accounts.grant(name, one)
    _tell(name, password)


def _grant(books: _Books, options: argparse.Namespace) -> None:
    account = _account(books, options.name)
    for one in _grants(books, options, account.grants):
        done = "account_revoked" if options.revoke else "account_granted"
        books.note(done, f"{account.name} {one.role}", one.unit)
        if options.revoke:
            books.accounts.revoke(account.name, one)
        else:
            books.accounts.grant(account.name, one)
    books.sessions.mark(account.name)


def _reset(books: _Books, options: argparse.Namespace) -> None:
    account = _account(books, options.name)
    password, hashed = _password(account.name, from_stdin=options.password_stdin)
    books.note("account_reset", account.name, _unit(account))
    books.accounts.set_password(account.name, hashed, must_change=not options.password_stdin)
    books.sessions.end_all(account.name)
    _tell(account.name, password)


def _disable(books: _Books, options: argparse.Namespace) -> None:
    account = _account(books, options.name)
    done = "account_enabled" if options.undo else "account_disabled"
    books.note(done, account.name, _unit(account))
    books.accounts.set_disabled(account.name, disabled=not options.undo)
    books.sessions.end_all(account.name)


def _list(books: _Books, _: argparse.Namespace) -> None:
    for one in books.accounts.all():
        grants = ", ".join(f"{grant.role} on {grant.unit}" for grant in one.grants) or "no role"
        state = " (disabled)" if one.disabled else ""
        print(f"{one.name}{state}: {grants}")


def _verify(folder: Path, heads: Path | None) -> int:
    from ketang_center.access import audit

    kept = audit.read_heads(heads) if heads else []
    found = audit.verify(audit.walk(folder / "audit.db"), kept)
    if found.broken is not None:
        print(f"broken at entry {found.broken}; the entries before it hold", file=sys.stderr)
        return 1
    print(f"{found.count} entries hold; head {found.head.hash}")
    if kept:
        print(f"{len(kept)} heads kept off the machine are all in it; nothing was cut off")
    return 0


def _export(folder: Path) -> int:
    from ketang_center.access.audit import walk

    for one in walk(folder / "audit.db"):
        print(json.dumps(asdict(one), ensure_ascii=False))
    with _opened(folder) as books:
        books.note("audit_exported", "")
    return 0


def _account(books: _Books, typed: str) -> "Account":
    from ketang_center.access.accounts import name_of

    found = books.accounts.get(name_of(typed))
    if found is None:
        raise BadInput(f"there is no account {typed!r}; see: ketang center account list")
    return found


def _unit(account: "Account") -> str:
    """The unit an act on an account is filed under, for those who may read the audit there."""
    return account.grants[0].unit if account.grants else ""


def _grants(
    books: _Books, options: argparse.Namespace, held: "Sequence[Grant]" = ()
) -> "list[Grant]":
    """Return the roles that were asked for, on a unit there is, and not at odds with ``held``."""
    from ketang_center.access import policy
    from ketang_center.access.policy import Grant, Role
    from ketang_center.registry.database import Registry
    from ketang_center.registry.values import Level

    with Registry(books.folder / "registry.db") as registry:
        tree = registry.tree()
    unit = options.unit
    wanted = [Grant(Role(role), unit) for role in dict.fromkeys(options.role)]
    if getattr(options, "revoke", False):
        return wanted
    if unit not in tree or tree[unit].level is Level.ROOM:
        known = ", ".join(one.id for one in tree.roots()) or "none: load the region first"
        raise BadInput(
            f"--unit: no region, city, county or school {unit!r} is registered; the top is {known}"
        )
    if any(policy.clashes(tree, (*held, *wanted), one) for one in wanted):
        raise BadInput(
            f"{options.name}: one account cannot both publish and approve on {unit}, or above or"
            " below it; give one of the two to another account"
        )
    return wanted


def _password(name: str, *, from_stdin: bool) -> tuple[str, str]:
    """Return a password to be told (empty when it was given) and its hash."""
    from ketang_center.access import passwords

    if not from_stdin:
        made = passwords.temporary()
        return made, passwords.hashed(made)
    given = sys.stdin.readline().rstrip("\r\n")
    fault = passwords.fault_of(given, name)
    if fault:
        raise BadInput(f"the password is not accepted: {_NEEDED[fault]}")
    return "", passwords.hashed(given)


def _tell(name: str, password: str) -> None:
    if password:
        print(f"first password of {name}, to be changed at the first sign-in: {password}")


@contextmanager
def _opened(folder: Path) -> Iterator[_Books]:
    from ketang_center.access.accounts import Accounts
    from ketang_center.access.audit import Audit
    from ketang_center.access.database import AccountsFile
    from ketang_center.access.sessions import Sessions

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    people, audit = AccountsFile(folder / "accounts.db"), Audit(folder / "audit.db")
    try:
        yield _Books(Accounts(people), Sessions(people), audit, folder)
    finally:
        people.close()
        audit.close()


def _now_ms() -> int:
    return time.time_ns() // 10**6
