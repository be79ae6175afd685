"""What a restored backup forgot comes back from the folder off the machine, and nothing else."""

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from ketang_center.enrolment import merging
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.merging import PUT_BACK
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


def file_of(tmp_path):
    return tmp_path / "away" / FILE


def copy(book, path):
    backup = sqlite3.connect(path)
    book.rows._db.backup(backup)
    backup.close()
    return Book(path)


def barred(book):
    return {one.device for one in book.revocations()}


def bar(book, *devices, at_ms=6):
    for one in devices:
        book.revoke(one, at_ms=at_ms, why="lost", by="test")


def damage(tmp_path, word):
    """Spoil the lines that hold a word; how many those were."""
    lines = file_of(tmp_path).read_text().splitlines()
    spoilt = [line.replace(word, "X" * len(word)) for line in lines]
    file_of(tmp_path).write_text("\n".join(spoilt) + "\n")
    return sum(one != two for one, two in zip(lines, spoilt, strict=True))


def test_two_histories_with_the_same_numbers_become_one(tmp_path, offsite):
    """Restored while the folder was away, it went on; then the folder came back."""
    with Book(tmp_path / "now.db") as book:
        live(book)
        offsite.send(book.rows)
        restored = copy(book, tmp_path / "restored.db")
        bar(book, *(f"stolen-{no}" for no in range(5)))
        offsite.send(book.rows)
    with restored as book:
        bar(book, *(f"later-{no}" for no in range(8)))
        seen = book.rows.version()
        again = Offsite(tmp_path / "away", KEY)
        assert again.ahead(book.rows)
        assert again.send(book.rows) == 8
        assert again.came_back == 5
        assert book.rows.version() > seen, "whoever watches the book notices"
        assert book.rows.mark(PUT_BACK), "a new epoch is owed"
        both = {"pc-2", *(f"stolen-{no}" for no in range(5)), *(f"later-{no}" for no in range(8))}
        assert barred(book) == both
        bar(book, "last")
        assert again.send(book.rows) == 1
        assert not Offsite(tmp_path / "away", KEY).ahead(book.rows), "and that is all there is"
        assert Offsite(tmp_path / "away", KEY).send(book.rows) == 0
    with Book(tmp_path / "third.db") as book:
        Offsite(tmp_path / "away", KEY).bring_back(book.rows)
        assert barred(book) == both | {"last"}, "all of it is in the file"


def test_of_two_histories_the_stricter_holds(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        book.add_certificate(certificate("pc-3", "c3"))
        offsite.send(book.rows)
        restored = copy(book, tmp_path / "restored.db")
        book.use_code("c1")
        book.use_code("c1")
        book.add_assets([asset(3)])
        bar(book, "pc-3", at_ms=7)
        bar(book, "pc-1", at_ms=7)
        book.replace_asset(replace(asset(1), device="pc-1b", claimed_ms=None))
        offsite.send(book.rows)
    with restored as book:
        book.withdraw_code("c1")
        book.add_certificate(certificate("pc-3", "c4"))
        book.claim(asset(3), 9)
        Offsite(tmp_path / "away", KEY).bring_back(book.rows)
        (kept,) = book.codes()
        assert (kept.used, kept.withdrawn) == (3, True)
        assert [one.revoked_ms for one in book.certificates_of("pc-3")] == [7, 7], "and what it got"
        assert book.asset("s1", "A3").claimed_ms == 9, "a claim is not taken back"
        assert book.asset("s1", "A1").device == "pc-1b", "under its next name"


def test_a_barred_name_does_not_come_back_to_its_asset(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        restored = copy(book, tmp_path / "restored.db")
        book.replace_asset(replace(asset(1), room="s1-r2", claimed_ms=5))
        offsite.send(book.rows)
    with restored as book:
        bar(book, "pc-1")
        book.replace_asset(replace(asset(1), device="pc-1b", claimed_ms=8))
        Offsite(tmp_path / "away", KEY).send(book.rows)
        assert book.asset("s1", "A1").device == "pc-1b"


def test_what_was_written_after_the_restore_is_the_later(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        restored = copy(book, tmp_path / "restored.db")
        book.replace_asset(replace(asset(2), room="s1-r2"))
        offsite.send(book.rows)
    with restored as book:
        book.replace_asset(replace(asset(2), room="s1-r3"))
        Offsite(tmp_path / "away", KEY).send(book.rows)
        assert book.asset("s1", "A2").room == "s1-r3"


def test_a_line_that_was_written_again_does_not_undo_a_later_one(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        bar(book, "pc-1")
        book.replace_asset(replace(asset(1), device="pc-1b", claimed_ms=8))
        offsite.send(book.rows)
        assert damage(tmp_path, '\\"pc-1\\"') > 0
        assert Offsite(tmp_path / "away", KEY).send(book.rows) > 0, "at the end of the file"
    with Book(tmp_path / "empty.db") as other:
        Offsite(tmp_path / "away", KEY).bring_back(other.rows)
        assert other.asset("s1", "A1").device == "pc-1b"
        assert other.is_barred("pc-1")


def test_a_damaged_line_does_not_keep_back_the_bars_behind_it(tmp_path, offsite, caplog):
    with Book(tmp_path / "now.db") as book:
        live(book)
        bar(book, "x-first", "x-middle", "x-last")
        offsite.send(book.rows)
        assert damage(tmp_path, "x-middle") == 1
        with Book(tmp_path / "empty.db") as other:
            Offsite(tmp_path / "away", KEY).bring_back(other.rows)
            assert barred(other) == {"pc-2", "x-first", "x-last"}
            assert "nobody has any more: 1" in caplog.text
        # The centre that still has it writes it again at its next start.
        assert Offsite(tmp_path / "away", KEY).send(book.rows) == 1
        with Book(tmp_path / "second.db") as other:
            Offsite(tmp_path / "away", KEY).bring_back(other.rows)
            assert barred(other) == barred(book)


def test_bars_come_back_before_anything_else(tmp_path, offsite, monkeypatch):
    with Book(tmp_path / "now.db") as book:
        live(book)
        bar(book, "x-last")
        offsite.send(book.rows)
    batches = []
    take_in = merging.take_in

    def watched(rows, lines):
        batches.append([merging.is_bar(one) for one in lines])
        take_in(rows, lines)

    monkeypatch.setattr(merging, "take_in", watched)
    with Book(tmp_path / "empty.db") as other:
        offsite.bring_back(other.rows)
    first, second = batches
    assert first == [True, True]
    assert second
    assert not any(second)


def test_another_key_is_refused_in_one_line(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        offsite.send(book.rows)
        other = Offsite(tmp_path / "away", b"z" * 32)
        for ask in (other.ahead, other.bring_back, other.send):
            with pytest.raises(BadInput, match=r"none of its \d+ lines .* put back the code\.key"):
                ask(book.rows)


def test_an_empty_mount_point_is_not_the_folder(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        offsite.send(book.rows)
        (tmp_path / "away").rename(tmp_path / "elsewhere")
        (tmp_path / "away").mkdir()
        bar(book, "meanwhile")
        for one in (offsite, Offsite(tmp_path / "away", KEY)):
            with pytest.raises(OSError, match="mount the folder"):
                one.send(book.rows)
        with pytest.raises(OSError, match="mount the folder"):
            offsite.ahead(book.rows)
        (tmp_path / "away").rmdir()
        (tmp_path / "elsewhere").rename(tmp_path / "away")
        assert offsite.send(book.rows) == 1


def test_another_file_in_its_place_is_compared_anew(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        all_of_it = offsite.send(book.rows)
        file_of(tmp_path).rename(tmp_path / "old")
        file_of(tmp_path).touch()
        assert offsite.send(book.rows) == all_of_it


def test_the_file_is_its_owners_alone(tmp_path, offsite):
    with Book(tmp_path / "now.db") as book:
        live(book)
        offsite.send(book.rows)
    assert Path(file_of(tmp_path)).stat().st_mode & 0o777 == 0o600


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
