"""Enrolment in the fictitious region: assets, certificates, codes, and who waits for a decision."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from ketang_center import settings
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.settings import Enrolment
from ketang_center.enrolment.values import Asset, Certificate, Code, Reason, Waiting
from ketang_center.registry.values import Kind
from ketang_provisioning import codes
from tests.regions import Region
from tests.web.seed import NOW_MS

DAY_MS = 86_400_000
HOSTILE = "<img src=x onerror=window.owned=1>"
WAITS = (
    # number, school, what it says: serial and inventory number, why it waits
    (1, "s1", "SN-S1-0001", "A1", Reason.ALREADY_CLAIMED, "s1-pc-1"),
    (2, "s1", "SN-NEW-77", "A9", Reason.NOT_REGISTERED, ""),
    (3, "s1", HOSTILE, HOSTILE, Reason.DOUBTFUL_SERIAL, ""),
    (4, "s2", "SN-S2-0003", "", Reason.ASKED, "s2-pc-3"),
    (5, "s2", "SN-S2-0001", "A1", Reason.EXPIRED_TOO_LONG, "s2-pc-1"),
    (6, "s3", "SN-S3-0002", "A2", Reason.ASKED, "s3-pc-2"),
)


@cache
def region() -> Region:
    now = datetime.fromtimestamp(NOW_MS / 1000 - 86_400, UTC)
    return Region(Path(mkdtemp(prefix="ketang-region-")), now=now)


def enrolment() -> Enrolment:
    """The settings of a centre with all its keys, made once for a run."""
    return settings.read(region().settings()).enrolment


def certificate(device: str, until_ms: int, no: int = 0) -> Certificate:
    return Certificate(
        serial=f"{abs(hash((device, no))):x}",
        device=device,
        key_id=f"key-{device}-{no}",
        pem="PEM",
        from_ms=until_ms - 90 * DAY_MS,
        until_ms=until_ms,
    )


def fill_book(book: Book, *, count: int = 10, uses: int = 20) -> None:
    """Three schools: 1 to 4 are in (2's certificate has ended, 3's ends soon), the rest is not."""
    key = codes.read_key(enrolment().code_key)
    for school in ("s1", "s2", "s3"):
        book.add_assets(
            [
                Asset(
                    device=f"{school}-pc-{no}",
                    school=school,
                    asset=f"A{no}",
                    room=f"{school}-r1",
                    kind=Kind.PROJECTOR if no == count else Kind.OPS_PC,
                    serial="" if no == count else f"SN-{school.upper()}-{no:04}",
                )
                for no in range(1, count + 1)
            ]
        )
        for no, days in ((1, 60), (2, -3), (3, 12), (4, 80)):
            if (school, no) in {("s2", 3), ("s3", 2)}:
                continue
            book.claim(book.asset(school, f"A{no}"), NOW_MS - 100 * DAY_MS)
            book.add_certificate(certificate(f"{school}-pc-{no}", NOW_MS + days * DAY_MS))
        text = codes.new_code()
        found = codes.fingerprint(text, key)
        book.add_code(
            Code(
                id=f"c0de{school}",
                fingerprint=found,
                school=school,
                uses=uses,
                used=3,
                expires_ms=NOW_MS + 3 * DAY_MS,
                made_ms=NOW_MS - DAY_MS,
                made_by="root",
            )
        )
    for no, school, serial, asset, reason, device in WAITS:
        book.wait(
            Waiting(
                no=0,
                key_id=f"waits-{no}",
                school=school,
                code_id="" if reason is Reason.EXPIRED_TOO_LONG else f"c0de{school}",
                serial=serial,
                asset=asset,
                source="192.0.2.7",
                reason=reason,
                asked_ms=NOW_MS - (10 - no) * 1_800_000,
                device=device,
            )
        )


PEOPLE_OF_ENROLMENT = (
    ("county-operator", "operator", "lan-xian"),
    ("other-operator", "operator", "lan-qu"),
    ("region-operator", "operator", "lan"),
)
