"""A missing outside part skips what needs it, and fails it where a full run is asked for."""

import os
import subprocess
import sys

import pytest
from tests import parts
from tests.unit.repo.house_rules import ROOT

TESTS = """
import pytest

@pytest.mark.{marker}
def test_that_needs_it():
    pass

def test_that_does_not():
    pass
"""


def run_without_programs(tmp_path, marker, **environment):
    """Run a test that needs a part, on a PATH with nothing on it."""
    (tmp_path / "conftest.py").write_text(
        "from tests import parts\n"
        "parts._SYSTEM_PATH = ''\n"
        "from tests.conftest import pytest_runtest_setup\n"
    )
    (tmp_path / "test_it.py").write_text(TESTS.format(marker=marker))
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-rs",
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir",
            str(tmp_path),
            "-p",
            "no:cacheprovider",
            str(tmp_path),
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("part", parts.PARTS, ids=lambda part: part.name)
def test_a_missing_part_skips_only_what_needs_it_and_says_what_to_install(tmp_path, part):
    done = run_without_programs(tmp_path, part.name, KETANG_REQUIRE_PARTS="")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    assert f"sudo apt-get install {part.packages[0]}" in done.stdout


def test_a_full_run_fails_where_a_part_is_missing(tmp_path):
    done = run_without_programs(tmp_path, "mosquitto", KETANG_REQUIRE_PARTS="1")
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert "mosquitto is missing" in done.stdout


def test_every_part_has_its_marker(pytestconfig):
    named = {line.split(":")[0] for line in pytestconfig.getini("markers")}
    assert {part.name for part in parts.PARTS} <= named


def test_free_ports_are_never_the_same(free_ports, free_port):
    assert len({free_port, *(free_ports() for _ in range(20))}) == 21


def run_script(*words):
    return subprocess.run(
        [sys.executable, "tests/parts.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout


def test_the_packages_are_named_on_one_line_for_apt():
    assert {"mosquitto", "chromium", "xvfb", "dbus-daemon"} <= set(run_script("--packages").split())


def test_the_report_is_one_line_for_each_missing_part_or_one_that_all_are_here():
    assert all(line.startswith("outside part") for line in run_script().splitlines())
