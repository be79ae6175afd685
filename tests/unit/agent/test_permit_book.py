"""What a device holds of filings and grants, against a clock that people set as they like."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.permits import (
    DEVICE,
    NOW_S,
    PATH,
    ROOM,
    SHA,
    filing,
    grant,
    sealed,
    trust,
)

from ketang_agent.remote.permits import PermitBook, PermitSigns
from ketang_agent.remote.permits_judging import Judged, judge_permits
from ketang_contract.config import ModelChoice
from ketang_contract.layers import MAX_PERMITS, digest
from ketang_contract.permits import DAY_S, No, Yes, payload, permit_of, type_of
from ketang_provisioning.permits import TOOLS

MODEL = ("mtcnn", "1.0.0", SHA)
CHOICE = ModelChoice(name="mtcnn", version="1.0.0", sha256=SHA)


def permit(document):
    return permit_of(document, digest(type_of(document), payload(document)))


def judged(*envelopes, now_s=NOW_S, by=None) -> Judged:
    return judge_permits(envelopes, by or trust(), DEVICE, PATH, now_s, TOOLS)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "permits.json"


def opened(file, *documents, now_s=NOW_S, boot_s=0.0, **more) -> PermitBook:
    book = PermitBook(file)
    book.tick(now_s, boot_s, **more)
    if documents:
        book.replace(map(permit, documents))
        book.tick(now_s, boot_s, **more)
    return book


# In the child.


def test_one_bad_document_costs_the_others_nothing():
    found = judged(
        sealed(filing()),
        b"{}",
        sealed(filing(), "stranger"),
        sealed(grant(target=ROOM)),
        sealed(grant(), "school"),
    )
    assert found.permits == (permit(filing()), permit(grant(target=ROOM)))
    assert [one.reason for one in found.dropped] == ["bad_envelope", "forged", "forged"]
    assert len({one.digest for one in found.dropped}) == 3


def test_the_same_document_twice_is_one_and_too_many_are_left():
    found = judged(*[sealed(filing())] * (MAX_PERMITS + 2))
    assert found.permits == (permit(filing()),)
    assert [one.reason for one in found.dropped] == ["too_many"] * 2


def test_the_region_signs_for_a_school_that_never_had_a_key_of_its_own():
    by_region = sealed(grant(holder="Wang"), "region", "approver")
    assert judged(by_region).dropped[0].reason == "mis_scoped"
    assert judged(by_region, by=trust("region", "approver")).permits
    revoked = trust(revoked=("school", "both"))
    assert judged(by_region, by=revoked).dropped[0].reason == "mis_scoped"


# In the supervisor.


def test_before_time_was_told_nothing_is_permitted(file):
    book = PermitBook(file)
    book.replace([permit(filing()), permit(grant())])
    assert book.model(*MODEL) == book.camera() == No("no_time")
    assert book.expiring() == ()
    assert book.signs(CHOICE, camera=True) == PermitSigns()


def test_what_is_left_out_of_the_next_bundle_permits_nothing_any_more(file):
    book = opened(file, filing(), grant())
    assert isinstance(book.model(*MODEL), Yes)
    assert isinstance(book.camera(), Yes)
    book.replace([permit(filing())])
    assert book.camera() == No("grant_expired")
    book.replace([])
    assert book.model(*MODEL) == No("filing_expired"), "it had one; the alarm stands"
    assert book.model("mtcnn", "1.0.1", SHA) == No("not_filed")
    assert book.signs(CHOICE, camera=True) == PermitSigns(filing_expired=True, grant_expired=True)


def test_what_is_held_outlives_a_restart_without_a_network(file):
    opened(file, filing(), grant())
    again = opened(file)
    assert isinstance(again.model(*MODEL), Yes)
    assert isinstance(again.camera(), Yes)


def test_a_clock_set_back_revives_nothing_not_even_after_a_restart(file):
    end_s = grant().until_s
    book = opened(file, grant())
    book.tick(end_s, 10)
    assert book.camera() == No("grant_expired")
    book.tick(NOW_S, 20)
    assert book.camera() == No("grant_expired")
    again = opened(file, now_s=NOW_S, synced=True)
    assert again.camera() == No("grant_expired")
    again.replace([permit(grant())])
    assert again.camera() == No("grant_expired"), "the same document once more"
    anew = grant(issued_s=NOW_S, until_s=end_s + 1)
    again.replace([permit(anew)])
    assert isinstance(again.camera(), Yes), "another one, by a clock that was put right"


def test_a_clock_set_back_before_the_end_does_not_put_the_end_off(file):
    end_s = grant().until_s
    book = opened(file, grant(), now_s=end_s - 100)
    book.tick(NOW_S - 50 * DAY_S, 99)
    assert isinstance(book.camera(), Yes)
    again = PermitBook(file)
    book.tick(NOW_S - 50 * DAY_S, 100)
    assert book.camera() == No("grant_expired")
    again.tick(NOW_S - 50 * DAY_S, 0)
    again.tick(NOW_S - 50 * DAY_S, 100)
    assert again.camera() == No("grant_expired"), "a restart forgets the time no more than that"


def test_the_signed_floor_ends_a_permit_whatever_the_clock_says(file):
    book = opened(file, filing(), now_s=0, floor_s=filing().expires_s)
    assert book.model(*MODEL) == No("filing_expired")
    assert opened(file, now_s=0).model(*MODEL) == No("filing_expired")


def test_an_older_document_does_not_come_back_after_a_later_one_of_its_line(file):
    longer, shorter = filing(), filing(issued_s=NOW_S, expires_s=NOW_S + DAY_S)
    book = opened(file, longer, shorter)
    assert book.model(*MODEL) == Yes(permit(shorter))
    book.replace([permit(longer)])
    assert book.model(*MODEL) == No("filing_expired")
    assert opened(file, longer).model(*MODEL) == No("filing_expired")


def test_a_disciplined_clock_puts_a_wrong_one_right(file):
    book = opened(file, filing(), now_s=NOW_S)
    book.tick(NOW_S + 90 * DAY_S, 1)
    assert book.expiring()
    book.tick(NOW_S, 2, synced=True)
    assert not book.expiring()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"permits": 3}', b"\xff\x00"])
def test_a_damaged_file_permits_nothing_until_the_next_bundle(file, content):
    file.write_bytes(content)
    book = opened(file)
    assert book.model(*MODEL) == No("not_filed")
    book.replace([permit(filing())])
    assert isinstance(book.model(*MODEL), Yes)


def test_a_disk_that_takes_nothing_costs_the_file_and_no_answer(tmp_path):
    book = opened(tmp_path / "not" / "there.json", filing())
    assert isinstance(book.model(*MODEL), Yes)


def test_the_file_is_not_written_at_every_tick(file):
    book = opened(file, filing())
    before = file.read_bytes()
    for at in range(1, 600):
        book.tick(NOW_S + at, at)
    assert file.read_bytes() == before
    book.tick(NOW_S + 600, 600)
    assert json.loads(file.read_bytes())["seen_s"] == NOW_S + 600


def test_what_is_amiss_is_told_for_what_the_device_is_to_do_alone(file):
    end_s = filing().expires_s
    book = opened(file, filing(), now_s=end_s - 31 * DAY_S)
    assert book.signs(CHOICE, camera=True) == PermitSigns()
    book.tick(end_s - 30 * DAY_S, 1)
    assert book.signs(CHOICE, camera=True) == PermitSigns(filing_expiring=True)
    assert book.signs(None, camera=False) == PermitSigns()
    book.tick(end_s, 2)
    assert book.signs(CHOICE, camera=True) == PermitSigns(filing_expired=True)
    both = opened(file, filing(), grant(), now_s=end_s)
    assert both.signs(CHOICE, camera=True) == PermitSigns(filing_expired=True, grant_expired=True)
    assert both.signs(None, camera=False) == PermitSigns()


steps = st.lists(
    st.tuples(
        st.integers(0, 40) | st.just(0),  # days that pass
        st.integers(-300, 300),  # how far the clock is off, in days
        st.booleans(),  # somebody disciplines it, truthfully
        st.sampled_from(["run", "run", "restart", "again", "floor"]),
    ),
    max_size=24,
)


@settings(max_examples=300, deadline=None)
@example([(0, 50, False, "run"), (0, 0, False, "restart"), (20, -300, False, "run")])
@given(steps)
def test_there_is_never_a_yes_after_expiry_whatever_the_clock_does(tmp_path_factory, some):
    """Of time that ran, or was shown once: by the clock, by a signature, or by running on."""
    file = tmp_path_factory.mktemp("device") / "permits.json"
    documents = [filing(), grant()]
    book = opened(file, *documents)
    shown_s, true_s, boot_s = float(NOW_S), NOW_S, 0.0
    ended = set()
    for days, off, synced, what in some:
        true_s += days * DAY_S
        now_s = true_s if synced else true_s + off * DAY_S
        floor_s = true_s if what == "floor" else 0
        if what == "restart":
            book, boot_s = PermitBook(file), 0.0
        else:
            boot_s += days * DAY_S
            shown_s += days * DAY_S
        if what == "again":
            book.replace(map(permit, documents))
        book.tick(now_s, boot_s, floor_s=floor_s, synced=synced)
        shown_s = max(now_s, floor_s) if synced else max(shown_s, now_s, floor_s)
        ended |= {"model"} if shown_s >= filing().expires_s else set()
        ended |= {"camera"} if shown_s >= grant().until_s else set()
        if "model" in ended or (true_s >= filing().expires_s and synced):
            assert isinstance(book.model(*MODEL), No)
        if "camera" in ended or (true_s >= grant().until_s and synced):
            assert isinstance(book.camera(), No)
