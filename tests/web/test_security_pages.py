"""The security situation and the clones: what is said, to whom, and what a decision does."""

import inspect
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.sync_api import expect, sync_playwright

from ketang_center import clones, security_views
from ketang_center.access.scope import Scope
from ketang_center.enrolment.service import RevocationList, load_authorities
from ketang_center.enrolment.values import Reason
from ketang_center.ingest import worker
from ketang_center.registry.values import Device, Kind, Level
from ketang_center.store.reading import StoreReader
from ketang_center.store.sightings import Future
from ketang_center.web.app import create_app
from ketang_center.web.text import LANGUAGES, words
from ketang_contract import ack, batch, topics, validate
from ketang_provisioning.broker_log import What
from tests.web.browsing import visiting
from tests.web.cloned import make_case
from tests.web.enrolled import PEOPLE_OF_ENROLMENT, enrolment, fill_book
from tests.web.seed import NOW_MS, PASSWORD, populate, seeded
from tests.web.serving import serving
from tests.web.test_console import FLAGS

pytestmark = pytest.mark.anyio
HOSTILE = "<img src=x onerror=window.owned=1>"
CONSOLE = ("login_failed", "login_locked", "csrf", "oversized", "forbidden", "clone")
DAY_MS = 86_400_000


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def world(tmp_path):
    with seeded(tmp_path, demo=False, home=Scope(Level.REGION, "lan")) as (found, reading, _):
        populate(found.accounts)
        populate(found.accounts, [(name, [(role, at)]) for name, role, at in PEOPLE_OF_ENROLMENT])
        yield replace(found, enrolment=enrolment()), reading


@pytest.fixture
def context(world):
    return world[0]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_refusal_there_is_has_a_word(lang):
    known = words(lang).by_key
    refused = {
        reason
        for module in (batch, topics, validate, ack, worker)
        for reason in re.findall(r'Refused\(\s*"(\w+)"', inspect.getsource(module))
    }
    assert len(refused) > 12
    whats = [
        *(f"enrol_{one.value}" for one in Reason),
        *(f"ingest_{one}" for one in sorted(refused)),
        "ingest_revoked",
        "evicted",
        "not_evicted",
        "enrol_connections",
        *(one.value for one in What),
        *(f"broker_{one.value}" for one in What),
        *CONSOLE,
    ]
    assert [one for one in whats if f"refusal.{security_views.kind_of(one)}" not in known] == []


async def test_a_calm_day_says_so(context):
    async with visiting(create_app(context), "root") as person:
        page = (await person.get("/security")).text
        assert "Nothing unusual in the last 24 hours." in page
        assert "Nobody was thrown out yet." in page


async def test_what_stands_out_is_said_first(world):
    context, reading = world
    fill_book(context.book)
    reading.cloned.add("s1-ifp-1")
    for what in ("login_locked", "enrol_locked", "ingest_revoked", "broker_takeover_tried"):
        context.security.note(NOW_MS - 1000, what, "x", "192.0.2.9")
    context.security.note(NOW_MS - 2 * DAY_MS, "revoked_certificate", "old")
    async with visiting(create_app(context), "root") as person:
        page = (await person.get("/security")).text
        for point, count in (
            ("locks", 2),
            ("still_trying", 1),
            ("break_ins", 1),
            ("clones", 1),
            ("waiting", 6),
            ("ended", 2),
            ("ending", 2),
        ):
            line = page.partition(f'id="point-{point}"')[2].partition("</li>")[0]
            assert f": {count}" in line, (point, line)
        assert "Nothing unusual" not in page
        assert "192.0.2.9" in page


async def test_who_looks_after_a_part_sees_only_names_of_that_part(context):
    fill_book(context.book)
    for what, who, source in (
        ("ingest_bad_record", "s1-pc-1", "192.0.2.1"),
        ("broker_takeover_tried", "s1-ifp-1", "192.0.2.2"),
        ("ingest_bad_record", "s3-pc-1", "192.0.2.3"),
        ("enrol_bad_request", "s1-pc-1", "192.0.2.4"),
        ("enrol_code_expired", "c0des1", "192.0.2.11"),
        ("enrol_code_expired", "c0des3", "192.0.2.13"),
        ("forbidden", "school", "192.0.2.21"),
        ("login_failed", "other-county", "192.0.2.22"),
        ("csrf", "two", "192.0.2.23"),
        ("oversized", "nothing", "192.0.2.24"),
        ("forbidden", "", "192.0.2.31"),
        ("broker_unknown_name", "nobody-knows", "192.0.2.32"),
    ):
        context.security.note(NOW_MS, what, who, source)
    context.book.revoke("s1-pc-1", at_ms=NOW_MS, why="lost", by="x")
    context.book.revoke("s3-pc-1", at_ms=NOW_MS, why="lost", by="x")
    app = create_app(context)
    async with visiting(app, "county-admin") as person:
        page = (await person.get("/security")).text
        assert set(re.findall(r"192\.0\.2\.\d+", page)) == {
            f"192.0.2.{no}" for no in (1, 2, 4, 11, 21)
        }
        assert "s3-pc-1" not in page
        assert "part of the tree" in page
    async with visiting(app, "root") as person:
        page = (await person.get("/security")).text
        assert len(set(re.findall(r"192\.0\.2\.\d+", page))) == 12
        assert "s3-pc-1" in page


async def test_an_account_called_like_anothers_device_neither_blinds_nor_shows(context):
    fill_book(context.book)
    mine, others = context.accounts.get("school").grants[0], "s3-pc-1"
    for name, unit in ((others, mine.unit), ("s1-pc-1", "s3"), ("c0des1", "s3")):
        context.accounts.add(name, "x", "", must_change=False, at_ms=NOW_MS)
        context.accounts.grant(name, replace(mine, unit=unit))
    for what, name, source in (
        ("ingest_revoked", others, "192.0.2.3"),
        ("forbidden", others, "192.0.2.4"),
        ("ingest_revoked", "s1-pc-1", "192.0.2.1"),
        ("enrol_code_expired", "c0des1", "192.0.2.11"),
        ("login_failed", "s1-pc-1", "192.0.2.5"),
    ):
        context.security.note(NOW_MS, what, name, source)
    context.book.revoke("s1-pc-1", at_ms=NOW_MS, why="stolen", by="x")
    context.book.revoke(others, at_ms=NOW_MS, why="stolen", by="x")
    async with visiting(create_app(context), "county-admin") as person:
        page = (await person.get("/security")).text
        assert set(re.findall(r"192\.0\.2\.\d+", page)) == {
            "192.0.2.1",
            "192.0.2.4",
            "192.0.2.11",
        }
        out = page.partition('id="h-out"')[2].partition("</table>")[0]
        assert re.findall(r"s\d-pc-\d", out) == ["s1-pc-1"]


async def test_who_may_not_see_it_finds_no_page(context):
    for name in ("county", "school"):
        async with visiting(create_app(context), name) as person:
            assert (await person.get("/security")).status_code == 404
            assert (await person.get("/clones")).status_code == 404
            assert 'id="nav-security"' not in (await person.get("/")).text


async def test_a_strangers_text_is_shown_as_text(context):
    context.security.note(NOW_MS, "takeover_tried", HOSTILE, HOSTILE, HOSTILE)
    context.security.note(NOW_MS, f"odd_{HOSTILE}", "", "")
    async with visiting(create_app(context), "root") as person:
        page = (await person.get("/security")).text
        assert "<img src=x" not in page
        assert page.count("&lt;img src=x") >= 4


async def test_a_flood_from_one_source_is_one_line(context):
    for minute in range(300):
        context.security.note(NOW_MS - minute * 60_000, "login_failed", "?", "192.0.2.9")
    async with visiting(create_app(context), "root") as person:
        page = (await person.get("/security")).text
        lines = page.partition('id="h-lines"')[2]
        assert lines.count("192.0.2.9") == 1
        assert ">300<" in lines


async def test_each_revocation_says_how_far_it_is_enforced(context, tmp_path):
    fill_book(context.book)
    authorities = load_authorities(context.enrolment)
    keeper = RevocationList(context.book, authorities, (tmp_path / "clients.crl",))
    for device in ("s1-pc-1", "s1-pc-4"):
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        now = datetime.fromtimestamp(NOW_MS / 1000, UTC)
        made = authorities[0].issue_client(device, key, now=now, lasts=timedelta(days=90))
        known = context.book.certificates_of(device)[0]
        context.book.rows.run("DELETE FROM certificate WHERE device = ?", device)
        context.book.add_certificate(
            replace(
                known,
                serial=f"{made.serial_number:x}",
                pem=made.public_bytes(serialization.Encoding.PEM).decode(),
            )
        )
    context.book.revoke("s1-pc-1", at_ms=NOW_MS - 1000, why="stolen", by="x")
    assert keeper.keep(NOW_MS)
    for device in ("s1-pc-4", "s1-pc-8"):
        context.book.revoke(device, at_ms=NOW_MS - 1000, why="stolen", by="x")
    context.security.note(NOW_MS, "ingest_revoked", "s1-pc-4", "")
    log = security_views.read_log(context, NOW_MS)
    found = security_views.situation(context, context.accounts.get("root").actor, log)
    assert {one.revocation.device: (one.enforced.value, one.tries) for one in found.thrown_out} == {
        "s1-pc-1": ("listed", 0),
        "s1-pc-4": ("pending", 1),
        "s1-pc-8": ("nothing", 0),
    }


async def test_another_countys_clone_does_not_exist(context, tmp_path):
    make_case(tmp_path)
    async with visiting(create_app(context), "other-operator") as person:
        assert "s1-ifp-1" not in (await person.get("/clones")).text
        for path in ("/clones/s1-ifp-1", "/clones/nothing"):
            assert (await person.get(path)).status_code == 404
            answer = await person.post(path, admit="boot-a", then="same", sure="yes")
            assert answer.status_code == 404
    with StoreReader(tmp_path) as reading:
        assert len(clones.cases(reading, only_open=True)) == 1


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"admit": "boot-a", "then": "same"}, 400),
        ({"admit": "boot-a", "then": "", "sure": "yes"}, 400),
        ({"admit": "boot-z", "then": "same", "sure": "yes"}, 409),
        ({"admit": HOSTILE, "then": "revoke", "sure": "yes"}, 409),
    ],
)
async def test_a_case_is_not_decided_by_half_a_form(context, tmp_path, form, status):
    make_case(tmp_path)
    async with visiting(create_app(context), "school-operator") as person:
        answer = await person.post("/clones/s1-ifp-1", **form)
        assert answer.status_code == status
        assert "<img src=x" not in answer.text
    assert not context.book.is_barred("s1-ifp-1")
    with StoreReader(tmp_path) as reading:
        assert len(clones.cases(reading, only_open=True)) == 1


@pytest.mark.parametrize("future", list(Future))
async def test_a_case_is_decided_and_the_id_goes_on_or_ends(context, tmp_path, future):
    make_case(tmp_path)
    async with visiting(create_app(context), "school-operator") as person:
        page = (await person.get("/clones/s1-ifp-1")).text
        assert "Acme One" in page
        assert "Acme Two" in page
        sure = (await person.get(f"/clones/s1-ifp-1?admit=boot-a&then={future.value}")).text
        assert "Boots that never count: 1." in sure
        answer = await person.post(
            "/clones/s1-ifp-1", admit="boot-a", then=future.value, sure="yes"
        )
        assert answer.status_code == 303
        page = (await person.get(answer.headers["location"])).text
        assert "No device is two machines." in page
        assert "school-operator" in page
        again = await person.post("/clones/s1-ifp-1", admit="boot-b", then=future.value, sure="yes")
        assert again.status_code in {303, 409}
    assert context.book.is_barred("s1-ifp-1") is (future is Future.REVOKE)
    with StoreReader(tmp_path) as reading:
        [case] = clones.cases(reading)
        assert (case.verdict, case.by) == (future, "school-operator")
        assert {one.boot_id: one.counts for one in case.boots} == {"boot-a": True, "boot-b": False}


async def test_of_a_personal_device_no_hour_is_shown(context, tmp_path):
    make_case(tmp_path)
    context.registry.add_device(Device(id="s1-ifp-1", kind=Kind.STUDENT_TABLET, name="平板"))
    async with visiting(create_app(context), "school-operator") as person:
        for path in ("/clones", "/clones/s1-ifp-1"):
            page = (await person.get(path)).text.partition("<main")[2]
            assert "2026-03-11" in page
            assert not re.search(r"\d\d:\d\d", page)


@pytest.mark.parametrize("lang", LANGUAGES)
async def test_a_page_holds_no_inline_script_or_style(context, tmp_path, lang):
    make_case(tmp_path)
    fill_book(context.book)
    async with visiting(create_app(context), "root") as person:
        person.http.cookies.set("lang", lang)
        for path in ("/security", "/clones", "/clones/s1-ifp-1?admit=boot-a&then=revoke"):
            text = (await person.get(path)).text
            assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
            assert re.findall(r"<style|<[^>]*\s(?:style|on\w+)=", text) == []


@pytest.fixture(scope="module")
def chromium():
    from tests.parts import PARTS

    path = next(one for one in PARTS if one.name == "chromium").find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.chromium
@pytest.mark.parametrize("lang", LANGUAGES)
def test_in_a_browser_strangers_texts_do_nothing_and_pages_fit(
    chromium, context, tmp_path, free_port, lang
):
    fill_book(context.book)
    make_case(tmp_path)
    context.security.note(NOW_MS, "takeover_tried", HOSTILE, HOSTILE, "x" * 200)
    with serving(context, free_port) as base:
        browser = chromium.new_context(locale="zh-CN" if lang == "zh" else "en-GB")
        page, complaints = browser.new_page(), []
        page.on("pageerror", lambda one: complaints.append(str(one)))
        page.on(
            "console",
            lambda one: one.type in {"error", "warning"} and complaints.append(one.text),
        )
        page.goto(f"{base}/sign-in")
        page.locator("input[name=name]").fill("root")
        page.locator("input[name=password]").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.locator("#nav-security")).to_be_visible()
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 800})
            for path in (
                "/enrolment?all=1",
                "/enrolment/school/s1",
                "/enrolment/decide?no=1&no=2&no=3&no=4",
                "/enrolment/codes",
                "/enrolment/upload",
                "/enrolment/out/s1-pc-1",
                "/security",
                "/clones",
                "/clones/s1-ifp-1",
            ):
                assert page.goto(base + path).status == 200, path
                page.wait_for_function("window.htmx !== undefined")
                over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert over <= 0, (path, width)
        assert page.evaluate("window.owned") is None
        assert complaints == []
        browser.close()
