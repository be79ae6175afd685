"""Commands at the centre: asked within one's rights, signed, sent, answered, and over in time."""

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.regions import UNITS

from ketang_center import commanding
from ketang_center.access.audit import Audit
from ketang_center.access.policy import Actor, Grant, Role
from ketang_center.access.scope import OutOfScope
from ketang_center.command_jobs import Jobs, JobState
from ketang_center.commanding import Commanding, Wish, ask, ask_as
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data
from ketang_contract import signatures, topics
from ketang_contract.commands import (
    COMMAND_TYPE,
    Answer,
    Archive,
    Command,
    Countdown,
    Probed,
    State,
    What,
    write_answer,
)
from ketang_contract.errors import BadInput, Refused
from ketang_contract.validate import signed
from ketang_provisioning.keys import make_ec, public_pem, save_private

NOW_MS = 1_800_000_000_000
S = 1000
KEY = make_ec()


class Center:
    """A centre whose broker is a list."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, []
        self.jobs, self.audit = Jobs(folder / "commands.db"), Audit(folder / "audit.db")
        self.commanding = Commanding(
            self.jobs, self.audit, KEY, folder, lambda *one: self.said.append(one)
        )

    def close(self):
        self.jobs.close()
        self.audit.close()

    def ask(self, what=What.READ_INVENTORY, device="s1-pc-1", now_ms=NOW_MS, **more):
        wish = Wish(what=what, by="yunxi-it", units={device: "s1"}, **more)
        return ask(self.jobs, self.audit, wish, now_ms)[0].job

    def sent(self, what=What.READ_INVENTORY, **more):
        job = self.ask(what, **more)
        self.commanding.keep(NOW_MS)
        return job

    def answer(self, job, state, archive=b"", *, device="s1-pc-1", at_ms=NOW_MS + S, **more):
        raw = write_answer(Answer(job=job, state=state, **more), archive)
        self.commanding.answered(device, job, raw, at_ms)

    def state(self, job):
        found = self.jobs.get(job)
        return found.state.value, found.reason

    def actions(self):
        return [(one.who, one.action) for one in self.audit.entries()]


@pytest.fixture
def center(tmp_path):
    made = Center(tmp_path)
    yield made
    made.close()


def test_what_is_asked_is_signed_for_one_device_and_job_and_holds_ten_minutes(center):
    job = center.ask(What.SHUT_DOWN, countdown_s=90)
    assert center.said == [], "it is the running centre that sends"
    center.commanding.keep(NOW_MS + S)
    [(topic, envelope)] = center.said
    assert topic == topics.of("s1-pc-1", f"dn/cmd/{job}")
    raw = signatures.open_sealed(envelope, COMMAND_TYPE, [public_pem(KEY.public_key())])
    command = signed(Command, raw)
    assert (command.device, command.job, command.who) == ("s1-pc-1", job, "yunxi-it")
    assert command.expires_s - command.issued_s == 600
    assert command.countdown_s == 90
    assert center.state(job) == ("sent", "")
    assert center.actions() == [("yunxi-it", "command_asked")]


def test_an_answer_moves_a_job_forward_and_never_back(center):
    job = center.sent(What.NETWORK_PROBE)
    center.answer(job, State.RUNNING)
    center.answer(job, State.RECEIVED)
    assert center.state(job) == ("running", "")
    center.answer(job, State.DONE, result=Probed(rtt_ms=7))
    center.answer(job, State.FAILED, reason="too_slow")
    assert center.state(job) == ("done", "")
    assert commanding.result_of(center.jobs.get(job)) == {"kind": "probe", "rtt_ms": 7}
    assert center.actions()[-1] == ("device:s1-pc-1", "command_ended")


def test_that_a_desktop_shows_a_countdown_may_be_told_after_it_began(center):
    job = center.sent(What.SHUT_DOWN)
    center.answer(job, State.RUNNING, result=Countdown(seconds=120))
    center.answer(job, State.RUNNING, result=Countdown(seconds=110, desktop=True), at_ms=NOW_MS + 9)
    held = center.jobs.get(job)
    assert commanding.result_of(held) == {"kind": "countdown", "seconds": 110, "desktop": True}
    assert held.changed_ms == NOW_MS + 9, "it is 110 s from then on"
    center.answer(job, State.RECEIVED)
    assert center.state(job) == ("running", "")


@pytest.mark.parametrize("reason", ["cancelled", "in_use", "in_hours"])
def test_the_audit_log_does_not_tell_above_the_school_whether_a_device_was_used(center, reason):
    job = center.sent(What.SHUT_DOWN)
    center.answer(job, State.CANCELLED, reason=reason)
    assert center.state(job) == ("cancelled", reason)
    said = center.audit.entries()[-1].subject
    assert said == f"s1-pc-1 shut_down {job} cancelled" + " in_hours" * (reason == "in_hours")


def test_who_asked_twice_hears_of_the_first(center):
    job = center.sent()
    center.answer(job, State.RUNNING)
    center.answer(job, State.REFUSED, reason="used")
    assert center.state(job) == ("running", "")


def test_an_unanswered_command_is_sent_again_the_same_until_its_time_is_over(center):
    center.sent()
    for second in range(1, 700):
        center.commanding.keep(NOW_MS + second * S)
    assert len(center.said) == 30
    assert len({envelope for _, envelope in center.said}) == 1


def test_an_answered_command_is_not_sent_again(center):
    job = center.sent()
    center.answer(job, State.RECEIVED)
    for second in range(1, 300):
        center.commanding.keep(NOW_MS + second * S)
    assert len(center.said) == 1


@pytest.mark.parametrize(
    ("what", "open_s", "over_s"), [(What.DIAGNOSTICS, 660, 661), (What.SHUT_DOWN, 780, 781)]
)
def test_a_device_that_says_nothing_ends_the_job_in_time(center, what, open_s, over_s):
    job = center.sent(what)
    center.commanding.keep(NOW_MS + open_s * S)
    assert center.state(job) == ("sent", "")
    center.commanding.keep(NOW_MS + over_s * S)
    assert center.state(job) == ("expired", "no_answer")
    center.answer(job, State.DONE, at_ms=NOW_MS + over_s * S)
    assert center.state(job) == ("expired", "no_answer")


def test_what_was_asked_while_the_centre_was_down_is_not_sent_hours_later(center):
    job = center.ask()
    center.commanding.keep(NOW_MS + 601 * S)
    assert center.said == []
    assert center.state(job) == ("expired", "not_sent")


def test_a_crash_between_writing_and_sending_is_mended(center, tmp_path):
    job = center.sent()
    center.said.clear()
    second = Commanding(
        center.jobs, center.audit, KEY, tmp_path, lambda *one: center.said.append(one)
    )
    second.keep(NOW_MS + 21 * S)
    assert len(center.said) == 1
    assert center.state(job) == ("sent", "")


# Who may, and how often.


def test_a_device_is_asked_so_often_and_for_one_thing_once(center):
    center.ask(What.NETWORK_PROBE)
    with pytest.raises(BadInput, match="not over yet"):
        center.ask(What.NETWORK_PROBE)
    for _ in range(5):
        for one in center.jobs.open_jobs():
            center.jobs.put(replace(one, state=JobState.DONE))
        center.ask(What.NETWORK_PROBE)
    with pytest.raises(BadInput, match="wait a little"):
        center.ask(What.READ_INVENTORY)
    center.ask(What.READ_INVENTORY, device="s1-pc-2")
    center.ask(What.READ_INVENTORY, now_ms=NOW_MS + 61 * S)


def test_an_idle_list_becomes_as_many_commands_sent_in_turn(center):
    units = {f"s1-pc-{number}": "s1" for number in range(50)}
    wish = Wish(what=What.SHUT_DOWN, by="yunxi-it", units=units)
    made = ask(center.jobs, center.audit, wish, NOW_MS)
    assert len({one.job for one in made}) == 50
    assert {one.countdown_s for one in made} == {120}
    for round_ in range(3):
        center.commanding.keep(NOW_MS + round_)
    assert len({topic for topic, _ in center.said}) == 50


@pytest.mark.parametrize("countdown_s", [0, 59, 601])
def test_a_countdown_is_long_enough_to_be_seen(center, countdown_s):
    with pytest.raises(BadInput, match="accepted: 60 to 600"):
        center.ask(What.SHUT_DOWN, countdown_s=countdown_s)
    with pytest.raises(BadInput, match="belongs to a shutdown"):
        center.ask(What.READ_INVENTORY, countdown_s=60)


@pytest.mark.parametrize("who", ["", "<b>", "张三", "Root"])
def test_who_asks_has_a_name_that_can_be_shown(center, who):
    with pytest.raises(BadInput, match="cannot be asked by"):
        ask(center.jobs, center.audit, Wish(what=What.SHUT_DOWN, by=who, units={"d": "s1"}), NOW_MS)
    assert center.jobs.of() == []


@pytest.fixture
def tree(tmp_path):
    with Registry(tmp_path / "registry.db") as registry:
        registry.load(Data(units=UNITS))
        yield registry.tree()


@pytest.mark.parametrize(
    ("role", "unit", "may"),
    [
        (Role.OPERATOR, "s1", True),
        (Role.OPERATOR, "lan", True),
        (Role.OPERATOR, "s2", False),
        (Role.VIEWER, "lan", False),
        (Role.PUBLISHER, "lan", False),
        (Role.ADMIN, "lan", False),
    ],
)
def test_an_account_asks_where_it_is_an_operator(center, tree, role, unit, may):
    actor = Actor("li", (Grant(role, unit),))
    wish = Wish(what=What.READ_INVENTORY, by="", units={"s1-pc-1": "s1"})
    if may:
        [job] = ask_as(actor, tree, center.jobs, center.audit, wish, NOW_MS)
        assert job.who == "li"
        return
    with pytest.raises(OutOfScope):
        ask_as(actor, tree, center.jobs, center.audit, wish, NOW_MS)
    assert center.jobs.of() == []


def test_a_list_with_one_device_out_of_reach_asks_nobody(center, tree):
    actor = Actor("li", (Grant(Role.OPERATOR, "s1"),))
    wish = Wish(what=What.SHUT_DOWN, by="", units={"s1-pc-1": "s1", "s2-pc-1": "s2"})
    with pytest.raises(OutOfScope):
        ask_as(actor, tree, center.jobs, center.audit, wish, NOW_MS)
    assert center.jobs.of() == []


def test_of_several_all_are_asked_or_none(center):
    center.ask(What.SHUT_DOWN, device="b")
    wish = Wish(what=What.SHUT_DOWN, by="li", units={"a": "s1", "b": "s1"})
    with pytest.raises(BadInput, match=r"b: job .* is not over yet"):
        ask(center.jobs, center.audit, wish, NOW_MS)
    assert [one.device for one in center.jobs.of()] == ["b"]
    assert center.actions() == [("yunxi-it", "command_asked")], "nor is it said that a was"


def test_what_cannot_be_noted_is_not_asked(center, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(center.audit, "note_all", full)
    with pytest.raises(sqlite3.OperationalError):
        center.ask(What.SHUT_DOWN)
    assert center.jobs.of() == []


def test_what_was_asked_at_one_time_is_one_request_of_its_units(center):
    wish = Wish(what=What.SHUT_DOWN, by="li", units={"b": "s1", "a": "s1", "c": "s2"})
    request = ask(center.jobs, center.audit, wish, NOW_MS)[0].request
    later = center.ask(What.READ_INVENTORY, device="d", now_ms=NOW_MS + S)
    assert [one.device for one in center.jobs.of_request(request)] == ["a", "b", "c"]
    newest, first = center.jobs.requests(["s1"], 10)
    assert newest.name == center.jobs.get(later).request
    assert (first.name, first.what, first.who) == (request, What.SHUT_DOWN, "li")
    assert (first.asked_ms, first.devices) == (NOW_MS, 2), "those of other units are not counted"
    assert center.jobs.requests(["s3"], 10) == []
    assert center.jobs.requests(["s1"], 1, 1) == [first]


def test_a_file_from_before_requests_is_read_on(tmp_path):
    path = tmp_path / "commands.db"
    with Jobs(path) as jobs, closing(Audit(tmp_path / "audit.db")) as audit:
        wish = Wish(what=What.READ_INVENTORY, by="li", units={"a": "s1"})
        [job] = ask(jobs, audit, wish, NOW_MS)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP INDEX job_of_request")
        db.execute("ALTER TABLE job DROP COLUMN request")
        db.execute("PRAGMA user_version = 0")
    with Jobs(path) as jobs:
        assert jobs.get(job.job) == replace(job, request=job.job)


def test_a_device_nobody_knows_or_that_was_thrown_out_is_not_asked():
    schools = {"a": "s1", "b": "s2"}.get
    found = commanding.units_of(["b", "a"], lambda one: schools(one, ""), lambda _: False)
    assert found == {"b": "s2", "a": "s1"}
    for devices, barred in ((["c"], set()), (["a"], {"a"})):
        with pytest.raises(BadInput, match="at work here"):
            commanding.units_of(devices, lambda one: schools(one, ""), barred.__contains__)


# What devices say.


def archive_of(content=b"a zip"):
    sha256 = hashlib.sha256(content).hexdigest()
    return content, Archive(bytes=len(content), sha256=sha256)


def test_an_archive_is_kept_for_its_job_alone(center, tmp_path):
    job = center.sent(What.DIAGNOSTICS)
    content, result = archive_of()
    center.answer(job, State.WAITING_CONSENT)
    center.answer(job, State.DONE, content, result=result)
    kept = commanding.archive_of(tmp_path, job)
    assert kept.read_bytes() == content
    assert kept.stat().st_mode & 0o077 == 0


def test_what_is_no_answer_of_this_device_to_this_job_is_refused(center, tmp_path):
    job, other = center.sent(What.DIAGNOSTICS), center.sent(What.READ_INVENTORY)
    content, result = archive_of()
    line = json.dumps({"job": job, "state": "done"}).encode()
    for raw, device, asked in (
        (b"{", "s1-pc-1", job),
        (line, "s1-pc-2", job),
        (line, "s1-pc-1", "nobodys"),
        (line, "s1-pc-1", other),
        (line[:-1] + b',"log":"x"}', "s1-pc-1", job),
        (line + b"\n" + content, "s1-pc-1", job),
        (write_answer(Answer(job=job, state=State.DONE, result=result)), "s1-pc-1", job),
        (write_answer(Answer(job=job, state=State.DONE, result=result), b"b zip"), "s1-pc-1", job),
        (
            write_answer(Answer(job=other, state=State.DONE, result=result), content),
            "s1-pc-1",
            other,
        ),
        (line + b"\n" + b"x" * 600_000, "s1-pc-1", job),
        (b"x" * 5000, "s1-pc-1", job),
    ):
        with pytest.raises(Refused):
            center.commanding.answered(device, asked, raw, NOW_MS)
    assert center.state(job) == center.state(other) == ("sent", "")
    assert not (tmp_path / "diagnostics").exists()


def test_old_jobs_and_archives_are_forgotten(center, tmp_path):
    job = center.sent(What.DIAGNOSTICS)
    content, result = archive_of()
    center.answer(job, State.DONE, content, result=result)
    year_ms = 365 * 24 * 3600 * S
    center.commanding.keep(NOW_MS + year_ms)
    assert center.jobs.of() == []
    assert list((tmp_path / "diagnostics").iterdir()) == []


def test_a_centre_without_a_command_key_asks_nothing(center, tmp_path, caplog):
    made = commanding.commanding_of(
        tmp_path / "kit.key", tmp_path, center.jobs, center.audit, lambda *_: None
    )
    assert made is None
    assert "command.no_key" in caplog.text
    save_private(tmp_path / "command.key", KEY, None)
    assert commanding.commanding_of(
        tmp_path / "kit.key", tmp_path, center.jobs, center.audit, lambda *_: None
    )
