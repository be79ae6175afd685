"""The house rules hold, and each of them can tell."""

import re
import tomllib
from pathlib import Path

import pytest
from tests.unit.repo import house_rules
from tests.unit.repo.house_rules import ROOT

HERE = Path("x.py")


def test_nothing_in_the_project_breaks_a_rule():
    assert house_rules.faults() == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a\n" + "<" * 7 + " HEAD\n", "x.py:2: an unresolved merge"),
        ("-----BEGIN " + "EC PRIVATE KEY-----", "x.py:1: a private key"),
        ("open('" + "/ho" + "me/me/x')", "x.py:1: a path of somebody's machine"),
        ("https://" + "py" + "pi.org/simple", "x.py:1: a package registry's address"),
        ("a\r\n", "x.py:1: Windows line ends"),
    ],
)
def test_each_forbidden_text_is_found_with_its_line(text, what):
    assert list(house_rules.forbidden_text(HERE, text)) == [what]


def test_a_module_or_function_that_has_outgrown_itself_is_named():
    long = "def f():\n" + "    x = 1\n" * 50
    assert "f has 51 lines" in next(house_rules.oversize(HERE, long))
    told = 'def f():\n    """Say.\n' + "\n" * 60 + '    """\n    x = 1\n'
    assert list(house_rules.oversize(HERE, told)) == []
    assert "401 lines" in next(house_rules.oversize(HERE, "x = 1\n" * 401))


@pytest.mark.parametrize(
    ("line", "pinned"),
    [
        ("ruff==0.9.1", True),
        ("ruff==0.9.1   # via ketang (pyproject.toml)", True),
        ('jeepney==0.9.0 ; sys_platform == "linux"  # via ketang', True),
        ("ruff>=0.9", False),
        ("ruff @ file:///x", False),
        ("--index-url https://example.org", False),
    ],
)
def test_only_an_exact_version_passes_as_pinned(line, pinned):
    assert (list(house_rules.unpinned(HERE, line)) == []) == pinned


def normal(requirement):
    return re.split(r"[\[<>=;! ]", requirement)[0].lower().replace("_", "-")


def test_the_lock_has_every_package_that_is_asked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    asked = {normal(one) for many in extras for one in many} - {"ketang"}
    asked |= {normal(one) for one in project["build-system"]["requires"]}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    locked = {normal(one) for one in lines if not one.startswith("#")}
    assert asked - locked == set()


def test_the_readme_names_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for name in ("README.md", "README.zh.md"):
        named = set(re.findall(r"make ([a-z]+)", (ROOT / name).read_text("utf-8")))
        assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("name", ["README.md", "README.zh.md", "docs/newcomers.md"])
def test_every_link_to_a_file_leads_somewhere(name):
    page = ROOT / name
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)|(?:src|href)=\"([^\"#:]+)\"", text)
    missing = [one for pair in links for one in pair if one and not (page.parent / one).exists()]
    assert not missing


def test_the_licence_is_the_one_the_package_names():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
