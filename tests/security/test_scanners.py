"""Outside eyes: bandit over every package, and pip-audit over the lock if its database is near."""

import json
import subprocess
import sys
import tomllib

import pytest

from tests.unit.repo.house_rules import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = sorted(
    {one.split("/")[0] for one in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
)
LOCK = ROOT / "constraints.txt"


def scanned(*paths):
    """Return bandit's findings of medium and high severity, and what it could not read."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "bandit", "--quiet", "--format", "json"),
            *("--configfile", str(ROOT / "pyproject.toml"), "--severity-level", "medium"),
            *("--recursive", *map(str, paths)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = json.loads(ended.stdout)
    return (
        [f"{one['filename']}:{one['line_number']} {one['test_id']}" for one in said["results"]],
        [one["filename"] for one in said["errors"]],
        said["metrics"],
    )


def test_bandit_finds_nothing_of_weight_in_any_package():
    found, unread, measured = scanned(*FOLDERS)
    assert found == []
    assert unread == []
    read = {name.removeprefix("./").split("/")[0] for name in measured if name != "_totals"}
    assert read == set(FOLDERS)


def test_bandit_would_have_found_one(tmp_path):
    odd = tmp_path / "odd.py"
    odd.write_text(
        'import subprocess, yaml\nsubprocess.run("ls " + input(), shell=True)\n'
        "yaml.load(input())\ndb.execute(\"SELECT * FROM t WHERE a = '%s'\" % input())\n"
    )
    found, _, _ = scanned(tmp_path)
    assert {one.split()[1] for one in found} >= {"B602", "B506", "B608"}


def test_make_scan_and_this_test_look_at_the_same_folders():
    said = next(
        line.partition(":=")[2].split()
        for line in (ROOT / "Makefile").read_text("utf-8").splitlines()
        if line.startswith("PACKAGES :=")
    )
    assert sorted(said) == FOLDERS


def test_every_accepted_finding_names_what_is_accepted():
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            for line in file.read_text("utf-8").splitlines():
                _, mark, after = line.partition("# nosec")
                assert not mark or after.lstrip(": ")[:1] == "B", f"{file}: {line}"


def audited(requirements):
    """Return pip-audit's account of a list of pinned packages; skip where its database is far."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", str(requirements)),
            *("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"),
            *("--timeout", "15"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if not ended.stdout.startswith("{"):
        last = ended.stderr.strip().splitlines()[-1:] or ["no answer"]
        pytest.skip(f"no advisory service is reached: {last[0][:200]}")
    return json.loads(ended.stdout)["dependencies"]


def test_no_pinned_package_has_a_known_vulnerability(tmp_path):
    first = tmp_path / "first.txt"
    first.write_text(
        next(line for line in LOCK.read_text("utf-8").splitlines() if line.startswith("jinja2=="))
    )
    (probe,) = audited(first)
    if "skip_reason" in probe:
        pytest.skip(f"no advisory service is reached: {probe['skip_reason']}")
    found = audited(LOCK)
    assert [one for one in found if one.get("vulns")] == []
    assert [one for one in found if "skip_reason" in one] == []
