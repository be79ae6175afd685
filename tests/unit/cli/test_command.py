"""``ketang command`` at the centre's machine, while no centre runs."""

import getpass
import json
from contextlib import closing
from dataclasses import replace

import pytest
from tests.regions import Region

from ketang_center import commanding
from ketang_center.access.accounts import Accounts
from ketang_center.access.audit import Audit
from ketang_center.access.database import AccountsFile
from ketang_center.access.policy import Grant, Role
from ketang_center.command_jobs import Jobs, JobState
from ketang_center.enrolment.book import Book
from ketang_cli.main import main


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    made = Region(tmp_path_factory.mktemp("region"))
    made.register(3)
    made.file = made.settings()
    with closing(AccountsFile(made.data_dir / "accounts.db")) as file:
        people = Accounts(file)
        for name, role in (("li", Role.OPERATOR), ("gone", Role.OPERATOR), ("wang", Role.VIEWER)):
            people.add(name, name.title(), "", must_change=False, at_ms=1)
            people.grant(name, Grant(role, "s1"))
        people.set_disabled("gone", disabled=True)
    return made


def noted(region):
    with closing(Audit(region.data_dir / "audit.db")) as audit:
        return audit.entries()


@pytest.fixture(autouse=True)
def login(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "wei")


@pytest.fixture
def run(region, capsys):
    def run(*words, status=0):
        assert main(["command", *words, "--settings", str(region.file)]) == status
        said = capsys.readouterr()
        return [json.loads(line) for line in said.out.splitlines()], said.err

    return run


def test_a_list_of_devices_is_written_down_for_the_running_centre(run, region):
    jobs, _ = run("shut-down", "--device", "s1-pc-1", "s1-pc-2", "--countdown", "90", "--as", "li")
    assert [(one["device"], one["what"], one["state"]) for one in jobs] == [
        ("s1-pc-1", "shut_down", "asked"),
        ("s1-pc-2", "shut_down", "asked"),
    ]
    assert {(one["who"], one["unit"], one["countdown_s"]) for one in jobs} == {("li", "s1", 90)}
    [same], _ = run("status", jobs[0]["job"])
    assert same == jobs[0]
    listed, _ = run("list", "--device", "s1-pc-2")
    assert [one["job"] for one in listed] == [jobs[1]["job"]]
    with Jobs(region.data_dir / "commands.db") as held:
        assert len(held.open_jobs(JobState.ASKED)) == 2
    entries = [one for one in noted(region) if one.who == "li"]
    assert [one.action for one in entries] == ["command_asked"] * 2
    assert all(one.subject.endswith("(local:wei)") for one in entries), "and who sat there"


def test_who_asks_is_the_login_where_no_account_is_named_and_never_free_text(run, region):
    [job], _ = run("probe", "--device", "s1-pc-2")
    assert job["who"] == "wei"
    assert noted(region)[-1].who == "local:wei", "no account of the console's, even of that name"


def test_a_login_that_no_device_would_show_needs_an_account(run, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "Wei Wang")
    _, said = run("restart", "--device", "s1-pc-2", status=2)
    assert "cannot be asked by 'Wei Wang'" in said
    [job], _ = run("restart", "--device", "s1-pc-2", "--as", "li")
    assert job["who"] == "li"


def test_waiting_in_vain_is_told_by_the_exit_status(run):
    jobs, _ = run("inventory", "--device", "s1-pc-3", "--wait", "1", status=1)
    assert jobs[0]["state"] == "asked"


def test_what_cannot_be_asked_is_one_line(run, region):
    with Book(region.data_dir / "enrolment.db") as book:
        book.revoke("s1-pc-3", at_ms=1, why="lost", by="li")
    for words, line in (
        (("probe", "--device", "nobody"), "nobody: no device of this name is at work here"),
        (("probe", "--device", "s1-pc-3"), "s1-pc-3: no device of this name is at work here"),
        (("shut-down", "--device", "s1-pc-1", "--countdown", "5"), "accepted: 60 to 600"),
        (("probe", "--device", "s1-pc-1", "--as", "nobody"), "'nobody' is no account"),
        (("probe", "--device", "s1-pc-1", "--as", "gone"), "'gone' is no account"),
        (("probe", "--device", "s1-pc-1", "--as", "wang"), "is no operator of s1"),
        (("status", "nothing"), "there is no job"),
        (("archive", "nothing", "--out", "x.zip"), "there is no job"),
    ):
        found, said = run(*words, status=2)
        assert found == []
        assert line in said


def test_a_job_without_an_archive_says_so(run, tmp_path):
    [job], _ = run("diagnostics", "--device", "s1-pc-1")
    _, said = run("archive", job["job"], "--out", str(tmp_path / "x.zip"), status=2)
    assert "has no archive here" in said


def test_who_takes_an_archive_out_is_in_the_audit_log_first(run, region, tmp_path):
    with Jobs(region.data_dir / "commands.db") as held:
        [job] = held.of(["s1-pc-1"], 1)
        held.put(replace(job, state=JobState.DONE))
    there = commanding.archive_of(region.data_dir, job.job)
    there.parent.mkdir()
    there.write_bytes(b"a zip")
    run("archive", job.job, "--out", str(tmp_path / "got.zip"))
    assert (tmp_path / "got.zip").read_bytes() == b"a zip"
    last = noted(region)[-1]
    assert (last.who, last.action, last.unit) == ("local:wei", "command_archive_taken", "s1")
    assert last.subject == f"s1-pc-1 {job.job}"
    run("archive", job.job, "--out", str(tmp_path / "no" / "got.zip"), status=2)
    assert noted(region)[-1].no == last.no + 1
