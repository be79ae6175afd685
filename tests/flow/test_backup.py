"""A backup is made while the centre writes, is whole or is not there, and can be put back."""

import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing

import pytest
from tests.regions import KETANG, Region

from ketang_center import backup
from ketang_center.enrolment.book import Book
from ketang_center.registry.database import Registry
from ketang_center.rows_file import RowsFile, Shape
from ketang_contract.errors import BadInput

PAIRS = Shape(
    "CREATE TABLE IF NOT EXISTS one (no INTEGER PRIMARY KEY);"
    "CREATE TABLE IF NOT EXISTS two (no INTEGER PRIMARY KEY);"
)
"""Every transaction adds to both."""


@pytest.fixture
def data(tmp_path):
    """A centre's folder with something of each kind."""
    folder = tmp_path / "data"
    for one in ("diagnostics", "updates/metadata", "updates/targets"):
        (folder / one).mkdir(parents=True)
    (folder / "diagnostics" / "job.zip").write_bytes(b"zip")
    (folder / "updates" / "targets" / "model.bin").write_bytes(b"model")
    (folder / "updates" / "metadata" / "timestamp.json").write_bytes(b"{}")
    Registry(folder / "registry.db").close()
    RowsFile(folder / "control.db", PAIRS).close()
    return folder


def rows(path, table):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  (ours)


def test_each_database_is_copied_at_one_moment_of_a_busy_centre(data, tmp_path):
    stopping, begun = threading.Event(), threading.Event()

    def write():
        with closing(RowsFile(data / "busy.db", PAIRS)) as busy:
            while not stopping.is_set():
                with busy.transaction():
                    for table in ("one", "two"):
                        busy.run(f"INSERT INTO {table} DEFAULT VALUES")
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        for at in range(5):
            made = backup.back_up(data, tmp_path / f"copy-{at}")
            assert (made.databases, made.files) == (3, 3)
    finally:
        stopping.set()
        writer.join(30)
    for at in range(5):
        copy = tmp_path / f"copy-{at}" / "busy.db"
        assert rows(copy, "one") == rows(copy, "two") > 0


def test_what_is_written_and_not_yet_in_the_file_itself_is_in_the_copy(data, tmp_path):
    with closing(RowsFile(data / "busy.db", PAIRS)) as busy:
        for _ in range(3):
            busy.run("INSERT INTO one DEFAULT VALUES")
        backup.back_up(data, tmp_path / "copy")
    assert rows(tmp_path / "copy" / "busy.db", "one") == 3


def test_a_copy_holds_all_of_it_and_is_its_owners_alone(data, tmp_path):
    RowsFile(data / "audit.db", PAIRS).close()
    copy = tmp_path / "there" / "copy"
    made = backup.back_up(data, copy)
    found = sorted(str(one.relative_to(copy)) for one in copy.rglob("*") if one.is_file())
    assert found == [
        "audit.db",
        "control.db",
        "diagnostics/job.zip",
        "registry.db",
        "updates/metadata/timestamp.json",
        "updates/targets/model.bin",
    ]
    assert made.size_bytes == sum((copy / one).stat().st_size for one in found)
    assert copy.stat().st_mode & 0o077 == 0
    assert all((copy / one).stat().st_mode & 0o077 == 0 for one in found if one.endswith(".db"))
    assert next(backup._in_order(data)).name == "control.db", "marks before their rows"


@pytest.mark.parametrize("reason", ["there already", "inside", "no centre", "cannot be written"])
def test_where_it_cannot_be_made_a_line_says_so_and_nothing_is_left(data, tmp_path, reason):
    target = {"inside": data / "copy"}.get(reason, tmp_path / "copy")
    if reason == "there already":
        target.mkdir()
    if reason == "no centre":
        (data / "control.db").unlink()
    if reason == "cannot be written":
        (tmp_path / "file").write_bytes(b"")
        target = tmp_path / "file" / "copy"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match=reason):
        backup.back_up(data, target)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_database_is_told_and_no_backup_is_left_that_looks_whole(data, tmp_path):
    path = data / "busy.db"
    with closing(RowsFile(path, PAIRS)) as busy:
        busy.run_many("INSERT INTO one VALUES (?)", [(no,) for no in range(5000)])
    raw = bytearray(path.read_bytes())
    raw[2 * 4096 : 3 * 4096] = bytes(4096)
    path.write_bytes(raw)
    with pytest.raises(BadInput, match=r"busy\.db"):
        backup.back_up(data, tmp_path / "copy")
    assert [one.name for one in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("name", ["rollouts.db", "filings.db", "enrolment.db", "commands.db"])
def test_a_file_of_a_newer_version_ends_the_start_with_one_line(tmp_path, name):
    region = Region(tmp_path)
    with closing(sqlite3.connect(region.data_dir / name)) as db:
        db.execute("PRAGMA user_version = 99")
    done = subprocess.run(
        [*KETANG, "center", "serve", "--settings", str(region.settings())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert name in last
    assert "a newer version of Ketang has written it" in last
    assert "Traceback" not in done.stderr


@pytest.mark.mosquitto
def test_a_running_centre_is_backed_up_and_put_back_by_two_commands(tmp_path):
    region = Region(tmp_path)
    (asset,) = region.register(1)
    file, copy = region.settings(), tmp_path / "copy"

    def center(*words):
        done = subprocess.run(
            [*KETANG, "center", *words, "--settings", str(file)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with region.broker(), region.center():
        assert "databases" in center("backup", str(copy))
    shutil.rmtree(region.data_dir)
    shutil.copytree(copy, region.data_dir)
    said = center("restored")
    assert "epoch" in said
    assert "rollouts paused: 0" in said
    with Book(region.data_dir / "enrolment.db") as book:
        assert book.asset_of(asset.device) is not None
    with region.broker(), region.center():
        pass
