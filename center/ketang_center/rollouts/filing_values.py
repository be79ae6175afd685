"""What the register of filings keeps, as plain frozen values. Times are UTC milliseconds or s."""

from dataclasses import dataclass
from enum import StrEnum


class FilingState(StrEnum):
    """How far a filing has come; ``EXPIRED`` follows from an approved one's end."""

    SUBMITTED = "submitted"
    REVIEWED = "reviewed"
    """Found right, and ready for the approver's signature."""
    APPROVED = "approved"
    EXPIRED = "expired"
    REPLACED = "replaced"
    """A later document for the same stands in its place, or has ended it early."""
    SENT_BACK = "sent_back"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilingEntry:
    """A filing on its way, or at its end. ``no`` names it in the console.

    ``expires_s``, ``issued_s``, ``approver`` and ``envelope`` are the signed document's.
    """

    no: int
    subject: str
    name: str
    version: str
    sha256: str
    number: str
    purpose: str
    data: str
    """Names of ``permits.DataUsed``, with blanks between them."""
    scope: str
    state: FilingState
    submitted_by: str
    submitted_ms: int
    reviewed_by: str = ""
    reviewed_ms: int = 0
    note: str = ""
    """Why it was sent back or withdrawn, or by which it was replaced."""
    closed_by: str = ""
    closed_ms: int = 0
    approved_by: str = ""
    approved_ms: int = 0
    approver: str = ""
    issued_s: int = 0
    expires_s: int = 0
    digest: str = ""
    envelope: str = ""

    def state_at(self, now_s: float) -> FilingState:
        """Return how far it has come at a moment."""
        if self.state is FilingState.APPROVED and self.expires_s <= now_s:
            return FilingState.EXPIRED
        return self.state

    def days_left(self, now_s: float) -> int | None:
        """Return the whole days until an approved one ends, 0 on the last; None of all others."""
        if self.state_at(now_s) is not FilingState.APPROVED:
            return None
        return int((self.expires_s - now_s) // 86_400)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantEntry:
    """A camera grant that was taken in."""

    digest: str
    target: str
    school: str
    purpose: str
    holder: str
    approver: str
    issued_s: int
    from_s: int
    until_s: int
    envelope: str
    taken_by: str
    taken_ms: int
    withdrawn_by: str = ""
    withdrawn_ms: int = 0

    def days_left(self, now_s: float) -> int | None:
        """Return the whole days until it ends; None where it has ended or was withdrawn."""
        if self.withdrawn_ms or self.until_s <= now_s:
            return None
        return int((self.until_s - now_s) // 86_400)
