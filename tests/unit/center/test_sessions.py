"""Sessions are the server's own: found by a token it made, and over when they should be."""

import sqlite3

import pytest
from tests.web.seed import NOW_MS, offices, populate

from ketang_center.access.sessions import ABSOLUTE_MS, IDLE_MS


@pytest.fixture
def books(tmp_path):
    with offices(tmp_path) as found:
        populate(found["accounts"], [("ann", []), ("ben", [])])
        yield found


def test_the_file_holds_no_token(books, tmp_path):
    token = books["sessions"].open("ann", "password", NOW_MS)
    assert len(token) >= 43
    with sqlite3.connect(tmp_path / "accounts.db") as db:
        kept = repr(db.execute("SELECT * FROM session").fetchall())
    assert token not in kept
    assert books["sessions"].find(token, NOW_MS).account == "ann"
    for other in ("", "x" * 43, token[:-1], token.upper(), "'; DROP TABLE session; --", "\udc80"):
        assert books["sessions"].find(other, NOW_MS) is None


def test_idle_or_old_it_is_over_however_often_it_is_used(books):
    sessions = books["sessions"]
    token = sessions.open("ann", "password", NOW_MS)
    assert sessions.find(token, NOW_MS + IDLE_MS)
    assert sessions.find(token, NOW_MS + IDLE_MS + 1) is None
    now_ms = NOW_MS
    while now_ms < NOW_MS + ABSOLUTE_MS:
        sessions.touch(sessions.find(token, now_ms), now_ms)
        now_ms += IDLE_MS - 60_000
    assert sessions.find(token, NOW_MS + ABSOLUTE_MS + 1) is None


def test_a_renewed_token_replaces_the_old_one_and_the_form_token_with_it(books):
    sessions = books["sessions"]
    old = sessions.open("ann", "password", NOW_MS)
    before = sessions.find(old, NOW_MS)
    sessions.mark("ann")
    assert sessions.find(old, NOW_MS).rotate
    new = sessions.renew(before)
    after = sessions.find(new, NOW_MS)
    assert sessions.find(old, NOW_MS) is None
    assert (after.id, after.rotate) == (before.id, False)
    assert after.csrf != before.csrf


def test_ending_reaches_ones_own_sessions_alone(books):
    sessions = books["sessions"]
    first, second = (sessions.open("ann", "password", NOW_MS) for _ in range(2))
    other = sessions.find(sessions.open("ben", "oidc", NOW_MS), NOW_MS)
    assert not sessions.end("ann", other.id)
    keep = sessions.find(first, NOW_MS)
    assert sessions.end_all("ann", but=keep.id) == 1
    assert sessions.find(first, NOW_MS)
    assert sessions.find(second, NOW_MS) is None
    assert sessions.end_all("ann") == 1
    assert [one.how for one in sessions.of("ben", NOW_MS)] == ["oidc"]
