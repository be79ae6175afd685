"""The three separate states of a device."""

import pytest

from ketang_center.metrics.figures import DayUse
from ketang_center.metrics.windows import State
from ketang_center.states import (
    Connection,
    Freshness,
    Why,
    believed,
    connection_of,
    first_close_ms,
    freshness_of,
    use_of,
)
from ketang_center.store.base import Presence

NOW = 1_773_211_020_000
MINUTE = 60_000


def presence(**values):
    given = {
        "device": "d",
        "session": 1,
        "connected": True,
        "orderly": False,
        "since_ms": NOW - MINUTE,
        "last_seen_ms": 0,
        "agent_version": "",
    }
    return Presence(**(given | values))


def day(**values):
    return DayUse(subject="d", day="2026-03-11", school="s", **values)


def test_a_good_bye_is_told_from_a_broken_line():
    assert connection_of(None) is Connection.NEVER
    assert connection_of(presence()) is Connection.CONNECTED
    assert connection_of(presence(connected=False, orderly=True)) is Connection.ORDERLY
    assert connection_of(presence(connected=False)) is Connection.SILENT


def test_data_is_late_after_three_heartbeats():
    assert freshness_of(presence(), NOW) is Freshness.NONE
    assert freshness_of(presence(last_seen_ms=NOW - 15 * MINUTE), NOW) is Freshness.FRESH
    assert freshness_of(presence(last_seen_ms=NOW - 15 * MINUTE - 1), NOW) is Freshness.STALE


def test_the_first_window_closes_at_the_clocks_next_five_minutes():
    assert first_close_ms(0) == 300_000
    assert first_close_ms(299_999) == 300_000
    assert first_close_ms(300_000) == 600_000


@pytest.mark.parametrize(
    ("latest", "seen", "now_ms", "why"),
    [
        (None, None, NOW, Why.NEVER),
        (None, presence(), NOW, Why.FIRST_WINDOW),
        (None, presence(since_ms=NOW - 20 * MINUTE), NOW, Why.OVERDUE),
        (
            day(window_ms=NOW - 6 * MINUTE, window_state="unknown", window_source="none"),
            presence(),
            NOW,
            Why.NO_SESSION,
        ),
        (
            day(window_ms=NOW - 6 * MINUTE, window_state="unknown", window_source="mutter"),
            presence(),
            NOW,
            Why.PROBE_FAILED,
        ),
        (
            day(window_ms=NOW - 60 * MINUTE, window_state="active"),
            presence(connected=False),
            NOW,
            Why.STALE,
        ),
        (
            day(window_ms=NOW - 6 * MINUTE, window_state="idle", alive_ms=1, shutdown_ms=2),
            presence(connected=False, orderly=True),
            NOW,
            Why.OFF,
        ),
    ],
)
def test_use_that_is_not_known_says_why(latest, seen, now_ms, why):
    found = use_of(seen, latest, now_ms)
    assert (found.state, found.why) == (None, why)


def test_the_last_closed_window_speaks_even_over_a_short_break_of_the_line():
    latest = day(window_ms=NOW - 7 * MINUTE, window_state="presenting", window_source="mutter")
    assert use_of(presence(connected=False), latest, NOW).state is State.PRESENTING


def test_a_connection_from_before_the_centre_listened_is_believed_for_three_heartbeats():
    old = presence(since_ms=NOW - 60 * MINUTE, last_seen_ms=NOW - 50 * MINUTE)
    assert believed(old, NOW - 15 * MINUTE, NOW) is old
    taken_back = believed(old, NOW - 16 * MINUTE, NOW)
    assert connection_of(taken_back) is Connection.SILENT
    assert taken_back.since_ms == NOW - 50 * MINUTE, "silent since it was last heard"


def test_a_device_that_spoke_since_the_centre_listens_is_connected_however_long_ago():
    spoke = presence(since_ms=NOW - 90 * MINUTE, last_seen_ms=NOW - 50 * MINUTE)
    assert believed(spoke, NOW - 60 * MINUTE, NOW) is spoke
