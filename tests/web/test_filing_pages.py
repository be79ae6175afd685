"""Filings and camera grants in the console: who sees them, who acts, and what takes a signature."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from ketang_center.access.policy import Role
from ketang_center.access.scope import Scope
from ketang_center.registry.values import Level
from ketang_center.rollouts.filing_values import FilingState
from ketang_center.rollouts.filings import Filings
from ketang_center.web.app import create_app
from ketang_center.web.text import LANGUAGES, words
from ketang_contract.permits import DAY_S, SOON_S, CameraPurpose, DataUsed, Subject
from ketang_contract.trust import read_accepted
from ketang_provisioning import permits
from ketang_provisioning.keys import load_private
from tests.web.browsing import acts, signed_in, visiting
from tests.web.enrolled import HOSTILE, enrolment, region
from tests.web.seed import NOW_MS, populate, seeded
from tests.web.serving import serving

pytestmark = pytest.mark.anyio
NOW_S = NOW_MS // 1000
PEOPLE = (
    ("publisher", [(Role.PUBLISHER, "lan")]),
    ("approver", [(Role.APPROVER, "lan")]),
    ("other-approver", [(Role.APPROVER, "lan-qu")]),
)
FORM = {
    "subject": "model",
    "name": "mtcnn",
    "version": "1.0.0",
    "sha256": "ab" * 32,
    "number": "岚教备2026-12",
    "purpose": "统计教室人数",
    "scope": "lan",
    "data": ["camera_pictures", "head_counts"],
}
PROPOSAL = permits.proposed(FORM, "form")


@pytest.fixture
def context(tmp_path):
    with seeded(tmp_path, demo=False, home=Scope(Level.REGION, "lan")) as (found, *_):
        populate(found.accounts)
        populate(found.accounts, PEOPLE)
        yield replace(found, enrolment=enrolment())


def key(name):
    secret = region().passphrases[name].encode()
    return load_private(region().folder / "offline" / f"{name}.key", secret)


def trust():
    return read_accepted(enrolment().trust.read_bytes())


def signed(days=365, *, now_s=NOW_S, **changes) -> bytes:
    proposal = replace(PROPOSAL, **changes)
    return permits.sign_filing(proposal, key("filing"), trust(), now_s=now_s, days=days)


def granted(school="s1", target="", days=60) -> bytes:
    raw = permits.draft_grant(
        target=target or school,
        school=school,
        trust=trust(),
        now_s=NOW_S,
        from_s=NOW_S,
        days=days,
        holder="config-1",
    )
    for name in ("config-1", "filing"):
        raw = permits.add_signature(raw, key(name), trust(), NOW_S)
    return raw


def stored(context):
    with Filings(context.data_dir / "filings.db", context.clock) as found:
        return found.filings()


async def test_a_filing_is_submitted_reviewed_and_approved_by_two_people(context):
    app = create_app(context)
    async with visiting(app, "publisher") as publisher, visiting(app, "approver") as approver:
        answer = await publisher.post("/filings", "/filings", **FORM)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            "/filings/1?done=submitted",
        )
        page = (await publisher.get("/filings/1")).text
        assert 'id="review"' not in page
        assert 'id="withdraw"' in page
        assert 'id="review"' in (await approver.get("/filings/1")).text
        answer = await approver.post("/filings/1/review", "/filings/1", verdict="right")
        assert answer.headers["location"] == "/filings/1?done=reviewed"
        given = await approver.get("/filings/1/proposal")
        assert given.text == permits.write_proposal(PROPOSAL)
        answer = await approver.upload("/filings/1/approve", signed())
        assert answer.headers["location"] == "/filings/1?done=approved"
        page = (await approver.get("/filings")).text
        assert "in force" in page
        assert "统计教室人数" in page
        assert "camera pictures (never kept or sent), head counts" in page
        assert "approver-1" in page
        assert ">365<" in page
    (one,) = stored(context)
    assert one.state is FilingState.APPROVED
    assert [one for one in acts(context) if one[1].startswith("filing")] == [
        ("publisher", "filing_submitted", "lan"),
        ("approver", "filing_reviewed", "lan"),
        ("approver", "filing_approved", "lan"),
    ]


async def test_who_submitted_gets_no_way_to_approve_and_is_refused_if_he_tries(context):
    app = create_app(context)
    async with visiting(app, "root") as root, visiting(app, "approver") as approver:
        await root.post("/filings", "/filings", **FORM)
        page = (await root.get("/filings/1")).text
        assert 'id="review"' not in page
        assert "another person has to" in page
        answer = await root.post("/filings/1/review", "/filings/1", verdict="right")
        assert answer.status_code == 409
        await approver.post("/filings/1/review", "/filings/1", verdict="right")
        assert (await root.upload("/filings/1/approve", signed())).status_code == 409
    assert stored(context)[0].state is FilingState.REVIEWED


@pytest.mark.parametrize("name", ["county", "school", "school-operator", "other-approver"])
async def test_who_may_not_act_gets_neither_form_nor_leave(context, name):
    app = create_app(context)
    async with visiting(app, "publisher") as publisher, visiting(app, name) as person:
        await publisher.post("/filings", "/filings", **FORM)
        page = (await person.get("/filings")).text
        assert "岚教备2026-12" in page, "what is filed for the region holds for everybody in it"
        assert 'id="submit"' not in page
        one = (await person.get("/filings/1")).text
        assert not re.search(r'id="(review|approve|withdraw)"', one)
        assert (await person.post("/filings", "/filings", **FORM)).status_code == 404
        for path, form in (("review", {"verdict": "right"}), ("withdraw", {"note": "no"})):
            answer = await person.post(f"/filings/1/{path}", "/filings", **form)
            assert answer.status_code == 404
        assert (await person.upload("/filings/1/approve", signed())).status_code == 404
    assert [one.state for one in stored(context)] == [FilingState.SUBMITTED]


async def test_a_filing_of_another_county_does_not_exist_for_this_one(context):
    app = create_app(context)
    async with visiting(app, "publisher") as publisher, visiting(app, "county") as county:
        await publisher.post("/filings", "/filings", **(FORM | {"scope": "lan-qu"}))
        assert "岚教备2026-12" not in (await county.get("/filings")).text
        for no in ("1", "2", "0", "x", "9" * 40, "-1", "１"):
            assert (await county.get(f"/filings/{no}")).status_code == 404
            assert (await county.get(f"/filings/{no}/proposal")).status_code == 404
        assert (await publisher.get("/filings/1")).status_code == 200


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "MTCNN"}, "lower-case"),
        ({"sha256": "xyz"}, "SHA-256 of the model"),
        ({"number": ""}, "“Filing number”"),
        ({"purpose": "a\u202eb"}, "“Purpose”"),
        ({"data": []}, "cannot be as it is"),
        ({"data": ["faces"]}, "cannot be as it is"),
        ({"subject": "robot"}, "cannot be as it is"),
    ],
)
async def test_what_cannot_be_filed_is_told_and_what_was_typed_stays(context, change, told):
    async with visiting(create_app(context), "publisher") as publisher:
        answer = await publisher.post("/filings", "/filings", **(FORM | change))
        assert answer.status_code == 400
        assert told in answer.text
        assert 'value="1.0.0"' in answer.text
    assert stored(context) == []


async def test_a_unit_that_is_not_there_takes_no_filing(context):
    async with visiting(create_app(context), "publisher") as publisher:
        answer = await publisher.post("/filings", "/filings", **(FORM | {"scope": "nowhere"}))
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: b"", "no signed filing"),
        (lambda: b"\xff\x00", "no signed filing"),
        (lambda: signed(number="99"), "not what was submitted"),
        (granted, "No device would believe"),
        (lambda: signed(now_s=NOW_S - 2 * DAY_S, days=1), "has ended"),
    ],
)
async def test_a_file_no_device_would_believe_is_not_taken_in_and_it_says_why(context, make, told):
    app = create_app(context)
    async with visiting(app, "publisher") as publisher, visiting(app, "approver") as approver:
        await publisher.post("/filings", "/filings", **FORM)
        await approver.post("/filings/1/review", "/filings/1", verdict="right")
        answer = await approver.upload("/filings/1/approve", make())
        assert answer.status_code == 409
        assert told in answer.text
    assert stored(context)[0].state is FilingState.REVIEWED


async def test_one_that_is_sent_back_says_why(context):
    app = create_app(context)
    async with visiting(app, "publisher") as publisher, visiting(app, "approver") as approver:
        await publisher.post("/filings", "/filings", **FORM)
        for form in ({}, {"verdict": "maybe"}):
            answer = await approver.post("/filings/1/review", "/filings/1", **form)
            assert answer.status_code == 400
        answer = await approver.post("/filings/1/review", "/filings/1", verdict="back")
        assert answer.status_code == 409
        await approver.post("/filings/1/review", "/filings/1", verdict="back", note=HOSTILE)
        page = (await publisher.get("/filings/1")).text
        assert "sent back" in page
        assert HOSTILE not in page
        assert "&lt;img" in page


async def test_what_ends_soon_is_told_and_listed(context):
    app = create_app(context)
    async with visiting(app, "publisher") as publisher, visiting(app, "approver") as approver:
        for no, days in ((1, 30), (2, 31)):
            version = f"1.0.{no}"
            await publisher.post("/filings", "/filings", **(FORM | {"version": version}))
            await approver.post(f"/filings/{no}/review", "/filings", verdict="right")
            await approver.upload(f"/filings/{no}/approve", signed(days, version=version))
        page = (await approver.get("/filings")).text
        assert "end within 30 days: 1." in page
        soon = (await approver.get("/filings?soon=1")).text
        assert "1.0.1" in soon
        assert "1.0.2" not in soon
        assert "1.0.2" in (await approver.get("/filings?state=approved")).text
        assert "1.0.2" not in (await approver.get("/filings?state=expired")).text
        assert (await approver.get("/filings?state=%3Cx&soon=x&page=9")).status_code == 200
        await publisher.post("/filings/2/withdraw", "/filings", note="counts wrongly")
        assert "withdrawn" in (await approver.get("/filings/2")).text
        answer = await publisher.post("/filings/2/withdraw", "/filings", note="again")
        assert answer.status_code == 409


async def test_a_schools_grant_is_taken_in_shown_to_it_and_withdrawn(context):
    app = create_app(context)
    async with (
        visiting(app, "school-operator") as operator,
        visiting(app, "other-county") as other,
    ):
        answer = await operator.upload("/filings/grants", granted(days=20), "/filings/grants")
        assert answer.headers["location"] == "/filings/grants?school=s1&done=taken"
        page = (await operator.get("/filings/grants")).text
        assert "the whole school" in page
        assert "config-1, approver-1" in page
        assert '<span class="state s-warn">20</span>' in page
        assert "approver-1" not in (await other.get("/filings/grants")).text
        assert "approver-1" not in (await other.get("/filings/grants?school=s1")).text
        digest = re.search(r"/filings/grants/([0-9a-f]{64})/withdraw", page)[1]
        there = f"/filings/grants/{digest}/withdraw"
        assert (await other.post(there)).status_code == 404
        assert (await operator.post(there)).status_code == 303
        assert (await operator.post(there)).status_code == 409
        answer = await operator.upload("/filings/grants", granted(days=20), "/filings/grants")
        assert answer.status_code in {303, 400}
    assert ("school-operator", "grant_withdrawn", "s1") in acts(context)


async def test_who_is_not_of_a_school_takes_no_grant_in_for_it(context):
    app = create_app(context)
    async with visiting(app, "school-operator") as operator, visiting(app, "school") as viewer:
        answer = await operator.upload("/filings/grants", granted("s2"), "/filings/grants")
        assert answer.status_code == 404
        answer = await operator.upload("/filings/grants", b"{}", "/filings/grants")
        assert answer.status_code == 400
        assert "no signed filing or grant" in answer.text
        assert 'id="take"' not in (await viewer.get("/filings/grants")).text
        assert (await viewer.upload("/filings/grants", granted(), "/filings")).status_code == 404


async def test_a_centre_without_a_trust_document_says_so(context):
    app = create_app(replace(context, enrolment=None))
    async with visiting(app, "school-operator") as operator:
        answer = await operator.upload("/filings/grants", granted(), "/filings/grants")
        assert answer.status_code == 400
        assert "no trust document" in answer.text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_word_a_page_may_need_is_there(lang):
    keys = words(lang).by_key
    for prefix, names in {
        "filing_state": FilingState,
        "filing_subject": Subject,
        "filing_data": DataUsed,
        "camera_purpose": CameraPurpose,
    }.items():
        assert all(f"{prefix}.{one.value}" in keys for one in names)
    faults = "state same_person differs not_believed older ahead no_trust note twice field verdict"
    assert all(f"filings_fault.{one}" in keys for one in faults.split())
    whys = "bad_envelope bad_document wrong_target target forged mis_scoped wrong_signer expired"
    assert all(f"filings_why.{one}" in keys for one in whys.split())
    assert SOON_S == 30 * DAY_S


def test_in_a_browser_a_filing_goes_its_way_in_chinese(chromium, context, free_port, tmp_path):
    file = tmp_path / "signed.json"
    file.write_bytes(signed())
    with serving(context, free_port) as base:
        page = signed_in(chromium, base, "publisher", "filings")
        for field in ("name", "version", "sha256", "number", "purpose"):
            page.fill(f"#s-{field}", FORM[field])
        for one in FORM["data"]:
            page.check(f"#s-data-{one}")
        page.click("#submit")
        expect(page.locator(".done")).to_contain_text("等待审核")
        other = signed_in(chromium, base, "approver", "filings")
        other.click("#f-1")
        other.check("#v-right")
        other.click("#review")
        other.set_input_files("#a-file", file)
        other.click("#approve")
        expect(other.locator(".done")).to_contain_text("备案已生效")
        expect(other.locator("h1")).to_contain_text(FORM["number"])
        assert page.complaints == other.complaints == []
        for one in (page, other):
            one.context.close()
