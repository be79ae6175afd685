"""Work over which children die is remembered, whoever dies with them."""

import errno
import os

import pytest

from ketang_agent.remote.deaths import Deaths

BOOT, NEXT_BOOT = "boot-1", "boot-2"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "deaths.json"


def started(file, boot_id=BOOT):
    made = Deaths(file)
    made.resume(boot_id)
    return made


def test_what_ended_by_itself_or_by_our_hand_is_no_death(file):
    one = started(file)
    for _ in range(3):
        one.begin("a", BOOT)
        one.end()
    assert one.of("a") == started(file).of("a") == 0


def test_deaths_are_remembered_over_starts_and_boots(file):
    for boot_id in (BOOT, BOOT, NEXT_BOOT):
        one = started(file, boot_id)
        one.begin("a", boot_id)
        one.end(died=True)
    assert started(file).of("a") == 3
    assert started(file).of("b") == 0


def test_who_took_the_agent_down_with_it_has_died(file):
    for _ in range(4):
        started(file).begin("a", BOOT)  # and nobody says how it ended
    assert started(file).of("a") == 4
    assert started(file).of("a") == 4, "counted once"


def test_a_machine_that_is_switched_off_meanwhile_blames_nobody(file):
    started(file).begin("a", BOOT)
    assert started(file, NEXT_BOOT).of("a") == 0
    assert started(file, BOOT).of("a") == 0


def test_what_nobody_asks_for_any_more_is_forgotten(file):
    one = started(file)
    for what in ("a", "b"):
        one.begin(what, BOOT)
        one.end(died=True)
    one.forget({"b"})
    assert (started(file).of("a"), started(file).of("b")) == (0, 1)
    one.forget()
    assert started(file).of("b") == 0


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"died": 3}', b'{"died": {"a": "x"}}'])
def test_a_damaged_file_is_as_none(file, raw):
    file.parent.mkdir()
    file.write_bytes(raw)
    one = started(file)
    assert one.of("a") == 0
    one.begin("a", BOOT)
    assert started(file).of("a") == 1


def test_the_file_does_not_grow_for_ever(file):
    one = started(file)
    for number in range(100):
        one.begin(str(number), BOOT)
        one.end(died=True)
    assert (one.of("0"), one.of("99")) == (0, 1)
    assert file.stat().st_size < 1000


def test_a_disk_that_takes_nothing_is_borne_and_told_once(file, monkeypatch, caplog):
    one = started(file)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ketang_agent.remote.deaths.write_private", full)
    for _ in range(3):
        one.begin("a", BOOT)
        one.end(died=True)
    assert one.of("a") == 3
    assert caplog.text.count("deaths_not_kept") == 1
