"""A file of the centre says which shape it has: older ones follow, newer ones are left alone."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ketang_center.command_jobs import Jobs
from ketang_center.enrolment.rows import Rows as EnrolmentRows
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.filing_rows import FilingRows
from ketang_center.rollouts.rows import Rows as RolloutRows
from ketang_center.rows_file import RowsFile, Shape
from ketang_contract.errors import BadInput

FILES = (RolloutRows, FilingRows, EnrolmentRows, Jobs)
OLD = Path(__file__).parent / "old_files"
FIRST = Shape("CREATE TABLE IF NOT EXISTS one (name TEXT PRIMARY KEY);")
SECOND = Shape(
    "CREATE TABLE IF NOT EXISTS one (name TEXT PRIMARY KEY, size INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE IF NOT EXISTS two (name TEXT);"
    "CREATE TRIGGER IF NOT EXISTS one_stays BEFORE DELETE ON one"
    " BEGIN SELECT raise(ABORT, 'one; stays'); END;",
    ("ALTER TABLE one ADD COLUMN size INTEGER NOT NULL DEFAULT 0",),
)


def version(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def set_version(path, number):
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {number}")


def shape(path):
    """What tables there are and their columns, what indexes and what triggers."""
    with closing(sqlite3.connect(path)) as db:
        made = db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        return {
            (kind, name, tuple(db.execute(f"PRAGMA table_info({name})").fetchall()))
            for kind, name in made.fetchall()
        }


def count(path, table):
    with closing(sqlite3.connect(path)) as db:
        return len(db.execute(f"SELECT * FROM {table}").fetchall())  # noqa: S608  (text of ours)


def old_file(path, name):
    """A file as the first version left it, with rows that its program wrote."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript((OLD / f"{name}-1.sql").read_text("utf-8"))
    return path


def test_a_real_old_book_of_rollouts_becomes_one_of_today_and_loses_nothing(tmp_path):
    path = old_file(tmp_path / "rollouts.db", "rollouts")
    assert version(path) == 0, "the first version wrote no number"
    with RolloutBook(path) as book:
        (rollout,) = book.rollouts()
        assert (rollout.release, rollout.state) == ("lan-1", "finished")
        assert {one.device for one in book.members(rollout.no)} == {"d0", "d1"}
        assert set(book.all_had()) == set(book.all_placed()) == {"d0", "d1"}
        assert [one.what for one in book.history()] == ["finished", "began", "admitted", "placed"]
        book.put_had(book.all_had().values())
        assert book.begin(rollout) == 2
    RolloutBook(tmp_path / "new.db").close()
    assert shape(path) == shape(tmp_path / "new.db")
    assert version(path) == version(tmp_path / "new.db") > 0


@pytest.mark.parametrize(
    ("name", "kind", "table"),
    [
        ("filings", FilingRows, "filing"),
        ("filings", FilingRows, "camera_grant"),
        ("enrolment", EnrolmentRows, "barred"),
        ("enrolment", EnrolmentRows, "journal"),
        ("commands", Jobs, "job"),
    ],
)
def test_an_old_file_becomes_one_of_today_and_keeps_its_rows(name, kind, table, tmp_path):
    path = old_file(tmp_path / "old.db", name)
    rows = count(path, table)
    assert rows > 0
    kind(path).close()
    kind(tmp_path / "new.db").close()
    assert shape(path) == shape(tmp_path / "new.db")
    assert version(path) == version(tmp_path / "new.db") > 0
    assert count(path, table) == rows


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_a_newer_version_is_refused_in_a_line_and_left_as_it_is(kind, tmp_path):
    path = tmp_path / "file.db"
    kind(path).close()
    newer = version(path) + 1
    set_version(path, newer)
    with pytest.raises(BadInput) as caught:
        kind(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "newer version" in said
    assert "\n" not in said
    assert version(path) == newer


@pytest.mark.parametrize("kind", FILES)
def test_a_new_file_is_its_owners_alone(kind, tmp_path):
    kind(tmp_path / "file.db").close()
    assert (tmp_path / "file.db").stat().st_mode & 0o777 == 0o600


def test_steps_bring_a_table_its_new_column_and_the_tables_are_made_after_them(tmp_path):
    with closing(RowsFile(tmp_path / "old.db", FIRST)) as rows:
        rows.run("INSERT INTO one VALUES (?)", "a")
    with closing(RowsFile(tmp_path / "old.db", SECOND)) as rows:
        assert rows.table("SELECT * FROM one") == [("a", 0)]
        with pytest.raises(sqlite3.IntegrityError, match="one; stays"):
            rows.run("DELETE FROM one")
    with closing(RowsFile(tmp_path / "new.db", SECOND)):
        pass
    assert shape(tmp_path / "old.db") == shape(tmp_path / "new.db")


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file.db"
    with closing(RowsFile(path, FIRST)):
        pass
    before = shape(path)
    broken = Shape(SECOND.tables, ("ALTER TABLE one ADD COLUMN size INTEGER; ALTER TABLE none;",))
    with pytest.raises(sqlite3.OperationalError):
        RowsFile(path, broken)
    assert (shape(path), version(path)) == (before, 1)
    with closing(RowsFile(path, SECOND)):
        assert version(path) == 2


def test_a_file_that_several_open_at_once_is_brought_up_to_date_once(tmp_path):
    path = tmp_path / "file.db"
    with closing(RowsFile(path, FIRST)):
        pass
    problems = []

    def reopen():
        try:
            RowsFile(path, SECOND).close()
        except (BadInput, sqlite3.Error) as problem:
            problems.append(problem)

    threads = [threading.Thread(target=reopen) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert not problems
    assert version(path) == 2
