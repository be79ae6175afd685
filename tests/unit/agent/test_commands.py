"""Commands on the device: each kind carried out once, answered truthfully, never without people."""

import gc
import hashlib
import subprocess
import sys

import pytest
from tests.unit.agent.commanded import NOW_S, STRANGER, Device, Machine, command, sealed

from ketang_agent.collectors.base import NotApplicable
from ketang_agent.remote.commands_room import Said, Word
from ketang_contract.commands import Archive, Countdown, Probed, State, What, split_answer


@pytest.fixture
def device(tmp_path):
    return Device(tmp_path)


def test_an_inventory_is_read_at_once_and_answered(device):
    device.run(command())
    assert device.machine.did == ["read"]
    assert device.answers[-1].state is State.DONE
    assert not device.commands.busy


def test_a_probe_answers_when_it_has_a_result(device):
    device.machine.probe.asking = True
    device.run(command(What.NETWORK_PROBE))
    assert device.states == ["running"]
    device.step(5)
    assert device.states == ["running"]
    device.machine.probe.asking = False
    device.step()
    assert device.answers[-1].result == Probed(rtt_ms=3)


def test_a_probe_that_hangs_is_given_up(device):
    device.machine.probe.asking = True
    device.run(command(What.NETWORK_PROBE))
    device.step(31)
    assert (device.states[-1], device.answers[-1].reason) == ("failed", "too_slow")


def test_a_restart_is_done_when_the_next_start_says_so_and_only_once(device):
    device.run(command(What.RESTART_AGENT))
    assert device.states == ["running"]
    assert device.machine.did == [], "first it is told, then it is done"
    device.step(6)
    assert device.machine.did == ["restart"]
    device.sent.clear()
    device.start()
    device.step()
    assert [(one.job, one.state) for one in device.answers] == [("job-1", State.DONE)]
    device.sent.clear()
    device.start()
    device.step()
    assert device.sent == []


def test_the_same_command_again_is_answered_again_and_not_carried_out_again(device):
    device.run(command())
    device.sent.clear()
    device.run(command())
    device.step()
    assert device.machine.did == ["read"]
    assert device.states == ["done"]


def test_a_command_that_was_used_before_a_restart_is_refused_after_it(device):
    device.run(command())
    device.start()
    device.sent.clear()
    device.run(command())
    assert device.machine.did == ["read"]
    assert (device.states, device.answers[0].reason) == (["refused"], "used")


def test_what_could_not_be_told_is_told_in_the_next_session(device):
    device.connected = False
    device.run(command())
    assert device.sent == []
    assert device.commands.busy
    device.connected = True
    device.step()
    assert device.states == ["done"]
    device.commands.began_session()
    device.step()
    assert device.states == ["done", "done"], "what was on the wire may be lost with it"


def test_an_answer_is_forgotten_in_the_end(device):
    device.run(command())
    device.step(1201)
    device.commands.began_session()
    device.sent.clear()
    device.step()
    assert device.sent == []


def test_one_of_a_kind_at_a_time(device):
    device.machine.probe.asking = True
    device.run(command(What.NETWORK_PROBE))
    device.run(command(What.NETWORK_PROBE, job="job-2"))
    assert device.answers[-1].reason == "busy"
    assert device.machine.probe.asked == 1


def test_a_flood_is_not_judged_without_end(device):
    for number in range(200):
        device.take(b"x", f"job-{number}")
    assert len(device.commands._waiting) <= 8


def test_a_stranger_who_sends_on_and_on_costs_a_child_in_ten_seconds(device):
    device.take(sealed(key=STRANGER), "forged-1")
    device.judged()
    device.take(sealed(), "job-1")
    device.step(9)
    assert device.commands._child is None
    device.step(1)
    assert device.commands._child is not None
    device.judged()
    assert device.machine.did == ["read"], "a good one only waits"


def test_an_agent_that_stops_leaves_no_child_behind(device):
    device.take(sealed(), "job-1")
    device.step()
    child = device.commands._child.process
    device.commands.close()
    assert child.returncode is not None
    assert not device.commands.busy
    device.commands.close()


def test_a_child_that_cannot_be_started_refuses(tmp_path):
    device = Device(tmp_path, words=("/nowhere/python",))
    device.run(command())
    assert device.answers[-1].reason == "not_judged"


@pytest.mark.filterwarnings("error")
def test_a_child_that_ends_before_it_has_read_refuses_and_is_waited_for(tmp_path, monkeypatch):
    class Gone(subprocess.Popen):
        def __init__(self, *words, **more):
            super().__init__(*words, **more)
            self.wait(60)

    monkeypatch.setattr(subprocess, "Popen", Gone)
    device = Device(tmp_path, words=("sh", "-c", "exit 3"))
    device.take(sealed())
    device.commands.step(device.now)
    child = device.commands._child.process
    assert child.stdin.closed
    device.judged()
    assert (device.states, device.answers[-1].reason) == (["refused"], "not_judged")
    assert child.stdout.closed
    del child
    gc.collect()


def test_a_child_that_says_nonsense_refuses(tmp_path):
    device = Device(tmp_path, words=("sh", "-c", "echo '[1]'"))
    device.run(command())
    assert (device.states[-1], device.answers[-1].reason) == ("refused", "not_judged")
    assert device.machine.did == []


def test_a_doer_that_fails_fails_its_job_alone(tmp_path):
    device = Device(tmp_path, Machine(problem=OSError("no")))
    device.run(command())
    assert device.states[-1] == "failed"
    device.machine.problem = None
    device.run(command(job="job-2"))
    assert device.states[-1] == "done"


DIES = (
    "import sys, ketang_agent.remote.commands_judging as judging;"
    "judging._say = lambda _: sys.exit(9); sys.exit(judging.main())"
)
"""The judging child, cut off after it has marked the job as used and before it says so."""


def test_a_power_cut_after_the_mark_loses_the_command_and_never_doubles_it(tmp_path):
    device = Device(tmp_path, words=(sys.executable, "-c", DIES))
    device.run(command(What.RESTART_AGENT))
    assert (device.states, device.answers[-1].reason) == (["refused"], "not_judged")
    device.start()
    device.sent.clear()
    device.run(command(What.RESTART_AGENT))
    device.step(10)
    assert (device.states, device.answers[-1].reason) == (["refused"], "used")
    assert device.machine.did == []


def test_a_busy_main_loop_does_not_ask_the_desktop_in_every_round(device):
    device.run(command(What.SHUT_DOWN))
    asked = []
    device.machine.cancelled = lambda: asked.append(1)
    for _ in range(500):
        device.step(0)
    assert asked == []
    device.step(1)
    assert asked == [1]


# Shutting down.


def test_a_shutdown_counts_down_where_people_see_it_and_then_happens(device):
    device.run(command(What.SHUT_DOWN))
    assert device.answers[-1].result == Countdown(seconds=60, desktop=True)
    assert device.room.leaving.who == "yunxi-it"
    for _ in range(59):
        device.step()
    assert device.machine.did == []
    device.step()
    assert device.machine.did == ["closed", "power_off"]
    assert device.states == ["running", "done"]
    assert device.room.leaving is None
    assert device.machine.shown == [60, 45, 30, 15]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda one: one.room.say(Said(Word.CANCEL, "job-1")), "cancelled"),
        (lambda one: setattr(one.machine, "pressed", True), "cancelled"),
        (lambda one: setattr(one.machine, "used", True), "in_use"),
        (lambda one: setattr(one.machine, "hours", True), "in_hours"),
        (lambda one: setattr(one, "boot_ms", one.boot_ms + 20_000), "interrupted"),
    ],
)
def test_a_countdown_ends_for_whoever_minds(device, how, reason):
    device.run(command(What.SHUT_DOWN))
    device.step(10)
    how(device)
    device.step()
    assert (device.states[-1], device.answers[-1].reason) == ("cancelled", reason)
    assert device.room.leaving is None
    for _ in range(120):
        device.step()
    assert "power_off" not in device.machine.did


def test_in_hours_and_in_use_it_does_not_even_begin(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    device = Device(tmp_path / "a", Machine(hours=True))
    device.run(command(What.SHUT_DOWN))
    assert (device.states, device.answers[0].reason) == (["refused"], "in_hours")
    device = Device(tmp_path / "b", Machine(used=True))
    device.run(command(What.SHUT_DOWN))
    assert (device.states, device.answers[0].reason) == (["cancelled"], "in_use")


@pytest.mark.parametrize("why", ["no_hours", "clock_wrong"])
def test_why_it_is_no_time_after_hours_is_answered(tmp_path, why):
    device = Device(tmp_path, Machine(why_not=why))
    device.run(command(What.SHUT_DOWN))
    assert (device.states, device.answers[0].reason) == (["refused"], why)


def test_a_session_that_shows_the_countdown_is_told_of_once_and_to_the_end(device):
    device.machine.desktop = False
    device.run(command(What.SHUT_DOWN))
    assert device.answers[-1].result == Countdown(seconds=60, desktop=False)
    assert not device.room.leaving.desktop, "a session's own notice is asked for"
    assert device.room.say(Said(Word.SHOWN, "job-1"))
    device.step(5)
    assert device.room.say(Said(Word.SHOWN, "job-1"))
    device.step(5)
    assert device.states == ["running", "running"]
    assert device.answers[-1].result == Countdown(seconds=55, desktop=True)
    device.room.say(Said(Word.CANCEL, "job-1"))
    device.step()
    assert device.answers[-1].result == Countdown(seconds=0, desktop=True)


def test_where_the_agent_shows_its_own_notice_no_session_need(device):
    device.run(command(What.SHUT_DOWN))
    assert device.room.leaving.desktop


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (PermissionError("polkit"), "not_permitted"),
        (NotApplicable("none"), "no_logind"),
        (OSError("x"), "power_off"),
    ],
)
def test_a_shutdown_that_is_not_let_is_answered_as_failed(device, problem, reason):
    device.machine.problem, device.machine.desktop = problem, False
    device.run(command(What.SHUT_DOWN))
    assert device.answers[-1].result == Countdown(seconds=60, desktop=False)
    for _ in range(60):
        device.step()
    assert (device.states[-1], device.answers[-1].reason) == ("failed", reason)


def test_a_word_about_another_job_or_nothing_is_no_word(device):
    assert not device.room.say(Said(Word.CANCEL, "job-1"))
    device.run(command(What.SHUT_DOWN))
    assert not device.room.say(Said(Word.CANCEL, "job-2"))
    assert device.room.say(Said(Word.CANCEL, "job-1"))


# Diagnostics.


def waiting(device):
    device.run(command(What.DIAGNOSTICS))
    device.step()
    assert device.states[-1] == "waiting_consent"
    return device.room.asking


def test_diagnostics_leave_the_device_only_when_a_person_agreed_to_these_bytes(device):
    asking = waiting(device)
    assert asking.archive.read_bytes() == b"an archive"
    assert not device.room.say(Said(Word.AGREE, asking.job, "0" * 64)), "another archive"
    device.step(300)
    assert all(b"an archive" not in raw for _, raw in device.sent)
    assert device.room.say(Said(Word.AGREE, asking.job, asking.sha256))
    device.step()
    line, archive = split_answer(device.sent[-1][1])
    assert archive == b"an archive"
    assert device.answers[-1].result == Archive(
        bytes=len(archive), sha256=hashlib.sha256(archive).hexdigest()
    )
    assert b"\n" not in line
    assert asking.archive.exists(), "it stays on the device"


def test_who_declines_is_heard_even_if_another_agreed(device):
    asking = waiting(device)
    for word in (Word.AGREE, Word.DECLINE):
        device.room.say(Said(word, asking.job, asking.sha256))
    device.step()
    assert (device.states[-1], device.answers[-1].reason) == ("cancelled", "declined")


def test_consent_expires_with_the_command(device):
    asking = waiting(device)
    device.step(600)
    assert (device.states[-1], device.answers[-1].reason) == ("expired", "nobody_agreed")
    assert not device.room.say(Said(Word.AGREE, asking.job, asking.sha256))
    assert device.wall_s > NOW_S + 600


def test_an_archive_that_changed_since_it_was_shown_is_not_sent(device):
    asking = waiting(device)
    asking.archive.write_bytes(b"another one")
    device.room.say(Said(Word.AGREE, asking.job, asking.sha256))
    device.step()
    assert device.answers[-1].reason == "changed"
    assert all(b"another one" not in raw for _, raw in device.sent)


@pytest.mark.parametrize(
    ("said", "archive", "reason"),
    [("failed", b"x", "not_built"), ("", b"", "too_large"), ("", b"x" * 600_000, "too_large")],
)
def test_an_archive_that_is_none_fails(tmp_path, said, archive, reason):
    device = Device(tmp_path, Machine(archive=archive))
    device.machine.bundle.latest = said
    device.run(command(What.DIAGNOSTICS))
    device.step()
    assert (device.states[-1], device.answers[-1].reason) == ("failed", reason)
    assert device.room.asking is None
