"""``ketang bench``: what it lists, and the shape of what it says."""

import json
import subprocess
import sys

import pytest

from ketang_bench import __main__ as command
from ketang_bench import report

KEYS = [
    "name",
    "value",
    "unit",
    "target",
    "limit",
    "ratio",
    "holds",
    "detail",
    "machine",
    "command",
]


def ketang(*words):
    return subprocess.run(
        [sys.executable, "-m", "ketang_cli.main", "bench", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_without_a_name_it_lists_every_benchmark_with_its_purpose():
    said = ketang()
    assert said.returncode == 0
    assert [line.split()[0] for line in said.stdout.splitlines()] == list(command.NAMES)


def test_an_unknown_name_is_a_mistake_and_not_a_figure():
    said = ketang("warp")
    assert said.returncode == 2
    assert not said.stdout


def test_a_result_has_exactly_the_ten_keys_and_can_be_kept(tmp_path):
    result = report.Result(
        name="drain", value=1, unit="s", target=1, limit=2, ratio=None, holds=True
    )
    said = report.whole(result, "ketang bench drain")
    assert list(said) == KEYS
    kept = report.save(said, tmp_path / "results")
    assert kept.name.endswith("-drain.json")
    assert json.loads(kept.read_text("utf-8")) == said


@pytest.mark.mosquitto
@pytest.mark.slow
def test_a_benchmark_runs_as_a_person_would_run_it_and_prints_one_object(tmp_path):
    said = ketang("start", "--quick", "--json", "--folder", str(tmp_path))
    [line] = said.stdout.splitlines()
    body = json.loads(line)
    assert list(body) == KEYS
    assert body["holds"] == (said.returncode == 0)
    assert body["value"] > 0
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"
