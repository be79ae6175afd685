"""Makes an enrolment code, and what carries it to a school: the kit and the page to print."""

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.settings import Enrolment
from ketang_center.enrolment.values import Code
from ketang_center.registry.values import Unit
from ketang_contract.errors import BadInput
from ketang_contract.kit import Kit
from ketang_provisioning import codes, kits, sheet

MOST_USES, MOST_DAYS = 5000, 31
MAX_CONTACT = 64
"""Characters of who is to be called, in one line."""
_DAY_MS = 86_400_000
_TRIES = 8


def new_code(
    book: Book, key: bytes, *, school: str, uses: int, days: int, now_ms: int, by: str
) -> tuple[str, Code]:
    """Make a code whose short name is free; it opens nothing before it is in the book.

    Returns:
        Its text, which is kept nowhere, and what the book keeps of it.

    Raises:
        BadInput: no name is free.
    """
    for _ in range(_TRIES):
        text = codes.new_code()
        found = codes.fingerprint(text, key)
        if book.code_named(codes.code_id(found)) is None:
            return text, Code(
                id=codes.code_id(found),
                fingerprint=found,
                school=school,
                uses=uses,
                used=0,
                expires_ms=now_ms + days * _DAY_MS,
                made_ms=now_ms,
                made_by=by,
            )
    raise BadInput("every name that was tried for the code is in use; try again")


def kit_of(settings: Enrolment, made: Code, text: str) -> Kit:
    """Return what a code's kit says."""
    return kits.new_kit(
        url=settings.url,
        code=text,
        school=made.school,
        made_s=made.made_ms // 1000,
        expires_s=made.expires_ms // 1000,
    )


def sheet_of(settings: Enrolment, school: Unit, made: Code, text: str, contact: str) -> bytes:
    """Return a code's page to print, HTML."""
    return sheet.sheet_html(
        sheet.Sheet(
            school=school.id,
            school_zh=school.name_zh,
            school_en=school.name_en,
            code=text,
            uses=made.uses,
            expires_ms=made.expires_ms,
            url=settings.url,
            contact=contact,
        )
    ).encode()


def is_contact(text: str) -> bool:
    """Tell whether a text can be printed as the one to be called."""
    return len(text) <= MAX_CONTACT and (not text or text.isprintable())
