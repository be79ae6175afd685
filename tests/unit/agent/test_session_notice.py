"""A countdown in a desktop session of its own: what is shown there, and what is taken back."""

import signal
import time
from pathlib import Path

import pytest
from tests.unit.agent.test_commands_desktop import Desk
from tests.unit.agent.test_linux_dbus import PATIENCE_S, address  # noqa: F401  (a fixture)
from tests.unit.agent.test_local_page import NOW_MS, STATUS

from ketang_agent import session_notice
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.local_page.server import LocalPage
from ketang_agent.platforms.linux_dbus import Bus
from ketang_agent.remote.commands_desktop import DesktopNotice
from ketang_agent.remote.commands_room import Leaving, Said, Word
from ketang_agent.session_notice import CLOSE_LOOK_S, LOOK_S, Announcer, Page, run
from ketang_agent.settings import LOCAL_PORT
from ketang_cli.main import main

LEAVING = Leaving("job-1", "yunxi-it", NOW_MS + 85_000)


class Board:
    """A desktop's notice, played."""

    def __init__(self):
        self.shown, self.pressed, self.there, self.closed = [], False, True, 0

    def show(self, who, seconds):
        self.shown.append((who, seconds))
        return self.there

    def cancelled(self):
        return self.pressed

    def close(self):
        self.closed += 1


class Session:
    """A session's program over a real page, with a clock set by hand."""

    def __init__(self, local):
        self.room, self.board, self.now_ms = local.room, Board(), NOW_MS
        port = int(local.url.rstrip("/").rpartition(":")[2])
        self.announcer = Announcer(Page(port), self.board, lambda: self.now_ms)

    def step(self, after_ms=0):
        self.now_ms += after_ms
        return self.announcer.step()


@pytest.fixture
def local(tmp_path):
    made = LocalPage(
        0, tmp_path / "local-page", tmp_path / "spool.db", KillSwitch(tmp_path / "switch")
    )
    made.show(STATUS)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def session(local):
    return Session(local)


def test_while_nothing_counts_down_nothing_is_shown_and_the_page_is_seldom_asked(session):
    assert session.step() == LOOK_S
    assert session.board.shown == []
    assert session.room.heard() == []


def test_a_countdown_is_shown_kept_up_to_date_told_once_and_taken_away(session):
    session.room.leaving = LEAVING
    assert session.step() == CLOSE_LOOK_S
    assert session.board.shown == [("yunxi-it", 85)]
    assert session.room.heard() == [Said(Word.SHOWN, "job-1")]
    session.step(after_ms=14_000)
    assert len(session.board.shown) == 1
    session.step(after_ms=1_000)
    assert session.board.shown[-1] == ("yunxi-it", 70)
    assert session.room.heard() == []
    session.room.leaving = None
    assert session.step() == LOOK_S
    assert session.board.closed == 1


def test_cancel_in_the_notice_keeps_the_device_on(session):
    session.room.leaving = LEAVING
    session.step()
    session.room.heard()
    session.board.pressed = True
    session.step()
    assert session.room.heard() == [Said(Word.CANCEL, "job-1")]
    session.step(after_ms=60_000)
    assert session.room.heard() == [], "once is enough"
    assert len(session.board.shown) == 1


def test_a_word_that_the_page_did_not_take_is_said_again(session, monkeypatch):
    session.room.leaving = LEAVING
    session.step()
    session.room.heard()
    session.board.pressed = True
    monkeypatch.setattr(session.announcer._page, "say", lambda *_: False)
    session.step()
    assert session.room.heard() == []
    monkeypatch.undo()
    session.step()
    assert session.room.heard() == [Said(Word.CANCEL, "job-1")]


def test_a_session_without_a_desktop_claims_nothing_and_tries_again(session):
    session.room.leaving, session.board.there = LEAVING, False
    session.step()
    assert session.room.heard() == []
    session.board.there = True
    session.step(after_ms=15_000)
    assert session.room.heard() == [Said(Word.SHOWN, "job-1")]


def test_where_the_agent_shows_its_own_notice_this_one_keeps_still(session):
    session.room.leaving = Leaving("job-1", "yunxi-it", NOW_MS + 85_000, desktop=True)
    session.step()
    assert session.board.shown == []


def test_another_shutdown_is_another_notice(session):
    session.room.leaving = LEAVING
    session.step()
    session.room.leaving = Leaving("job-2", "li", NOW_MS + 600_000)
    session.step(after_ms=1_000)
    assert session.board.closed == 1
    assert session.board.shown[-1] == ("li", 599)


def test_a_page_that_is_gone_is_asked_again_later(session, local):
    session.room.leaving = LEAVING
    session.step()
    local.stop()
    assert session.step() == LOOK_S
    assert session.board.closed == 1


@pytest.mark.parametrize("answer", [b"[]", b"{}", b"x", b'{"leaving": {"job": 1}}', b"\xff"])
def test_what_is_no_answer_of_the_agents_shows_nothing(session, monkeypatch, answer):
    monkeypatch.setattr(session.announcer._page, "_ask", lambda *_: answer)
    assert session.step() == LOOK_S
    assert session.board.shown == []


def test_however_it_ends_no_notice_stays(local):
    class Ended(Exception):
        pass

    def sleep(_):
        raise Ended

    board = Board()
    local.room.leaving = LEAVING
    with pytest.raises(Ended):
        run(int(local.url.rstrip("/").rpartition(":")[2]), board, sleep)
    assert board.closed == 1


@pytest.mark.parametrize(("more", "port"), [((), LOCAL_PORT), (("--port", "9000"), 9000)])
def test_what_a_session_starts_is_a_command_that_exists(monkeypatch, more, port):
    entry = Path(__file__).parents[3] / "deploy" / "desktop" / "ketang-notice.desktop"
    (line,) = [one for one in entry.read_text("utf-8").splitlines() if one.startswith("Exec=")]
    program, *words = line.removeprefix("Exec=").split()
    assert program == "/usr/bin/ketang"
    asked = []
    monkeypatch.setattr(session_notice, "run", lambda port, _: asked.append(port))
    before = signal.getsignal(signal.SIGTERM)
    assert main([*words, *more]) == 0
    signal.signal(signal.SIGTERM, before)
    assert asked == [port]


@pytest.mark.dbus
def test_on_a_real_bus_a_press_in_the_session_reaches_the_agent(local, address):  # noqa: F811
    desk = Desk(address)
    try:
        session = Session(local)
        session.announcer._notice = DesktopNotice(Bus(address))
        local.room.leaving = LEAVING
        session.step()
        assert "1:25" in desk.notes[0][4]
        assert local.room.heard() == [Said(Word.SHOWN, "job-1")]
        desk.press()
        deadline = time.monotonic() + PATIENCE_S
        heard = []
        while not heard and time.monotonic() < deadline:
            session.step()
            heard = local.room.heard()
        assert heard == [Said(Word.CANCEL, "job-1")]
        session.announcer.close()
    finally:
        desk.stop()
