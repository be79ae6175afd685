"""Filings and grants: what they may say, and what they allow at a moment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.permits import NOW_S, ROOM, SHA, filing, grant

from ketang_contract import validate
from ketang_contract.errors import Refused
from ketang_contract.layers import digest
from ketang_contract.permits import (
    DAY_S,
    FILING_TYPE,
    GRANT_TYPE,
    SOON_S,
    CameraGrant,
    DataUsed,
    Filing,
    No,
    PermitKind,
    Permits,
    Subject,
    Yes,
    payload,
    permit_from_json,
    permit_of,
    same_person,
    type_of,
)
from ketang_contract.records import to_json


def permit(document):
    return permit_of(document, digest(type_of(document), payload(document)))


def held(*documents) -> Permits:
    return Permits(tuple(map(permit, documents)))


MODEL = ("mtcnn", "1.0.0", SHA)


def test_a_document_reads_back_as_it_was_signed():
    for document in (
        filing(),
        grant(),
        filing(subject=Subject.APP, sha256=None, name="希沃白板 5"),
    ):
        assert validate.signed(type(document), payload(document)) == document


def test_a_permit_is_kept_as_json_and_comes_back_the_same():
    for document in (filing(), grant(), filing(subject=Subject.ALGORITHM, sha256=None)):
        one = permit(document)
        assert permit_from_json(to_json(one)) == one


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": None},
        {"name": "MTCNN"},
        {"subject": Subject.APP},
        {"data": ()},
        {"data": (DataUsed.HEAD_COUNTS, DataUsed.CAMERA_PICTURES)},
        {"expires_s": NOW_S - 2 * DAY_S},
        {"expires_s": NOW_S + 1200 * DAY_S},
    ],
)
def test_a_filing_that_says_what_cannot_be_is_none(change):
    with pytest.raises(ValueError, match=r"\w"):
        filing(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"until_s": NOW_S - 2 * DAY_S},
        {"until_s": NOW_S + 400 * DAY_S},
        {"issued_s": NOW_S + 61 * DAY_S},
        {"approver": "Li"},
        {"approver": " ＬＩ"},
    ],
)
def test_a_grant_that_says_what_cannot_be_is_none(change):
    with pytest.raises(ValueError, match=r"\w"):
        grant(**change)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Filing, payload(filing()).replace(b'"number"', b'"numbers"')),
        (Filing, payload(filing()).replace("统计".encode(), "\u202e统计".encode())),
        (Filing, payload(filing()).replace(b"head_counts", b"face_identities")),
        (CameraGrant, payload(grant()).replace(b"occupancy", b"identity")),
        (CameraGrant, payload(filing())),
    ],
)
def test_what_is_no_such_document_is_refused(kind, body):
    with pytest.raises(Refused, match="bad_document"):
        validate.signed(kind, body)


def test_a_model_is_allowed_under_its_own_filing_until_that_ends():
    permits = held(filing())
    end_s = filing().expires_s
    assert isinstance(permits.model(*MODEL, NOW_S), Yes)
    assert isinstance(permits.model(*MODEL, end_s - 1), Yes)
    assert permits.model(*MODEL, end_s) == No("filing_expired")
    assert permits.model("mtcnn", "1.0.0", "cd" * 32, NOW_S) == No("other_file")
    assert permits.model("mtcnn", "1.0.1", SHA, NOW_S) == No("not_filed")
    assert held(grant()).model(*MODEL, NOW_S) == No("not_filed")
    app = held(filing(subject=Subject.APP, sha256=None))
    assert app.model("mtcnn", "1.0.0", "", NOW_S) == No("not_filed")


def test_a_camera_is_allowed_from_the_grants_begin_to_its_end():
    one = grant(from_s=NOW_S)
    permits = held(one)
    assert permits.camera(NOW_S - 1) == No("grant_not_yet")
    assert isinstance(permits.camera(NOW_S), Yes)
    assert permits.camera(one.until_s) == No("grant_expired")
    assert held(filing()).camera(NOW_S) == No("no_grant")


def test_a_later_document_of_one_line_stands_alone_from_its_begin_on():
    shorter = filing(issued_s=NOW_S, expires_s=NOW_S + DAY_S, number="13")
    permits = held(filing(), shorter)
    assert permits.model(*MODEL, NOW_S) == Yes(permit(shorter))
    assert permits.model(*MODEL, NOW_S + 2 * DAY_S) == No("filing_expired")
    county = filing(issued_s=NOW_S, expires_s=NOW_S, scope="lan-xian")
    assert isinstance(held(filing(), county).model(*MODEL, NOW_S), Yes), "another line"
    next_term = grant(issued_s=NOW_S, from_s=NOW_S + 30 * DAY_S, until_s=NOW_S + 40 * DAY_S)
    terms = held(grant(), next_term)
    assert terms.camera(NOW_S) == Yes(permit(grant())), "it has not begun yet"
    assert terms.camera(NOW_S + 30 * DAY_S) == Yes(permit(next_term))
    assert terms.camera(NOW_S + 45 * DAY_S) == No("grant_expired")


def test_a_document_that_begins_and_ends_at_one_moment_ends_the_earlier_one():
    ended = held(filing(), filing(issued_s=NOW_S, expires_s=NOW_S))
    assert ended.model(*MODEL, NOW_S) == No("filing_expired")
    closed = held(grant(), grant(issued_s=NOW_S, from_s=NOW_S, until_s=NOW_S))
    assert closed.camera(NOW_S) == No("grant_expired")
    room = grant(target=ROOM, issued_s=NOW_S, from_s=NOW_S, until_s=NOW_S)
    assert isinstance(held(grant(), room).camera(NOW_S), Yes), "the school's stands"


def test_what_ends_within_thirty_days_is_told_unless_another_goes_on():
    one = filing(expires_s=NOW_S + SOON_S)
    assert held(one).expiring(NOW_S) == (permit(one),)
    assert held(one).expiring(NOW_S - 1) == ()
    next_one = filing(scope="lan-xian", expires_s=NOW_S + SOON_S + 1)
    assert held(one, next_one).expiring(NOW_S) == ()
    assert held(one).expiring(one.expires_s) == (), "it has ended: that is another alarm"
    app = filing(subject=Subject.APP, sha256=None, expires_s=NOW_S + DAY_S)
    short = grant(until_s=NOW_S + DAY_S)
    assert set(held(app, short).expiring(NOW_S)) == {permit(app), permit(short)}


def test_a_person_is_the_same_however_the_name_is_typed():
    assert same_person("Li  Na", "ｌｉ na")
    assert not same_person("李娜", "李纳")


moments = st.integers(NOW_S - 400 * DAY_S, NOW_S + 400 * DAY_S)


@st.composite
def documents(draw):
    issued_s, from_s = draw(moments), draw(moments)
    lasts_s = draw(st.integers(0, 300)) * DAY_S
    if draw(st.booleans()):
        return filing(
            issued_s=issued_s,
            expires_s=issued_s + lasts_s,
            scope=draw(st.sampled_from(["lan", "lan-xian"])),
        )
    target = draw(st.sampled_from(["s1", ROOM]))
    return grant(
        issued_s=min(issued_s, from_s + lasts_s),
        from_s=from_s,
        until_s=from_s + lasts_s,
        target=target,
    )


@given(st.lists(documents(), max_size=8), moments)
def test_there_is_never_a_yes_outside_a_document_s_time(some, now_s):
    permits = held(*some)
    for answer, kind in (
        (permits.model(*MODEL, now_s), PermitKind.FILING),
        (permits.camera(now_s), PermitKind.GRANT),
    ):
        if isinstance(answer, Yes):
            one = answer.permit
            assert one in permits.permits
            assert one.kind is kind
            assert one.from_s <= now_s < one.until_s
            assert not any(
                other.line == one.line and other.issued_s > one.issued_s and other.from_s <= now_s
                for other in permits.permits
            )


def test_the_two_types_are_apart():
    assert type_of(filing()) == FILING_TYPE
    assert type_of(grant()) == GRANT_TYPE
