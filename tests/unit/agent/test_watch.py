"""Which release the watcher starts, and when it goes back; and what it costs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_agent import versions, watching
from ketang_agent.clock import Instant
from ketang_agent.remote.machine import Phase
from ketang_agent.remote.own_version import PROVEN_MS, OwnVersion, watched_folder
from ketang_agent.versions import INSTALLED, GivenUp, Standing, Trial, Wish
from ketang_agent.watching import MOST_DEATHS, TRIAL_MS, Moment
from ketang_contract.config import AgentChoice, Config

NOW = Moment(1_000_000, "boot-1")
OURS = Standing(installed="0.1.0")
NEW = Wish(version="0.2.0", ask="h/0")
TRIED = watching.ask(OURS, NEW, NOW)
SUM = "a" * 64
WITH_NEW = Config(agent=AgentChoice(version="0.2.0", sha256=SUM))


def later(ms):
    return replace(NOW, ms=NOW.ms + ms)


def test_a_release_that_is_asked_for_is_on_trial_and_the_one_before_is_remembered():
    assert (TRIED.current, TRIED.before, TRIED.ask) == ("0.2.0", INSTALLED, "h/0")
    assert TRIED.trial == Trial(NOW.ms + TRIAL_MS, "boot-1")


def test_the_trial_ends_well_only_by_a_word_of_the_release_itself():
    assert watching.look(TRIED, NEW, later(TRIAL_MS - 1)) is TRIED
    of_another = replace(NEW, healthy=INSTALLED)
    assert watching.look(TRIED, of_another, later(1)) is TRIED
    assert watching.look(TRIED, replace(NEW, healthy="0.2.0"), later(1)).trial is None


def test_a_release_that_says_nothing_is_given_up_at_its_deadline():
    back = watching.look(TRIED, NEW, later(TRIAL_MS))
    assert (back.current, back.trial) == (INSTALLED, None)
    assert back.given_up == (GivenUp("0.2.0", "h/0", "silent"),)


def test_three_deaths_are_borne_and_the_fourth_is_not():
    now = TRIED
    for _ in range(MOST_DEATHS):
        now = watching.die(now)
        assert now.current == "0.2.0"
    now = watching.die(now)
    assert (now.current, now.given_up[-1].reason) == (INSTALLED, "crashed")


def test_a_boot_counts_as_a_death_and_gives_a_new_deadline():
    now = TRIED
    for number in range(MOST_DEATHS):
        now = watching.resume(now, Moment(5, f"boot-{number + 2}"))
        assert now.trial == Trial(5 + TRIAL_MS, f"boot-{number + 2}", number + 1)
    assert watching.resume(now, Moment(5, "boot-9")).current == INSTALLED


def test_a_watcher_that_starts_again_in_the_same_boot_keeps_the_deadline():
    assert watching.resume(TRIED, later(10)).trial == Trial(NOW.ms + TRIAL_MS, "boot-1", 1)


def test_what_was_given_up_is_tried_again_only_for_another_asking():
    back = watching.look(TRIED, NEW, later(TRIAL_MS))
    assert watching.ask(back, NEW, NOW) is back
    assert watching.ask(back, replace(NEW, ask="h/1"), NOW).current == "0.2.0"


def test_going_back_in_a_trial_takes_no_trial_and_blames_nobody():
    back = watching.ask(TRIED, Wish(version=INSTALLED, ask="g"), later(1))
    assert (back.current, back.trial, back.given_up) == (INSTALLED, None, ())
    assert watching.ask(back, NEW, later(2)).current == "0.2.0"


def test_a_third_release_asked_for_in_a_trial_still_leads_back_to_the_proven_one():
    third = watching.ask(TRIED, Wish(version="0.3.0", ask="i/0"), later(1))
    assert (third.current, third.before) == ("0.3.0", INSTALLED)


def test_a_release_in_use_that_was_damaged_leads_to_the_one_before_and_then_to_the_installed_one():
    second = watching.ask(replace(TRIED, trial=None), Wish(version="0.3.0", ask="i/0"), NOW)
    proven = replace(second, trial=None)
    assert watching.lose(proven).current == "0.2.0"
    assert watching.lose(watching.lose(proven)).current == INSTALLED
    assert watching.lose(OURS) is OURS


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["", "0.2.0", "0.3.0", "0.4.0"])),
        st.tuples(st.just("die"), st.just("")),
        st.tuples(st.just("lose"), st.just("")),
        st.tuples(st.just("pass"), st.integers(0, TRIAL_MS)),
        st.tuples(st.just("boot"), st.just("")),
        st.tuples(st.just("well"), st.just("")),
    ),
    max_size=40,
)


@given(STEPS)
def test_no_trial_outlives_its_deadline_or_its_deaths(steps):
    now, at, boots, asks = OURS, NOW, 1, 0
    for what, more in steps:
        match what:
            case "ask":
                asks += 1
                now = watching.ask(now, Wish(version=more, ask=f"h/{asks}"), at)
            case "die":
                now = watching.die(now)
            case "lose":
                now = watching.lose(now)
            case "pass":
                at = replace(at, ms=at.ms + more)
            case "boot":
                boots += 1
                at = Moment(1000, f"boot-{boots}")
                now = watching.resume(now, at)
            case "well":
                now = watching.look(now, Wish(healthy=now.current), at)
        now = watching.look(now, Wish(), at)
        if now.trial is not None:
            assert now.current != now.before
            assert at.ms < now.trial.until_ms
            assert now.trial.deaths <= MOST_DEATHS


# What is on disk.


def test_both_files_come_back_as_they_were_written(tmp_path):
    said = replace(TRIED, given_up=(GivenUp("0.3.0", "x", "crashed"),))
    versions.keep_standing(tmp_path, said)
    assert versions.standing(tmp_path, "0.1.0") == said
    assert versions.installed(tmp_path) == "0.1.0"
    versions.keep_wish(tmp_path, replace(NEW, healthy="0.2.0"))
    assert versions.wish(tmp_path) == replace(NEW, healthy="0.2.0")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": "../x", "ask": "", "healthy": null}']
)
def test_a_damaged_word_asks_for_nothing(tmp_path, content):
    (tmp_path / "wish.json").write_bytes(content)
    (tmp_path / "watch.json").write_bytes(content)
    assert versions.wish(tmp_path) == Wish()
    assert versions.standing(tmp_path, "0.1.0") == OURS


def test_a_version_never_leads_out_of_the_folder(tmp_path):
    for bad in ("..", "0.2.0/../..", "", "v1", "0.2"):
        with pytest.raises(ValueError, match="not a version"):
            versions.home_of(tmp_path, bad)
        assert not versions.is_laid(tmp_path, bad)


# What the agent asks for.


def instant(ms=1000):
    return Instant(0, ms, "boot-1")


def lay(folder, version="0.2.0"):
    (folder / version).mkdir()
    versions.mark_laid(folder / version, version, SUM)


def own(folder, standing=OURS, running="0.1.0"):
    versions.keep_standing(folder, standing)
    return OwnVersion(folder, running)


def test_without_a_watcher_nothing_changes_and_a_trial_says_why(tmp_path):
    one = OwnVersion(None, "0.1.0")
    assert one.wrong(WITH_NEW, "h/0") == "agent_not_watched"
    assert not one.step(WITH_NEW, "h/0", Phase.TRIAL, instant())
    assert one.wrong(Config(agent=AgentChoice(version="0.1.0", sha256=SUM)), "h/0") == ""
    assert watched_folder({}) is None
    assert watched_folder({"KETANG_VERSIONS": str(tmp_path)}) == tmp_path


def test_a_release_that_is_laid_out_is_wished_for_and_one_that_is_not_fails_the_trial(tmp_path):
    one = own(tmp_path)
    assert one.wrong(WITH_NEW, "h/0") == "agent_missing"
    assert not one.step(WITH_NEW, "h/0", Phase.TRIAL, instant())
    lay(tmp_path)
    assert one.wrong(WITH_NEW, "h/0") == ""
    assert one.step(WITH_NEW, "h/0", Phase.TRIAL, instant())
    assert versions.wish(tmp_path) == NEW


def test_a_release_laid_out_from_another_archive_is_not_the_one(tmp_path):
    lay(tmp_path)
    other = Config(agent=AgentChoice(version="0.2.0", sha256="b" * 64))
    assert own(tmp_path).wrong(other, "h/0") == "agent_missing"


def test_the_version_that_runs_from_another_archive_does_not_pass_for_the_one_that_is_named(
    tmp_path,
):
    lay(tmp_path)
    runs = replace(OURS, current="0.2.0")
    assert own(tmp_path, runs, "0.2.0").wrong(WITH_NEW, "h/0") == ""
    other = Config(agent=AgentChoice(version="0.2.0", sha256="b" * 64))
    assert own(tmp_path, runs, "0.2.0").wrong(other, "h/0") == "agent_version_reused"


def test_what_the_systems_packages_installed_is_held_against_no_hash(tmp_path):
    installed = Config(agent=AgentChoice(version="0.1.0", sha256="b" * 64))
    assert own(tmp_path).wrong(installed, "h/0") == ""
    assert own(tmp_path, replace(OURS, current="0.2.0"), "0.2.0").wrong(installed, "h/0") == ""


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"sha256": 7}'])
def test_a_release_that_lost_its_label_blames_no_configuration(tmp_path, raw):
    lay(tmp_path)
    (tmp_path / "0.2.0" / "release.json").write_bytes(raw)
    runs = replace(OURS, current="0.2.0")
    assert own(tmp_path, runs, "0.2.0").wrong(WITH_NEW, "h/0") == ""


def test_the_old_release_that_came_back_says_what_became_of_the_new_one(tmp_path):
    lay(tmp_path)
    one = own(tmp_path, watching.look(TRIED, NEW, later(TRIAL_MS)))
    assert one.wrong(WITH_NEW, "h/0") == "agent_silent"
    assert not one.step(WITH_NEW, "h/0", Phase.TRIAL, instant())
    assert one.wrong(WITH_NEW, "h/1") == ""


def test_the_new_release_says_that_it_is_healthy_once_its_configuration_has_committed(tmp_path):
    one = own(tmp_path, TRIED, running="0.2.0")
    assert not one.step(WITH_NEW, "h/0", Phase.TRIAL, instant())
    assert versions.wish(tmp_path).healthy is None
    assert not one.step(WITH_NEW, "h", None, instant())
    assert versions.wish(tmp_path).healthy == "0.2.0"


def test_one_that_nobody_tries_is_healthy_after_a_while(tmp_path):
    one = own(tmp_path, replace(TRIED, ask="h"), running="0.2.0")
    assert not one.step(WITH_NEW, "h", None, instant())
    assert versions.wish(tmp_path).healthy is None
    assert not one.step(WITH_NEW, "h", None, instant(1000 + PROVEN_MS))
    assert versions.wish(tmp_path).healthy == "0.2.0"


def test_the_new_release_wishes_itself_back_when_what_named_it_is_given_up(tmp_path):
    one = own(tmp_path, TRIED, running="0.2.0")
    assert one.step(Config(), "g", Phase.RETURNING, instant())
    assert versions.wish(tmp_path) == Wish(version=INSTALLED, ask="g")


def test_a_trial_whose_wish_the_disk_does_not_take_must_not_pass_under_the_old_one(tmp_path):
    lay(tmp_path)
    one = own(tmp_path)
    (tmp_path / "wish.json").mkdir()
    assert not one.step(WITH_NEW, "h/0", Phase.TRIAL, instant())
    assert one.wrong(WITH_NEW, "h/0") == "disk_failing"
    assert one.wrong(WITH_NEW, "h/1") == ""
    (tmp_path / "wish.json").rmdir()
    assert one.step(WITH_NEW, "h/0", Phase.TRIAL, instant())
    assert one.wrong(WITH_NEW, "h/0") == ""


def test_the_version_the_packages_installed_needs_no_folder(tmp_path):
    one = own(tmp_path, replace(TRIED, trial=None), running="0.2.0")
    assert one.step(
        Config(agent=AgentChoice(version="0.1.0", sha256=SUM)), "k/0", Phase.TRIAL, instant()
    )
    assert versions.wish(tmp_path).version == INSTALLED


# What it costs.

HEAVY = ("argparse", "logging", "shutil", "tomllib", "asyncio", "paho", "psutil", "sqlite3", "ssl")


def test_the_watcher_carries_little():
    tell = (
        "import sys, ketang_agent.watch; print(*sys.modules);"
        "print(open('/proc/self/smaps_rollup').read())"
    )
    said = subprocess.run(
        [sys.executable, "-c", tell], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    loaded = said.splitlines()[0].split()
    assert not set(HEAVY) & set(loaded)
    if Path("/proc/self/smaps_rollup").exists():
        pss_kb = next(int(line.split()[1]) for line in said.splitlines() if line.startswith("Pss:"))
        assert pss_kb < 12 << 10
