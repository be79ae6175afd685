"""The register of filings and camera grants: who may do what, and what devices are brought."""

from contextlib import closing
from dataclasses import replace

import pytest
from tests.permits import DEVICE, NOW_S, PATH, PRIVATE, ROOM, SHA, filing, grant, sealed, trust
from tests.regions import UNITS

from ketang_agent.remote.permits_judging import judge_permits
from ketang_center.access.audit import Audit
from ketang_center.access.policy import Actor, Grant, Role
from ketang_center.access.scope import OutOfScope
from ketang_center.enrolment.book import Book
from ketang_center.registry.database import Registry
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Data
from ketang_center.rollouts.filing_desk import FilingDesk, trust_in
from ketang_center.rollouts.filing_recheck import recheck, recheck_in
from ketang_center.rollouts.filing_refusals import FilingRefused
from ketang_center.rollouts.filing_values import FilingState
from ketang_center.rollouts.filings import Filings
from ketang_contract import signatures
from ketang_contract.config import Config, ModelChoice
from ketang_contract.layers import MAX_PERMITS
from ketang_contract.permits import DAY_S, DataUsed
from ketang_contract.trust import PAYLOAD_TYPE
from ketang_provisioning.permits import TOOLS, of_filing

TREE = Tree(UNITS)
PUBLISHER = Actor("pu", (Grant(Role.PUBLISHER, "lan"),))
APPROVER = Actor("ap", (Grant(Role.APPROVER, "lan"),))
BOTH = Actor("root", tuple(Grant(role, "lan") for role in Role))
OPERATOR = Actor("op", (Grant(Role.OPERATOR, "s1"),))
STRANGER = Actor("no", (Grant(Role.PUBLISHER, "s2"), Grant(Role.APPROVER, "s2")))
PROPOSAL = of_filing(filing())
WANTED = Config(model=ModelChoice(name="mtcnn", version="1.0.0", sha256=SHA))


class Office:
    def __init__(self, folder):
        self.now_s, self.trust = NOW_S, trust()
        self.filings = Filings(folder / "filings.db", lambda: self.now_s * 1000)
        self.audit = Audit(folder / "audit.db")
        self.book = Book(folder / "enrolment.db")
        self.desk = FilingDesk(
            self.filings,
            TREE,
            self.audit,
            lambda: self.trust,
            lambda: self.now_s * 1000,
            self.book,
        )

    def close(self):
        self.filings.close()
        self.audit.close()
        self.book.close()

    def approved(self, document=None, *keys, proposal=None) -> int:
        document = document or filing()
        no = self.desk.submit(PUBLISHER, proposal or of_filing(document))
        self.desk.review(APPROVER, no, right=True)
        self.desk.approve(APPROVER, no, sealed(document, *keys))
        return no

    def recheck(self):
        return recheck(self.filings, TREE, self.audit, self.trust, self.now_s * 1000)

    def state(self, no):
        return self.filings.filing(no).state_at(self.now_s)

    def said(self):
        return [(one.who, one.action, one.unit) for one in self.audit.entries()][::-1]


@pytest.fixture
def office(tmp_path):
    with closing(Office(tmp_path)) as found:
        yield found


def refused(reason):
    return pytest.raises(FilingRefused, check=lambda why: why.reason == reason)


def test_a_filing_goes_from_its_proposal_to_its_end(office):
    no = office.desk.submit(PUBLISHER, PROPOSAL)
    assert office.state(no) is FilingState.SUBMITTED
    assert office.filings.permits_for(DEVICE, PATH) == ()
    office.desk.review(APPROVER, no, right=True)
    assert office.state(no) is FilingState.REVIEWED
    before = office.filings.version()
    office.desk.approve(APPROVER, no, sealed(filing()))
    assert office.filings.version() > before
    one = office.filings.filing(no)
    assert (one.approver, one.number, one.days_left(NOW_S)) == ("He", filing().number, 100)
    assert office.filings.refusal_of(WANTED, NOW_S, {"lan", "s1"}) == ""
    brought = office.filings.permits_for(DEVICE, PATH)
    assert len(judge_permits(brought, trust(), DEVICE, PATH, NOW_S, TOOLS).permits) == 1
    office.now_s = filing().expires_s
    assert office.state(no) is FilingState.EXPIRED
    assert "has ended" in office.filings.refusal_of(WANTED, office.now_s)
    assert office.filings.permits_for(DEVICE, PATH) == ()
    assert [one[:2] for one in office.said()][::-1] == [
        ("pu", "filing_submitted"),
        ("ap", "filing_reviewed"),
        ("ap", "filing_approved"),
    ]


def test_who_submits_neither_reviews_nor_approves(office):
    no = office.desk.submit(BOTH, PROPOSAL)
    with refused("same_person"):
        office.desk.review(BOTH, no, right=True)
    office.desk.review(APPROVER, no, right=True)
    with refused("same_person"):
        office.desk.approve(BOTH, no, sealed(filing()))
    office.desk.approve(APPROVER, no, sealed(filing()))


@pytest.mark.parametrize("actor", [APPROVER, OPERATOR, STRANGER, Actor("", ())])
def test_who_publishes_nothing_there_submits_nothing(office, actor):
    with pytest.raises(OutOfScope):
        office.desk.submit(actor, PROPOSAL)
    assert office.filings.filings() == []
    assert office.said() == []


@pytest.mark.parametrize("actor", [PUBLISHER, OPERATOR, STRANGER, Actor("", ())])
def test_who_approves_nothing_there_decides_nothing(office, actor):
    no = office.desk.submit(PUBLISHER, PROPOSAL)
    for act in (
        lambda: office.desk.review(actor, no, right=True),
        lambda: office.desk.approve(actor, no, sealed(filing())),
        lambda: office.desk.review(APPROVER, 99, right=True),
    ):
        with pytest.raises(OutOfScope):
            act()
    assert office.state(no) is FilingState.SUBMITTED


def test_what_was_sent_back_has_a_why_and_goes_no_further(office):
    no = office.desk.submit(PUBLISHER, PROPOSAL)
    for why in ("", "  ", "x" * 201):
        with refused("note"):
            office.desk.review(APPROVER, no, right=False, note=why)
    office.desk.review(APPROVER, no, right=False, note="hash is of another file")
    assert office.state(no) is FilingState.SENT_BACK
    for act in (
        lambda: office.desk.review(APPROVER, no, right=True),
        lambda: office.desk.approve(APPROVER, no, sealed(filing())),
        lambda: office.desk.withdraw(PUBLISHER, no, "too late"),
    ):
        with refused("state"):
            act()
    assert office.desk.submit(PUBLISHER, PROPOSAL) != no


def test_the_same_is_on_its_way_once_only(office):
    office.desk.submit(PUBLISHER, PROPOSAL)
    with refused("twice"):
        office.desk.submit(PUBLISHER, PROPOSAL)
    office.desk.submit(PUBLISHER, replace(PROPOSAL, number="13"))


def test_nothing_is_approved_before_it_was_found_right(office):
    no = office.desk.submit(PUBLISHER, PROPOSAL)
    with refused("state"):
        office.desk.approve(APPROVER, no, sealed(filing()))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (sealed(filing(), "stranger"), "not_believed"),
        (sealed(filing(approver="Ma"), "county-approver"), "not_believed"),
        (sealed(filing(approver="Ma")), "not_believed"),
        (sealed(filing(expires_s=NOW_S)), "not_believed"),
        (sealed(grant()), "not_believed"),
        (b"{}", "not_believed"),
        (sealed(filing(number="13")), "differs"),
        (sealed(filing(data=(DataUsed.HEAD_COUNTS,))), "differs"),
        (sealed(filing(sha256="cd" * 32)), "differs"),
        (sealed(filing(issued_s=NOW_S + 2 * DAY_S)), "ahead"),
    ],
)
def test_what_no_device_would_believe_or_says_another_thing_is_not_approved(office, raw, reason):
    no = office.desk.submit(PUBLISHER, PROPOSAL)
    office.desk.review(APPROVER, no, right=True)
    with refused(reason):
        office.desk.approve(APPROVER, no, raw)
    assert office.state(no) is FilingState.REVIEWED
    assert office.filings.version() == 0


def test_a_centre_without_a_trust_document_approves_nothing(tmp_path):
    with refused("no_trust"):
        trust_in(None)
    with refused("no_trust"):
        trust_in(tmp_path / "trust.json")


def test_a_later_document_takes_the_place_of_the_earlier_one(office):
    first = office.approved()
    second = office.approved(filing(issued_s=NOW_S, number="13"))
    assert office.state(first) is FilingState.REPLACED
    assert office.state(second) is FilingState.APPROVED
    assert len(office.filings.permits_for(DEVICE, PATH)) == 1
    no = office.desk.submit(PUBLISHER, PROPOSAL)
    office.desk.review(APPROVER, no, right=True)
    with refused("older"):
        office.desk.approve(APPROVER, no, sealed(filing()))


def test_a_signed_end_ends_it_here_and_is_brought_to_devices(office):
    first = office.approved()
    office.approved(filing(issued_s=NOW_S, expires_s=NOW_S))
    assert office.state(first) is FilingState.REPLACED
    assert "has ended" in office.filings.refusal_of(WANTED, NOW_S)
    assert len(office.filings.permits_for(DEVICE, PATH)) == 1


def test_a_filing_that_was_withdrawn_is_brought_no_more(office):
    no = office.approved()
    before = office.filings.version()
    for actor in (OPERATOR, STRANGER):
        with pytest.raises(OutOfScope):
            office.desk.withdraw(actor, no, "no")
    office.desk.withdraw(PUBLISHER, no, "counts wrongly")
    assert office.state(no) is FilingState.WITHDRAWN
    assert office.filings.version() > before
    assert office.filings.permits_for(DEVICE, PATH) == ()
    assert office.filings.refusal_of(WANTED, NOW_S)


def test_a_rollout_is_told_what_is_not_filed(office):
    assert office.filings.refusal_of(Config(inference=False), NOW_S) == ""
    assert "no filing in force" in office.filings.refusal_of(WANTED, NOW_S)
    office.approved(filing(scope="s1"))
    assert office.filings.refusal_of(WANTED, NOW_S, {"lan", "lan-xian", "s1"}) == ""
    assert "no filing in force" in office.filings.refusal_of(WANTED, NOW_S, {"lan", "s2"})
    other = Config(model=replace(WANTED.model, sha256="cd" * 32))
    assert "another file" in office.filings.refusal_of(other, NOW_S)


def test_what_ends_within_thirty_days_is_listed(office):
    no = office.approved(filing(expires_s=NOW_S + 30 * DAY_S))
    office.approved(filing(scope="s1"))
    assert [one.no for one in office.filings.expiring(NOW_S)] == [no]
    assert office.filings.expiring(NOW_S - 1) == []


# Camera grants.


def test_a_grant_is_taken_in_for_its_school_and_brought_to_what_it_is_for(office):
    made = office.desk.take_grant(OPERATOR, sealed(grant(target=ROOM)))
    assert office.desk.take_grant(APPROVER, sealed(grant(target=ROOM))) == made
    assert office.filings.grants({"s1"}) == [made]
    assert office.filings.grants({"s2"}) == []
    assert len(office.filings.permits_for(DEVICE, PATH)) == 1
    assert office.filings.permits_for(DEVICE, PATH[:-1]) == ()
    office.desk.take_grant(OPERATOR, sealed(grant(target=DEVICE)))
    assert len(office.filings.permits_for(DEVICE, PATH)) == 2
    office.desk.withdraw_grant(OPERATOR, made.digest)
    assert len(office.filings.permits_for(DEVICE, PATH)) == 1
    with refused("withdrawn"):
        office.desk.take_grant(OPERATOR, sealed(grant(target=ROOM)))
    with refused("state"):
        office.desk.withdraw_grant(OPERATOR, made.digest)
    assert office.said()[0] == ("op", "grant_withdrawn", "s1")


@pytest.mark.parametrize("actor", [PUBLISHER, STRANGER, Actor("", ())])
def test_who_is_not_of_the_school_takes_no_grant_in(office, actor):
    with pytest.raises(OutOfScope):
        office.desk.take_grant(actor, sealed(grant()))


@pytest.mark.parametrize(
    "raw",
    [
        sealed(grant(), "school"),
        sealed(grant(target="s2-r1")),
        sealed(grant(target="lan-xian")),
        sealed(grant(holder="Wang"), "region", "approver"),
        sealed(grant(until_s=NOW_S)),
        sealed(filing()),
        b"[]",
    ],
)
def test_a_grant_no_device_would_believe_is_not_taken_in(office, raw):
    with refused("not_believed"):
        office.desk.take_grant(OPERATOR, raw)
    assert office.filings.all_grants() == []


def test_a_grant_signed_to_end_another_closes_it(office):
    first = office.desk.take_grant(OPERATOR, sealed(grant()))
    end = grant(issued_s=NOW_S, from_s=NOW_S, until_s=NOW_S)
    office.desk.take_grant(OPERATOR, sealed(end))
    assert office.filings.grant(first.digest).withdrawn_ms
    assert len(office.filings.permits_for(DEVICE, PATH)) == 1, "the end is brought"


def test_what_a_revoked_key_signed_is_closed_and_what_has_ended_is_not(office):
    ended = office.approved(filing(expires_s=NOW_S + DAY_S))
    other = office.approved(filing(version="2.0.0", approver="Ma", scope="s1"), "county-approver")
    kept = office.desk.take_grant(OPERATOR, sealed(grant(target=ROOM)))
    gone = office.desk.take_grant(
        OPERATOR, sealed(grant(approver="Ma"), "school", "county-approver")
    )
    office.now_s += 2 * DAY_S
    assert office.recheck() == 0
    office.trust = trust(revoked=("county-approver",))
    before = office.filings.version()
    assert office.recheck() == 2
    assert office.recheck() == 0
    assert office.filings.version() > before
    assert office.state(ended) is FilingState.EXPIRED
    assert office.state(other) is FilingState.WITHDRAWN
    assert office.filings.filing(other).note == "forged"
    assert office.filings.grant(gone.digest).withdrawn_by == "center"
    assert not office.filings.grant(kept.digest).withdrawn_ms
    assert {one[:2] for one in office.said()[:2]} == {
        ("center", "filing_withdrawn"),
        ("center", "grant_withdrawn"),
    }


def test_a_centre_s_folder_is_rechecked_by_its_trust_document(office, tmp_path):
    with refused("no_trust"):
        recheck_in(tmp_path, tmp_path / "trust.json", lambda: NOW_S * 1000)
    file = tmp_path / "trust.json"
    file.write_bytes(signatures.seal(trust("school").payload(), PAYLOAD_TYPE, [PRIVATE["root"]]))
    with Registry(tmp_path / "registry.db") as registry:
        registry.load(Data(units=UNITS))
    no = office.approved()
    assert recheck_in(tmp_path, file, lambda: NOW_S * 1000) == 1
    assert office.state(no) is FilingState.WITHDRAWN


def test_a_bundle_never_gets_more_than_it_holds(office):
    for at in range(MAX_PERMITS + 4):
        one = filing(version=f"1.0.{at}", expires_s=NOW_S + (at + 1) * DAY_S)
        office.approved(one)
    office.desk.take_grant(OPERATOR, sealed(grant()))
    brought = office.filings.permits_for(DEVICE, PATH)
    assert len(brought) == MAX_PERMITS
    assert brought == office.filings.permits_for(DEVICE, PATH)
    kept = judge_permits(brought, trust(), DEVICE, PATH, NOW_S, TOOLS).permits
    assert any(one.kind == "grant" for one in kept), "the camera's first"
    assert min(one.until_s for one in kept) > NOW_S + 4 * DAY_S, "what ends first is left out"


def test_the_register_outlives_the_process(office, tmp_path):
    no = office.approved()
    with Filings(tmp_path / "filings.db", lambda: NOW_S * 1000) as again:
        assert again.filing(no) == office.filings.filing(no)
        assert again.permits_for(DEVICE, PATH) == office.filings.permits_for(DEVICE, PATH)
