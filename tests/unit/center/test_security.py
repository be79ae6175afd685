"""The security log stays bounded whoever knocks, and its totals stay true."""

from contextlib import closing

import pytest

from ketang_center import security
from ketang_center.security import SecurityLog

DAY_MS, MINUTE_MS = 86_400_000, 60_000
NOW_MS = 20_000 * DAY_MS + 12 * 60 * MINUTE_MS


@pytest.fixture
def log(tmp_path):
    with closing(SecurityLog(tmp_path / "security.db")) as made:
        yield made


def lines(log):
    return log._db.execute("SELECT count(*) FROM happening").fetchone()[0]


def test_a_flood_all_day_long_takes_so_many_lines_and_no_more(log, monkeypatch):
    monkeypatch.setattr(security, "_MOST_A_DAY", 200)
    for no in range(900):
        log.note(NOW_MS + no * MINUTE_MS // 4, "enrol_unknown_code", f"who-{no}", "192.0.2.1")
    log.note(NOW_MS + 300 * MINUTE_MS, "evicted", "pc-1")
    assert lines(log) <= 200 + 2 * 24
    assert {one.what: one.recent for one in log.tallies(NOW_MS - DAY_MS)} == {
        "enrol_unknown_code": 900,
        "evicted": 1,
    }


def test_what_is_days_old_is_one_line_of_each_name_a_day(log, monkeypatch):
    monkeypatch.setattr(security, "_MOST_OF_OLD_DAY", 50)
    old_ms = NOW_MS - 3 * DAY_MS
    for no in range(300):
        log.note(old_ms + no * MINUTE_MS, "broker_expired_certificate", "pc-1", "192.0.2.1")
        log.note(old_ms + no * MINUTE_MS, "enrol_unknown_code", f"who-{no}", "192.0.2.1")
    log.note(NOW_MS, "enrol_unknown_code", "who-0", "192.0.2.1")
    for _ in range(2):  # twice, it does nothing more
        log.forget(NOW_MS)
        assert lines(log) <= 50 + 2 + 1
        assert ("broker_expired_certificate", "pc-1", 300) in [one[:3] for one in log.named(0)]
        assert {one.what: one.recent for one in log.tallies(0)} == {
            "enrol_unknown_code": 301,
            "broker_expired_certificate": 300,
        }


def test_six_months_later_only_the_totals_are_left(log):
    log.note(NOW_MS, "login_failed", "?", "192.0.2.1")
    log.forget(NOW_MS + 184 * DAY_MS)
    assert lines(log) == 0
    assert log.count("login_failed") == 1
