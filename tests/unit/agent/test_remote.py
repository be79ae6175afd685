"""Remote configuration as the main loop holds it: children that judge, a disk that may refuse."""

import errno
import faulthandler
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.losing_disk import LosingDisk
from tests.faults.test_enrolment_kills import start, was_killed
from tests.unit.agent.judged import BACK, BASE, NARROWER, STEADY, WIDER, Desk, at

from ketang_agent.remote import exchange, hanging, state_file
from ketang_agent.remote.machine import Look, Phase
from ketang_agent.remote.remote import Remote, Who
from ketang_contract import config as configs
from ketang_contract.config import Apply
from ketang_contract.records import TimeQuality
from ketang_contract.state import ConfigState

AWAY = Look(connected=False, session=1, acknowledged=False, sampled=False)
PATIENCE_S = 60


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def full(monkeypatch):
    """A disk that can be made full, or read-only."""
    real = os.open

    def fill(number=errno.ENOSPC):
        def refuse(path, flags, *more, **others):
            if flags & os.O_WRONLY:
                raise OSError(number, os.strerror(number))
            return real(path, flags, *more, **others)

        monkeypatch.setattr(os, "open", refuse)

    fill.again = lambda: monkeypatch.setattr(os, "open", real)
    return fill


def test_what_comes_down_is_judged_tried_committed_and_kept(desk):
    desk.bring(WIDER)
    assert desk.state is ConfigState.RECEIVED
    assert desk.remote.busy
    desk.steps(0)
    assert desk.state is ConfigState.TRIAL
    assert desk.remote.applied == WIDER
    assert desk.on_disk.candidate.phase is Phase.TRIAL, "on the disk before anybody acts on it"
    desk.steps(1, BACK)
    assert desk.state is ConfigState.COMMITTED
    assert not desk.remote.busy
    assert not (desk.folder / exchange.RECEIVED).exists()
    assert desk.again(2).remote.applied == WIDER


def test_the_child_is_told_what_is_held_and_what_is_in_force(desk):
    desk.commit(WIDER)
    desk.bring(NARROWER, "b")
    desk.steps(2, times=1)
    asked = desk.children[-1].asked
    assert asked["held"] == {"of": "a" * 64, "committed": True}
    assert configs.from_json(asked["in_force"]) == WIDER
    assert configs.from_json(asked["base"]) == BASE
    assert (asked["device"], asked["now_s"]) == ("pc-1", at(2).wall_ms // 1000)
    assert not asked["synced"]


def test_the_child_is_told_whether_somebody_disciplines_the_clock(desk):
    desk.bring(WIDER)
    desk.remote.step(STEADY, replace(at(1), time=TimeQuality.SYNCED))
    assert desk.children[-1].asked["synced"] is True


@pytest.mark.parametrize(
    "nonsense",
    [
        "leaves nothing",
        b"",
        b"\xff\x00",
        b"[]",
        b"null",
        b"7",
        {},
        {"reason": ""},
        {"reason": "", "hash": "a", "attempt": 0, "layers": [{}], "config": {}},
        {"reason": "", "hash": "a", "attempt": 0, "layers": [], "config": []},
        {"reason": "", "hash": "a", "attempt": 0, "layers": [], "config": {"usage": 1}},
        {"reason": "", "hash": "a", "attempt": 0, "layers": 7, "config": {"apply": "never"}},
    ],
)
def test_a_child_that_says_nonsense_changes_nothing_and_is_asked_again(tmp_path, nonsense):
    desk = Desk(tmp_path, does=nonsense)
    desk.bring(WIDER)
    desk.steps(0)
    assert (desk.state, desk.remote.applied) == (ConfigState.RECEIVED, BASE)
    desk.does = "judges"
    desk.steps(59)
    assert len(desk.children) == 1, "not at once: it may fail for long"
    desk.steps(60)
    assert desk.state is ConfigState.TRIAL


def test_a_child_that_ends_badly_is_asked_again(desk, caplog):
    desk.does = "waits"
    desk.bring(WIDER)
    desk.steps(0)
    desk.children[0].returncode, desk.children[0].said = 1, b"no room"
    desk.steps(1)
    assert "no room" in caplog.text
    desk.does = "judges"
    desk.steps(61)
    assert desk.state is ConfigState.TRIAL


def test_a_bundle_over_which_judges_keep_dying_waits_longer_and_longer(desk):
    desk.does = "waits"
    desk.bring(WIDER)
    second, waits = 0, []
    for _ in range(8):
        desk.steps(second)
        child = desk.children[-1]
        child.returncode = -9
        desk.steps(second)
        waits.append(desk.remote._not_before_ms // 1000 - second)
        second += waits[-1]
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    desk.bring(NARROWER, "b", second)
    desk.does = "judges"
    desk.steps(second)
    assert desk.on_disk.desired == "b" * 64, "another bundle is another matter"


def test_a_judge_that_takes_the_agent_down_with_it_does_not_do_so_without_end(desk):
    """Nobody is left to say how it ended; the start after it counts."""
    desk.does = "waits"
    desk.bring(WIDER)
    desk.steps(0)
    once = desk.again(1, does="waits")
    once.steps(1)
    assert len(once.children) == 1, "the first may have been anybody's fault"
    twice = desk.again(2, does="waits")
    twice.steps(2)
    assert not twice.children
    assert not twice.remote.busy
    twice.steps(62)
    assert len(twice.children) == 1
    thrice = desk.again(63)
    thrice.steps(63 + 119)
    assert not thrice.children
    thrice.steps(63 + 120)
    assert thrice.state is ConfigState.TRIAL


def test_an_agent_that_is_stopped_while_something_is_judged_blames_nobody(desk):
    desk.does = "waits"
    desk.bring(WIDER)
    for second in range(3):
        desk.steps(second)
        assert desk.children[-1].returncode is None
        desk.remote.end()
        desk = desk.again(second, does="waits")
    desk.does = "judges"
    desk.steps(4)
    assert desk.state is ConfigState.TRIAL


def test_a_child_that_hangs_is_killed_after_a_minute_and_asked_again(desk):
    desk.does = "waits"
    desk.bring(WIDER)
    desk.steps(0)
    desk.steps(60)
    assert not desk.children[0].killed
    desk.steps(60.1)
    assert desk.children[0].killed
    desk.does = "judges"
    desk.steps(121)
    assert desk.state is ConfigState.TRIAL


def test_a_child_that_cannot_be_started_is_tried_again(desk):
    desk.does = OSError(errno.ENOMEM, "no memory")
    desk.bring(WIDER)
    desk.steps(0)
    assert desk.state is ConfigState.RECEIVED
    desk.does = "judges"
    desk.steps(60)
    assert desk.state is ConfigState.TRIAL


def test_an_old_verdict_is_not_taken_for_a_new_one(desk):
    desk.commit(WIDER)
    assert (desk.folder / exchange.JUDGED).exists()
    desk.does = "leaves nothing"
    desk.bring(NARROWER, "b")
    desk.steps(2)
    assert desk.state is ConfigState.RECEIVED
    assert desk.remote.applied == WIDER


def test_the_same_once_more_is_not_judged_again_but_told(desk):
    desk.commit(WIDER)
    desk.bring(WIDER)
    assert desk.remote.told_again
    desk.steps(2)
    assert len(desk.children) == 1
    assert desk.state is ConfigState.COMMITTED


def test_the_same_once_more_while_it_is_being_judged_is_judged_once(desk):
    desk.does = "waits"
    desk.bring(WIDER)
    desk.steps(0)
    desk.bring(WIDER)
    desk.children[0].end()
    desk.steps(1)
    desk.steps(2, BACK)
    assert len(desk.children) == 1
    assert desk.state is ConfigState.COMMITTED


def test_another_while_one_is_being_judged_is_judged_next(desk):
    desk.does = "waits"
    desk.bring(WIDER)
    desk.steps(0)
    desk.bring(NARROWER, "b")
    desk.steps(1)
    assert len(desk.children) == 1, "one at a time"
    desk.children[0].end()
    desk.does = "judges"
    desk.steps(2)
    desk.steps(3, BACK)
    assert [json.loads(one.received)["hash"][0] for one in desk.children] == ["a", "b"]
    assert desk.remote.report.running == "b" * 64
    assert desk.remote.applied == NARROWER


def test_another_in_a_trial_takes_its_place_once_it_is_judged(desk):
    desk.bring(WIDER)
    desk.steps(0)
    desk.does = "waits"
    desk.bring(NARROWER, "b")
    desk.steps(1)
    assert desk.state is ConfigState.TRIAL
    assert desk.remote.applied == WIDER, "its trial goes on meanwhile"
    desk.children[-1].end()
    desk.steps(2)
    assert desk.remote.report.desired == "b" * 64
    desk.steps(3, replace(BACK, session=3))
    assert desk.remote.report.running == "b" * 64


def test_what_was_judged_while_a_trial_ended_is_judged_anew(desk):
    desk.bring(replace(WIDER, log_level="debug"))
    desk.steps(0)
    desk.does = "waits"
    desk.bring(replace(WIDER, host_s=10), "b")
    desk.steps(1)
    desk.steps(2, BACK)
    assert desk.state is ConfigState.COMMITTED
    desk.does = "judges"
    desk.children[-1].end()
    desk.steps(3, replace(BACK, connected=False), times=3)
    assert len(desk.children) == 3
    desk.steps(50, AWAY)
    said = desk.remote.report
    assert said.running == "a" * 64
    assert desk.remote.applied.log_level == "debug", "what runs is what is said to run"
    assert desk.on_disk.held["of"] == "b" * 64


def test_what_was_not_judged_yet_is_judged_by_the_next_life(desk):
    desk.does = "waits"
    desk.bring(WIDER)
    desk.steps(0)
    desk = desk.again(5)
    desk.steps(5)
    assert desk.state is ConfigState.TRIAL


def test_an_orderly_end_ends_the_child_too_and_is_no_crash(desk):
    desk.commit(WIDER)
    desk.does = "waits"
    desk.bring(NARROWER, "b", 2)
    desk.steps(2)
    desk.remote.end()
    assert desk.children[-1].killed
    for _ in range(9):
        desk = desk.again(3)
        desk.remote.end()
    assert desk.remote.applied == WIDER


def test_what_waits_is_written_once(desk, monkeypatch):
    written = []
    write = state_file.write
    monkeypatch.setattr(state_file, "write", lambda *all_: written.append(1) or write(*all_))
    desk.bring(replace(WIDER, apply=Apply.AFTER_HOURS))
    desk.steps(0)
    assert desk.state is ConfigState.STAGED
    assert desk.remote.staged.host_s == 30
    before = len(written)
    desk.steps(9, times=50)
    assert len(written) == before


# A disk that takes nothing.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_no_trial_begins_that_is_not_on_the_disk(desk, full, number):
    desk.does = "waits"
    desk.bring(WIDER)
    desk.steps(0, times=1)
    desk.children[0].end()
    full(number)
    desk.steps(1, times=5)
    assert desk.state is ConfigState.VERIFIED
    assert desk.remote.applied == BASE
    full.again()
    desk.steps(2)
    assert desk.state is ConfigState.TRIAL
    assert desk.on_disk.candidate.phase is Phase.TRIAL


def test_what_narrows_holds_at_once_on_a_full_disk_too_and_is_kept_later(desk, full):
    desk.does = "waits"
    desk.bring(NARROWER)
    desk.steps(0, times=1)
    desk.children[0].end()
    full()
    desk.steps(1)
    assert desk.remote.applied == NARROWER
    full.again()
    desk.steps(2)
    assert desk.on_disk.in_force == NARROWER


def test_what_cannot_be_kept_is_not_received(desk, full):
    full()
    desk.bring(WIDER)
    desk.steps(0)
    assert (desk.state, len(desk.children)) == (ConfigState.FACTORY, 0)
    full.again()
    desk.bring(WIDER)
    desk.steps(1)
    assert desk.state is ConfigState.TRIAL


def test_a_trial_that_ends_on_a_full_disk_ends_all_the_same(desk, full):
    desk.bring(WIDER)
    desk.steps(0)
    full()
    desk.steps(40, replace(BACK, sampled=False))
    assert (desk.state, desk.remote.applied) == (ConfigState.ROLLED_BACK, BASE)
    full.again()
    desk.steps(41)
    assert desk.on_disk.report.reason == "not_sampled"


def test_a_start_in_a_trial_that_cannot_be_counted_ends_it(desk, full):
    desk.bring(WIDER)
    desk.steps(0)
    full()
    desk = desk.again(1)
    assert (desk.state, desk.remote.report.reason) == (ConfigState.ROLLED_BACK, "disk_failing")
    assert desk.remote.applied == BASE
    full.again()
    desk.steps(2)
    assert desk.on_disk.state is ConfigState.ROLLED_BACK


def test_a_folder_that_cannot_be_made_leaves_the_profile(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    desk = Desk(tmp_path / "file")
    desk.bring(WIDER)
    desk.steps(0)
    assert desk.remote.applied == BASE
    assert "config.no_folder" in caplog.text


# A main loop that hangs.


@pytest.fixture
def alarm(monkeypatch):
    """What the process would be ended by: the seconds, or None."""
    set_to = []
    monkeypatch.setattr(
        faulthandler, "dump_traceback_later", lambda s, **more: set_to.append((s, more["exit"]))
    )
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: set_to.append(None))
    return set_to


def test_what_hangs_in_a_trial_is_ended_and_outside_one_it_is_not(tmp_path, alarm):
    desk = Desk(tmp_path)
    assert alarm[-1] is None
    desk.bring(WIDER)
    desk.steps(0)
    assert alarm[-1] == (hanging.HANGS_S, True)
    desk.again(1)
    assert alarm[-1] == (hanging.HANGS_S, True), "before the first sample of the next life"
    desk.steps(2, BACK)
    assert alarm[-1] is None


# Lives that end anywhere.


def live(folder, look=BACK):
    """One whole walk: what an agent does between its start and a commit."""
    desk = Desk(folder)
    desk.bring(BOTH)
    for second, seen in enumerate((STEADY, STEADY, look, look)):
        desk.steps(second, seen)
    return desk


BOTH = replace(BASE, host_s=30, usage_s=60)


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power-cut"])
def test_a_walk_that_ends_at_any_call_to_the_disk_goes_on_to_its_end(tmp_path, power):
    at_call, killed = 0, True
    while killed:
        at_call += 1
        folder = tmp_path / f"{at_call}"
        (folder / "remote").mkdir(parents=True)
        Desk(folder).commit(WIDER, "c")

        def work(folder=folder, at_call=at_call):
            LosingDisk(at_call, folder, power=power).seize()
            live(folder)

        killed = was_killed(start(work))
        found = state_file.read(folder / "remote", BASE)
        assert found.in_force.host_s == 30, "what is in force is never lost"
        assert found.running in {"c" * 64, "a" * 64}
        desk = live(folder)
        assert desk.state is ConfigState.COMMITTED
        assert desk.remote.applied == BOTH
        faulthandler.cancel_dump_traceback_later()
    assert at_call > 30, "fewer calls than a walk makes: the fault is not where the calls are"


def test_the_real_child_refuses_on_a_device_that_holds_no_trust(tmp_path):
    (tmp_path / "id").mkdir(mode=0o700)
    who = Who(
        device="pc-1", agent_version="0.1.0", folder=tmp_path, identity=tmp_path / "id", base=BASE
    )
    remote = Remote(who)
    remote.begin(at(0))
    remote.bring(b"{}", at(0))
    deadline = time.monotonic() + PATIENCE_S
    while remote.report.state is ConfigState.RECEIVED and time.monotonic() < deadline:
        remote.step(STEADY, at(1))
        time.sleep(0.02)
    assert (remote.report.state, remote.report.reason) == (ConfigState.REJECTED, "no_trust")
    assert Path(tmp_path / "remote").stat().st_mode & 0o777 == 0o700
