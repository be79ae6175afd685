"""Filings and grants as their holders make them: nothing is signed that no device would believe."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.permits import NOW_S, PATH, PRIVATE, ROOM, SHA, filing, grant, sealed, trust

from ketang_contract.errors import BadInput, Refused
from ketang_contract.permits import DAY_S, DataUsed, No, Permits, Subject, Yes
from ketang_provisioning import permits
from ketang_provisioning.permits import Proposal

PROPOSAL = permits.of_filing(filing())
ABOVE = [one.unit for one in PATH[:2]]
lines = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from(" \"\\'#=[]{}"),
    min_size=1,
    max_size=60,
)


@given(
    purpose=lines,
    number=st.text(string.ascii_letters + "备案〔〕号（）-_/.", min_size=1, max_size=40),
    data=st.sets(st.sampled_from(DataUsed), min_size=1),
    subject=st.sampled_from(Subject),
)
def test_a_proposal_reads_back_as_it_was_written(tmp_path_factory, purpose, number, data, subject):
    said = Proposal(
        subject=subject,
        name="mtcnn",
        version="1.0.0",
        sha256=SHA if subject is Subject.MODEL else None,
        number=number,
        purpose=purpose,
        data=tuple(sorted(data)),
        scope="lan",
    )
    file = tmp_path_factory.mktemp("proposal") / "one.toml"
    file.write_text(permits.write_proposal(said), "utf-8")
    assert permits.read_proposal(file) == said


def sign(name="approver", *, days=100, by=None, proposal=PROPOSAL):
    return permits.sign_filing(proposal, PRIVATE[name], by or trust(), now_s=NOW_S, days=days)


def test_a_filing_bears_the_name_the_trust_document_gives_its_key():
    permit = permits.check(sign(), trust(), NOW_S)
    assert permits.drafted(sign()).approver == "He"
    assert permit.until_s == NOW_S + 100 * DAY_S


@pytest.mark.parametrize("name", ["school", "region", "command", "stranger", "root"])
def test_a_key_that_is_no_approvers_signs_no_filing(name):
    with pytest.raises(BadInput, match="none for filings"):
        sign(name)
    with pytest.raises(BadInput, match="none for filings"):
        sign(by=trust(revoked=("approver",)))


def test_a_filing_of_no_day_ends_the_one_before():
    first = permits.check(sealed(filing()), trust(), NOW_S)
    end = permits.check(sign(days=0), trust(), NOW_S)
    held = Permits((first, end))
    assert isinstance(Permits((first,)).model("mtcnn", "1.0.0", SHA, NOW_S), Yes)
    assert held.model("mtcnn", "1.0.0", SHA, NOW_S) == No("filing_expired")


def draft(**changes):
    said = {
        "target": "s1",
        "school": "s1",
        "trust": trust(),
        "now_s": NOW_S,
        "from_s": NOW_S,
        "days": 60,
        "holder": "Li",
        "approver": "He",
    }
    return permits.draft_grant(**(said | changes))


def add(raw, *names):
    for name in names:
        raw = permits.add_signature(raw, PRIVATE[name], trust(), NOW_S)
    return raw


@pytest.mark.parametrize("names", [("school", "approver"), ("approver", "school")])
@pytest.mark.parametrize("target", ["s1", ROOM, "s1-ifp-1"])
def test_a_grant_is_believed_once_both_have_signed_in_any_order(names, target):
    raw = draft(target=target)
    for count in (0, 1):
        with pytest.raises(Refused, match="forged"):
            permits.check(add(raw, *names[:count]), trust(), NOW_S)
    signed = add(raw, *names)
    assert permits.check(signed, trust(), NOW_S).target == target
    assert {one.holder for one in permits.signers(signed, trust())} == {"Li", "He"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"approver": "nobody"}, "--approver"),
        ({"approver": ""}, "--approver"),
        ({"holder": "Wang"}, "--holder"),
        ({"holder": "Sun", "approver": "Sun"}, "--holder"),
        ({"school": "s2", "target": "s2", "holder": "Li"}, "--holder"),
        ({"days": 400}, "--days"),
        ({"days": -1}, "--days"),
    ],
)
def test_a_grant_that_nobody_could_sign_is_not_drafted(change, told):
    with pytest.raises(BadInput, match=told):
        draft(**change)


def test_a_school_without_a_key_of_its_own_is_signed_for_by_the_region():
    by = trust("region", "approver")
    raw = draft(trust=by, holder="", approver="")
    assert (permits.drafted(raw).holder, permits.drafted(raw).approver) == ("Wang", "He")
    for name in ("region", "approver"):
        raw = permits.add_signature(raw, PRIVATE[name], by, NOW_S)
    assert permits.check(raw, by, NOW_S)
    with pytest.raises(Refused, match="mis_scoped"):
        permits.check(raw, trust(), NOW_S)


@pytest.mark.parametrize("name", ["both", "region", "other-school", "both-approver", "stranger"])
def test_who_is_not_named_adds_no_signature(name):
    with pytest.raises(BadInput):
        add(draft(), name)


def test_a_key_over_the_county_is_known_by_the_units_above():
    raw = sealed(filing(scope="s1", approver="Ma"), "county-approver")
    with pytest.raises(Refused, match="mis_scoped"):
        permits.check(raw, trust(), NOW_S)
    assert permits.check(raw, trust(), NOW_S, [*ABOVE, "lan-xian"]).target == "s1"
    with pytest.raises(Refused, match="expired"):
        permits.check(sealed(grant()), trust(), grant().until_s)
