"""One key of the region and the time: what it signs for the future ends nobody else's documents.

A device believes its clock where somebody disciplines it, and the signed-time floor where nobody
does. The attacker holds one key of the region, which is in force for years, and can set the clock
of a device that nobody disciplines.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ketang_agent.clock import Instant
from ketang_agent.remote import signed_time, state_file
from ketang_agent.remote.permits import PermitBook
from ketang_agent.remote.remote import Remote, Who
from ketang_agent.remote.signed_time import AHEAD_S
from ketang_contract.config import Config
from ketang_contract.permits import No, Yes
from ketang_contract.records import TimeQuality
from tests import permits as documents
from tests.permits import sealed
from tests.security.config_world import (
    BASE,
    BOTH,
    DAY_S,
    DEVICE,
    NOW_S,
    Device,
    bundle,
    layer,
    placement,
    trust,
)
from tests.security.test_permit_attacks import believed
from tests.unit.agent.test_permit_book import permit

PLACED = placement("one")
REGION = layer("lan", Config(usage_s=30), *BOTH)
KEY_ENDS_S = NOW_S + 2000 * DAY_S
FAR_S = KEY_ENDS_S - DAY_S
"""The last day of every key; nothing that is signed honestly now lasts so long."""
NEVER_S = KEY_ENDS_S + 900 * DAY_S


def far(what: str) -> bytes:
    """A bundle that is new to a settled device, and signed by one key for the far future."""
    told = {"issued_s": FAR_S, "expires_s": NEVER_S, "version": 2}
    if what == "placement":
        return bundle(placement("one", **told), REGION)
    return bundle(PLACED, layer("lan", Config(usage_s=60), "one", **told))


def honest(number: int, **changes) -> bytes:
    """What the region signs later, for a month."""
    newer = layer(
        "lan", Config(usage_s=60, host_s=120 + number), "one", version=2 + number, **changes
    )
    return bundle(placement("one", version=2 + number), newer)


def settled(*, synced: bool) -> Device:
    return Device(synced=synced).obeys(bundle(PLACED, REGION))


def led_astray(what: str = "placement") -> Device:
    """A device that nobody told the time, and that believes a document from the future."""
    device = settled(synced=False).obeys(far(what))
    assert device.machine.held["floor_s"] == FAR_S
    return device


@pytest.mark.parametrize("what", ["placement", "layer"])
@pytest.mark.parametrize("ahead_s", [AHEAD_S + 1, 400 * DAY_S, FAR_S - NOW_S])
def test_a_disciplined_clock_refuses_what_was_signed_in_the_future(what, ahead_s):
    told = {"issued_s": NOW_S + ahead_s, "expires_s": NEVER_S, "version": 2}
    placed = placement("one", **told) if what == "placement" else PLACED
    region = layer("lan", Config(), "one", **told) if what == "layer" else REGION
    device = settled(synced=True)
    held = device.machine.held
    assert device.bring(bundle(placed, region)) == "ill_timed"
    assert device.machine.held == held
    assert device.bring(honest(1)) == ""


def test_a_signers_clock_may_be_a_day_ahead_and_a_chain_of_such_days_leads_nowhere():
    device = settled(synced=True)
    for number in range(1, 4):
        ahead_s = NOW_S + number * AHEAD_S
        raw = honest(number, issued_s=ahead_s, expires_s=ahead_s + DAY_S)
        assert device.bring(raw) == ("" if number == 1 else "ill_timed")
        device.passes()
    assert device.machine.held["floor_s"] == NOW_S + AHEAD_S


def test_a_disciplined_clock_refuses_a_schools_layer_from_the_future_too():
    device = settled(synced=True)
    narrow = layer("s1", Config(usage_s=0), "s1", issued_s=FAR_S, expires_s=NEVER_S)
    assert device.bring(bundle(PLACED, REGION, narrow)) == "ill_timed"


@pytest.mark.parametrize("what", ["placement", "layer"])
def test_without_a_disciplined_clock_it_is_believed_until_there_is_one(what):
    device = led_astray(what)
    assert device.bring(honest(1)) == "expired"
    device.synced = True
    assert device.bring(honest(1)) == ""
    device.passes()
    assert device.machine.held["floor_s"] == NOW_S
    device.synced = False
    assert device.bring(honest(2)) == "", "and it is no more believed after that"


@pytest.mark.parametrize("how", ["fails", "waits", "passes"])
def test_what_the_trial_of_it_comes_to_brings_the_future_not_back(how, tmp_path):
    device = settled(synced=False)
    assert device.bring(far("layer")) == ""
    device.synced = True
    getattr(device, how, lambda: None)()
    device.starts_anew(tmp_path)
    device.passes()
    assert device.machine.held["floor_s"] == NOW_S
    assert device.bring(honest(1)) == ""


def test_what_was_believed_once_does_not_move_the_time_when_it_is_brought_again():
    device = led_astray()
    device.synced = True
    device.passes()
    device.synced = False
    for _ in range(3):
        assert device.bring(far("placement")) == "", "it is known"
        device.passes()
    assert device.machine.held["floor_s"] == NOW_S
    assert device.bring(honest(1)) == ""


def test_a_clock_set_back_after_it_was_disciplined_takes_nothing_back():
    device = led_astray()
    device.synced, device.now_s = True, NOW_S + 50 * DAY_S
    device.passes()
    device.now_s, old_s = NOW_S - 300 * DAY_S, NOW_S + 40 * DAY_S
    for synced in (False, True):
        device.synced = synced
        old = honest(1, issued_s=NOW_S - 400 * DAY_S, expires_s=old_s)
        assert device.bring(old) in {"expired", "ill_timed"}
        assert device.machine.held["floor_s"] == NOW_S + 50 * DAY_S
    device.synced = False
    assert device.bring(bundle(PLACED, REGION)) == "rolled_back"


def test_a_disciplined_clock_that_was_set_back_does_not_lower_what_another_confirmed():
    device = Device(now_s=NOW_S).obeys(bundle(PLACED, REGION))
    confirmed_s = device.machine.held["confirmed_s"]
    assert confirmed_s == NOW_S - DAY_S
    device.now_s = NOW_S - 400 * DAY_S
    device.passes()
    assert device.machine.held["floor_s"] == confirmed_s
    told = {"issued_s": NOW_S - 450 * DAY_S, "expires_s": NOW_S - 2 * DAY_S, "version": 2}
    ended = layer("lan", Config(usage_s=60), "one", **told)
    assert device.bring(bundle(PLACED, ended)) == "expired"


def test_what_an_earlier_release_kept_is_put_right_as_well(tmp_path):
    """Its file says nothing of what was confirmed."""
    device = led_astray()
    old = {name: said for name, said in device.machine.held.items() if name != "confirmed_s"}
    device.machine = replace(device.machine, held=old)
    device.starts_anew(tmp_path)
    assert device.bring(honest(1)) == "expired"
    device.synced = True
    assert device.bring(honest(1)) == ""
    honestly = Device(synced=False).obeys(bundle(PLACED, REGION))
    held = {name: said for name, said in honestly.machine.held.items() if name != "confirmed_s"}
    assert signed_time.confirmed(held, NOW_S)["floor_s"] == NOW_S - DAY_S, "it stays"


def test_the_trust_documents_time_holds_whatever_the_clock_says():
    """Its holders are several: it alone may be in the future of a disciplined clock."""
    late = replace(trust(version=2), issued_s=NOW_S + 90 * DAY_S)
    device = Device(trust=late, now_s=NOW_S)
    assert device.bring(bundle(PLACED, REGION)) == "expired"
    fresh = {"issued_s": NOW_S + 90 * DAY_S, "expires_s": NOW_S + 99 * DAY_S}
    raw = bundle(placement("one", **fresh), layer("lan", Config(usage_s=60), "one", **fresh))
    assert device.bring(raw) == ""


# The supervisor: what it keeps, whenever it is killed.


class Supervisor:
    """A ``Remote`` on a folder whose machine a test has written; its judge is never asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ms = folder, 0
        self.begin()

    def begin(self) -> None:
        who = Who(
            device=DEVICE,
            agent_version="1.0.0",
            folder=self.folder,
            identity=self.folder,
            base=BASE,
        )
        self.remote = Remote(who, ("nobody",))
        self.remote.begin(self.now(TimeQuality.FREE))

    def now(self, quality: TimeQuality) -> Instant:
        self.ms += 1000
        return Instant(NOW_S * 1000, self.ms, "boot-1", quality)

    def knows_the_time(self) -> None:
        self.remote._let_time_pass(self.now(TimeQuality.SYNCED))


def test_a_device_that_is_killed_right_after_it_knew_the_time_goes_on_with_it(tmp_path):
    kept = tmp_path / "remote"
    kept.mkdir()
    state_file.write(kept, led_astray().machine)
    one = Supervisor(tmp_path)
    assert one.remote.floor_s() == FAR_S
    one.knows_the_time()
    assert one.remote.floor_s() == NOW_S
    before = (kept / state_file.NAME).read_bytes()
    one.knows_the_time()
    assert (kept / state_file.NAME).read_bytes() == before, "written once, not every second"
    one.begin()
    assert one.remote.floor_s() == NOW_S
    assert json.loads(before)["machine"]["held"]["confirmed_s"] == NOW_S


# Filings and grants.

FILED = ("mtcnn", "1.0.0", documents.SHA)
SIGNED_AHEAD = documents.grant(issued_s=NOW_S + 50 * DAY_S)


def test_a_disciplined_clock_drops_a_permit_from_the_future_and_keeps_the_others():
    raws = [sealed(SIGNED_AHEAD), sealed(documents.filing())]
    assert len(believed(*raws).permits) == 2
    found = believed(*raws, until_s=NOW_S + AHEAD_S)
    assert [one.reason for one in found.dropped] == ["ill_timed"]
    assert len(found.permits) == 1


def test_a_permit_from_the_future_does_not_end_its_line_once_the_time_is_known(tmp_path):
    """It was believed while nobody disciplined the clock; what is signed today must count later."""
    book = PermitBook(tmp_path / "permits.json")
    book.replace([permit(SIGNED_AHEAD)])
    book.tick(NOW_S, 1)
    today = documents.grant(until_s=NOW_S + 70 * DAY_S)
    book.replace([permit(today)])
    assert book.camera() == No("grant_expired")
    book.tick(NOW_S, 2, synced=True)
    assert isinstance(book.camera(), Yes)
    again = PermitBook(tmp_path / "permits.json")
    again.tick(NOW_S, 1)
    assert isinstance(again.camera(), Yes)


@pytest.mark.parametrize("earlier_release", [False, True])
def test_a_floor_from_the_future_ends_no_later_permit_once_the_time_is_known(
    tmp_path, earlier_release
):
    file = tmp_path / "permits.json"
    book = PermitBook(file)
    book.replace([permit(documents.filing())])
    book.tick(NOW_S, 1, floor_s=FAR_S)
    if earlier_release:
        said = json.loads(file.read_bytes())
        del said["confirmed_s"]
        file.write_text(json.dumps({**said, "floor_s": FAR_S}))
    again = PermitBook(file)
    again.tick(NOW_S, 1)
    assert isinstance(again.model(*FILED), No), "for now it may be the clock that is wrong"
    again.tick(NOW_S, 2, floor_s=NOW_S, synced=True)
    again.replace([permit(documents.filing(number="13", issued_s=NOW_S))])
    assert isinstance(again.model(*FILED), Yes)


def test_what_only_a_signature_from_the_future_had_ended_holds_again_once_the_time_is_known(
    tmp_path,
):
    file = tmp_path / "permits.json"
    book = PermitBook(file)
    book.replace([permit(documents.filing())])
    book.tick(NOW_S, 1, floor_s=FAR_S)
    again = PermitBook(file)
    again.tick(NOW_S, 1, floor_s=FAR_S)
    assert again.model(*FILED) == No("filing_expired")
    again.tick(NOW_S, 2, floor_s=NOW_S, synced=True)
    assert isinstance(again.model(*FILED), Yes)
    again.tick(NOW_S + 100 * DAY_S, 3)
    again.tick(NOW_S, 4, synced=True)
    assert isinstance(again.model(*FILED), No), "a clock has shown its end: that is for good"


# Whatever happens.

STEPS = st.lists(
    st.tuples(st.integers(-400, 400), st.booleans(), st.integers(0, 2000) | st.none()), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_the_floor_never_falls_below_what_a_disciplined_clock_has_confirmed(steps):
    """A document counts for a floor as ``acceptance`` has it; a clock may show anything."""
    held, least_s = {"floor_s": 0}, 0
    for days, synced, issued_days in steps:
        now_s = NOW_S + days * DAY_S
        if synced:
            held = signed_time.confirmed(held, now_s)
            assert held["floor_s"] <= max(now_s + AHEAD_S, least_s)
        issued_s = NOW_S + (issued_days or 0) * DAY_S
        if issued_days is not None and not signed_time.is_ahead(issued_s, now_s, synced=synced):
            floor_s = max(held["floor_s"], issued_s)
            confirmed_s = floor_s if synced else held.get("confirmed_s", 0)
            held = {"floor_s": floor_s, "confirmed_s": confirmed_s}
        if synced:
            least_s = held["floor_s"]
        assert held["floor_s"] >= least_s
