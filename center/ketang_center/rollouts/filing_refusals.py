"""Why something cannot be done to a filing or a camera grant: words that pages have text for."""

from enum import StrEnum

from ketang_contract.errors import BadInput


class FilingFault(StrEnum):
    """What stands against it."""

    STATE = "state"
    """It has come too far, or not far enough."""
    SAME_PERSON = "same_person"
    DIFFERS = "differs"
    """What was signed is not what was submitted."""
    NOT_BELIEVED = "not_believed"
    """No device would believe the document; ``detail`` says why."""
    WITHDRAWN = "withdrawn"
    """This very document was taken back once."""
    OLDER = "older"
    AHEAD = "ahead"
    NO_TRUST = "no_trust"
    NOTE = "note"
    TWICE = "twice"


NOT_BELIEVED = (
    "bad_envelope",
    "bad_document",
    "wrong_target",
    "target",
    "forged",
    "mis_scoped",
    "wrong_signer",
    "one_holder",
    "expired",
)
"""Every ``detail`` there is: what ``permit_judging`` refuses, and a room of another school."""


class FilingRefused(BadInput):
    """It cannot be done: a line for the command line, and a word for a page."""

    def __init__(self, reason: str, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.reason, self.detail = FilingFault(reason), detail
