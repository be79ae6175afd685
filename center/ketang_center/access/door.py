"""Log-in by password: equal work for every name, a lock-out that binds the source alone.

An attempt counts as a failure before the password is checked and is forgiven after, so that a
thousand sent at once are no more than a thousand sent in turn. Two counts run: one of the source,
and one of the source at that name, which another account's success does not clear.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ketang_center.access.accounts import Account, Accounts, BadAccount, name_of
from ketang_center.access.audit import Audit
from ketang_center.access.passwords import Desk, outdated
from ketang_center.access.throttle import Throttle
from ketang_center.security import SecurityLog
from ketang_contract.errors import KetangError

UNKNOWN = "?"
"""Stands in logs for a name no account has: it may well be a password typed in the wrong field."""


class NotLetIn(KetangError):
    """Name and password do not fit together, or the account is disabled; which, is not told."""


class Locked(KetangError):
    """The source has failed too often. Caller: tell it to wait ``wait_s`` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"locked for {wait_s:.0f} s")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tries from where, and when."""

    source: str
    name: str
    at_ms: int

    @property
    def at_s(self) -> float:
        """The moment in seconds, as throttles count."""
        return self.at_ms / 1000

    @property
    def aimed(self) -> str:
        """The source at this name."""
        return f"{self.source} {self.name}"


class Door:
    """One for the whole console; all on the event loop's thread but the hashing."""

    def __init__(
        self, accounts: Accounts, audit: Audit, security: SecurityLog, clock: Callable[[], int]
    ) -> None:
        self.desk = Desk()
        self._accounts, self._audit, self._security = accounts, audit, security
        self._clock = clock
        self._by_source, self._by_aim = Throttle(), Throttle()

    async def enter(self, source: str, typed: str, password: str) -> Account:
        """Check a name and a password, and return the account.

        Raises:
            NotLetIn: they do not fit.
            Locked: the source must wait; nothing was checked.
            Busy: too many are being checked.
        """
        try:
            name = name_of(typed)
        except BadAccount:
            name = ""
        account = self._accounts.get(name) if name else None
        attempt = Attempt(source, account.name if account else UNKNOWN, self._clock())
        self._count(attempt)
        kept = account.password_hash if account and not account.disabled else ""
        fits = await self.desk.matches(kept, password)
        # Asked again: it may have been disabled, or given another password, while this was checked.
        now = self._accounts.get(name) if account else None
        if not fits or now is None or now.disabled or now.password_hash != kept:
            self._failed(attempt)
            raise NotLetIn(attempt.name)
        self._by_source.succeeded(attempt.source)
        self._by_aim.succeeded(attempt.aimed)
        if outdated(kept):
            self._accounts.rehash(name, kept, await self.desk.hashed(password))
        return now

    def refused(self, source: str, name: str, detail: str) -> None:
        """Note a log-in that another way of vouching did not let through."""
        self._security.note(self._clock(), "login_failed", name, source, detail)

    def _count(self, attempt: Attempt) -> None:
        """Take the attempt as failed until it succeeds.

        Raises:
            Locked: it may not be made at all.
        """
        wait_s = max(
            self._by_source.locked_s(attempt.source, attempt.at_s),
            self._by_aim.locked_s(attempt.aimed, attempt.at_s),
        )
        locks = False
        if not wait_s:
            locks = self._by_source.failed(attempt.source, attempt.at_s)
            locks |= self._by_aim.failed(attempt.aimed, attempt.at_s)
            wait_s = max(
                self._by_source.locked_s(attempt.source, attempt.at_s),
                self._by_aim.locked_s(attempt.aimed, attempt.at_s),
            )
        if locks:
            self._audit.note(attempt.at_ms, attempt.name, "login_locked", "")
        if wait_s:
            self._security.note(attempt.at_ms, "login_locked", attempt.name, attempt.source)
            raise Locked(wait_s)

    def _failed(self, attempt: Attempt) -> None:
        self._security.note(attempt.at_ms, "login_failed", attempt.name, attempt.source)
        self._audit.note(attempt.at_ms, attempt.name, "login_failed", "")
