"""The folder of an identity: private, whole or not at all, one at a time."""

import os
import stat
import sys

import pytest

from ketang_agent.enrol import files
from ketang_agent.enrol.files import Facts, Place, alone, prepare, read_facts, write_facts
from ketang_contract.errors import BadInput

FACTS = Facts(device="pc-1", url="https://x", from_s=1, until_s=2)


def test_the_folder_is_for_its_owner_alone(tmp_path):
    folder = tmp_path / "ketang"
    folder.mkdir(mode=0o755)
    place = prepare(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files.write_private(place.identity, b"secret")
    assert stat.S_IMODE(place.identity.stat().st_mode) == 0o600


def test_a_file_that_is_replaced_leaves_no_draft_and_keeps_its_mode(tmp_path):
    place = Place(tmp_path)
    (tmp_path / ".identity.pem.partial").write_bytes(b"left over, readable by all")
    for content in (b"one", b"two"):
        files.write_private(place.identity, content)
    assert [one.name for one in tmp_path.iterdir()] == ["identity.pem"]
    assert place.identity.read_bytes() == b"two"


def test_an_account_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadInput, match="cannot be made private"):
        prepare(tmp_path / "x", "nobody-of-this-name")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_handing_over_follows_no_link(tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "ketang"
    victim.write_text("root's own")
    place = prepare(folder)
    place.identity.write_bytes(b"pair")
    place.trust.symlink_to(victim)
    files.hand_over(place, "daemon")
    assert victim.stat().st_uid == 0
    assert place.identity.stat().st_uid != 0


def test_a_second_one_in_the_same_folder_is_kept_out(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LOCK_S", 0.0)
    with (
        alone(Place(tmp_path)),
        pytest.raises(BadInput, match="another enrolment is at work"),
        alone(Place(tmp_path)),
    ):
        pass


def test_on_windows_its_own_way_of_locking_keeps_a_second_one_out(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LOCK_S", 0.0)
    monkeypatch.setattr(files, "_take", files._take_on_windows)
    monkeypatch.setitem(sys.modules, "msvcrt", Locking())
    with (
        alone(Place(tmp_path)),
        pytest.raises(BadInput, match="another enrolment is at work"),
        alone(Place(tmp_path)),
    ):
        pass


class Locking:
    """As ``msvcrt`` does it: a byte that is locked raises OSError."""

    LK_NBLCK = 2

    def __init__(self):
        self.locked = False

    def locking(self, handle, mode, count):
        assert (handle > 0, mode, count) == (True, self.LK_NBLCK, 1)
        if self.locked:
            raise PermissionError(13, "Permission denied")
        self.locked = True


def test_facts_come_back_as_they_were_kept(tmp_path):
    place = Place(tmp_path)
    assert read_facts(place) is None
    write_facts(place, FACTS)
    assert read_facts(place) == FACTS


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"device": "A B", "url": "", "from_s": 1}'])
def test_facts_that_are_none_count_as_none(tmp_path, text):
    place = Place(tmp_path)
    place.facts.write_text(text)
    assert read_facts(place) is None
