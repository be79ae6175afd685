"""What a restored backup forgot comes back from the folder off the machine, and nothing else."""

import json
import shutil
import sqlite3

import pytest

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.offsite import FILE, Offsite
from ketang_center.enrolment.values import Asset, Certificate, Code
from ketang_center.registry.values import Kind
from ketang_contract.errors import BadInput

KEY = b"k" * 32


def asset(no, **more):
    return Asset(
        device=f"pc-{no}", school="s1", asset=f"A{no}", room="s1-r1", kind=Kind.OPS_PC, **more
    )


def code(**more):
    said = {"id": "c1", "fingerprint": b"\1" * 32, "school": "s1", "uses": 5, "used": 0}
    return Code(**(said | {"expires_ms": 9, "made_ms": 1, "made_by": "test"} | more))


def certificate(device, serial="a1"):
    return Certificate(
        serial=serial, device=device, key_id="f" * 64, pem="pem", from_ms=1, until_ms=9
    )


@pytest.fixture
def offsite(tmp_path):
    (tmp_path / "away").mkdir()
    return Offsite(tmp_path / "away", KEY)


def live(book):
    """Enrol one device, use a code, throw another out."""
    book.add_assets([asset(1), asset(2)])
    book.add_code(code())
    with book.transaction():
        book.add_certificate(certificate("pc-1"))
        book.use_code("c1")
        book.claim(asset(1), 5)
    book.revoke("pc-2", at_ms=6, why="lost", by="test")


def test_revocations_uses_and_certificates_come_back(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        book.add_assets([asset(9)])
        backup = sqlite3.connect(tmp_path / "backup.db")
        book.rows._db.backup(backup)
        backup.close()
        live(book)
        offsite.send(book.rows)
        expected = (book.assets(), book.codes(), book.revocations(), book.certificates_of("pc-1"))
    with Book(tmp_path / "backup.db") as book:
        assert Offsite(offsite._path.parent, KEY).ahead(book.rows)
        assert not book.is_barred("pc-2")
        assert offsite.bring_back(book.rows) > 0
        found = (book.assets(), book.codes(), book.revocations(), book.certificates_of("pc-1"))
        assert found == expected
        assert offsite.bring_back(book.rows) == 0, "twice, it does nothing"
        assert not offsite.ahead(book.rows)
        book.add_assets([asset(3)])
        assert Offsite(offsite._path.parent, KEY).send(book.rows) == 1, "and the journal goes on"


def test_a_strangers_line_bars_nobody_and_hides_nothing(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        offsite.send(book.rows)
    file = tmp_path / "away" / FILE
    forged = {"no": 99, "body": json.dumps({"table": "barred", "row": ["pc-1", 1, "x", "y"]})}
    file.write_text(file.read_text() + json.dumps(forged | {"mac": "00" * 32}) + "\n")
    with Book(tmp_path / "empty.db") as book:
        offsite.bring_back(book.rows)
        assert not book.is_barred("pc-1")
        assert book.is_barred("pc-2")
    # Taking a line away is noticed: a revocation could have been in it.
    lines = [line for line in file.read_text().splitlines() if line]
    file.write_text("\n".join(lines[:2] + lines[3:]) + "\n")
    with Book(tmp_path / "other.db") as book, pytest.raises(BadInput, match="missing or not ours"):
        offsite.bring_back(book.rows)


def test_a_line_that_a_crash_cut_is_sent_again(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        offsite.send(book.rows)
        file = tmp_path / "away" / FILE
        file.write_bytes(file.read_bytes()[:-20])
        again = Offsite(tmp_path / "away", KEY)
        assert again.send(book.rows) == 1
        with Book(tmp_path / "empty.db") as other:
            again.bring_back(other.rows)
            assert other.revocations() == book.revocations()


def test_a_folder_that_is_away_is_told_and_not_made(tmp_path, offsite):
    shutil.rmtree(tmp_path / "away")
    with Book(tmp_path / "now.db") as book:
        live(book)
        with pytest.raises(OSError, match="not there"):
            offsite.send(book.rows)
        (tmp_path / "away").mkdir()
        assert offsite.send(book.rows) > 0, "what was owed is sent later"


def test_a_bar_is_for_ever_even_against_sql(tmp_path):
    with Book(tmp_path / "now.db") as book:
        live(book)
        with pytest.raises(sqlite3.IntegrityError, match="for ever"):
            book.rows.run("DELETE FROM barred")
        assert not book.revoke("pc-2", at_ms=7, why="lost", by="test"), "barred before"
