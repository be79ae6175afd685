"""Attacks on the acceptance of a configuration that were thought out one by one."""

import hashlib
import json
import sys
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from ketang_agent.clock import Instant
from ketang_agent.enrol import files
from ketang_agent.enrol.files import Place, alone
from ketang_agent.remote.judging import Asked, judge_folder, verdict
from ketang_agent.remote.machine import Look, Phase
from ketang_agent.remote.remote import Remote, Who
from ketang_contract import signatures
from ketang_contract.config import Config, LogLevel, tidy_spans
from ketang_contract.errors import BadInput
from ketang_contract.records import to_json
from ketang_contract.state import ConfigReport
from ketang_contract.trust import PAYLOAD_TYPE
from ketang_provisioning.keys import make_ed25519
from tests.security.config_world import (
    AT_S1,
    AT_S2,
    BASE,
    BOTH,
    DAY_S,
    DEVICE,
    NOW_S,
    PRIVATE,
    TRUST,
    Device,
    bundle,
    layer,
    placement,
    placement_of,
    seal,
    trust,
)

PLACED = placement("one")
REGION = layer("lan", Config(usage_s=30), *BOTH)
YEAR_9999_S = 253_402_300_799
LOOKS_GOOD = Look(connected=True, session=9, acknowledged=True, sampled=True, moment=True)


def fail_or_wait(device: Device, how: str) -> None:
    if how == "fails":
        device.fails()


# A move to a wider place, by one holder.


@pytest.mark.parametrize("how", ["fails", "waits"])
def test_a_narrow_place_that_never_committed_is_not_left_by_one_holders_word(how):
    device = Device()
    assert device.bring(bundle(PLACED, REGION, layer("s1", Config(usage_s=0), "s1"))) == ""
    fail_or_wait(device, how)
    assert device.machine.in_force.usage_s == 0
    assert device.bring(bundle(placement(version=2, path=AT_S2), REGION)) == "one_holder"
    assert device.bring(bundle(placement(*BOTH, version=2, path=AT_S2), REGION)) == ""


@pytest.mark.parametrize("how", ["fails", "waits"])
def test_back_from_a_narrower_place_that_never_committed_is_a_move_too(how):
    device = Device().obeys(bundle(PLACED, REGION))
    narrow = layer("s2", Config(usage_s=0), "s2")
    assert device.bring(bundle(placement(version=2, path=AT_S2), REGION, narrow)) == ""
    fail_or_wait(device, how)
    assert device.machine.in_force.usage_s == 0
    assert device.bring(bundle(placement(version=3), REGION)) == "one_holder"


# What the region narrows by saying nothing: its profile says less.


def test_an_undo_does_not_bring_back_what_the_region_gave_up_by_saying_nothing():
    device = Device().obeys(bundle(PLACED, layer("lan", Config(usage_s=10), *BOTH)))
    device.obeys(bundle(PLACED, layer("lan", Config(), *BOTH, version=2)))
    undo = layer("lan", Config(usage_s=10), *BOTH, version=3, undoes=2)
    device.obeys(bundle(PLACED, undo))
    assert device.machine.in_force.usage_s == 60


def test_an_undo_does_take_back_a_widening_of_what_was_not_spoken_of():
    device = Device().obeys(bundle(PLACED, layer("lan", Config(usage_s=10), *BOTH)))
    device.obeys(bundle(PLACED, layer("lan", Config(), "one", version=2, undoes=1)))
    assert device.machine.in_force.usage_s == 60


def test_a_region_that_gave_up_by_saying_nothing_needs_two_for_it_even_after_a_failure():
    device = Device().obeys(bundle(PLACED, layer("lan", Config(usage_s=10), *BOTH)))
    assert device.bring(bundle(PLACED, layer("lan", Config(), "one", version=2))) == ""
    device.fails()
    assert device.machine.in_force.usage_s == 60
    again = layer("lan", Config(usage_s=10), "one", version=3)
    assert device.bring(bundle(PLACED, again)) == "one_holder"


# One school's key against the whole device.


def test_no_key_of_a_school_can_end_the_time_of_all_other_keys():
    """A layer dated 9999 must not be the latest signed time that all else is measured by."""
    device = Device().obeys(bundle(PLACED, REGION))
    far = layer("s1", Config(usage_s=60), "s1", issued_s=YEAR_9999_S - 1, expires_s=YEAR_9999_S)
    if device.bring(bundle(PLACED, REGION, far)) == "":
        device.passes()
    assert device.machine.held["floor_s"] < NOW_S + 1000 * DAY_S
    newer = layer("lan", Config(usage_s=60), "one", version=2)
    kept = [far] if "s1" in device.machine.held["lines"] else []
    assert device.bring(bundle(PLACED, newer, *kept)) == ""


def test_a_document_is_not_issued_after_its_own_end():
    device = Device().obeys(bundle(PLACED, REGION))
    odd = layer("s1", Config(), "s1", issued_s=NOW_S + 90 * DAY_S, expires_s=NOW_S + DAY_S)
    device.bring(bundle(PLACED, REGION, odd))
    assert device.machine.held["floor_s"] <= NOW_S


def test_no_times_of_day_make_what_is_held_unreadable():
    """Two lists of 64 spans have up to 127 in common; the next judge must read that."""
    some = tidy_spans([(0, 20 * at, 20 * at + 15) for at in range(64)])
    others = tidy_spans([(0, 20 * at + 10, 20 * at + 22) for at in range(64)])
    device = Device().obeys(bundle(PLACED, REGION, layer("s1", Config(hours=some), "s1")))
    undo = layer("s1", Config(hours=others), "s1", version=2, undoes=1)
    if device.bring(bundle(PLACED, REGION, undo)) == "":
        device.passes()
    never = layer("s1", Config(hours=()), "s1", version=3)
    assert device.bring(bundle(PLACED, REGION, never)) == ""


def test_a_device_that_left_a_school_with_a_new_epoch_can_be_told_things_again():
    burnt = trust(s1={"epoch": 2})
    own = layer(DEVICE, Config(usage_s=60), "s1", key_epoch=2)
    device = Device(trust=burnt).obeys(bundle(PLACED, REGION, own))
    newer = [layer(DEVICE, Config(usage_s=0), "s2", version=2, key_epoch=epoch) for epoch in (1, 2)]
    moved = placement(*BOTH, version=2, path=AT_S2)
    assert "" in [device.bring(bundle(moved, REGION, one)) for one in newer]


@pytest.mark.parametrize("last", ["s1", "lan", DEVICE])
def test_no_name_stands_for_two_places(last):
    """A room that is named as its school hides the school's layer from the device."""
    try:
        odd = seal(placement_of(path=(*AT_S1[:4], last)), "one")
    except ValueError:
        return  # it cannot even be made
    assert Device().bring(bundle(odd, REGION)) == "bad_document"


# Who relays chooses ``attempt``, which nobody signs.


def test_a_higher_attempt_does_not_begin_a_running_trial_again():
    device = Device()
    device.bring(bundle(PLACED, REGION))
    device.step(LOOKS_GOOD)
    assert device.phase is Phase.TRIAL
    began_ms = device.machine.candidate.since_ms
    for attempt in range(1, 9):
        device.boottime_ms += 30_000
        device.bring(bundle(PLACED, REGION, attempt=attempt))
        if device.machine.candidate is None:
            return
        assert device.machine.candidate.since_ms == began_ms


def test_no_attempt_makes_a_report_that_the_centre_cannot_read():
    device = Device()
    device.bring(bundle(PLACED, REGION, attempt=2**53 - 1))
    said = json.dumps(to_json(device.machine.report))
    TypeAdapter(ConfigReport).validate_json(said)


# What the supervisor makes of verdicts.

WAITING_JUDGE = """
import pathlib, shutil, sys, time
folder = pathlib.Path(sys.argv[1])
deadline = time.monotonic() + 60
while not (folder / "go").exists() and time.monotonic() < deadline:
    time.sleep(0.02)
(folder / "go").unlink()
shutil.copy(folder / "prepared.json", folder / "judged.json")
"""


class Slow:
    """A supervisor whose judge takes its time: it says nothing before the test lets it."""

    def __init__(self, folder, now_s: int = NOW_S) -> None:
        who = Who(device=DEVICE, agent_version="1.0.0", folder=folder, identity=folder, base=BASE)
        self.remote = Remote(who, command=(sys.executable, "-c", WAITING_JUDGE))
        self.folder, self.now_s, self.ms = folder / "remote", now_s, 0
        self.remote.begin(self.now)

    @property
    def now(self) -> Instant:
        return Instant(self.now_s * 1000, self.ms, "boot-1")

    def look(self, session: int = 1) -> None:
        self.ms += 1000
        self.remote.step(replace(LOOKS_GOOD, session=session), self.now)

    def asks(self, raw: bytes) -> None:
        """Bring a bundle, and let the judge begin: it reads what was held then."""
        self.remote.bring(raw, self.now)
        self.look()
        self.prepare(raw)

    def prepare(self, raw: bytes) -> None:
        asked = Asked(**json.loads((self.folder / "asked.json").read_bytes()))
        of = hashlib.sha256(raw).hexdigest()
        said = {**verdict(raw, asked, TRUST), "trust_version": 1, "of": of}
        (self.folder / "prepared.json").write_text(json.dumps(said))

    def is_answered(self, raw: bytes) -> None:
        """Let the judge speak of what he was asked last, and again where he is asked again."""
        while self.remote._child is not None or self.remote._waiting:
            if self.remote._child is not None:
                self.prepare(raw)
                (self.folder / "go").touch()
                self.remote._child.process.wait(timeout=60)
            self.look()


def test_a_verdict_on_what_is_held_no_more_is_not_taken(tmp_path):
    """While the second is judged, the first commits: what runs must be what is in force."""
    slow = Slow(tmp_path)
    first = bundle(PLACED, layer("lan", Config(log_level=LogLevel.DEBUG), *BOTH))
    slow.asks(first)
    slow.is_answered(first)
    if slow.remote.phase is Phase.STAGED:
        slow.look()
    assert slow.remote.phase is Phase.TRIAL
    later = Config(log_level=LogLevel.ERROR)
    second = bundle(PLACED, layer("lan", later, *BOTH, version=2))
    slow.asks(second)
    slow.look(session=5)
    running = slow.remote.report.running
    assert running is not None
    slow.is_answered(second)
    assert slow.remote.report.running == running
    assert slow.remote._machine.in_force.log_level is LogLevel.DEBUG


def test_what_was_refused_is_judged_again_when_it_comes_again(tmp_path):
    """The clock stood wrong; what comes at the next birth is the same bundle."""
    slow = Slow(tmp_path, now_s=NOW_S + 60 * DAY_S)
    raw = bundle(PLACED, REGION)
    slow.asks(raw)
    slow.is_answered(raw)
    assert slow.remote.report.reason == "expired"
    slow.now_s = NOW_S
    slow.asks(raw)
    slow.is_answered(raw)
    assert slow.remote.report.reason == ""


def trusting(folder) -> Place:
    raw = signatures.seal(TRUST.payload(), PAYLOAD_TYPE, [PRIVATE["root"]])
    (folder / "trust.json").write_bytes(raw)
    return Place(folder)


def asked(folder, raw: bytes) -> None:
    (folder / "received.json").write_bytes(raw)
    said = {
        "device": DEVICE,
        "agent_version": "1.0.0",
        "now_s": NOW_S,
        "base": to_json(BASE),
        "in_force": to_json(BASE),
        "held": {},
    }
    (folder / "asked.json").write_text(json.dumps(said))


def test_a_lock_that_another_holds_is_no_refusal_of_the_bundle(tmp_path, monkeypatch):
    """A renewal that a slow centre keeps waiting must not cost the device its configuration."""
    monkeypatch.setattr(files, "_LOCK_S", 0.2)
    place = trusting(tmp_path)
    same = place.trust.read_bytes()
    asked(tmp_path, bundle(PLACED, REGION, trust=(same,)))
    with alone(place), pytest.raises(BadInput):
        judge_folder(tmp_path, place)


def test_a_trust_document_that_names_no_servers_does_not_stop_the_judging(tmp_path):
    place = trusting(tmp_path)
    same = place.trust.read_bytes()
    asked(tmp_path, bundle(PLACED, REGION, trust=(same,)))
    assert judge_folder(tmp_path, place)["reason"] == ""


# And what does hold.


def test_a_forged_trust_document_in_the_bundle_changes_nothing(tmp_path):
    place = trusting(tmp_path)
    before = place.trust.read_bytes()
    forged = replace(TRUST, version=2, keys=(), issued_s=TRUST.issued_s + 1)
    raw = signatures.seal(forged.payload(), PAYLOAD_TYPE, [make_ed25519()])
    asked(tmp_path, bundle(PLACED, REGION, trust=(raw,)))
    judge_folder(tmp_path, place)
    assert place.trust.read_bytes() == before


def test_an_old_trust_document_in_the_bundle_changes_nothing(tmp_path):
    place = trusting(tmp_path)
    newer = trust(version=2, revoked=["s1"])
    sealed = signatures.seal(newer.payload(), PAYLOAD_TYPE, [PRIVATE["root"]])
    old = place.trust.read_bytes()
    place.trust.write_bytes(sealed)
    asked(tmp_path, bundle(PLACED, layer("s1", Config(), "s1"), trust=(old,)))
    judge_folder(tmp_path, place)
    assert place.trust.read_bytes() == sealed


def test_the_highest_version_burns_a_line_until_the_root_begins_a_new_one():
    last = layer("s1", Config(usage_s=60), "s1", version=2**53 - 1)
    device = Device().obeys(bundle(PLACED, REGION, last))
    other = layer("s1", Config(usage_s=0), "one", version=2**53 - 1)
    assert device.bring(bundle(PLACED, REGION, other)) == "version_reused"
    device.trust = trust(version=2, s1={"epoch": 2}, revoked=["s1"])
    fresh = layer("s1", Config(usage_s=0), "one", key_epoch=2)
    assert device.bring(bundle(PLACED, REGION, fresh)) == ""


def test_at_time_zero_the_trust_documents_time_holds():
    device = Device(now_s=0, synced=False)
    assert device.bring(bundle(PLACED, layer("lan", Config(), *BOTH, expires_s=1))) != ""
    assert device.bring(bundle(PLACED, REGION)) == ""


def test_a_key_named_as_the_device_has_no_say_over_its_place():
    """A school that is named as some device signs for that device alone, and only narrows."""
    named = trust(s2={"scope": DEVICE})
    device = Device(trust=named).obeys(bundle(PLACED, REGION))
    own = layer(DEVICE, Config(usage_s=0), "s2")
    for target in ("lan", "s1", "s1-r1"):
        stray = layer(target, Config(usage_s=0), "s2", version=9)
        layers = [stray] if target == "lan" else [REGION, stray]
        assert device.bring(bundle(PLACED, *layers)) == "mis_scoped"
    assert device.bring(bundle(PLACED, REGION, own)) == ""
