"""Which of the files in the folder a device is handed: those it would accept, and no others."""

import json
import logging
import shutil

import pytest
from tests.regions import Region, now_ms

from ketang_agent.enrol import verifier
from ketang_center.enrolment.documents import TrustDocuments
from ketang_contract.errors import BadInput
from ketang_contract.trust import RootKey, read_accepted
from ketang_provisioning import trust_changes
from ketang_provisioning.keys import key_id, load_private, make_ed25519, public_pem


@pytest.fixture
def region(tmp_path):
    return Region(tmp_path)


def folder(region):
    return region.center_folder


def latest(region):
    return folder(region) / "trust.json"


def signed(region, changed, held, holders=("holder-1", "holder-2")):
    raw = trust_changes.draft(changed)
    for one in holders:
        key = load_private(region.folder / one / "root.key", region.passphrases[one].encode())
        raw = trust_changes.sign(raw, key, held)
    return raw


def next_version(region, **more):
    held = read_accepted(latest(region).read_bytes())
    return signed(region, trust_changes.renew(held, now_ms() // 1000), held, **more)


def put_in_force(region, raw):
    held = read_accepted(latest(region).read_bytes())
    shutil.copy(latest(region), folder(region) / f"trust-{held.version}.json")
    latest(region).write_bytes(raw)


def versions(documents):
    return [read_accepted(json.dumps(one).encode()).version for one in json.loads(documents.get())]


def made(region):
    return TrustDocuments(latest(region), region.fingerprint)


def test_a_draft_in_the_folder_keeps_no_device_out(region, caplog):
    held = read_accepted(latest(region).read_bytes())
    changed = trust_changes.renew(held, now_ms() // 1000)
    (folder(region) / "trust-2.json").write_bytes(trust_changes.draft(changed))
    (folder(region) / "trust-half.json").write_bytes(next_version(region, holders=["holder-1"]))
    (folder(region) / "trust-notes.json").write_bytes(b"{}")
    with caplog.at_level(logging.WARNING):
        documents = made(region)
    assert versions(documents) == [1]
    assert {"trust-2.json", "trust-half.json", "trust-notes.json"} <= {
        name for one in caplog.messages for name in one.replace(":", " ").replace("/", " ").split()
    }
    raws = [json.dumps(one).encode() for one in json.loads(documents.get())]
    verifier.accept_trust(raws, region.fingerprint, None, now_ms() // 1000)


def test_another_regions_document_is_not_handed_out(region, tmp_path):
    other = Region(tmp_path / "other")
    for name in ("trust-0.json", "trust-9.json"):
        shutil.copy(latest(other), folder(region) / name)
    assert versions(made(region)) == [1]
    shutil.copy(latest(other), latest(region))
    with pytest.raises(BadInput, match="no signatures lead to it"):
        made(region)


def test_of_two_documents_of_one_version_the_one_in_force_is_handed_out(region):
    held = read_accepted(latest(region).read_bytes())
    one = next_version(region)
    other = signed(region, trust_changes.renew(held, now_ms() // 1000 - 5), held)
    shutil.copy(latest(region), folder(region) / "trust-1.json")
    for in_force, beside in ((one, other), (other, one)):
        latest(region).write_bytes(in_force)
        (folder(region) / "trust-2.json").write_bytes(beside)
        (_, said) = json.loads(made(region).get())
        assert said == json.loads(in_force)


def test_a_new_version_is_handed_out_without_a_restart(region):
    documents = made(region)
    assert versions(documents) == [1]
    put_in_force(region, next_version(region))
    assert versions(documents) == [1, 2]


def test_a_latest_that_is_no_document_leaves_what_was_served(region, caplog):
    documents = made(region)
    latest(region).write_bytes(b"half")
    assert versions(documents) == [1]
    assert "enrolment.trust_kept" in caplog.text
    latest(region).unlink()
    assert versions(documents) == [1]


def test_installers_of_a_later_root_set_do_not_leave_the_earlier_devices_behind(region):
    held = read_accepted(latest(region).read_bytes())
    new = make_ed25519()
    added = RootKey(key_id(new.public_key()), public_pem(new.public_key()), "new holder")
    gone = held.roots[2].key_id
    changed = trust_changes.replace_root(held, gone, added, now_ms() // 1000)
    put_in_force(region, signed(region, changed, held))
    later = TrustDocuments(latest(region), changed.fingerprint)
    assert versions(later) == [1, 2]
    assert versions(made(region)) == [1, 2]
