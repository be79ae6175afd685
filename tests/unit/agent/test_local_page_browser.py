"""The page on the device in a real browser, by keyboard, in both languages."""

import pytest
from playwright.sync_api import sync_playwright
from tests import parts
from tests.unit.agent.test_local_page import STATUS

from ketang_agent.inference.switch import KillSwitch
from ketang_agent.local_page.server import LocalPage
from ketang_agent.spool.store import Spool

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        path = parts.find("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def local(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        switch = KillSwitch(tmp_path / "counting.switch")
        local = LocalPage(0, tmp_path / "local-page", spool.path, switch)
        local.show(STATUS)
        local.start()
        yield local, switch
        local.stop()


def visit(chromium, url, width=1100, locale="zh-CN"):
    context = chromium.new_context(viewport={"width": width, "height": 900}, locale=locale)
    page = context.new_page()
    foreign, complaints = [], []
    page.on("request", lambda one: one.url.startswith((url, "data:")) or foreign.append(one.url))
    page.on("pageerror", lambda one: complaints.append(str(one)))
    page.on("console", lambda one: complaints.append(one.text))
    page.goto(url)
    return page, foreign, complaints


@pytest.mark.parametrize(("locale", "lang"), [("zh-CN", "zh-CN"), ("en-GB", "en"), ("fr", "zh-CN")])
@pytest.mark.parametrize("width", [1100, 360])
def test_it_speaks_the_browsers_language_asks_nobody_else_and_fits(
    chromium, local, locale, lang, width
):
    page, foreign, complaints = visit(chromium, local[0].url, width, locale)
    assert page.locator("html").get_attribute("lang") == lang
    for one in page.locator("summary").all():
        one.press("Enter")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate("getComputedStyle(document.body).maxWidth") != "none", "styled"
    assert (foreign, complaints) == ([], [])


def test_counting_is_stopped_with_the_keyboard_alone(chromium, local):
    shown, switch = local
    page, _, complaints = visit(chromium, shown.url, locale="en-GB")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "BUTTON":
            break
    page.keyboard.press("Enter")
    page.get_by_text("Switch on this device: stopped").wait_for()
    assert switch.engaged
    assert complaints == []


def test_another_sites_form_cannot_turn_the_switch(chromium, local):
    shown, switch = local
    page, *_ = visit(chromium, shown.url)
    token = page.locator("input[name=token]").first.get_attribute("value")
    page.goto("data:text/html,<title>evil</title>")
    page.set_content(
        f'<form method=post action="{shown.url}stop"><input name=token value="{token}">'
        "<button>win</button></form>"
    )
    page.get_by_role("button").click()
    page.wait_for_url(f"{shown.url}stop")
    assert not switch.engaged
