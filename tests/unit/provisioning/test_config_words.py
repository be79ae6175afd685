"""A configuration in plain words: what widens stands first, and nothing is left out."""

import pytest
from hypothesis import given, settings
from tests.unit.provisioning.config_samples import configs

from ketang_contract.config import Config, Level, changed
from ketang_contract.records import Category
from ketang_provisioning.config_words import (
    Caution,
    caution,
    cautions,
    contents,
    differences,
    title,
    words,
)


@given(was=configs, after=configs)
@settings(max_examples=100, deadline=None)
def test_every_field_that_differs_is_told_once_and_in_one_line(was, after):
    for language in ("en", "zh"):
        lines = list(differences(was, after, language))
        assert len(lines) == len(changed(was, after))
        assert all(line.isprintable() for line in lines)
        for name in changed(was, after):
            assert sum(f"  {title(name, language)}: " in line for line in lines) == 1
        assert all(line.isprintable() for line in contents(after, language))


def test_what_widens_stands_first():
    was = Config(usage_s=60, host_s=60, scan_s=5)
    after = Config(usage_s=30, host_s=0, spool_max_mb=64)
    assert list(differences(was, after, "en")) == [
        "WIDENS   usage_s: 30 s (before: 60 s)",
        "WIDENS   scan_s: nothing (before: 5 s)",
        "narrows  host_s: off (before: 60 s)",
        "changes  spool_max_mb: 64 MB (before: nothing)",
    ]
    assert next(differences(was, after, "zh")) == "放宽  使用采样间隔 usage_s: 30 s (原为: 60 s)"


def test_programs_are_told_by_what_comes_and_goes_and_steer_no_terminal():
    was = Config(foreground=(("a", Category.MEDIA), ("b", Category.OFFICE)))
    after = Config(foreground=(("b", Category.OFFICE), ("c\x9b", Category.BROWSER)))
    assert list(differences(was, after, "en")) == [
        "WIDENS   foreground: adds c?=browser; drops a=media"
    ]
    assert list(differences(Config(), Config(foreground=(), hours=()), "en")) == [
        "WIDENS   foreground: none",
        "narrows  hours: never (before: nothing)",
    ]


@pytest.mark.parametrize(
    ("config", "level", "expected"),
    [
        (Config(usage_s=60), None, [Caution.NO_HOURS]),
        (Config(usage_s=60), Level.REGION, [Caution.NO_HOURS_SO_FAR]),
        (Config(usage_s=60), Level.SCHOOL, []),
        (Config(usage_s=0, occupancy_s=300, inference=True), None, [Caution.NO_HOURS]),
        (Config(usage_s=0, occupancy_s=300, inference=False), None, []),
        (Config(usage_s=0, occupancy_s=0, inference=True), None, []),
        (Config(hours=((0, 480, 600),)), None, []),
        (Config(hours=()), None, [Caution.NEVER]),
        (Config(hours=()), Level.SCHOOL, [Caution.NEVER]),
    ],
)
def test_hours_that_are_not_set_or_leave_nothing_are_warned_of(config, level, expected):
    assert list(cautions(config, level)) == expected


def test_every_warning_is_one_line_in_both_languages():
    for one in Caution:
        assert caution(one, "en").startswith("WARNING: ")
        assert caution(one, "zh").startswith("注意：")
    assert "round the clock" in caution(Caution.NO_HOURS, "en")
    assert "collect never" in caution(Caution.NEVER, "en")


def test_an_interval_at_which_nobody_can_be_counted_is_told_with_the_one_that_holds():
    assert words("occupancy_s", 1800, "en") == "1800 s"
    assert words("occupancy_s", 0, "en") == "off"
    assert words("occupancy_s", 2700, "en") == "2700 s (in effect 3600 s)"
    assert words("occupancy_s", 2700, "zh") == "2700 s (实际为 3600 s)"
