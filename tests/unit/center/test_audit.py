"""The audit log only grows, and shows when somebody tampered."""

import sqlite3

import pytest

from ketang_center.access.audit import Audit


def test_an_entry_cannot_be_changed_or_deleted(tmp_path):
    audit = Audit(tmp_path / "audit.db")
    audit.note(1, "school:s1", "device_day", "d")
    with sqlite3.connect(tmp_path / "audit.db") as db:
        for sql in ("UPDATE audit SET who = 'x'", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                db.execute(sql)
    audit.close()


def test_an_entry_changed_behind_the_logs_back_breaks_the_chain(tmp_path):
    audit = Audit(tmp_path / "audit.db")
    for no in range(3):
        audit.note(no, "school:s1", "device_day", f"d{no}")
    assert audit.first_broken() is None
    with sqlite3.connect(tmp_path / "audit.db") as db:
        db.execute("DROP TRIGGER audit_keeps")
        db.execute("UPDATE audit SET subject = 'other' WHERE no = 2")
    assert audit.first_broken() == 2
    audit.close()


def test_after_an_entry_that_could_not_be_written_the_next_one_is(tmp_path):
    audit = Audit(tmp_path / "audit.db")
    audit._db.execute(
        "CREATE TEMP TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT raise(FAIL, 'disk'); END"
    )
    with pytest.raises(sqlite3.DatabaseError, match="disk"):
        audit.note(1, "school:s1", "device_day", "d")
    audit._db.execute("DROP TRIGGER broken")
    audit.note(2, "school:s1", "device_day", "d")
    assert [one.at_ms for one in audit.entries()] == [2]
    assert audit.first_broken() is None
    audit.close()
