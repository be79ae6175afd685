"""``ketang command`` at the centre's machine, while no centre runs."""

import json

import pytest
from tests.regions import Region

from ketang_center.command_jobs import Jobs, JobState
from ketang_center.enrolment.book import Book
from ketang_cli.main import main


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    made = Region(tmp_path_factory.mktemp("region"))
    made.register(3)
    made.file = made.settings()
    return made


@pytest.fixture
def run(region, capsys):
    def run(*words, status=0):
        assert main(["command", *words, "--settings", str(region.file)]) == status
        said = capsys.readouterr()
        return [json.loads(line) for line in said.out.splitlines()], said.err

    return run


def test_a_list_of_devices_is_written_down_for_the_running_centre(run, region):
    jobs, _ = run("shut-down", "--device", "s1-pc-1", "s1-pc-2", "--countdown", "90", "--who", "li")
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
        (("probe", "--device", "s1-pc-1", "--who", "<b>"), "cannot be asked by"),
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
