"""Sessions, kept by the server: a browser holds a random token, the file only its SHA-256.

A token the server did not make finds nothing, and none from before a log-in is ever promoted:
logging in always makes a new one. Idle 30 minutes or 12 hours old, it is over.
"""

import hashlib
import secrets
from dataclasses import dataclass

from ketang_center.access.database import AccountsFile

IDLE_MS = 30 * 60_000
ABSOLUTE_MS = 12 * 3_600_000
_NOTED_MS = 30_000
"""A look is noted at most this often: a write for each request would be one too many."""
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A log-in. ``rotate``: its rights were changed, so its next page gets a new token."""

    id: int
    account: str
    csrf: str
    how: str
    made_ms: int
    seen_ms: int
    rotate: bool

    def over(self, now_ms: int) -> bool:
        """Tell whether it has ended by itself."""
        return now_ms - self.seen_ms > IDLE_MS or now_ms - self.made_ms > ABSOLUTE_MS


class Sessions:
    """Reads and writes; any thread."""

    def __init__(self, file: AccountsFile) -> None:
        self._file = file

    def open(self, account: str, how: str, now_ms: int) -> str:
        """Begin a session and return its token; ``how`` is ``password`` or ``oidc``."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._file.transaction() as db:
            db.execute(
                "DELETE FROM session WHERE seen_ms < ? OR made_ms < ?",
                (now_ms - IDLE_MS, now_ms - ABSOLUTE_MS),
            )
            db.execute(
                "INSERT INTO session (token_hash, account, csrf, how, made_ms, seen_ms, rotate)"
                " VALUES (?, ?, ?, ?, ?, ?, 0)",
                (_hash(token), account, secrets.token_urlsafe(_TOKEN_BYTES), how, now_ms, now_ms),
            )
        return token

    def find(self, token: str, now_ms: int) -> Session | None:
        """Return the session of a token; None for any other text, and when it is over."""
        row = self._file.db.execute(
            "SELECT id, account, csrf, how, made_ms, seen_ms, rotate FROM session"
            " WHERE token_hash = ?",
            (_hash(token),),
        ).fetchone()
        found = _session(row) if row else None
        return found if found and not found.over(now_ms) else None

    def touch(self, session: Session, now_ms: int) -> None:
        """Note that a person has looked, so that the session stays."""
        if now_ms - session.seen_ms > _NOTED_MS:
            self._file.db.execute(
                "UPDATE session SET seen_ms = ? WHERE id = ?", (now_ms, session.id)
            )

    def renew(self, session: Session) -> str:
        """Give a session a new token; the old one finds nothing from now on."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._file.transaction() as db:
            db.execute(
                "UPDATE session SET token_hash = ?, csrf = ?, rotate = 0 WHERE id = ?",
                (_hash(token), secrets.token_urlsafe(_TOKEN_BYTES), session.id),
            )
        return token

    def of(self, account: str, now_ms: int) -> list[Session]:
        """Return an account's sessions, the latest first."""
        rows = self._file.db.execute(
            "SELECT id, account, csrf, how, made_ms, seen_ms, rotate FROM session"
            " WHERE account = ? ORDER BY seen_ms DESC, id DESC",
            (account,),
        ).fetchall()
        return [one for one in map(_session, rows) if not one.over(now_ms)]

    def mark(self, account: str) -> None:
        """Let every session of an account get a new token with its next page."""
        self._file.db.execute("UPDATE session SET rotate = 1 WHERE account = ?", (account,))

    def end(self, account: str, no: int) -> bool:
        """End one of an account's sessions; false when it has no such session."""
        return (
            self._file.db.execute(
                "DELETE FROM session WHERE account = ? AND id = ?", (account, no)
            ).rowcount
            > 0
        )

    def end_all(self, account: str, *, but: int | None = None) -> int:
        """End an account's sessions, all or all but one, and say how many."""
        return self._file.db.execute(
            "DELETE FROM session WHERE account = ? AND id <> ?", (account, but or 0)
        ).rowcount


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _session(row: tuple[int, str, str, str, int, int, int]) -> Session:
    no, account, csrf, how, made_ms, seen_ms, rotate = row
    return Session(
        id=no,
        account=account,
        csrf=csrf,
        how=how,
        made_ms=made_ms,
        seen_ms=seen_ms,
        rotate=bool(rotate),
    )
