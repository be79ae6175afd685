"""What a candidate names is brought before it is tried; who is to blame where that fails."""

import json
import shutil
import sys
from dataclasses import replace

import pytest

from ketang_agent import versions
from ketang_agent.clock import Instant
from ketang_agent.remote.machine import Works
from ketang_agent.remote.parts import Bringing, Commands, Users
from ketang_agent.remote.presence import Folders
from ketang_contract.config import AgentChoice, Config, ModelChoice
from ketang_models import registry

SUM, DIGEST = "a" * 64, "b" * 64
AGENT = AgentChoice(version="0.2.0", sha256=SUM)
MODEL = ModelChoice(name="mtcnn", version="9.0.0", sha256=DIGEST)
IN_FORCE = Config(download_kbps=64)
WITH_AGENT, WITH_MODEL = replace(IN_FORCE, agent=AGENT), replace(IN_FORCE, model=MODEL)
FETCHED_MODEL = {"fetched": "x", "digest": DIGEST}
LATER_MS = 1_000_000


class Child:
    """A child that ends when the test says how."""

    def __init__(self, words):
        self.words, self.returncode, self.said, self.killed = words, None, b"", False

    def ends(self, said, status=0):
        self.said, self.returncode = json.dumps(said).encode(), status

    def fails(self, why):
        self.ends({"fetched": "", "why": why, "what": "of a test"}, 1)

    def poll(self):
        return self.returncode

    def communicate(self):
        return self.said, b""

    def kill(self):
        self.killed, self.returncode = True, -9


class Bench:
    """Bringing, the children it started, and a clock."""

    def __init__(self, folder, *, watched=True, jitter=0.5):
        self.folders = Folders(
            identity=folder, data=folder / "data", versions=folder / "versions" if watched else None
        )
        (folder / "versions").mkdir()
        self.children, self.ms, self.boot_id = [], 0, "boot-1"
        self.at_hand, self.fails, self.back = None, False, 0
        self.jitter = jitter
        self.begin()

    def begin(self):
        """Start the agent, once more on the same folders; what ran in it is gone."""
        commands = Commands(fetch=("fetch",), lay=("lay",), tidy=("tidy",))
        users = Users(lambda: self.at_hand, lambda: self.fails, self.is_back)
        self.parts = Bringing(
            self.folders, frozenset({"0.1.0"}), lambda: self.jitter, commands, self.start, users
        )

    def is_back(self):
        self.back += 1

    def start(self, words):
        self.children.append(Child(list(words)))
        return self.children[-1]

    def step(self, candidate, in_force=IN_FORCE, *, passes_ms=0, floor_s=0):
        self.ms += passes_ms
        return self.parts.step(candidate, in_force, Instant(0, self.ms, self.boot_id), floor_s)

    def lay(self):
        (self.folders.versions / "0.2.0").mkdir()
        versions.mark_laid(self.folders.versions / "0.2.0", "0.2.0", SUM)

    def lies_there(self):
        (self.folders.models / "mtcnn" / "9.0.0").mkdir(parents=True)

    def is_deleted(self):
        (self.folders.models / "mtcnn" / "9.0.0").rmdir()


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_candidate_that_names_nothing_new_asks_for_nothing(bench):
    shipped = registry.shipped("mtcnn")
    ours = ModelChoice(name="mtcnn", version=shipped.manifest.version, sha256=shipped.digest)
    installed = AgentChoice(version="0.1.0", sha256=SUM)
    assert bench.step(None) is Works.NOT_ASKED
    assert bench.step(replace(IN_FORCE, usage_s=30)) is Works.NOT_ASKED
    assert bench.step(replace(IN_FORCE, model=ours, agent=installed)) is Works.NOT_ASKED
    assert bench.children == []


def test_a_model_is_fetched_at_the_rate_in_force_and_must_be_the_one_that_was_named(bench):
    assert bench.step(WITH_MODEL, floor_s=1_800_000_000) is Works.PENDING
    [child] = bench.children
    folder = str(bench.folders.identity)
    assert child.words == [
        *("fetch", folder, "model/mtcnn/9.0.0.zip", "--data", f"{folder}/data"),
        *("--not-before", "1800000000", "--kbps", "64"),
    ]
    assert bench.step(WITH_MODEL) is Works.PENDING
    child.ends(FETCHED_MODEL)
    assert bench.step(WITH_MODEL) is Works.YES
    assert bench.step(WITH_MODEL) is Works.YES
    assert len(bench.children) == 1


def test_a_model_by_that_name_with_another_content_is_refused(bench):
    bench.step(WITH_MODEL)
    bench.children[0].ends({**FETCHED_MODEL, "digest": "c" * 64})
    assert bench.step(WITH_MODEL) is Works.NO
    assert bench.parts.why == "other_model"


def test_an_agent_is_fetched_then_laid_out(bench):
    assert bench.step(WITH_AGENT) is Works.PENDING
    assert bench.children[0].words[2] == "agent/ketang/0.2.0.zip"
    bench.children[0].ends({"fetched": "/data/archive"})
    bench.step(WITH_AGENT)
    assert bench.step(WITH_AGENT) is Works.PENDING
    folder = str(bench.folders.versions)
    assert bench.children[1].words == ["lay", folder, "/data/archive", "0.2.0", SUM]
    bench.lay()
    bench.children[1].ends({"laid": folder})
    assert bench.step(WITH_AGENT) is Works.YES


def test_an_agent_that_is_laid_out_already_needs_no_child(bench):
    bench.lay()
    assert bench.step(WITH_AGENT) is Works.YES
    assert bench.children == []


def test_both_are_brought_one_after_the_other(bench):
    both = replace(WITH_AGENT, model=MODEL)
    bench.lay()
    assert bench.step(both) is Works.PENDING
    bench.children[0].ends(FETCHED_MODEL)
    assert bench.step(both) is Works.PENDING
    assert bench.step(both) is Works.YES
    assert len(bench.children) == 1


def test_without_a_watcher_another_agent_is_refused_at_once(tmp_path):
    bench = Bench(tmp_path, watched=False)
    assert bench.step(WITH_AGENT) is Works.NO
    assert bench.parts.why == "not_watched"
    assert bench.step(None, WITH_AGENT) is Works.NOT_ASKED
    assert bench.children == []


@pytest.mark.parametrize(
    "why", ["unreachable", "expired", "forged", "root_not_named", "rolled_back", "no_room"]
)
def test_a_centre_that_does_not_answer_or_is_not_believed_blames_no_candidate(bench, why):
    for number in range(20):
        assert bench.step(WITH_MODEL, passes_ms=LATER_MS) is Works.PENDING
        assert len(bench.children) == number + 1
        bench.children[-1].fails(why)
        assert bench.step(WITH_MODEL) is Works.PENDING
    bench.step(WITH_MODEL, passes_ms=LATER_MS)
    bench.children[-1].ends(FETCHED_MODEL)
    assert bench.step(WITH_MODEL) is Works.YES


@pytest.mark.parametrize("why", ["wrong_content", "model_refused", "agent_too_old", "bad_target"])
def test_what_is_said_of_the_target_ends_the_candidate(bench, why):
    bench.step(WITH_MODEL)
    bench.children[0].fails(why)
    assert bench.step(WITH_MODEL) is Works.NO
    assert bench.step(WITH_MODEL, passes_ms=LATER_MS) is Works.NO
    assert len(bench.children) == 1
    assert bench.parts.why == why


@pytest.mark.parametrize("why", ["bad_release", "does_not_fit", "does_not_run", "version_reused"])
def test_an_archive_that_does_not_build_ends_the_candidate(bench, why):
    bench.step(WITH_AGENT)
    bench.children[0].ends({"fetched": "/data/archive"})
    bench.step(WITH_AGENT)
    bench.step(WITH_AGENT)
    bench.children[1].ends({"laid": "", "why": why, "what": ""}, 1)
    assert bench.step(WITH_AGENT) is Works.NO


def test_who_asks_again_has_it_tried_again(bench):
    bench.step(WITH_MODEL)
    bench.children[0].fails("wrong_content")
    assert bench.step(WITH_MODEL) is Works.NO
    bench.step(None)
    assert bench.step(WITH_MODEL) is Works.PENDING
    assert len(bench.children) == 2


def test_a_full_disk_is_borne_for_a_while_and_not_for_ever(bench):
    told = []
    for _ in range(5):
        bench.step(WITH_MODEL, passes_ms=LATER_MS)
        bench.children[-1].fails("failed")
        told.append(bench.step(WITH_MODEL))
    assert told == [*[Works.PENDING] * 4, Works.NO]


def test_a_child_that_is_killed_counts_as_a_failure_of_this_device(bench):
    bench.step(WITH_MODEL)
    bench.step(WITH_MODEL, passes_ms=7 * 3_600_000)
    assert bench.children[0].killed
    assert bench.step(WITH_MODEL) is Works.PENDING
    assert bench.parts.why == "failed"


@pytest.mark.parametrize(("jitter", "waits_ms"), [(0.0, 0), (0.5, 10_000), (1.0, 20_000)])
def test_what_failed_is_tried_again_at_a_moment_of_its_own(tmp_path, jitter, waits_ms):
    bench = Bench(tmp_path, jitter=jitter)
    bench.step(WITH_MODEL)
    bench.children[0].fails("unreachable")
    bench.step(WITH_MODEL)
    if waits_ms:
        bench.step(WITH_MODEL, passes_ms=waits_ms - 1)
        assert len(bench.children) == 1
    bench.step(WITH_MODEL, passes_ms=1)
    assert len(bench.children) == 2


def test_another_candidate_ends_the_child_of_the_one_before(bench):
    bench.step(WITH_MODEL)
    bench.step(WITH_AGENT)
    assert bench.children[0].killed
    bench.step(WITH_AGENT)
    bench.step(WITH_AGENT)
    assert bench.children[1].words[2] == "agent/ketang/0.2.0.zip"


def test_what_is_in_force_and_was_lost_is_brought_again(bench):
    assert bench.step(None, WITH_MODEL) is Works.NOT_ASKED
    assert bench.children[0].words[2] == "model/mtcnn/9.0.0.zip"
    bench.children[0].ends(FETCHED_MODEL)
    bench.step(None, WITH_MODEL)
    bench.step(None, WITH_MODEL, passes_ms=LATER_MS)
    assert len(bench.children) == 1


def test_what_is_in_force_and_lies_there_is_not_asked_for_again(bench):
    (bench.folders.models / "mtcnn" / "9.0.0").mkdir(parents=True)
    bench.lay()
    bench.step(None, replace(WITH_MODEL, agent=AGENT))
    assert bench.children == []


def test_once_committed_all_but_it_and_the_one_before_are_let_go(bench):
    bench.parts.committed(WITH_MODEL, WITH_AGENT)
    bench.step(None)
    [child] = bench.children
    said = json.loads(child.words[1])
    assert said["kept_models"] == [["mtcnn", "9.0.0", DIGEST]]
    assert said["kept_versions"] == ["0.2.0"]
    child.ends({})
    bench.step(None)
    assert not bench.parts.busy


def test_the_end_of_the_agent_ends_the_child(bench):
    bench.step(WITH_MODEL)
    assert bench.parts.busy
    bench.parts.end()
    assert bench.children[0].killed
    assert not bench.parts.busy


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path):
    bench = Bench(tmp_path)
    nothing = Commands(fetch=("/nowhere/at-all",))
    bench.parts = Bringing(bench.folders, frozenset(), lambda: 1.0, nothing)
    assert bench.step(WITH_MODEL) is Works.PENDING
    assert bench.parts.why == "failed"


def test_a_real_child_is_heard(tmp_path):
    bench = Bench(tmp_path)
    says = f"print('{json.dumps(FETCHED_MODEL)}')"
    bench.parts = Bringing(
        bench.folders, frozenset(), lambda: 1.0, Commands(fetch=(sys.executable, "-c", says))
    )
    assert bench.step(WITH_MODEL) is Works.PENDING
    bench.parts._child.process.wait(60)
    assert bench.step(WITH_MODEL) is Works.YES


# What is in force and is lost while the agent runs.

A_LOOK_MS, AN_HOUR_MS = 60_000, 3_600_000


def test_a_model_in_force_that_is_deleted_is_brought_again_and_used_again(bench):
    bench.lies_there()
    for _ in range(5):
        bench.step(None, WITH_MODEL, passes_ms=A_LOOK_MS)
    assert bench.children == []
    bench.is_deleted()
    bench.step(None, WITH_MODEL, passes_ms=A_LOOK_MS)
    [child] = bench.children
    assert child.words[2] == "model/mtcnn/9.0.0.zip"
    bench.lies_there()
    child.ends(FETCHED_MODEL)
    assert bench.back == 0
    bench.step(None, WITH_MODEL)
    assert bench.back == 1
    bench.step(None, WITH_MODEL, passes_ms=LATER_MS)
    assert len(bench.children) == bench.back == 1


def test_a_model_that_was_brought_and_is_deleted_then_is_brought_again_too(bench):
    bench.step(WITH_MODEL)
    bench.children[0].ends(FETCHED_MODEL)
    bench.step(WITH_MODEL)
    bench.step(None, WITH_MODEL, passes_ms=A_LOOK_MS)
    assert len(bench.children) == 2


def test_a_disk_that_spoils_whatever_lies_on_it_costs_one_fetch_an_hour(bench):
    for _ in range(600):
        bench.step(None, WITH_MODEL, passes_ms=A_LOOK_MS)
        if bench.children:
            bench.children[-1].ends(FETCHED_MODEL)
    assert 10 <= len(bench.children) <= 11


def test_what_is_said_against_a_model_in_force_is_not_final(bench):
    for _ in range(5):
        bench.step(None, WITH_MODEL, passes_ms=AN_HOUR_MS)
        bench.children[-1].fails("wrong_content")
        bench.step(None, WITH_MODEL)
        bench.step(None, WITH_MODEL, passes_ms=AN_HOUR_MS - 1)
    assert len(bench.children) == 5


def laid(bench):
    """Lay the shipped model as one that was fetched; return it as a configuration names it."""
    folder = bench.folders.models / "mtcnn" / "9.0.0"
    shutil.copytree(registry.shipped("mtcnn").folder, folder)
    path = folder / "manifest.toml"
    text = path.read_text("utf-8").replace('version = "1.0.0"', 'version = "9.0.0"')
    path.write_text(text, "utf-8")
    choice = replace(MODEL, sha256=registry.open_model(folder).digest)
    return replace(IN_FORCE, model=choice), folder


def test_a_model_in_force_that_fails_is_read_and_brought_again_where_it_is_damaged(bench):
    in_force, folder = laid(bench)
    bench.fails = True
    bench.step(None, in_force)
    assert bench.children == [], "it is whole: something else is amiss"
    (folder / "pnet.onnx").write_bytes(b"x")
    bench.step(None, in_force, passes_ms=AN_HOUR_MS)
    assert len(bench.children) == 1
    bench.children[0].ends({"digest": in_force.model.sha256})
    bench.step(None, in_force)
    assert bench.back == 1


def test_the_files_of_a_model_that_fails_are_read_seldom(bench, monkeypatch):
    read = []
    monkeypatch.setattr("ketang_agent.remote.presence._is_whole", lambda *_: not read.append(1))
    in_force, _ = laid(bench)
    for _ in range(60):
        bench.step(None, in_force, passes_ms=A_LOOK_MS)
    assert not read, "nobody complains"
    bench.fails = True
    for _ in range(60):
        bench.step(None, in_force, passes_ms=A_LOOK_MS)
    assert len(read) == 6


def test_what_fails_in_a_trial_is_not_held_against_the_model_in_force(bench):
    in_force, folder = laid(bench)
    (folder / "pnet.onnx").write_bytes(b"x")
    bench.fails, bench.at_hand = True, WITH_AGENT
    bench.step(None, in_force)
    assert bench.children == []


def test_a_candidate_that_names_the_model_in_force_does_not_have_it_fetched_again(bench):
    bench.lies_there()
    assert bench.step(replace(WITH_MODEL, usage_s=30), WITH_MODEL) is Works.YES
    assert bench.children == []


def test_a_candidate_that_names_the_model_in_force_waits_where_that_was_lost(bench):
    assert bench.step(replace(WITH_MODEL, usage_s=30), WITH_MODEL) is Works.PENDING
    bench.children[0].ends(FETCHED_MODEL)
    assert bench.step(replace(WITH_MODEL, usage_s=30), WITH_MODEL) is Works.YES


def test_a_release_in_force_that_was_deleted_is_brought_again(bench):
    bench.lay()
    bench.step(None, WITH_AGENT)
    shutil.rmtree(bench.folders.versions / "0.2.0")
    bench.step(None, WITH_AGENT, passes_ms=A_LOOK_MS)
    assert bench.children[0].words[2] == "agent/ketang/0.2.0.zip"


# The rate, and what is kept.


@pytest.mark.parametrize(
    ("in_force", "candidate", "kbps"),
    [(64, 32, "32"), (32, 64, "32"), (None, 64, "64"), (64, None, "64"), (None, None, None)],
)
def test_neither_the_rate_in_force_nor_the_candidates_is_exceeded(bench, in_force, candidate, kbps):
    bench.step(Config(model=MODEL, download_kbps=candidate), Config(download_kbps=in_force))
    words = bench.children[0].words
    assert ("--kbps" in words) is (kbps is not None)
    assert kbps is None or words[-1] == kbps


def test_what_is_being_tried_is_kept_when_the_rest_is_let_go(bench):
    """A candidate that came while the one before it was committing, in whatever phase it is."""
    bench.parts.committed(Config(), None)
    bench.at_hand = replace(WITH_MODEL, agent=AGENT)
    bench.step(None)
    said = json.loads(bench.children[0].words[1])
    assert said["kept_models"] == [["mtcnn", "9.0.0", DIGEST]]
    assert said["kept_versions"] == ["0.2.0"]


# Children that die, and take the agent with them.


def test_deaths_are_counted_over_restarts(bench):
    for number in range(5):
        bench.step(WITH_MODEL, passes_ms=LATER_MS)
        bench.step(WITH_MODEL, passes_ms=LATER_MS)
        assert len(bench.children) == number + 1
        bench.children[-1].returncode = -9
        told = bench.step(WITH_MODEL)
        bench.begin()
    assert told is Works.NO
    assert bench.step(WITH_MODEL) is Works.PENDING
    assert bench.step(WITH_MODEL, passes_ms=LATER_MS) is Works.NO, "and after a start as well"
    assert len(bench.children) == 5
    bench.step(None)
    bench.step(WITH_MODEL)
    assert len(bench.children) == 6, "who asks again has it tried again"


def test_an_agent_that_dies_with_its_child_again_and_again_gives_the_candidate_up(bench):
    told = []
    for _ in range(8):
        bench.step(WITH_MODEL, passes_ms=LATER_MS)
        told.append(bench.step(WITH_MODEL, passes_ms=LATER_MS))
        bench.begin()
    assert told == [*[Works.PENDING] * 5, *[Works.NO] * 3]
    assert len(bench.children) == 5


def test_a_machine_that_is_switched_off_every_evening_gives_nothing_up(bench):
    for number in range(20):
        bench.boot_id = f"boot-{number}"
        assert bench.step(WITH_MODEL, passes_ms=LATER_MS) is Works.PENDING
        bench.begin()
    assert len(bench.children) == 20


def test_an_orderly_stop_gives_nothing_up(bench):
    for _ in range(20):
        assert bench.step(WITH_MODEL, passes_ms=LATER_MS) is Works.PENDING
        bench.parts.end()
        bench.begin()
    assert len(bench.children) == 20


def test_what_is_in_force_is_asked_for_an_hour_after_too_many_deaths(bench):
    for _ in range(6):
        bench.step(None, WITH_MODEL, passes_ms=LATER_MS)
        bench.step(None, WITH_MODEL, passes_ms=LATER_MS)
        if bench.children and bench.children[-1].returncode is None:
            bench.children[-1].returncode = -9
        bench.step(None, WITH_MODEL)
    assert len(bench.children) == 5
    bench.step(None, WITH_MODEL, passes_ms=AN_HOUR_MS)
    assert len(bench.children) == 6
