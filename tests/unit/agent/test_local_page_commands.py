"""What a command asks of the people in the room, on the page: a countdown, and consent."""

import hashlib
import http.client
import json
import re
import time
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import sync_playwright
from tests import parts
from tests.unit.agent.test_diagnostics import planted
from tests.unit.agent.test_local_page import NOW_MS, STATUS

from ketang_agent import diagnostics
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.local_page import words
from ketang_agent.local_page.server import LocalPage
from ketang_agent.remote.commands_room import Asking, Leaving, Said, Word
from ketang_agent.spool.store import Spool

LEAVING = Leaving("job-1", "yunxi-it", NOW_MS + 85_000)


@pytest.fixture
def local(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        switch = KillSwitch(tmp_path / "counting.switch")
        local = LocalPage(0, tmp_path / "local-page", spool.path, switch)
        local.show(STATUS)
        local.start()
        yield local
        local.stop()


@pytest.fixture
def url(local):
    return local.url


@pytest.fixture
def room(local):
    return local.room


@pytest.fixture
def asking(tmp_path, room):
    path = tmp_path / "diagnostics-job-2.zip"
    diagnostics.write(planted(tmp_path, "x-marker-x"), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    room.asking = Asking("job-2", "yunxi-it", path, sha256, NOW_MS + 600_000)
    return room.asking


def ask(url, method, path, form=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        body = urlencode(form) if form is not None else None
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


def fields_of(html, action):
    form = re.search(rf'action="{action}[^"]*">(.*?)</form>', html)[1]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


@pytest.mark.parametrize(
    ("lang", "said"), [("en", "1 min 25 s are left"), ("zh", "还有 1 分 25 秒")]
)
def test_a_countdown_is_the_first_thing_on_the_page_and_comes_anew_by_itself(url, room, lang, said):
    assert "alarm" not in ask(url, "GET", f"/?lang={lang}")[1]
    room.leaving = LEAVING
    html = ask(url, "GET", f"/?lang={lang}")[1]
    assert said in html
    assert "yunxi-it" in html
    assert html.index('role="alert"') < html.index('class="lead"')
    assert '<meta http-equiv="refresh" content="5">' in html
    assert "autofocus" in html
    assert "<script" not in html


def test_a_sessions_notice_learns_of_a_countdown_and_of_nothing_else(url, room):
    idle = json.loads(ask(url, "GET", "/leaving.json")[1])
    assert idle["leaving"] is None
    room.leaving = LEAVING
    answer, raw = ask(url, "GET", "/leaving.json")
    said = json.loads(raw)
    assert said["leaving"] == {
        "job": "job-1",
        "who": "yunxi-it",
        "at_ms": NOW_MS + 85_000,
        "desktop": False,
    }
    assert set(said) == {"leaving", "token"}
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in answer.headers, "another site may not read it"
    assert ask(url, "GET", "/leaving.json", Host="evil.example")[0].status == 421
    form = {"token": said["token"], "job": "job-1"}
    assert ask(url, "POST", "/shown", form, Origin=url.rstrip("/"))[0].status == 303
    assert ask(url, "POST", "/shown", form, Origin="https://evil.example")[0].status == 403
    assert room.heard() == [Said(Word.SHOWN, "job-1")]


def test_anyone_cancels_without_logging_in(url, room):
    room.leaving = LEAVING
    form = fields_of(ask(url, "GET", "/")[1], "/cancel")
    answer, _ = ask(url, "POST", "/cancel?lang=en", form, Origin=url.rstrip("/"))
    assert (answer.status, answer.headers["Location"]) == (303, "/?lang=en")
    assert room.heard() == [Said(Word.CANCEL, "job-1")]


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        ({"token": "guessed"}, {}, 403),
        ({}, {"Origin": "https://evil.example"}, 403),
        ({}, {"Host": "evil.example"}, 403),
        ({"job": "job-9"}, {}, 409),
        ({"job": ""}, {}, 409),
    ],
)
def test_a_word_from_elsewhere_or_about_something_else_is_not_taken(
    url, room, change, headers, status
):
    room.leaving = LEAVING
    form = fields_of(ask(url, "GET", "/")[1], "/cancel") | change
    sent = {"Origin": url.rstrip("/"), **headers}
    assert ask(url, "POST", "/cancel", form, **sent)[0].status == status
    assert room.heard() == []


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_all_that_would_be_sent_is_shown_letter_for_letter(url, asking, lang):
    assert f'href="/diagnostics?lang={lang}"' in ask(url, "GET", f"/?lang={lang}")[1]
    html = ask(url, "GET", f"/diagnostics?lang={lang}")[1]
    for name, text in diagnostics.read(asking.archive).items():
        assert f"<h3>{name}</h3>" in html
        shown = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert shown.replace('"', "&quot;").replace("'", "&#x27;") in html
    for key in ("asking_agree", "asking_decline", "asking_whole"):
        assert words.WORDS[lang][key] in html


@pytest.mark.parametrize("word", ["agree", "decline"])
def test_a_person_agrees_to_what_was_shown_or_declines(url, room, asking, word):
    form = fields_of(ask(url, "GET", "/diagnostics")[1], f"/{word}")
    origin = url.rstrip("/")
    other = form | {"sha256": "0" * 64}
    assert ask(url, "POST", f"/{word}", other, Origin=origin)[0].status == 409
    assert ask(url, "POST", f"/{word}", form, Origin=origin)[0].status == 303
    assert room.heard() == [Said(Word(word), "job-2", asking.sha256)]


def test_nothing_asked_is_no_page_and_an_archive_that_is_gone_cannot_be_agreed_to(
    url, room, asking
):
    asking.archive.unlink()
    html = ask(url, "GET", "/diagnostics?lang=en")[1]
    assert words.WORDS["en"]["asking_unreadable"] in html
    assert "<form" not in html
    room.asking = None
    assert ask(url, "GET", "/diagnostics")[0].status == 404


@contextmanager
def browser(locale, width=1100):
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        made = playwright.chromium.launch(executable_path=parts.find("chromium"), args=flags)
        context = made.new_context(
            viewport={"width": width, "height": 900}, locale=locale, java_script_enabled=False
        )
        yield context.new_page()
        made.close()


def heard(room):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if said := room.heard():
            return said
        time.sleep(0.02)
    return []


@pytest.mark.chromium
@pytest.mark.parametrize("locale", ["zh-CN", "en-GB"])
def test_enter_alone_cancels_in_a_browser_without_scripts(url, room, locale):
    room.leaving = LEAVING
    with browser(locale, width=360) as page:
        page.goto(url)
        page.locator("button:focus").wait_for()
        page.keyboard.press("Enter")
        assert heard(room) == [Said(Word.CANCEL, "job-1")]


@pytest.mark.chromium
def test_consent_is_given_with_the_keyboard_in_a_browser_without_scripts(url, room, asking):
    with browser("en-GB") as page:
        page.goto(url)
        page.get_by_role("link", name="See all that would be sent").press("Enter")
        page.get_by_role("button", name="Agree and send").press("Enter")
        assert heard(room) == [Said(Word.AGREE, "job-2", asking.sha256)]
