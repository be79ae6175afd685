"""The configuration machine on disk: whole, whatever happens to process, power or file."""

import errno
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.losing_disk import LosingDisk
from tests.faults.test_enrolment_kills import start, was_killed

from ketang_agent.remote import state_file
from ketang_agent.remote.machine import (
    COLLECTS_NOTHING,
    Before,
    Candidate,
    Failed,
    Machine,
    Phase,
    factory,
)
from ketang_contract.config import Apply, Config, LogLevel, ModelChoice, narrowed
from ketang_contract.layers import LayerAt
from ketang_contract.records import Category
from ketang_contract.state import ConfigState

BASE = Config(usage_s=20, host_s=60)
AT = LayerAt(target="lan", key_epoch=1, version=3)
FULL = Config(
    apply=Apply.BREAK,
    usage_s=0,
    categories=(Category.COURSEWARE, Category.OTHER),
    foreground=(("wps", Category.COURSEWARE),),
    hours=((0, 480, 1080),),
    breaks=((0, 600, 620),),
    inference=True,
    model=ModelChoice(name="heads", version="1.0", sha256="0" * 64),
    upload_kbps=64,
    log_level=LogLevel.DEBUG,
)
WHOLE = Machine(
    base=BASE,
    in_force=FULL,
    running="a" * 64,
    layers=(AT,),
    held={"floor_s": 9, "lines": {"lan": {"mark": {"version": 3}}}},
    desired="b" * 64,
    attempt=2,
    state=ConfigState.TRIAL,
    candidate=Candidate(
        hash="b" * 64,
        attempt=2,
        layers=(AT,),
        config=BASE,
        held={"floor_s": 10},
        phase=Phase.TRIAL,
        since_ms=5,
        boot_id="boot-1",
        starts=1,
        session=7,
        failing=("network",),
        suspicions=1,
        why="not_connected",
    ),
    failed=(Failed("c" * 64, 0, "crashed"),),
    refused=Failed("d" * 64, 1, "forged"),
    trial_ms=2500,
    trust_version=4,
    before=Before("e" * 64, (AT,), BASE, 9, "boot-1", 2),
    ended=True,
)


def test_what_was_written_is_read(tmp_path):
    state_file.write(tmp_path, WHOLE)
    assert state_file.read(tmp_path, BASE) == WHOLE


def test_what_was_never_written_is_as_from_the_factory(tmp_path):
    assert state_file.read(tmp_path, BASE) == factory(BASE)


def test_todays_profile_is_in_force_where_nothing_was_ever_taken_in(tmp_path):
    state_file.write(tmp_path, factory(BASE))
    today = replace(BASE, inference=True)
    assert state_file.read(tmp_path, today) == factory(today)


def test_todays_profile_lifts_nothing_that_was_narrowed(tmp_path):
    held = replace(factory(BASE), held={"floor_s": 1}, in_force=replace(BASE, usage_s=60))
    state_file.write(tmp_path, held)
    assert state_file.read(tmp_path, replace(BASE, usage_s=10)).in_force.usage_s == 60


def damaged(path, how):
    raw = path.read_bytes()
    path.write_bytes(
        {
            "cut short": raw[: len(raw) // 2],
            "empty": b"",
            "other bytes": b"\x00" * len(raw),
            "one bit": raw.replace(b'"usage_s": 20', b'"usage_s": 30', 1),
            "a list": b"[]",
            "another sum": json.dumps(json.loads(raw) | {"sum": "0"}).encode(),
            "another schema": raw.replace(b'"schema": 1', b'"schema": 2', 1),
        }[how]
    )


HOW = "cut short", "empty", "other bytes", "one bit", "a list", "another sum", "another schema"


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_file_is_passed_over_for_the_one_before_it(tmp_path, how):
    state_file.write(tmp_path, WHOLE)
    state_file.write(tmp_path, factory(BASE))
    if how == "one bit":
        state_file.write(tmp_path, replace(factory(BASE), held={"a": 1}))
        before = factory(BASE)
    else:
        before = WHOLE
    damaged(tmp_path / state_file.NAME, how)
    assert state_file.read(tmp_path, BASE) == before


def test_both_damaged_collect_nothing_until_something_was_judged_again(tmp_path):
    """What had been narrowed is not known any more, so nothing is told of anybody."""
    for machine in (WHOLE, WHOLE):
        state_file.write(tmp_path, machine)
    for name in (state_file.NAME, state_file.EARLIER):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(b"{")
    read = state_file.read(tmp_path, BASE)
    assert read == replace(factory(BASE), in_force=narrowed(BASE, COLLECTS_NOTHING))
    state_file.write(tmp_path, WHOLE)
    assert state_file.read(tmp_path, BASE) == WHOLE


@given(raw=st.binary(max_size=200))
def test_no_bytes_are_an_error(tmp_path_factory, raw):
    folder = tmp_path_factory.getbasetemp() / "any-bytes"
    folder.mkdir(exist_ok=True)
    (folder / state_file.NAME).write_bytes(raw)
    assert state_file.read(folder, BASE) == factory(BASE)


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power-cut"])
def test_a_write_that_ends_anywhere_leaves_the_one_before_or_the_new_one(tmp_path, power):
    at, killed, seen = 0, True, set()
    while killed:
        at += 1
        folder = tmp_path / f"{at}"
        folder.mkdir()
        before = replace(WHOLE, attempt=1)
        for machine in (factory(BASE), before):
            state_file.write(folder, machine)

        def work(folder=folder, at=at):
            LosingDisk(at, folder, power=power).seize()
            state_file.write(folder, WHOLE)

        killed = was_killed(start(work))
        found = state_file.read(folder, BASE)
        assert found in (before, WHOLE)
        seen.add(found == WHOLE)
        state_file.write(folder, WHOLE)
        assert state_file.read(folder, BASE) == WHOLE, "what it left is in nobody's way"
    assert seen == {False, True}
    assert at > 8, "fewer calls than a write makes: the fault is not where the calls are"


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power-cut"])
def test_the_first_write_of_all_may_end_anywhere(tmp_path, power):
    at, killed = 0, True
    while killed:
        at += 1
        folder = tmp_path / f"{at}"
        folder.mkdir()

        def work(folder=folder, at=at):
            LosingDisk(at, folder, power=power).seize()
            state_file.write(folder, WHOLE)

        killed = was_killed(start(work))
        assert state_file.read(folder, BASE) in (factory(BASE), WHOLE)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch, number, call):
    state_file.write(tmp_path, factory(BASE))
    state_file.write(tmp_path, replace(WHOLE, attempt=1))

    def refuse(*_args, **_more):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as full:
        full.setattr(os, call, refuse)
        with pytest.raises(OSError, match=os.strerror(number)):
            state_file.write(tmp_path, WHOLE)
    assert state_file.read(tmp_path, BASE) == replace(WHOLE, attempt=1)
    state_file.write(tmp_path, WHOLE)
    assert state_file.read(tmp_path, BASE) == WHOLE
