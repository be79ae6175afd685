"""Whose account of the console it is that acts at the centre's machine, proved by its password.

Whoever may write the centre's files would pass for anybody by his login alone; so where two people
are asked for, each proves an account.
"""

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_center.access.accounts import Account

_NO_FIT = "name and password do not fit, or the account may not sign in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare whose act it is, and how he proves it."""
    parser.add_argument(
        "--as",
        dest="account",
        required=True,
        metavar="ACCOUNT",
        help="your own account of the console, whose roles count; its password is asked for",
    )
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )


def proved(folder: Path, typed: str, *, password_stdin: bool) -> "Account":
    """Return the account, once its password was given.

    Raises:
        BadInput: it was not; a wrong one is in the audit log.
    """
    from ketang_center.access import passwords
    from ketang_center.access.accounts import Accounts, name_of
    from ketang_center.access.audit import Audit
    from ketang_center.access.database import AccountsFile
    from ketang_center.access.door import UNKNOWN

    name = name_of(typed)
    with (
        closing(AccountsFile(folder / "accounts.db")) as file,
        closing(Audit(folder / "audit.db")) as audit,
    ):
        account = Accounts(file).get(name)
        kept = account.password_hash if account and not account.disabled else ""
        given = _password(name, from_stdin=password_stdin)
        if account is None or not passwords.matches(kept, given):
            who = account.name if account else UNKNOWN
            audit.note(time.time_ns() // 10**6, who, "login_failed", "at the machine")
            raise BadInput(
                f"--as {name}: {_NO_FIT}; one that signs in elsewhere approves at the console"
            )
    if account.must_change_password:
        raise BadInput(f"--as {name}: somebody else made its password; change it at the console")
    return account


def _password(name: str, *, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise BadInput(f"the password of {name}: nobody to ask; a script says --password-stdin")
    from getpass import getpass

    return getpass(f"password of {name}: ")
