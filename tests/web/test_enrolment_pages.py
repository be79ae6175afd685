"""Enrolment in the console: what is shown to whom, what is done by whom, and nothing by mistake."""

import ast
import inspect
import io
import re
import zipfile
from dataclasses import replace

import pytest
from playwright.sync_api import expect, sync_playwright

from ketang_center import enrolment_views
from ketang_center.access.audit import Asked
from ketang_center.access.scope import Scope
from ketang_center.enrolment import registering
from ketang_center.enrolment.values import Reason
from ketang_center.registry import imports, spreadsheets
from ketang_center.registry.values import Level, ServiceState
from ketang_center.web.app import create_app
from ketang_center.web.row_words import UNKNOWN, in_words
from ketang_center.web.text import LANGUAGES
from ketang_provisioning import codes
from tests.web.browsing import visiting
from tests.web.enrolled import HOSTILE, PEOPLE_OF_ENROLMENT, enrolment, fill_book
from tests.web.seed import NOW_MS, PASSWORD, populate, seeded
from tests.web.serving import serving
from tests.web.test_console import FLAGS

pytestmark = pytest.mark.anyio
HEADER = "学校代码,资产编号,教室,设备类型,序列号\n"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def context(tmp_path):
    with seeded(tmp_path, demo=False, home=Scope(Level.REGION, "lan")) as (found, *_):
        populate(found.accounts)
        populate(found.accounts, [(name, [(role, at)]) for name, role, at in PEOPLE_OF_ENROLMENT])
        fill_book(found.book)
        yield replace(found, enrolment=enrolment())


def waiting(context):
    return {one.no for one in context.book.waiting()}


def main_of(answer):
    """The content, without what is random."""
    return re.sub(r'name="(?:csrf|ticket)" value="[^"]*"', "", answer.text.partition("<main")[2])


def upload(person, token, text, name="list.csv", **more):
    return person.http.post(
        "/enrolment/upload",
        data={"csrf": token, **more},
        files={"file": (name, text.encode(), "text/csv")},
    )


async def test_a_school_sees_its_own_and_a_county_all_of_its_schools(context):
    app = create_app(context)
    async with visiting(app, "school-operator") as person:
        page = (await person.get("/enrolment")).text
        assert "Qinghe First Primary" in page
        assert "Liuwan" not in page
        assert set(re.findall(r'id="pick-(\d+)"', page)) == {"1", "2", "3"}
        assert 'id="waiting" class="badge"' in page
    async with visiting(app, "county-operator") as person:
        page = (await person.get("/enrolment")).text
        assert {"Qinghe First Primary", "Liuwan Middle School"} <= set(
            re.findall(r">([^<>]+)</a>", page)
        )
        assert "Songtai" not in page
        assert set(re.findall(r'id="pick-(\d+)"', page)) == {"1", "2", "3", "4", "5"}


async def test_who_only_looks_sees_counts_and_can_do_nothing(context):
    async with visiting(create_app(context), "county") as person:
        page = (await person.get("/enrolment")).text
        assert "Liuwan Middle School" in page
        assert "pick-" not in page
        assert "SN-" not in page
        assert 'id="waiting"' not in page
        for path in (
            "/enrolment/school/s1",
            "/enrolment/codes",
            "/enrolment/upload",
            "/enrolment/decide?no=1",
            "/enrolment/out/s1-pc-1",
        ):
            assert (await person.get(path)).status_code == 404, path
        assert (await person.post("/enrolment/approve", no="1")).status_code == 404
        assert (await person.post("/enrolment/refuse", no="1")).status_code == 404
    assert len(waiting(context)) == 6


async def test_what_is_anothers_answers_like_what_does_not_exist(context):
    async with visiting(create_app(context), "other-operator") as person:

        def plain(answer):
            return answer.status_code, re.sub(r"csrf.*?>|/[\w/?=&-]+", "", answer.text)

        for theirs, nothing in (
            ("/enrolment/school/s1", "/enrolment/school/nowhere"),
            ("/enrolment/decide?no=1", "/enrolment/decide?no=999"),
            ("/enrolment/out/s1-pc-1", "/enrolment/out/nothing"),
        ):
            found = plain(await person.get(theirs))
            assert found == plain(await person.get(nothing))
            assert found[0] == 404
        for theirs, nothing, form in (
            ("/enrolment/approve", "/enrolment/approve", ({"no": "1"}, {"no": "999"})),
            ("/enrolment/refuse", "/enrolment/refuse", ({"no": "1"}, {"no": "999"})),
            (
                "/enrolment/codes",
                "/enrolment/codes",
                (
                    {"school": "s1", "uses": "1", "days": "1"},
                    {"school": "x", "uses": "1", "days": "1"},
                ),
            ),
            ("/enrolment/codes/c0des1/withdraw", "/enrolment/codes/abcdef/withdraw", ({}, {})),
            ("/enrolment/codes/c0des1/sheet", "/enrolment/codes/abcdef/sheet", ({}, {})),
            ("/enrolment/codes/c0des1/kit", "/enrolment/codes/abcdef/kit", ({}, {})),
            (
                "/enrolment/out/s1-pc-1",
                "/enrolment/out/nothing",
                ({"why": "lost", "sure": "yes"}, {"why": "lost", "sure": "yes"}),
            ),
        ):
            found = plain(await person.post(theirs, **form[0]))
            assert found == plain(await person.post(nothing, **form[1])), theirs
            assert found[0] == 404, theirs
        mixed = await person.post("/enrolment/refuse", no=["1", "6", "999"])
        assert mixed.headers["location"] == "/enrolment?done=refused&n=1&missed=2"
    assert waiting(context) == {1, 2, 3, 4, 5}
    assert not context.book.revocations()
    assert not context.book.code_named("c0des1").withdrawn
    assert context.security.count("forbidden") > 0


@pytest.mark.parametrize(
    "path",
    [
        "approve",
        "refuse",
        "codes",
        "codes/c0des1/withdraw",
        "out/s1-pc-1",
        "upload",
        "upload/import",
    ],
)
async def test_no_form_counts_without_its_token(context, path):
    async with visiting(create_app(context), "region-operator") as person:
        answer = await person.http.post(
            f"/enrolment/{path}",
            data={
                "no": "4",
                "why": "lost",
                "sure": "yes",
                "school": "s1",
                "uses": "1",
                "days": "1",
            },
        )
        assert answer.status_code == 403
    assert len(waiting(context)) == 6
    assert len(context.book.codes()) == 3


async def test_a_device_that_fits_is_approved_and_the_page_is_left_by_a_redirect(context):
    async with visiting(create_app(context), "county-operator") as person:
        page = (await person.get("/enrolment/decide?no=4&no=5")).text
        assert "Approve (2)" in page
        form = {"no": ["4", "5"], "asset-4": "A3", "loses-4": "", "loses-5": ""}
        answer = await person.post("/enrolment/approve", **form)
        assert answer.status_code == 303
        assert "Approved: 2." in (await person.get(answer.headers["location"])).text
        again = await person.post("/enrolment/approve", **form)
        assert again.status_code == 404, "nothing of these waits any more"
    assert context.book.waiting_no(4).verdict == "approved"
    assert context.book.waiting_no(4).device == "s2-pc-3"
    assert context.book.waiting_no(5).device == "s2-pc-1", "a renewal keeps its id"
    entries = context.audit.page(Asked(action="enrol_approved"), limit=9, skip=0)
    assert [(one.who, one.unit) for one in entries] == [("county-operator", "s2")] * 2


async def test_an_asset_in_use_is_given_away_only_when_that_was_shown_and_ticked(context):
    async with visiting(create_app(context), "school-operator") as person:
        page = (await person.get("/enrolment/decide?no=1")).text
        assert "s1-pc-1 is in use: its identity is thrown out, for ever." in page
        form = {"no": "1", "asset-1": "A1"}
        unseen = await person.post("/enrolment/approve", **form, sure="yes")
        assert (unseen.status_code, "not what was shown" in unseen.text) == (400, True)
        unsure = await person.post("/enrolment/approve", **form, **{"loses-1": "s1-pc-1"})
        assert (unsure.status_code, "Tick that" in unsure.text) == (400, True)
        assert waiting(context) >= {1}
        assert not context.book.is_barred("s1-pc-1")
        done = await person.post("/enrolment/approve", **form, **{"loses-1": "s1-pc-1"}, sure="yes")
        assert done.status_code == 303
    assert context.book.is_barred("s1-pc-1")
    fresh = context.book.asset("s1", "A1")
    assert fresh.device != "s1-pc-1"
    assert context.book.waiting_no(1).device == fresh.device


async def test_an_asset_claimed_between_look_and_act_is_left_alone(context, monkeypatch):
    async with visiting(create_app(context), "county-operator") as person:
        real = enrolment_views.plans
        looks = []

        def plans(book, *more):
            found = real(book, *more)
            looks.append(found)
            if len(looks) == 1:  # a device comes in with a code just after the look
                book.claim(book.asset("s2", "A3"), NOW_MS)
            return found

        monkeypatch.setattr(enrolment_views, "plans", plans)
        answer = await person.post("/enrolment/approve", no="4", **{"asset-4": "A3"})
        assert answer.headers["location"] == "/enrolment?done=approved&n=0&missed=1"
    assert not context.book.is_barred("s2-pc-3")
    assert waiting(context) >= {4}


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"asset-2": ""}, "Name the inventory number"),
        ({"asset-2": HOSTILE}, "This school has no inventory number"),
        ({"asset-2": "A5", "asset-3": "A5"}, "is named twice here"),
    ],
)
async def test_an_approval_that_cannot_be_is_told_by_row_and_nothing_is_approved(
    context, typed, says
):
    async with visiting(create_app(context), "school-operator") as person:
        answer = await person.post("/enrolment/approve", no=["2", "3"], **{"asset-3": "A6"} | typed)
        assert answer.status_code == 400
        assert says in answer.text
        assert "<img src=x" not in answer.text
    assert waiting(context) >= {2, 3}


async def test_an_asset_of_another_school_cannot_be_named(context):
    other = replace(context.book.asset("s2", "A5"), device="s2-b5", asset="B5")
    context.book.add_assets([other])
    async with visiting(create_app(context), "county-operator") as person:
        answer = await person.post("/enrolment/approve", no="2", **{"asset-2": "B5"})
        assert answer.status_code == 400
    assert waiting(context) >= {2}


async def test_a_code_is_shown_once_and_kept_nowhere(context, tmp_path):
    async with visiting(create_app(context), "school-operator") as person:
        form = {"school": "s1", "uses": "5", "days": "7", "contact": "Lin 123"}
        answer = await person.post("/enrolment/codes", **form)
        assert answer.headers["cache-control"] == "no-store"
        shown = re.search(r'id="new-code">([\w-]+)<', answer.text)[1]
        made = context.book.codes("s1")[0]
        assert (made.uses, made.made_by) == (5, "school-operator")
        assert made.fingerprint == codes.fingerprint(
            shown, codes.read_key(context.enrolment.code_key)
        )
        assert shown not in (await person.get("/enrolment/codes")).text
        for file in tmp_path.iterdir():
            raw = file.read_bytes() if file.is_file() else b""
            assert shown.encode() not in raw, file
            assert codes.normalise(shown).encode() not in raw, file
        sheet = await person.post(
            f"/enrolment/codes/{made.id}/sheet", code=shown, contact="Lin 123"
        )
        assert sheet.headers["content-disposition"].startswith("attachment")
        assert shown in sheet.text
        assert "Lin 123" in sheet.text
        kit = await person.post(f"/enrolment/codes/{made.id}/kit", code=shown)
        with zipfile.ZipFile(io.BytesIO(kit.content)) as archive:
            assert {"kit.json", "trust.json"} <= set(archive.namelist())
        for wrong in ("", "0000-0000-0000", HOSTILE):
            for what in ("sheet", "kit"):
                path = f"/enrolment/codes/{made.id}/{what}"
                assert (await person.post(path, code=wrong)).status_code == 404


@pytest.mark.parametrize(
    "form",
    [
        {"uses": "0"},
        {"uses": "5001"},
        {"days": "32"},
        {"uses": "-1"},
        {"days": "1e3"},
        {"contact": "x" * 65},
        {"contact": "a\x1bb"},
    ],
)
async def test_a_code_beyond_its_limits_is_not_made(context, form):
    async with visiting(create_app(context), "school-operator") as person:
        whole = {"school": "s1", "uses": "5", "days": "7"} | form
        assert (await person.post("/enrolment/codes", **whole)).status_code == 400
    assert len(context.book.codes("s1")) == 1


async def test_a_centre_that_enrols_nobody_says_so(context):
    async with visiting(create_app(replace(context, enrolment=None)), "school-operator") as person:
        assert "enrols nobody yet" in (await person.get("/enrolment/codes")).text
        answer = await person.post("/enrolment/codes", school="s1", uses="1", days="1")
        assert answer.status_code == 409


async def test_keys_out_of_order_are_told_without_a_path(context, tmp_path):
    away = replace(context.enrolment, code_key=tmp_path / "away.key")
    async with visiting(create_app(replace(context, enrolment=away)), "school-operator") as person:
        answer = await person.post("/enrolment/codes", school="s1", uses="1", days="1")
        assert answer.status_code == 500
        assert "away.key" not in answer.text
    no_kit = replace(context.enrolment, kit_key=tmp_path / "away.key")
    async with visiting(
        create_app(replace(context, enrolment=no_kit)), "school-operator"
    ) as person:
        answer = await person.post("/enrolment/codes", school="s1", uses="1", days="1")
        assert "No kit can be made" in answer.text
        assert 'id="get-kit"' not in answer.text


async def test_a_withdrawn_code_is_of_no_use(context):
    async with visiting(create_app(context), "school-operator") as person:
        answer = await person.post("/enrolment/codes/c0des1/withdraw")
        page = (await person.get(answer.headers["location"])).text
        assert "Code c0des1 is withdrawn" in page
        assert 'id="wd-c0des1"' not in page
    assert context.book.code_named("c0des1").withdrawn


async def test_a_list_with_mistakes_names_each_and_registers_nothing(context):
    text = HEADER + "s1,Z1,1 年级 1 班,ops,SN-Z1\ns1,Z2,9 班,xx,\ns1,,1 年级 1 班,ops,\n"
    async with visiting(create_app(context), "school-operator") as person:
        for lang in ("en", "zh"):
            person.http.cookies.set("lang", lang)
            token = await person.token("/enrolment/upload")
            answer = await upload(person, token, text)
            assert answer.status_code == 400
            table = answer.text.partition('id="h-wrong"')[2].partition("</table>")[0]
            found = re.findall(r'<td class="num"[^>]*>(\d+)</td>', table)
            assert found == ["3", "4"]
            assert ("fill it in" in table) is (lang == "en")
            assert ("请填写" in table) is (lang == "zh")
        token = await person.token("/enrolment/upload")
        answer = await upload(person, token, HEADER + "s1,Z1,9 班,ops,SN-Z1\n")
        assert "该校没有教室“9 班”" in answer.text
    assert context.book.asset("s1", "Z1") is None


async def test_a_list_names_no_school_that_is_not_the_visitors(context):
    async with visiting(create_app(context), "school-operator") as person:
        token = await person.token("/enrolment/upload")
        told = []
        for school in ("s2", "nowhere"):
            answer = await upload(person, token, f"{HEADER}{school},Z1,x,ops,SN-Z1\n")
            told.append(main_of(answer).replace(school, "?"))
        assert told[0] == told[1]
        answer = await upload(person, token, f"{HEADER}s1,Z1,1 年级 1 班,ops,SN-S2-0001\n")
        assert "is registered at another school too" in answer.text
        assert "s2" not in main_of(answer)


async def test_a_good_list_is_registered_once_by_who_checked_it(context):
    app = create_app(context)
    text = HEADER + "s1,Z1,1 年级 1 班,ops,SN-Z1\ns1,Z2,9 班,ops,SN-Z2\n"
    async with visiting(app, "school-operator") as person, visiting(app, "root") as other:
        token = await person.token("/enrolment/upload")
        answer = await upload(person, token, text, add_rooms="yes")
        assert "all 2 rows are right" in answer.text
        assert context.book.asset("s1", "Z1") is None, "checking writes nothing"
        ticket = re.search(r'name="ticket" value="([\w-]+)"', answer.text)[1]
        stolen = await other.post("/enrolment/upload/import", ticket=ticket)
        assert stolen.status_code == 409
        done = await person.post("/enrolment/upload/import", ticket=ticket)
        assert done.headers["location"] == "/enrolment?done=registered&n=2"
        again = await person.post("/enrolment/upload/import", ticket=ticket)
        assert again.status_code == 409
    asset = context.book.asset("s1", "Z1")
    assert asset.serial == "SN-Z1"
    assert context.registry.service_state(asset.device, NOW_MS) is ServiceState.STOCK


async def test_what_was_checked_is_held_against_the_register_again(context):
    app = create_app(context)
    async with visiting(app, "county-operator") as person:
        token = await person.token("/enrolment/upload")
        answer = await upload(person, token, f"{HEADER}s2,Z1,1 年级 1 班,ops,SN-Z1\n")
        ticket = re.search(r'name="ticket" value="([\w-]+)"', answer.text)[1]
        account = context.accounts.get("county-operator")
        for one in account.grants:
            context.accounts.revoke(account.name, one)
            context.accounts.grant(account.name, replace(one, unit="s1"))
        late = await person.post("/enrolment/upload/import", ticket=ticket)
        assert late.status_code == 409
    assert context.book.asset("s2", "Z1") is None


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "Choose a file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1old", "an old .xls"),
        (b"PK\x03\x04broken", "a damaged workbook"),
        (b"\x00\x01\x02\x03", "no text table"),
        (b"a,b\n1,2\n", "no column"),
    ],
)
async def test_what_is_no_list_is_told_in_one_line(context, raw, says):
    async with visiting(create_app(context), "school-operator") as person:
        answer = await person.http.post(
            "/enrolment/upload",
            data={"csrf": await person.token("/enrolment/upload")},
            files={"file": ("<b>x.csv", raw, "text/csv")},
        )
        assert answer.status_code == 400
        assert says in answer.text
        assert "<b>x.csv" not in answer.text


async def test_an_upload_beyond_two_megabytes_is_not_read(context):
    async with visiting(create_app(context), "school-operator") as person:
        token = await person.token("/enrolment/upload")
        answer = await upload(person, token, "x" * (2 << 20))
        assert answer.status_code == 413


@pytest.mark.parametrize(
    "form", [{}, {"why": "lost"}, {"sure": "yes"}, {"why": "clone", "sure": "yes"}]
)
async def test_a_device_is_not_thrown_out_without_reason_and_confirmation(context, form):
    async with visiting(create_app(context), "school-operator") as person:
        assert (await person.post("/enrolment/out/s1-pc-1", **form)).status_code == 400
    assert not context.book.is_barred("s1-pc-1")


async def test_a_device_is_thrown_out_for_ever(context):
    async with visiting(create_app(context), "school-operator") as person:
        page = (await person.get("/enrolment/out/s1-pc-1")).text
        assert "Throw out s1-pc-1?" in page
        assert "This is for ever." in page
        answer = await person.post("/enrolment/out/s1-pc-1", why="stolen", sure="yes")
        page = (await person.get(answer.headers["location"])).text
        assert "s1-pc-1 is thrown out, for ever." in page
        assert 'id="out-s1-pc-1"' not in page
    [gone] = context.book.revocations()
    assert (gone.device, gone.why, gone.by) == ("s1-pc-1", "stolen", "school-operator")
    assert all(one.revoked_ms for one in context.book.certificates_of("s1-pc-1"))


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize(
    "path",
    [
        "/enrolment?all=1",
        "/enrolment/school/s1",
        "/enrolment/school/s1?state=ending",
        "/enrolment/decide?no=1&no=2&no=3&no=4&no=5",
        "/enrolment/decide?no=3&what=refuse",
        "/enrolment/codes",
        "/enrolment/upload",
        "/enrolment/out/s1-pc-1",
    ],
)
async def test_a_page_holds_no_inline_script_or_style_and_no_strangers_markup(context, path, lang):
    async with visiting(create_app(context), "county-operator") as person:
        person.http.cookies.set("lang", lang)
        answer = await person.get(path)
        assert answer.status_code == 200
        assert re.findall(r"<script(?![^>]*\bsrc=)", answer.text) == []
        assert re.findall(r"<style|<[^>]*\s(?:style|on\w+)=", answer.text) == []
        assert "<img src=x" not in answer.text


async def test_the_mark_in_the_menu_counts_what_waits_for_this_visitor(context):
    app = create_app(context)
    async with visiting(app, "school-operator") as person:
        assert "(3 waiting)" in (await person.get("/enrolment/waiting")).text
    async with visiting(app, "other-operator") as person:
        assert "(1 waiting)" in (await person.get("/definitions")).text


async def test_a_copy_that_renews_goes_on_under_its_id_and_is_never_waved_through(context):
    asked = context.book.waiting_no(5)
    context.book.wait(replace(asked, no=0, key_id="copy", reason=Reason.SUPERSEDED))
    [no] = [one.no for one in context.book.waiting() if one.key_id == "copy"]
    tree = context.registry.tree()
    [plan] = enrolment_views.plans(context.book, tree, [context.book.waiting_no(no)], NOW_MS)
    assert (plan.asset.device, plan.loses, plan.fixed) == ("s2-pc-1", "", True)
    assert not plan.plain
    async with visiting(create_app(context), "county-operator") as person:
        page = (await person.get("/enrolment")).text
        assert 'value="superseded"' in page
        assert "s2-pc-1" in (await person.get(f"/enrolment/decide?no={no}")).text


async def test_long_lists_are_paged(context):
    asked = context.book.waiting_no(4)
    for no in range(150):
        context.book.wait(replace(asked, no=0, key_id=f"k{no}", code_id="", reason=Reason.ASKED))
    async with visiting(create_app(context), "county-operator") as person:
        first = (await person.get("/enrolment")).text
        assert first.count('id="pick-') - first.count('id="pick-all') == 100
        last = (await person.get("/enrolment?page=99")).text
        assert last.count('name="no"') == 55
        some = [f"no={no}" for no in sorted(waiting(context))]
        assert (await person.get(f"/enrolment/decide?{'&'.join(some)}")).status_code == 200


def messages(module):
    """Every text of four words or more in a module's code, with 7 for each value in it."""
    tree = ast.parse(inspect.getsource(module))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {
        id(one)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for one in ast.walk(node)
        if one is not node
    }
    for node in ast.walk(tree):
        if id(node) in docs | inner:
            continue
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(one.value) if isinstance(one, ast.Constant) else "7" for one in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        if len(text.split()) > 3:
            yield text.removeprefix("7: ")


def test_everything_a_list_is_told_has_chinese_words():
    for_the_machines_operator = ("cannot be read", "defusedxml", "and 7 more", "is unknown7")
    told = [
        text
        for module in (imports, spreadsheets, registering)
        for text in messages(module)
        if not any(one in text for one in for_the_machines_operator)
    ]
    assert len(told) > 20
    assert [one for one in told if in_words(one, "zh") in {one, UNKNOWN["zh"]}] == []
    assert "设备类型" in in_words("'x' is unknown; did you mean 'y'? accepted: y, z", "zh")
    assert "设备类型" in in_words("'x' is unknown; accepted: y, z", "zh")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_message_without_a_known_form_is_never_shown_as_it_is(lang):
    said = in_words("something new of school s9", lang, own=["s1"])
    assert "s9" not in said
    assert "ketang provision register --check" in said


@pytest.fixture(scope="module")
def chromium():
    from tests.parts import PARTS

    path = next(one for one in PARTS if one.name == "chromium").find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, context, free_port):
    with serving(context, free_port) as base:
        browser = chromium.new_context(locale="en-GB", accept_downloads=True)
        found = browser.new_page()
        found.complaints = []
        found.on("pageerror", lambda one: found.complaints.append(str(one)))
        found.on(
            "console",
            lambda one: one.type in {"error", "warning"} and found.complaints.append(one.text),
        )
        found.base = base
        found.goto(f"{base}/sign-in")
        found.locator("input[name=name]").fill("county-operator")
        found.locator("input[name=password]").fill(PASSWORD)
        found.keyboard.press("Enter")
        expect(found.locator("#nav-enrolment")).to_be_visible()
        yield found
        assert found.evaluate("window.owned") is None
        assert found.complaints == []
        browser.close()


def tab_to(page, name):
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"Tab never reaches {name}")


@pytest.mark.chromium
def test_by_keyboard_a_request_is_approved(page, context):
    page.goto(f"{page.base}/enrolment")
    expect(page.locator("#w-3")).to_contain_text(HOSTILE)
    tab_to(page, "pick-4")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Approve (1)")
    tab_to(page, "do")
    page.keyboard.press("Enter")
    expect(page.locator(".notice.done")).to_contain_text("Approved: 1.")
    assert context.book.waiting_no(4).verdict == "approved"
    expect(page.locator("#waiting b")).to_have_text("4")


@pytest.mark.chromium
def test_by_keyboard_a_code_is_made_and_its_sheet_and_kit_come(page, context):
    page.goto(f"{page.base}/enrolment/codes?school=s2")
    tab_to(page, "make")
    page.keyboard.press("Enter")
    shown = page.locator("#new-code").text_content()
    for what, suffix in (("get-sheet", ".html"), ("get-kit", ".zip")):
        tab_to(page, what)
        with page.expect_download() as coming:
            page.keyboard.press("Enter")
        assert coming.value.suggested_filename.endswith(suffix)
    expect(page.locator("#new-code")).to_have_text(shown)
    assert context.book.codes("s2")[0].made_by == "county-operator"


@pytest.mark.chromium
def test_by_keyboard_a_device_is_thrown_out(page, context):
    page.goto(f"{page.base}/enrolment/school/s2")
    tab_to(page, "out-s2-pc-4")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("s2-pc-4")
    tab_to(page, "why-lost")
    page.keyboard.press("Space")
    tab_to(page, "sure")
    page.keyboard.press("Space")
    tab_to(page, "do")
    page.keyboard.press("Enter")
    expect(page.locator(".notice.done")).to_contain_text("s2-pc-4 is thrown out")
    assert context.book.is_barred("s2-pc-4")
