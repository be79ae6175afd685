"""The security page: complete, the same in both languages, and every file it names is there."""

import re

import pytest
from tests.unit.repo.house_rules import ROOT

DOCS = ROOT / "docs"
PAGES = {"en": DOCS / "security.md", "zh": DOCS / "security.zh.md"}
STATUS = {
    "en": {"met": "met", "in part": "in part", "gap": "gap", "n/a": "n/a"},
    "zh": {"满足": "met", "部分满足": "in part", "不满足": "gap", "不适用": "n/a"},
}
COUNTS = (5, 3, 16, 4, 8, 9, 2, 3, 3, 1, 4, 3, 1)
ETSI_V2 = {f"5.{no}-{one}" for no, most in enumerate(COUNTS, 1) for one in range(1, most + 1)} | {
    f"6.{one}" for one in range(1, 6)
}
"""Every provision of ETSI EN 303 645 V2.1.1, clauses 5 and 6."""
SPLIT_IN_V3 = {
    "5.3-4": "5.3-4A, 5.3-4B",
    "5.3-6": "5.3-6A, 5.3-6B",
    "5.3-15": "5.3-15A, 5.3-15B",
    "5.6-4": "5.6-4A, 5.6-4B",
    "5.13-1": "5.13-1A, 5.13-1B",
    "6.3": "6-3A, 6-3B",
}
NEW_IN_V3 = {"5.0-1", "5.1-2A", "6.6", "6.7", "6.8"}
LETTERS = {
    "7.1.2.1": "ab",
    "7.1.2.2": "",
    "7.1.2.3": "",
    "7.1.3.1": "",
    "7.1.3.2": "abcd",
    "7.1.3.3": "",
    "7.1.3.4": "",
    "7.1.3.5": "abc",
    "7.1.3.6": "",
    "7.1.4.1": "abc",
    "7.1.4.2": "abcd",
    "7.1.4.3": "abc",
    "7.1.4.4": "abcde",
    "7.1.4.5": "",
    "7.1.4.6": "",
    "7.1.4.7": "",
    "7.1.4.8": "ab",
    "7.1.4.9": "",
    "7.1.4.10": "ab",
    "7.1.5.1": "ab",
    "7.1.5.2": "ab",
    "7.4.1.1": "ab",
    "7.4.2.1": "",
    "7.4.2.2": "ab",
    "7.4.3.1": "ab",
}
GB_T_22239 = {f"{item}{letter}" for item, letters in LETTERS.items() for letter in letters or [""]}
"""The items of GB/T 22239-2019, level 2, that the page answers for."""
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def text(language):
    return PAGES[language].read_text("utf-8")


def rows(language):
    """Return the rows of both tables by their number: cells without the number."""
    found = {}
    for line in text(language).splitlines():
        cells = [one.strip() for one in line.strip().strip("|").split("|")]
        if line.startswith("|") and re.match(r"\d+\.\d", cells[0]):
            assert cells[0] not in found, f"{cells[0]} stands twice"
            found[cells[0]] = cells[1:]
    return found


def status(language, cells):
    said = [one.strip("*") for one in cells if one.startswith("**")]
    assert len(said) == 1, cells
    return STATUS[language][said[0]]


@pytest.mark.parametrize("language", PAGES)
def test_every_provision_and_item_has_a_row_and_nothing_else_has(language):
    assert set(rows(language)) == ETSI_V2 | NEW_IN_V3 | GB_T_22239


@pytest.mark.parametrize("language", PAGES)
def test_every_row_has_a_status_a_sentence_and_a_file(language):
    for name, cells in rows(language).items():
        assert status(language, cells), name
        said = LINK.sub("", cells[-1]).strip(" ,")
        assert len(said) > 4, f"{name} says nothing"
        assert LINK.search(cells[-1]), f"{name} names no file"


@pytest.mark.parametrize("language", PAGES)
def test_every_file_that_is_named_is_there(language):
    missing = sorted(
        {
            there
            for _, there in LINK.findall(text(language))
            if not (DOCS / there).resolve().exists()
        }
    )
    assert missing == []


def test_both_languages_say_the_same_of_every_row():
    english, chinese = rows("en"), rows("zh")
    assert list(english) == list(chinese)
    for name in english:
        assert status("en", english[name]) == status("zh", chinese[name]), name
        assert LINK.findall(english[name][-1]) == LINK.findall(chinese[name][-1]), name
    for one in PAGES:
        assert len(re.findall(r"^## ", text(one), re.MULTILINE)) == 6


@pytest.mark.parametrize("language", PAGES)
def test_the_numbers_of_the_newer_version_stand_beside_the_older(language):
    found = rows(language)
    for name in ETSI_V2:
        plain = name.replace("6.", "6-") if name.startswith("6.") else name
        assert found[name][0] == SPLIT_IN_V3.get(name, plain), name


@pytest.mark.parametrize(
    ("language", "pattern"),
    [
        ("en", r"met (\d+), in part (\d+), gap (\d+), n/a (\d+)"),
        ("zh", r"满足 (\d+)；部分满足 (\d+)；不满足 (\d+)；不适用 (\d+)"),
    ],
)
def test_the_sums_are_those_of_the_rows(language, pattern):
    found = [status(language, cells) for name, cells in rows(language).items()]
    told = [tuple(map(int, one)) for one in re.findall(pattern, text(language))]
    assert len(told) == 2
    summed = tuple(sum(one) for one in zip(*told, strict=True))
    assert summed == tuple(found.count(one) for one in ("met", "in part", "gap", "n/a"))


@pytest.mark.parametrize("language", PAGES)
def test_what_a_deployment_has_to_fill_in_is_marked(language):
    assert len(re.findall(r"`\[[^`]+\]`", text(language))) >= 4
