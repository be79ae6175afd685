import json

import pytest

from ketang_provisioning import broker_log
from ketang_provisioning.broker_log import Position, Refusal, RefusalFile, What, follow


def refusal(number):
    return Refusal(number, "nats", What.NO_CERTIFICATE, f"panel-{number}", "::1", "detail")


def all_since(path, position):
    found = []
    while True:
        events, position = follow(path, position)
        if not events:
            return found, position
        found += events


def test_what_was_written_is_read_once(tmp_path):
    path = tmp_path / "refusals.jsonl"
    assert follow(path, None) == ([], None)
    file, position = RefusalFile(path), None
    for number in range(3):
        file.write(refusal(number))
        events, position = follow(path, position)
        assert events == [refusal(number)]
    assert follow(path, position) == ([], position)
    assert follow(path, None)[0] == [refusal(one) for one in range(3)]


def test_a_reader_survives_rotation_wherever_it_stands(tmp_path):
    path = tmp_path / "refusals.jsonl"
    file, position, seen = RefusalFile(path, most_bytes=1000), None, []
    for number in range(60):
        file.write(refusal(number))
        if number % 4 == 0:
            events, position = all_since(path, position)
            seen += events
    events, _ = all_since(path, position)
    assert seen + events == [refusal(one) for one in range(60)]
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 2400


def test_a_reader_that_was_away_too_long_loses_lines_and_reads_no_line_twice(tmp_path):
    path = tmp_path / "refusals.jsonl"
    file = RefusalFile(path, most_bytes=1000)
    file.write(refusal(0))
    _, position = follow(path, None)
    for number in range(1, 60):
        file.write(refusal(number))
    seen, _ = all_since(path, position)
    numbers = [one.at_ms for one in seen]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 59


def test_a_position_travels_as_text():
    position = Position("81271e8e0048f559", 420)
    assert Position.of(str(position)) == position
    for text in ("", "x", "a:b", "a:-1"):
        assert Position.of(text) is None


def test_half_a_line_waits_and_damage_is_skipped(tmp_path):
    path = tmp_path / "refusals.jsonl"
    file = RefusalFile(path)
    file.write(refusal(1))
    with path.open("ab") as raw:
        raw.write(b'not json\n{"what": "unheard_of"}\n{"at_ms": 2')
    events, position = follow(path, None)
    assert events == [refusal(1)]
    with path.open("ab") as raw:
        raw.write(b"}\n")
    file.write(refusal(3))
    assert follow(path, position)[0] == [refusal(3)]


def test_a_strangers_text_is_cut_and_printable(tmp_path):
    path = tmp_path / "refusals.jsonl"
    evil = "\n\x1b[31m\u202e" + "x" * 5000
    RefusalFile(path).write(Refusal(1, "nats", What.BAD_CLIENT, evil, evil, evil))
    heading, line = path.read_text("utf-8").splitlines()
    assert json.loads(heading)["file"]
    assert len(line) < 1000
    assert all(one.isprintable() for one in line)


@pytest.mark.parametrize("what", What)
def test_every_kind_is_one_word(what):
    assert what.value.isidentifier()
    assert broker_log.What(what.value) is what
