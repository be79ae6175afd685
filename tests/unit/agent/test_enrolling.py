"""What enrolling does with what it finds, without a centre."""

import tomllib

import pytest

from ketang_agent.enrol import enrolling, verifier
from ketang_agent.enrol.files import Place
from ketang_contract.enrolment import Issued
from ketang_contract.errors import BadInput

ISSUED = Issued(
    device="pc-1",
    certificate="none",
    center_id="center-1",
    broker_host="::1",
    broker_port=8883,
    profile="ops_pc",
)


def test_what_a_person_wrote_into_the_settings_survives_a_new_identity(tmp_path):
    place = Place(tmp_path)
    place.settings.write_text('device = "old"\nlocal_port = 0\n[occupancy]\nscan_s = 7\n', "utf-8")
    enrolling.begin_again(place)
    assert not place.settings.exists()
    made = tomllib.loads(enrolling._settings(place, ISSUED))
    assert (made["device"], made["local_port"], made["occupancy"]) == ("pc-1", 0, {"scan_s": 7})


def test_beginning_again_twice_is_beginning_again(tmp_path):
    place = Place(tmp_path)
    place.settings.write_text("local_port = 0\n", "utf-8")
    for name in ("identity.pem", "identity.next.pem", "identity.json", "asking.key", "answer.json"):
        (tmp_path / name).write_bytes(b"x")
    enrolling.begin_again(place)
    enrolling.begin_again(place)
    assert {one.name for one in tmp_path.iterdir()} == {"agent.before", ".lock"}


@pytest.mark.parametrize(
    ("file", "found"),
    [("product_serial", "SN 1"), ("board_serial", "SN 1"), ("other", "")],
)
def test_the_serial_is_the_first_that_the_firmware_tells(tmp_path, file, found):
    (tmp_path / file).write_text(" SN 1\x01\n")
    assert enrolling.serial_of_this_machine(tmp_path) == found


def test_the_fingerprint_is_read_as_people_write_it(tmp_path):
    text = "AB:" * 31 + "AB"
    assert enrolling.read_fingerprint(Place(tmp_path), text) == "ab" * 32
    with pytest.raises(BadInput, match="64 hex digits"):
        enrolling.read_fingerprint(Place(tmp_path), "abc")
    with pytest.raises(BadInput, match="comes with the installer"):
        enrolling.read_fingerprint(Place(tmp_path), "")


def test_an_answer_to_a_key_that_is_gone_is_none(tmp_path):
    place = Place(tmp_path)
    for text in ("", "{}", '{"answer": {}, "url": ""}', '{"answer": 1}'):
        place.answer.write_text(text)
        assert enrolling._answered(place) is None


def test_an_identity_asks_with_its_own_key(tmp_path):
    place, key = Place(tmp_path), verifier.make_key()
    assert enrolling._take_key(place)
    assert not enrolling._take_key(place), "the key that asked before"
    place.identity.write_bytes(key)
    assert enrolling._take_key(place)
    assert place.new_key.read_bytes() == key
