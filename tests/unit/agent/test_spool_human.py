"""The spool as a person reads it: counts, the last records in words, a table to take away."""

import argparse
import csv
import json
import subprocess
import sys

import pytest

from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_cli import spool as command
from ketang_contract.batch import DropReason
from ketang_contract.errors import BadInput
from ketang_contract.ranges import RangeSet
from ketang_contract.records import (
    Event,
    EventName,
    Host,
    Record,
    Stream,
    TimeQuality,
    Usage,
)

NOW_MS = 1_790_000_000_000


def record(body, at_ms):
    return Record(
        subject="dev-1",
        wall_ms=at_ms,
        boot_id="b",
        boottime_ms=1,
        time=TimeQuality.FREE,
        body=body,
    )


@pytest.fixture
def path(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        spool.append([record(Event(name=EventName.WAKE), NOW_MS)])
        spool.append(
            [record(Host(window_s=300, cpu_mean_pct=at % 100), NOW_MS + at) for at in range(1200)]
        )
        spool.append([record(Usage(window_s=300, active_s=200), NOW_MS + 5000)])
        ops = Lane(spool.current_store, Stream.OPS)
        spool.mark_acked(ops, RangeSet.span(1, 100), NOW_MS)
        spool.mark_lost(ops, RangeSet.span(101, 150), DropReason.EVICTED, NOW_MS)
        yield spool.path


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def test_stats_count_what_waits_came_and_was_lost(path, capsys):
    assert run("stats", "--file", path, "--json") == 0
    *lanes, file = map(json.loads, capsys.readouterr().out.splitlines())
    (ops,) = (one for one in lanes if one["stream"] == "ops")
    assert (ops["head"], ops["pending"], ops["acked"], ops["lost"]) == (1200, 1050, 100, 50)
    assert ops["oldest_waiting_ms"] == NOW_MS + 150
    assert file["bytes"] > 0
    run("stats", "--file", path)
    assert "1050" in capsys.readouterr().out


def test_peek_says_the_last_records_in_plain_words(path, capsys):
    run("peek", "--file", path, "-n", 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "active 200 s" in lines[-1]
    assert "cpu mean 99 %" in lines[-2]
    assert lines[-1].endswith("(waits)")
    run("peek", "--file", path, "--kind", "event", "--json")
    assert json.loads(capsys.readouterr().out)["body"]["name"] == "wake"


def test_an_export_holds_every_wanted_record_once(path, tmp_path, capsys):
    out = tmp_path / "out.csv"
    run("export", "--file", path, "--output", out)
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({(one["stream"], one["seq"]) for one in rows}) == 1152
    assert sum(one["waiting"] == "False" for one in rows) == 100
    run("export", "--file", path, "--format", "jsonl", "--stream", "use")
    said = capsys.readouterr().out.splitlines()
    assert json.loads(said[-1])["body"]["active_s"] == 200
    assert len(said) == 2
    run("export", "--file", path, "--format", "jsonl", "--since", "2100-01-01")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "words",
    [
        ("stats", "--file", "none.db"),
        ("stats", "--settings", "none.toml"),
        ("peek", "--file", "{spool}", "-n", "0"),
        ("peek", "--file", "{spool}", "--since", "yesterday"),
        ("export", "--file", "{spool}", "--output", "/no/such/folder/x.csv"),
        ("stats", "--file", "{text}"),
    ],
)
def test_bad_input_is_one_clear_line(path, tmp_path, words):
    text = tmp_path / "text"
    text.write_text("no database at all " * 100)
    with pytest.raises(BadInput) as caught:
        run(*(word.format(spool=path, text=text) for word in words))
    assert "\n" not in str(caught.value)


def test_reading_changes_nothing_and_the_supervisor_never_loads_it(path):
    before = path.read_bytes()
    run("stats", "--file", path)
    assert path.read_bytes() == before
    code = (
        "import sys, ketang_agent.service as s, ketang_agent.spool.salvage;"
        " sys.exit('sqlite_utils' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
