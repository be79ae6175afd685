"""What enrolling does with what it finds, without a centre."""

import json
import tomllib
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from ketang_agent.enrol import enrolling, machine, matters, settling, verifier
from ketang_agent.enrol.files import Facts, Place, write_facts
from ketang_contract.enrolment import Issued
from ketang_contract.errors import BadInput, Refused
from ketang_contract.trust import CertificateAuthority, Purpose, Trust
from ketang_provisioning.certificates import certificate_pem, make_authority
from ketang_provisioning.keys import make_ec, private_pem

DAY_S = 86_400
NOW = datetime.now(UTC)
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
    made = tomllib.loads(settling.settings_text(place, ISSUED))
    assert (made["device"], made["local_port"], made["occupancy"]) == ("pc-1", 0, {"scan_s": 7})


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("sys/class/dmi/id/product_serial", "SN 1"),
        ("sys/class/dmi/id/board_serial", "SN 1"),
        ("proc/device-tree/serial-number", "SN 1"),
        ("sys/firmware/devicetree/base/serial-number", "SN 1"),
        ("sys/class/dmi/id/other", ""),
    ],
)
def test_the_serial_is_the_first_that_the_firmware_tells(tmp_path, file, found):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_bytes(b" SN 1\x01\n\x00")
    assert machine.serial_of_this_machine(tmp_path, windows=False) == found


def test_on_windows_the_serial_is_what_the_firmware_tells_through_its_shell(tmp_path):
    recorded = "To be filled by O.E.M.\r\nPF3A9K2\r\n"
    said = machine.serial_of_this_machine(tmp_path, windows=True, ask=lambda: recorded)
    assert said == "PF3A9K2"
    assert not machine.serial_of_this_machine(tmp_path, windows=True, ask=lambda: "")
    assert not machine._ask_windows(), "there is no such shell here: no answer, and no error"


FACTS = Facts(device="pc-1", url="https://x", from_s=0, until_s=90 * DAY_S)


def test_what_the_centre_said_is_told_until_the_certificate_is_another(tmp_path):
    place = Place(tmp_path)
    write_facts(place, FACTS)
    assert not matters.matter(place, DAY_S)
    matters.write_refusal(place, FACTS, matters.Refusal(reason="revoked", at_s=DAY_S))
    assert "thrown it out" in matters.matter(place, DAY_S)
    assert "--again" in matters.matter(place, DAY_S)
    matters.write_refusal(place, FACTS, matters.Refusal(reason="too_many", at_s=DAY_S))
    assert not matters.matter(place, DAY_S), "that passes"
    matters.write_refusal(place, FACTS, matters.Refusal(reason="revoked", at_s=DAY_S))
    write_facts(place, replace(FACTS, until_s=91 * DAY_S))
    assert not matters.matter(place, DAY_S)


def test_a_certificate_that_has_ended_is_told_with_what_to_do(tmp_path):
    place = Place(tmp_path)
    write_facts(place, FACTS)
    assert not matters.matter(place, 90 * DAY_S - 1)
    assert "agent renews it" in matters.matter(place, 90 * DAY_S)
    assert "--again" in matters.matter(place, 181 * DAY_S)


@pytest.mark.parametrize(("left_s", "taken"), [(-1, False), (300, False), (3600, True)])
def test_an_answer_whose_certificate_ends_now_is_refused(left_s, taken):
    key, now_s = make_ec(), int(NOW.timestamp())
    authority = make_authority("some CA", make_ec(), "clients", now=NOW, lasts=timedelta(days=30))
    made = authority.issue_client("pc-1", key.public_key(), now=NOW, lasts=timedelta(days=9))
    issued = replace(ISSUED, certificate=certificate_pem(made).decode())
    document = Trust(
        version=1,
        issued_s=0,
        expires_s=1,
        threshold=1,
        roots=(),
        authorities=(
            CertificateAuthority(
                Purpose.CLIENTS_CA, certificate_pem(authority.certificate).decode(), 0, 2**40
            ),
        ),
    )
    asked_s = now_s + 9 * DAY_S - left_s
    answer = json.dumps(asdict(issued)).encode()
    if taken:
        verifier.check_issued(answer, private_pem(key, None), document, asked_s)
    else:
        with pytest.raises(Refused, match="ended") as why:
            verifier.check_issued(answer, private_pem(key, None), document, asked_s)
        assert why.value.reason == "ended"


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
        assert settling.answered(place) is None


def test_an_identity_asks_with_its_own_key(tmp_path):
    place, key = Place(tmp_path), verifier.make_key()
    assert enrolling._take_key(place, place.new_key)
    assert not enrolling._take_key(place, place.new_key), "the key that asked before"
    place.identity.write_bytes(key)
    assert enrolling._take_key(place, place.new_key)
    assert place.new_key.read_bytes() == key
