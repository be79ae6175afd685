"""Accounts and what they are granted. No name is used twice: accounts are disabled, not cut."""

import re
import sqlite3
from dataclasses import dataclass, field

from ketang_center.access.database import AccountsFile
from ketang_center.access.policy import Actor, Grant, Role
from ketang_contract.errors import BadInput

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{1,63}")
MOST_DISPLAY = 64
MOST_SUBJECT = 255
_FIELDS = (
    "SELECT name, display_name, password_hash, disabled, must_change, issuer, subject FROM account"
)


class BadAccount(BadInput):
    """What was asked of an account cannot be; ``reason`` is a short word a page has text for."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person who may log in. ``password_hash`` is empty where only a provider vouches."""

    name: str
    display_name: str
    password_hash: str = field(repr=False)
    disabled: bool
    must_change_password: bool
    issuer: str
    subject: str
    grants: tuple[Grant, ...]

    @property
    def actor(self) -> Actor:
        """The account as authorisation sees it; disabled it may do nothing."""
        return Actor(self.name, () if self.disabled else self.grants)


def name_of(typed: str) -> str:
    """Return the account name in what was typed: names know no capitals.

    Raises:
        BadAccount: it can be no name.
    """
    name = typed.strip().lower()
    if not NAME.fullmatch(name):
        raise BadAccount("name", "an account name has 2 to 64 of a-z, 0-9 and . _ @ -")
    return name


class Accounts:
    """Reads and writes; any thread."""

    def __init__(self, file: AccountsFile) -> None:
        self._file = file

    def add(
        self, name: str, display_name: str, password_hash: str, *, must_change: bool, at_ms: int
    ) -> None:
        """Add an account without grants.

        Raises:
            BadAccount: the name or the display name is wrong, or the name is taken.
        """
        name = self.free_name(name, display_name)
        display_name = display_name.strip() or name
        try:
            with self._file.transaction() as db:
                db.execute(
                    "INSERT INTO account VALUES (?, ?, ?, 0, ?, '', '', ?)",
                    (name, display_name, password_hash, must_change, at_ms),
                )
        except sqlite3.IntegrityError as taken:
            raise BadAccount("taken", f"the account name {name!r} is taken") from taken

    def free_name(self, typed: str, display_name: str) -> str:
        """Return the name an account could be added under.

        Raises:
            BadAccount: the name or the display name is wrong, or the name is taken.
        """
        name, display_name = name_of(typed), display_name.strip()
        if len(display_name) > MOST_DISPLAY or not display_name.isprintable():
            raise BadAccount(
                "display", f"a display name has 1 to {MOST_DISPLAY} printable characters"
            )
        if self.get(name) is not None:
            raise BadAccount("taken", f"the account name {name!r} is taken")
        return name

    def get(self, name: str) -> Account | None:
        """Return an account, disabled or not."""
        row = self._file.db.execute(f"{_FIELDS} WHERE name = ?", (name,)).fetchone()
        return self._account(row) if row else None

    def linked(self, issuer: str, subject: str) -> Account | None:
        """Return the account a provider's subject is linked to."""
        row = self._file.db.execute(
            f"{_FIELDS} WHERE issuer = ? AND subject = ? AND subject <> ''", (issuer, subject)
        ).fetchone()
        return self._account(row) if row else None

    def all(self) -> list[Account]:
        """Return every account, by name."""
        grants: dict[str, list[Grant]] = {}
        for account, role, unit in self._file.db.execute(
            "SELECT account, role, unit FROM granted ORDER BY role, unit"
        ):
            grants.setdefault(account, []).append(Grant(Role(role), unit))
        return [
            _made(row, tuple(grants.get(row[0], ())))
            for row in self._file.db.execute(f"{_FIELDS} ORDER BY name")
        ]

    def set_password(self, name: str, password_hash: str, *, must_change: bool) -> None:
        """Replace the hash."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE account SET password_hash = ?, must_change = ? WHERE name = ?",
                (password_hash, must_change, name),
            )

    def rehash(self, name: str, was: str, password_hash: str) -> None:
        """Keep the same password under today's parameters, unless it was changed meanwhile."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE account SET password_hash = ? WHERE name = ? AND password_hash = ?",
                (password_hash, name, was),
            )

    def set_disabled(self, name: str, *, disabled: bool) -> None:
        """Let an account log in no more, or again."""
        with self._file.transaction() as db:
            db.execute("UPDATE account SET disabled = ? WHERE name = ?", (disabled, name))

    def check_link(self, name: str, issuer: str, subject: str) -> None:
        """Tell whether ``link`` would do.

        Raises:
            BadAccount: the subject is too long, or is linked to another account.
        """
        if len(subject) > MOST_SUBJECT or not subject.isprintable():
            raise BadAccount(
                "subject", f"a subject has at most {MOST_SUBJECT} printable characters"
            )
        has = self.linked(issuer, subject)
        if has is not None and has.name != name:
            raise BadAccount("linked", "that subject is linked to another account")

    def link(self, name: str, issuer: str, subject: str) -> None:
        """Link an account to a provider's subject; empty ones end the link.

        Raises:
            BadAccount: the subject is too long, or is linked to another account.
        """
        self.check_link(name, issuer, subject)
        try:
            with self._file.transaction() as db:
                db.execute(
                    "UPDATE account SET issuer = ?, subject = ? WHERE name = ?",
                    (issuer if subject else "", subject, name),
                )
        except sqlite3.IntegrityError as taken:
            raise BadAccount("linked", "that subject is linked to another account") from taken

    def grant(self, name: str, grant: Grant) -> None:
        """Give a role on a unit; giving it twice changes nothing."""
        with self._file.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO granted VALUES (?, ?, ?)", (name, grant.role, grant.unit)
            )

    def revoke(self, name: str, grant: Grant) -> None:
        """Take a role on a unit away."""
        with self._file.transaction() as db:
            db.execute(
                "DELETE FROM granted WHERE account = ? AND role = ? AND unit = ?",
                (name, grant.role, grant.unit),
            )

    def _account(self, row: tuple[str, ...]) -> Account:
        return _made(
            row,
            tuple(
                Grant(Role(role), unit)
                for role, unit in self._file.db.execute(
                    "SELECT role, unit FROM granted WHERE account = ? ORDER BY role, unit",
                    (row[0],),
                )
            ),
        )


def _made(row: tuple[str, ...], grants: tuple[Grant, ...]) -> Account:
    name, display_name, password_hash, disabled, must_change, issuer, subject = row
    return Account(
        name=name,
        display_name=display_name,
        password_hash=password_hash,
        disabled=bool(disabled),
        must_change_password=bool(must_change),
        issuer=issuer,
        subject=subject,
        grants=grants,
    )
