"""The page on the device: who sees what, in which language, and who may turn the switch."""

import http.client
import json
import os
import re
import socket
import threading
import time
import tracemalloc
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from urllib.parse import urlencode, urlsplit

import pytest

from ketang_agent.hours import Hours
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.local_page import ledger, page, purposes, server, words
from ketang_agent.local_page.ledger import SentLine, sent, tally
from ketang_agent.local_page.server import LocalPage
from ketang_agent.local_page.visitor import NOBODY, Visitor
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_agent.status import (
    CollectorStatus,
    LaneStatus,
    Result,
    SpoolStatus,
    Status,
    UplinkStatus,
)
from ketang_contract.batch import DropReason
from ketang_contract.records import (
    BODIES,
    Categories,
    Fault,
    Host,
    Record,
    Stream,
    TimeQuality,
    to_line,
)
from ketang_contract.state import Camera, ConfigReport, ConfigState, Loss

NOW_MS = int(time.time() * 1000)
HOUR_MS = 3_600_000
PLACE = r"\{\w+\}"
STATUS = Status(
    device="panel-1",
    center_id="center-1",
    agent_version="0.1.0",
    profile="ifp",
    contact="信息中心 <张老师>",
    started_ms=NOW_MS - HOUR_MS,
    now_ms=NOW_MS,
    boot_id="boot-1",
    time=TimeQuality.SYNCED,
    uplink=UplinkStatus(
        broker="broker.example:8883",
        connected=True,
        since_ms=NOW_MS - HOUR_MS,
        session=3,
        acked_at_ms=NOW_MS,
    ),
    spool=SpoolStatus(
        used_bytes=28 << 10,
        cap_bytes=128 << 20,
        unsaved=0,
        dropped=0,
        trouble="",
        lanes=(
            LaneStatus(
                store_id="s", current=True, stream=Stream.USE, head=12_345, pending=7, acked=12_338
            ),
        ),
        losses=(Loss(stream=Stream.OPS, reason=DropReason.EVICTED, records=4),),
    ),
    collectors=(CollectorStatus(name="host", interval_s=60, result=Result.OK, why=""),),
    faults=(Fault.DISK_LOW,),
    camera=Camera.COUNTING,
    config=ConfigReport(),
    hours=Hours.OPEN,
    model="mtcnn",
    window_ends_in_s=120,
)


def record(made_ms, uptime_s=0):
    return Record(
        subject="panel-1",
        wall_ms=made_ms,
        boot_id="boot-1",
        boottime_ms=1,
        time=TimeQuality.SYNCED,
        body=Host(window_s=300, uptime_s=uptime_s),
    )


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        yield spool


def deliver(spool, made_ms, acked_ms, uptime_s=0):
    """Eight digits of ``uptime_s`` are a mark that no time on the page holds by chance."""
    spool.append([record(made_ms, uptime_s)])
    lane = Lane(spool.current_store, Stream.OPS)
    spool.mark_acked(lane, spool.pending(lane), acked_ms)


class Visit:
    """A page that is up, and a visitor whom the kernel would name."""

    def __init__(self, page, switch, base):
        self.page, self.switch, self.base = page, switch, base
        self.port = urlsplit(base).port

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read().decode()
        finally:
            connection.close()

    def get(self, path="/", **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, token=None, origin=None, **headers):
        if token is None:
            token = re.search(r'name="token" value="([^"]+)"', self.page_html())[1]
        origin = self.base.rstrip("/") if origin is None else origin
        sent_headers = {"Origin": origin} if origin else {}
        return self.ask("POST", path, urlencode({"token": token}), **sent_headers, **headers)

    def page_html(self):
        return self.get()[1]


@contextmanager
def visiting(tmp_path, monkeypatch, visitor, status=STATUS):
    monkeypatch.setattr(server, "visitor_of", lambda *_: visitor)
    switch = KillSwitch(tmp_path / "counting.switch")
    local = LocalPage(0, tmp_path / "local-page", tmp_path / "spool.db", switch)
    local.show(status)
    local.start()
    try:
        yield Visit(local, switch, local.url)
    finally:
        local.stop()


ADMINISTRATOR = Visitor(0, None, administrator=True)
TEACHER = Visitor(1000, NOW_MS - HOUR_MS, administrator=False)


def test_every_field_that_may_be_sent_is_explained_in_both_languages():
    for body in BODIES:
        kind = body.__dataclass_fields__["kind"].default
        names = {one.name for one in fields(body)} - {"kind"}
        if kind == "usage":
            names |= {one.name for one in fields(Categories)}
        assert set(purposes.FIELDS[kind]) == names
        assert kind in purposes.TITLES
        assert kind in purposes.WHY
    assert set(purposes.EVERY) == {one.name for one in fields(Record)}
    texts = [both for group in purposes.FIELDS.values() for both in group.values()]
    assert all(both.zh and both.en and not re.search("[一-龥]", both.en) for both in texts)


def test_both_languages_have_the_same_words_and_every_fault_has_some():
    zh, en = words.WORDS["zh"], words.WORDS["en"]
    assert set(zh) == set(en)
    for key, text in zh.items():
        assert sorted(re.findall(PLACE, text)) == sorted(re.findall(PLACE, en[key])), key
    assert set(words.FAULTS) == {one.value for one in Fault}
    for reason in DropReason:
        assert f"l_{reason}" in zh
    for camera in Camera:
        assert f"camera_{camera}" in zh


@pytest.mark.parametrize(
    ("asked", "accepted", "chosen"),
    [
        (None, "", "zh"),
        (None, "en-GB,en;q=0.8", "en"),
        (None, "de,zh-TW;q=0.5,en;q=0.4", "zh"),
        ("en", "zh-CN", "en"),
        ("fr", "", "zh"),
    ],
)
def test_the_language_is_what_was_asked_for_else_the_browsers_else_chinese(asked, accepted, chosen):
    assert words.language_of(asked, accepted) == chosen


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_first_page_says_how_it_stands_in_plain_words(tmp_path, monkeypatch, spool, lang):
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        answer, html = visit.get(f"/?lang={lang}")
    assert answer.status == 200
    assert f'<html lang="{words.HTML_LANG[lang]}">' in html
    for text in ("broker.example:8883", "panel-1", "12,345", "信息中心 &lt;张老师&gt;"):
        assert text in html
    assert words.FAULTS["disk_low"][lang == "en"] in html
    assert "<script" not in html
    assert "style=" not in html
    assert not re.search(r'(href|src|action)="(https?:)?//', html)


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("hours", Hours)
def test_whether_hours_are_set_is_told_in_both_languages(tmp_path, monkeypatch, spool, lang, hours):
    with visiting(tmp_path, monkeypatch, NOBODY, replace(STATUS, hours=hours)) as visit:
        html = visit.get(f"/?lang={lang}")[1]
    said = [one for one in Hours if words.WORDS[lang][f"hours_{one}"] in html]
    assert said == [hours]


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("state", ConfigState)
def test_what_became_of_what_the_centre_brought_is_told(tmp_path, monkeypatch, spool, lang, state):
    report = ConfigReport(state=state, desired="b" * 64, reason="left_out")
    folder = tmp_path / "remote"
    folder.mkdir()
    dropped = [["c" * 64, "one_holder"], ["<b>" * 9, "<i>new</i>"]]
    said = {"reason": "left_out", "detail": "the layer of <s1>", "permits_dropped": dropped}
    (folder / "judged.json").write_text(json.dumps(said))
    with visiting(tmp_path, monkeypatch, NOBODY, replace(STATUS, config=report)) as visit:
        html = visit.get(f"/?lang={lang}")[1]
        told = json.loads(visit.get("/status.json")[1])
    assert words.WORDS[lang][f"brought_{state}"] in html
    over = {ConfigState.REJECTED, ConfigState.ROLLED_BACK}
    assert ("<code>left_out</code>" in html) is (state in over)
    assert "the layer of &lt;s1&gt;" in html
    assert words.DROPPED["one_holder"][lang == "en"] in html
    assert "&lt;i&gt;new&lt;/i&gt;" in html
    assert "<i>" not in html
    assert told["judged"] == {"detail": "the layer of <s1>", "permits_dropped": dropped}


def test_a_device_without_a_connection_says_since_when(tmp_path, monkeypatch, spool):
    uplink = replace(STATUS.uplink, connected=False)
    status = replace(STATUS, uplink=uplink)
    with visiting(tmp_path, monkeypatch, NOBODY, status) as visit:
        assert "Not connected" in visit.get("/?lang=en")[1]
    never = replace(STATUS, uplink=replace(uplink, since_ms=None))
    with visiting(tmp_path, monkeypatch, NOBODY, never) as visit:
        assert "Not yet connected" in visit.get("/?lang=en")[1]


def test_every_answer_forbids_all_that_the_page_does_not_need(tmp_path, monkeypatch, spool):
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        for path in ("/", "/sent", "/page.css", "/status.json", "/nowhere"):
            answer, _ = visit.get(path)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"


def test_a_stranger_sees_no_record(tmp_path, monkeypatch, spool):
    deliver(spool, NOW_MS - 1000, NOW_MS, uptime_s=47_114_711)
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        assert "47114711" not in visit.page_html()
        assert "47114711" not in visit.get("/sent")[1]


def test_a_teacher_sees_the_records_of_the_own_session_and_no_others(tmp_path, monkeypatch, spool):
    deliver(spool, NOW_MS - 3 * HOUR_MS, NOW_MS - 2 * HOUR_MS, uptime_s=11_111_111)
    deliver(spool, NOW_MS - 3 * HOUR_MS, NOW_MS - HOUR_MS // 2, uptime_s=22_222_222)
    deliver(spool, NOW_MS - HOUR_MS // 2, NOW_MS - HOUR_MS // 3, uptime_s=33_333_333)
    with visiting(tmp_path, monkeypatch, TEACHER) as visit:
        for path in ("/", "/sent"):
            html = visit.get(path)[1]
            assert "33333333" in html
            assert "11111111" not in html
            assert "22222222" not in html, "made before, though sent since"


def test_an_administrator_sees_seven_days(tmp_path, monkeypatch, spool):
    deliver(spool, NOW_MS - 9 * 24 * HOUR_MS, NOW_MS - 8 * 24 * HOUR_MS, uptime_s=11_111_111)
    deliver(spool, NOW_MS - 9 * 24 * HOUR_MS, NOW_MS - 6 * 24 * HOUR_MS, uptime_s=22_222_222)
    with visiting(tmp_path, monkeypatch, ADMINISTRATOR) as visit:
        html = visit.get("/sent")[1]
        assert "11111111" not in html
        assert "22222222" in html


def test_lines_are_shown_letter_for_letter_and_can_be_paged(tmp_path, monkeypatch, spool):
    for at in range(page.PAGE_LINES + 5):
        spool.append([record(NOW_MS, 10_000 + at)])
    lane = Lane(spool.current_store, Stream.OPS)
    spool.mark_acked(lane, spool.pending(lane), NOW_MS)
    with visiting(tmp_path, monkeypatch, ADMINISTRATOR) as visit:
        html = visit.get("/sent?lang=en")[1]
        line = to_line(record(NOW_MS, 10_000 + page.PAGE_LINES + 4)).decode()
        assert line.replace('"', "&quot;") in html
        older = re.search(r'href="(/sent\?lang=en&amp;skip=\d+)"', html)[1].replace("&amp;", "&")
        html = visit.get(older)[1]
        assert html.count("<code>") == 5
        assert "10000" in html


def test_a_foreign_name_for_this_machine_is_not_answered(tmp_path, monkeypatch, spool):
    with visiting(tmp_path, monkeypatch, ADMINISTRATOR) as visit:
        for host in ("evil.example", f"evil.example:{visit.port}", "127.0.0.1:1", ""):
            assert visit.get("/", Host=host)[0].status == 421
        assert visit.get("/", Host=f"localhost:{visit.port}")[0].status == 200


def test_anyone_may_stop_the_counting(tmp_path, monkeypatch, spool):
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        answer, _ = visit.post("/stop?lang=en")
        assert (answer.status, answer.headers["Location"]) == (303, "/?lang=en")
        assert visit.switch.engaged
        assert 'action="/allow' not in visit.page_html()


def test_only_an_administrator_may_allow_it_again(tmp_path, monkeypatch, spool):
    with visiting(tmp_path, monkeypatch, TEACHER) as visit:
        token = re.search(r'name="token" value="([^"]+)"', visit.page_html())[1]
        visit.switch.engage()
        assert visit.post("/allow", token=token)[0].status == 403
        assert visit.switch.engaged
    with visiting(tmp_path, monkeypatch, ADMINISTRATOR) as visit:
        assert visit.post("/allow")[0].status == 303
        assert not visit.switch.engaged


@pytest.mark.parametrize(
    "forged",
    [
        {"token": "guessed"},
        {"token": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "", "Referer": "https://evil.example/"},
        {"Host": "evil.example"},
    ],
)
def test_a_change_asked_for_elsewhere_is_not_made(tmp_path, monkeypatch, spool, forged):
    with visiting(tmp_path, monkeypatch, ADMINISTRATOR) as visit:
        assert visit.post("/stop", **forged)[0].status == 403
        assert not visit.switch.engaged


def test_a_browser_that_sends_no_origin_is_known_by_its_referer(tmp_path, monkeypatch, spool):
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        assert visit.post("/stop", origin="", Referer=visit.base)[0].status == 303


def test_an_old_starts_token_is_worth_nothing(tmp_path, monkeypatch, spool):
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        token = re.search(r'name="token" value="([^"]+)"', visit.page_html())[1]
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        assert visit.post("/stop", token=token)[0].status == 403


def test_a_stop_that_cannot_be_saved_still_holds_and_says_so(tmp_path, monkeypatch, spool):
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        assert visit.post("/stop")[0].status == 500
        assert visit.switch.engaged


def test_a_taken_port_is_told_once_and_stops_nobody(tmp_path, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        switch = KillSwitch(tmp_path / "counting.switch")
        local = LocalPage(taken.getsockname()[1], tmp_path / "url", tmp_path / "spool.db", switch)
        local.start()
        local.stop()
    assert local.url == ""
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert not (tmp_path / "url").exists()


def test_idle_visitors_cannot_keep_others_out_for_long(tmp_path, monkeypatch, spool):
    monkeypatch.setattr(server._Handler, "timeout", 0.3)
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        idle = [socket.create_connection(("127.0.0.1", visit.port)) for _ in range(12)]
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if visit.get()[0].status == 200:
                    break
            except (ConnectionError, http.client.HTTPException):
                time.sleep(0.05)
        else:
            pytest.fail("never answered")
        for one in idle:
            one.close()


def test_a_page_that_stops_lets_go_of_its_port_and_its_address_file(tmp_path, monkeypatch, spool):
    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        assert (tmp_path / "local-page").read_text() == f"{visit.base}\n"
    assert not (tmp_path / "local-page").exists()
    with pytest.raises(ConnectionRefusedError):
        visit.get()


def test_a_buffer_that_cannot_be_read_is_said_and_the_rest_still_shows(tmp_path, monkeypatch):
    with visiting(tmp_path, monkeypatch, ADMINISTRATOR) as visit:
        answer, html = visit.get("/?lang=en")
    assert answer.status == 200
    assert words.WORDS["en"]["unreadable"] in html


def test_the_tally_tells_losses_by_stream_and_reason_and_what_moved(spool):
    spool.append([record(NOW_MS, at) for at in range(10)])
    lane = Lane(spool.current_store, Stream.OPS)
    spool.mark_lost(lane, spool.pending(lane).lowest(4), DropReason.EVICTED, NOW_MS)
    spool.fork(lane, spool.pending(lane).lowest(2), NOW_MS)
    told = tally(spool.path)
    assert told.losses == (Loss(stream=Stream.OPS, reason=DropReason.EVICTED, records=4),)
    assert told.settled == {(lane.store_id, Stream.OPS): 6}


def test_a_question_that_takes_too_long_is_given_up(spool, monkeypatch):
    for at in range(300):
        deliver(spool, NOW_MS, NOW_MS + at)
    monkeypatch.setattr(ledger, "LONGEST_S", -1.0)
    monkeypatch.setattr(ledger, "_CHECK_EVERY", 10)
    with pytest.raises(ledger.sqlite3.OperationalError, match="interrupted"):
        sent(spool.path, acked_from_ms=0, made_from_ms=0)


def test_reading_never_writes(spool):
    deliver(spool, NOW_MS, NOW_MS)
    with (
        ledger._reading(spool.path) as db,
        pytest.raises(ledger.sqlite3.OperationalError, match="readonly"),
    ):
        db.execute("DELETE FROM record")
    [one] = sent(spool.path, acked_from_ms=0, made_from_ms=0)
    assert one == SentLine(NOW_MS, to_line(record(NOW_MS)).decode())


def test_visitors_who_drag_their_question_out_cannot_keep_others_out(tmp_path, monkeypatch, spool):
    monkeypatch.setattr(server, "_VISIT_S", 0.5)
    over = threading.Event()

    def drag(port):
        with socket.create_connection(("127.0.0.1", port)) as slow, suppress(OSError):
            while not over.wait(0.05):
                slow.sendall(b"G")

    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        slow = [threading.Thread(target=drag, args=(visit.port,)) for _ in range(server._AT_ONCE)]
        for one in slow:
            one.start()
        deadline = time.monotonic() + 20
        answered = False
        while not answered and time.monotonic() < deadline:
            over.wait(0.2)
            with suppress(ConnectionError, http.client.HTTPException):
                answered = visit.get()[0].status == 200
        over.set()
        for one in slow:
            one.join()
    assert answered


def test_a_visit_that_gets_no_thread_gives_its_place_back(tmp_path, monkeypatch, spool):
    def none_left(_):
        raise RuntimeError("can't start new thread")

    with visiting(tmp_path, monkeypatch, NOBODY) as visit:
        with monkeypatch.context() as busy:
            busy.setattr(threading.Thread, "start", none_left)
            for _ in range(server._AT_ONCE + 1):
                with pytest.raises((ConnectionError, http.client.HTTPException)):
                    visit.get()
        assert visit.get()[0].status == 200


def test_a_months_records_acknowledged_in_an_hour_are_not_all_read_for_one_page(spool):
    spool.append([record(NOW_MS, at) for at in range(20_000)])
    lane = Lane(spool.current_store, Stream.OPS)
    spool.mark_acked(lane, spool.pending(lane), NOW_MS)
    tracemalloc.start()
    try:
        found = sent(spool.path, acked_from_ms=0, made_from_ms=0, skip=1_000, most=200)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    lines = [to_line(record(NOW_MS, at)).decode() for at in range(18_999, 18_799, -1)]
    assert [one.line for one in found] == lines
    assert peak_bytes < 1 << 20
