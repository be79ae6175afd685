"""Every route, without a browser: headers, roles, and what is told to whom."""

import re
from dataclasses import replace

import httpx
import pytest

from ketang_center.registry.calendars import day_starts_ms
from ketang_center.registry.values import Calendar, Placement
from ketang_center.web import live
from ketang_center.web.app import create_app
from ketang_center.web.live import MOST_OF_ONE, Hub
from tests.web.fakes import FakeReading
from tests.web.seed import OWN, TODAY, YESTERDAY, seeded

SCHOOL, COUNTY, REGION = "s1", "lan-xian", "lan"


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    with seeded(tmp_path_factory.mktemp("centre")) as (found, *_):
        yield found


@pytest.fixture
def own_context(tmp_path):
    with seeded(tmp_path) as (found, *_):
        yield found


def client(context, unit=SCHOOL, lang="en"):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(context)),
        base_url="http://127.0.0.1",
        cookies={"unit": unit, "lang": lang},
    )


async def get(context, path, unit=SCHOOL, lang="en"):
    async with client(context, unit, lang) as http:
        return await http.get(path)


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("path", ["/", "/devices", "/definitions", "/nowhere", "/static/mark.svg"])
async def test_every_answer_forbids_foreign_and_inline_content(context, path):
    answer = await get(context, path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/devices", f"/device/{OWN}", "/definitions"])
@pytest.mark.parametrize("lang", ["zh", "en"])
async def test_a_page_holds_no_inline_script_or_style_and_no_foreign_address(context, path, lang):
    text = (await get(context, path, lang=lang)).text
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", text) == []
    assert re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", text) == []
    assert ("演示数据" if lang == "zh" else "Demo data") in text


@pytest.mark.parametrize("unit", [COUNTY, REGION])
async def test_above_the_school_no_page_shows_a_devices_use(context, unit):
    answer = await get(context, "/device/s1-ifp-1", unit)
    assert answer.status_code == 403
    page = (await get(context, "/devices", unit)).text
    assert "the school&#39;s own" in page
    assert not re.search(r"sw-(active|presenting|idle|day-)", page)


async def test_another_schools_unit_and_device_do_not_exist(context):
    for path in ("/?unit=s2", "/?unit=lan", "/devices?unit=s2", "/device/s2-ifp-1", "/device/x"):
        assert (await get(context, path)).status_code == 404


async def test_in_the_demo_the_role_is_switched_by_a_form(context):
    async with client(context) as http:
        token = re.search(r'name="csrf" value="(\w+)"', (await http.get("/")).text)[1]
        answer = await http.post("/role", data={"unit": COUNTY, "csrf": token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert f"unit={COUNTY}" in answer.headers["set-cookie"]
        there = await http.post("/role", data={"unit": "nowhere", "csrf": token})
        assert there.status_code == 404
        assert (await http.post("/role", data={"unit": COUNTY})).status_code == 403
        assert (await http.get(f"/role?unit={COUNTY}")).status_code == 405


async def test_what_was_typed_is_escaped_and_a_strange_day_is_today(context):
    page = (await get(context, "/devices?q=<script>alert(1)</script>")).text
    assert "<script>alert" not in page
    assert f'value="{TODAY}"' in (await get(context, "/?day=2999-99-99")).text
    assert f'value="{TODAY}"' in (await get(context, "/?day=2999-01-01")).text


async def test_filters_stay_in_the_address(context):
    page = (await get(context, "/devices?q=panel&connection=connected")).text
    assert 'value="panel"' in page
    assert 'hx-get="/devices?q=panel&amp;connection=connected"' in page
    assert 'href="/devices?q=panel&amp;connection=connected&amp;lang=zh"' in page


async def test_the_language_asked_for_is_kept(context):
    answer = await get(context, "/?lang=en", lang="zh")
    assert 'lang="en"' in answer.text
    assert "lang=en" in answer.headers["set-cookie"]


class Listening:
    """In place of the hub: keeps the question whether a page hears a change."""

    @staticmethod
    def full(_):
        return False

    async def follow(self, hears, *, again, whose):
        self.hears = hears
        yield b""


@pytest.mark.parametrize("device", ["t-1", "s2-ifp-1"])
async def test_a_page_never_hears_of_a_device_it_may_not_follow(context, device):
    app = create_app(context)
    app.state.hub = hub = Listening()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        await http.get(f"/live?device={device}", headers={"cookie": f"unit={SCHOOL}"})
    assert not hub.hears(frozenset({device, "s1-ifp-1"})), "another device's news gave it away"


async def test_the_fleet_is_read_once_for_all_pages_and_not_at_every_rollup(
    own_context, monkeypatch
):
    context = own_context
    app, asked, clock = create_app(context), [], [context.clock()]
    read = live.followed
    monkeypatch.setattr(live, "followed", lambda *both: asked.append(1) or read(*both))
    app.state.followed._context = replace(context, clock=lambda: clock[0])
    app.state.hub = Listening()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        for _ in range(20):
            await http.get("/live", headers={"cookie": f"unit={SCHOOL}"})
            assert app.state.hub.hears(None)
    assert len(asked) == 1
    await app.state.followed.renew()
    assert len(asked) == 1
    moved = Placement(device="s1-ifp-1", room="s2-r1", from_ms=clock[0] - 1)
    context.registry.place(moved)
    await app.state.followed.renew()
    assert len(asked) == 2
    assert not app.state.hub.hears(frozenset({"s1-ifp-1"})), "it stands elsewhere by now"
    clock[0] += 60_000
    await app.state.followed.renew()
    assert len(asked) == 3, "a stay may begin by its date alone"


async def test_a_session_has_so_many_streams_and_no_more():
    hub = Hub(FakeReading(), lambda: 0)
    streams = [hub.follow(lambda _: True, again=True, whose=7) for _ in range(MOST_OF_ONE + 1)]
    for one in streams[:-1]:
        await anext(one)
    assert hub.full(7)
    assert not hub.full(8)
    with pytest.raises(StopAsyncIteration):
        await anext(streams[-1])
    await streams[0].aclose()
    assert not hub.full(7)
    for one in streams:
        await one.aclose()


async def test_events_are_numbered_page_by_page():
    hub = Hub(FakeReading(), lambda: 0)
    hub.no = 4711
    stream = hub.follow(lambda _: True, again=True)
    told = [await anext(stream), await anext(stream)]
    await stream.aclose()
    assert told[1] == b"id: 1\nevent: change\ndata: 1\n\n"


async def test_a_day_before_all_days_is_a_day_without_data(context):
    for day in ("0001-01-01", "9999-12-31"):
        assert (await get(context, f"/?day={day}")).status_code == 200


async def test_a_day_without_lessons_has_no_rate_and_no_zero(tmp_path):
    with seeded(tmp_path) as (context, _, rollup):
        context.registry.set_calendar(Calendar(school="s2"))
        rollup.step()
        county = (await get(context, "/", COUNTY)).text
        assert "no lessons, not counted" in county
        assert "in no figure of use: 8." in county
        school = (await get(context, "/", "s2")).text
        assert "Use rate" not in school.partition("<table")[0]
        assert "it does not count" in school
        assert "0%" not in school


async def test_a_former_devices_day_is_shown_without_its_state_of_now(tmp_path):
    with seeded(tmp_path) as (context, _, rollup):
        moved = Placement(device="s1-ifp-1", room="s2-r1", from_ms=day_starts_ms(TODAY))
        context.registry.place(moved)
        rollup.step()
        page = (await get(context, f"/device/s1-ifp-1?day={YESTERDAY}")).text
        assert page.count("the school&#39;s own") == 3, "connection, use and records"
