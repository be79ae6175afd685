"""The switch in the room: stopped it stays, and doubt means stopped."""

import errno
import os

import pytest

from ketang_agent.inference.switch import KillSwitch


@pytest.fixture
def path(tmp_path):
    return tmp_path / "counting.switch"


def test_a_switch_nobody_touched_is_not_engaged(path):
    assert not KillSwitch(path).engaged
    KillSwitch(path).prepare()
    assert not KillSwitch(path).engaged


def test_stopped_it_stays_so_for_every_later_process(path):
    KillSwitch(path).engage()
    assert KillSwitch(path).engaged


def test_preparing_never_undoes_a_stop(path):
    KillSwitch(path).engage()
    KillSwitch(path).prepare()
    assert KillSwitch(path).engaged


def test_released_it_counts_again(path):
    switch = KillSwitch(path)
    switch.engage()
    switch.release()
    assert not switch.engaged
    assert not KillSwitch(path).engaged


@pytest.mark.parametrize("text", [b"", b"allow", b"allowed\nx", b"\0" * 8, b"stopped\n"])
def test_what_is_not_plainly_allowed_is_stopped(path, text):
    path.write_bytes(text)
    assert KillSwitch(path).engaged


def test_a_switch_that_cannot_be_read_is_engaged(path):
    path.mkdir()
    assert KillSwitch(path).engaged


def test_a_data_folder_that_is_gone_means_stopped(tmp_path):
    assert KillSwitch(tmp_path / "gone" / "counting.switch").engaged


def test_a_stop_that_cannot_be_saved_holds_here_all_the_same(path, monkeypatch):
    switch = KillSwitch(path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        switch.engage()
    assert switch.engaged


def test_an_allowance_that_cannot_be_saved_is_none(path, monkeypatch):
    switch = KillSwitch(path)
    switch.engage()

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        switch.release()
    assert switch.engaged


def test_it_can_be_stopped_again_after_it_was_prepared_on_a_disk_that_gives_no_more_blocks(path):
    switch = KillSwitch(path)
    switch.prepare()
    before = path.stat().st_blocks
    switch.engage()
    assert path.stat().st_blocks == before
