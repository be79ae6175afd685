"""The audit log only grows, and shows when somebody tampered."""

import hashlib
import json
import sqlite3
import threading

import pytest

from ketang_center.access.audit import (
    HEADS,
    Asked,
    Audit,
    Head,
    read_heads,
    send_head,
    verify,
    walk,
)
from ketang_contract.errors import BadInput


@pytest.fixture
def audit(tmp_path):
    found = Audit(tmp_path / "audit.db")
    yield found
    found.close()


def tamper(tmp_path, *sql):
    with sqlite3.connect(tmp_path / "audit.db") as db:
        db.execute("DROP TRIGGER IF EXISTS audit_keeps")
        db.execute("DROP TRIGGER IF EXISTS audit_stays")
        for one in sql:
            db.execute(one)


def test_an_entry_cannot_be_changed_or_deleted(audit, tmp_path):
    audit.note(1, "school:s1", "device_day", "d")
    with sqlite3.connect(tmp_path / "audit.db") as db:
        for sql in ("UPDATE audit SET who = 'x'", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                db.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET subject = 'other' WHERE no = 2",
        "UPDATE audit SET unit = 's1' WHERE no = 2",
        "UPDATE audit SET at_ms = 9 WHERE no = 2",
        "DELETE FROM audit WHERE no = 2",
    ],
)
def test_an_entry_changed_behind_the_logs_back_breaks_the_chain(audit, tmp_path, sql):
    for no in range(4):
        audit.note(no, "school:s1", "device_day", f"d{no}")
    assert audit.first_broken() is None
    tamper(tmp_path, sql)
    assert audit.first_broken() == 2


def test_what_a_unit_says_cannot_be_moved_into_the_subject(audit, tmp_path):
    audit.note(1, "ann", "account_added", "ben", "s1")
    tamper(tmp_path, "UPDATE audit SET subject = 'ben s1', unit = ''")
    assert audit.first_broken() == 1


def test_after_an_entry_that_could_not_be_written_the_next_one_is(audit):
    audit._db.execute(
        "CREATE TEMP TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT raise(FAIL, 'disk'); END"
    )
    with pytest.raises(sqlite3.DatabaseError, match="disk"):
        audit.note(1, "school:s1", "device_day", "d")
    audit._db.execute("DROP TRIGGER broken")
    audit.note(2, "school:s1", "device_day", "d")
    assert [one.at_ms for one in audit] == [2]
    assert audit.first_broken() is None


def test_a_head_kept_elsewhere_shows_an_end_that_was_cut_off_and_a_log_written_anew(tmp_path):
    path, away = tmp_path / "audit.db", tmp_path / "away"
    away.mkdir()
    audit = Audit(path)
    assert send_head(audit, away, 0).no == 0
    for no in range(5):
        audit.note(no, "ann", "login", "")
        send_head(audit, away, no)
    audit.close()
    heads = read_heads(away / HEADS)
    assert [one.no for one in heads] == [0, 1, 2, 3, 4, 5]
    assert verify(walk(path), heads).broken is None
    tamper(tmp_path, "DELETE FROM audit WHERE no > 3")
    assert verify(walk(path)).broken is None, "the chain alone cannot tell"
    assert verify(walk(path), heads).broken == 4
    path.unlink()
    anew = Audit(path)
    for no in range(5):
        anew.note(no, "ann", "login", "another story")
    assert anew.verify().broken is None
    assert anew.verify(heads).broken == 1
    anew.close()


def test_a_head_file_is_read_past_a_last_line_cut_short_and_nothing_else(tmp_path):
    path = tmp_path / HEADS
    good = json.dumps({"at_ms": 1, "no": 1, "hash": "ab"})
    path.write_text(f'{good}\n{{"at_ms": 2, "no"', "utf-8")
    assert read_heads(path) == [Head(1, "ab")]
    for text in ("", "nonsense\n" + good + "\n", "{}\n"):
        path.write_text(text, "utf-8")
        with pytest.raises(BadInput):
            read_heads(path)
    with pytest.raises(BadInput):
        read_heads(tmp_path / "nowhere")


def test_a_log_of_the_first_release_still_holds_and_goes_on(tmp_path):
    path = tmp_path / "audit.db"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE audit (no INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL,"
            " action TEXT NOT NULL, subject TEXT NOT NULL, hash TEXT NOT NULL)"
        )
        body = json.dumps(["0" * 64, 1, 7, "school:s1", "device_day", "d"])
        made = hashlib.sha256(body.encode()).hexdigest()
        db.execute("INSERT INTO audit VALUES (1, 7, 'school:s1', 'device_day', 'd', ?)", (made,))
    assert verify(walk(path)).broken is None, "read without being touched"
    audit = Audit(path)
    audit.note(8, "ann", "login", "", "s1")
    assert [one.unit for one in audit] == ["", "s1"]
    assert audit.first_broken() is None
    audit.close()


def test_a_page_is_the_newest_first_and_narrowed_by_who_what_and_where(audit):
    for no, (who, action, unit) in enumerate(
        [("ann", "login", ""), ("ben", "login", ""), ("ann", "device_day", "s1"), ("x", "y", "s2")]
    ):
        audit.note(no, who, action, "", unit)

    def found(**asked):
        return [one.no for one in audit.page(Asked(**asked), limit=10)]

    assert found() == [4, 3, 2, 1]
    assert found(who="ann") == [3, 1]
    assert found(action="login") == [2, 1]
    assert found(who="ann", action="login") == [1]
    assert found(units=frozenset({"s1"})) == [3]
    assert found(units=frozenset()) == []
    assert audit.count(Asked(who="ann")) == 2
    assert [one.no for one in audit.page(Asked(), limit=2, skip=1)] == [3, 2]
    assert audit.actions() == ["device_day", "login", "y"]
    assert audit.actions(frozenset({"s1"})) == ["device_day"]
    assert audit.actions(frozenset()) == []


def test_a_part_of_a_long_log_is_found_by_its_index(audit, tmp_path):
    audit.note(1, "a", "b", "c", "s1")
    with sqlite3.connect(tmp_path / "audit.db") as db:
        plan = db.execute(
            "EXPLAIN QUERY PLAN SELECT count(*) FROM audit"
            " WHERE unit IN (SELECT value FROM json_each(?))",
            ('["s1"]',),
        ).fetchall()
    assert any("audit_by_unit" in row[-1] for row in plan)


def test_many_threads_write_one_chain(audit):
    threads = [
        threading.Thread(target=lambda: [audit.note(1, "a", "b", "c") for _ in range(20)])
        for _ in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    verdict = audit.verify()
    assert (verdict.count, verdict.broken) == (80, None)
    assert verdict.head == audit.head()
