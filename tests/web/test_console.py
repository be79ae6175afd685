"""The console in a real browser."""

from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from playwright.sync_api import expect, sync_playwright

from ketang_center.registry.calendars import day_starts_ms
from ketang_contract.records import Occupancy, Usage, View
from tests.web.fakes import row
from tests.web.seed import NOW_MS, OWN, TODAY, seeded
from tests.web.serving import serving

pytestmark = pytest.mark.chromium
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATHS = ("/", "/devices", "/device/s1-ifp-1", f"/device/{OWN}", "/definitions", "/nowhere")


DRAWN = """(canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const columns = new Set();
  for (let at = 0; at < width * height; at += 1) {
    const [red, green, blue] = data.slice(4 * at, 4 * at + 3);
    if (red < 40 && Math.abs(green - 90) < 30 && Math.abs(blue - 120) < 30) columns.add(at % width);
  }
  return [[...columns].sort((one, other) => one - other), width];
}"""
"""Columns of the picture that hold ink of the median's line."""


@pytest.fixture(scope="module")
def chromium():
    from tests.parts import PARTS

    path = next(one for one in PARTS if one.name == "chromium").find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def world(tmp_path, free_port):
    with seeded(tmp_path) as (context, reading, rollup), serving(context, free_port) as base:
        yield base, reading, rollup


@contextmanager
def page_of(chromium, base, lang="zh", width=1280, unit="s1"):
    """Give a page and the lists of foreign requests and console complaints it caused."""
    context = chromium.new_context(viewport={"width": width, "height": 900})
    context.add_cookies(
        [{"name": "lang", "value": lang, "url": base}, {"name": "unit", "value": unit, "url": base}]
    )
    page = context.new_page()
    foreign, complaints = [], []
    page.on("request", lambda one: one.url.startswith(base) or foreign.append(one.url))
    page.on("pageerror", lambda one: complaints.append(str(one)))
    page.on(
        "console",
        lambda one: (
            one.type in {"error", "warning"}
            and "404" not in one.text
            and complaints.append(one.text)
        ),
    )
    try:
        yield page, foreign, complaints
    finally:
        context.close()


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_ask_nobody_else_break_no_rule_and_fit_their_width(chromium, world, lang, width):
    base, *_ = world
    with page_of(chromium, base, lang, width) as (page, foreign, complaints):
        for path in PATHS:
            page.goto(base + path)
            page.wait_for_function("window.htmx !== undefined")
            assert page.locator("html").get_attribute("lang") == ("zh-CN" if lang == "zh" else "en")
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert foreign == []
        assert complaints == []


def test_a_connection_change_arrives_without_reload(chromium, world):
    base, reading, _ = world
    with page_of(chromium, base) as (page, *_):
        page.goto(base + "/devices")
        expect(page.locator("#pulse")).to_have_text("实时更新")
        page.evaluate("window.stayed = true")
        reading.set_presence(replace(reading.present["s1-ifp-1"], connected=False, since_ms=NOW_MS))
        expect(page.locator("#r-s1-ifp-1")).to_contain_text("异常断开")
        assert page.evaluate("window.stayed")


def test_counters_and_this_machines_first_band_arrive_without_reload(chromium, world):
    base, reading, rollup = world
    with page_of(chromium, base, "en") as (page, *_):
        page.goto(base + "/")
        expect(page.locator(".own")).to_contain_text("first window closes 14:40")
        expect(page.locator("#n-used")).to_contain_text("9")
        start_ms = day_starts_ms(TODAY) + 10 * 3_600_000
        reading.add(
            OWN,
            *[
                row(OWN, start_ms + no * 300_000, Usage(window_s=300, active_s=300))
                for no in range(3)
            ],
        )
        rollup.step()
        expect(page.locator("#n-used")).to_contain_text("10")
        expect(page.locator(".own .band .b-active")).to_have_count(1)


def test_a_fault_in_another_school_does_not_reach_this_page(chromium, world):
    base, reading, _ = world
    with page_of(chromium, base) as (page, *_):
        page.goto(base + "/devices")
        expect(page.locator("#pulse")).to_have_class("pulse on")
        asked = []
        page.on("request", lambda one: asked.append(one.url))
        reading.set_presence(replace(reading.present["s2-ifp-1"], connected=False))
        page.wait_for_timeout(2500)
        assert asked == []


def test_the_focus_stays_where_it_was_when_rows_are_renewed(chromium, world):
    base, reading, _ = world
    with page_of(chromium, base) as (page, *_):
        page.goto(base + "/devices")
        expect(page.locator("#pulse")).to_have_class("pulse on")
        page.locator("#d-s1-ifp-3").focus()
        reading.set_presence(replace(reading.present["s1-ifp-1"], connected=False))
        expect(page.locator("#r-s1-ifp-1")).to_contain_text("异常断开")
        assert page.evaluate("document.activeElement.id") == "d-s1-ifp-3"


@pytest.mark.parametrize("path", ["/", "/devices", "/device/s1-ifp-1", "/definitions"])
def test_the_keyboard_reaches_every_link_and_field_and_the_focus_is_seen(chromium, world, path):
    base, *_ = world
    with page_of(chromium, base) as (page, *_):
        page.goto(base + path)
        page.wait_for_function("window.htmx !== undefined")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        # A date field takes three stops of its own.
        wanted = page.evaluate(
            "() => { document.querySelectorAll('details').forEach(one => { one.open = true });"
            " window.left = new Set(document.querySelectorAll("
            "'a[href], button, input:not([type=hidden]), select, summary, [tabindex=\"0\"]'));"
            " return left.size }"
        )
        for _ in range(wanted + 10):
            page.evaluate("left.delete(document.activeElement)")
            unseen = page.evaluate(
                "() => { const one = document.activeElement;"
                " return one === document.body || getComputedStyle(one).outlineStyle !== 'none'"
                " ? '' : one.outerHTML }"
            )
            assert unseen == ""
            page.keyboard.press("Tab")
        left = page.evaluate("[...left].filter(one => one.offsetParent).map(one => one.outerHTML)")
        assert left == []


def test_skipping_lands_in_the_content(chromium, world):
    base, *_ = world
    with page_of(chromium, base) as (page, *_):
        page.goto(base + "/")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_a_number_opens_its_list_and_the_mark_beside_it_its_definition(chromium, world):
    base, *_ = world
    with page_of(chromium, base) as (page, *_):
        page.goto(base + "/")
        page.locator("#n-off").click()
        expect(page.locator("table.list tbody tr")).to_have_count(1)
        expect(page.locator("#r-s1-ifp-2")).to_contain_text("关机")
        page.goto(base + "/")
        page.locator(".t-lost .def").click()
        expect(page.locator("#lost")).to_be_in_viewport()
        assert page.url.endswith("/definitions#lost")


def test_the_curve_draws_few_as_a_zone_and_the_table_never_says_less(chromium, world):
    base, reading, rollup = world
    at_ms = day_starts_ms(TODAY) + 3_600_000
    reading.add(
        OWN,
        row(OWN, at_ms, Usage(window_s=300, unknown_s=300)),
        row(OWN, at_ms, Occupancy(window_s=300, view=View.OK, scans=5, median="few", p90=7)),
        row(OWN, at_ms + 300_000, Occupancy(window_s=300, view=View.DARK)),
    )
    rollup.step()
    with page_of(chromium, base, "en") as (page, _, complaints):
        page.goto(f"{base}/device/{OWN}")
        expect(page.locator(".curve canvas")).to_be_visible()
        page.locator("#windows-open").click()
        rows = page.locator("#windows tbody tr")
        expect(rows.nth(0)).to_contain_text("<5")
        expect(rows.nth(1)).to_contain_text("unknown")
        expect(page.locator("#live")).to_contain_text("Use unknown")
        assert complaints == []


def test_a_window_alone_among_gaps_is_drawn_over_its_five_minutes(chromium, world):
    """Where people are counted in one window an hour, every window stands alone."""
    base, reading, rollup = world
    at_ms = day_starts_ms(TODAY) + 5 * 3_600_000
    alone = Occupancy(window_s=300, view=View.OK, scans=30, median=9, p90=9)
    reading.add(OWN, row(OWN, at_ms, alone))
    rollup.step()
    with page_of(chromium, base, "en") as (page, *_):
        page.goto(f"{base}/device/{OWN}")
        canvas = page.locator(".curve canvas")
        expect(canvas).to_be_visible()
        columns, width_px = canvas.evaluate(DRAWN)
        cell_px = width_px / 288
        assert cell_px / 2 < len(columns) < 2 * cell_px
        assert columns[-1] - columns[0] == len(columns) - 1


def test_the_server_ends_while_pages_follow_it_and_the_page_says_so(chromium, tmp_path, free_port):
    with seeded(tmp_path) as seed, ExitStack() as running:
        base = running.enter_context(serving(seed[0], free_port))
        with page_of(chromium, base) as (page, *_rest):
            page.goto(base + "/")
            expect(page.locator("#pulse")).to_have_class("pulse on")
            running.close()
            expect(page.locator("#pulse")).to_have_class("pulse off")


def test_the_demos_role_switch_changes_what_may_be_seen(chromium, world):
    base, *_ = world
    with page_of(chromium, base, "en") as (page, *_):
        page.goto(base + "/")
        page.locator("#unit-role").select_option("lan")
        page.get_by_role("button", name="Switch").click()
        expect(page.locator("h1")).to_contain_text("Lanchuan")
        expect(page.locator(".own")).to_have_count(0)
        assert page.goto(base + "/device/s1-ifp-1").status == 403
