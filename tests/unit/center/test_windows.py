"""From raw rows to an hour: worked by hand."""

import random

from hypothesis import given
from hypothesis import strategies as st
from tests.web.fakes import row

from ketang_center.metrics.windows import (
    CELL_MS,
    HOUR_MS,
    Cell,
    Hour,
    Seen,
    State,
    from_text,
    larger,
    summarise,
    to_text,
)
from ketang_contract.records import (
    Categories,
    Event,
    EventName,
    Host,
    IdleSource,
    Network,
    Occupancy,
    Usage,
    View,
)

HOUR = 480_000
START = HOUR * HOUR_MS


def test_a_window_keeps_its_seconds_and_what_was_not_sampled_is_unknown():
    usage = Usage(
        window_s=300,
        active_s=120,
        idle_s=100,
        idle_source=IdleSource.LOGIND,
        categories=Categories(whiteboard=120),
    )
    cell = summarise(HOUR, [row("d", START + 2 * CELL_MS, usage)]).cells[0]
    assert cell.no == 2
    assert cell.seconds == {State.ACTIVE: 120, State.IDLE: 100, State.UNKNOWN: 80}
    assert cell.categories == {"whiteboard": 120}
    assert (cell.source, cell.used_s, cell.on_s, cell.state) == ("logind", 120, 300, State.ACTIVE)


def test_an_hour_without_rows_holds_nothing_and_no_zero():
    hour = summarise(HOUR, [])
    assert hour == Hour(HOUR)
    assert hour.first_ms is None


def test_two_overlapping_windows_of_one_cell_never_exceed_five_minutes():
    rows = [
        row("d", START, Usage(window_s=300, active_s=300)),
        row("d", START + 60_000, Usage(window_s=240, idle_s=240)),
    ]
    assert summarise(HOUR, rows).cells[0].seconds == {State.ACTIVE: 300}


def test_two_halves_of_a_window_cut_by_a_clock_jump_add_up():
    rows = [
        row("d", START, Usage(window_s=100, active_s=100)),
        row("d", START + 100_000, Usage(window_s=200, idle_s=200), suspect=True),
    ]
    cell = summarise(HOUR, rows).cells[0]
    assert cell.seconds == {State.ACTIVE: 100, State.IDLE: 200}
    assert cell.suspect


def test_few_heads_stay_few_and_the_window_with_more_scans_speaks():
    rows = [
        row("d", START, Occupancy(window_s=120, view=View.OK, scans=3, median=0, p90=0)),
        row(
            "d",
            START + 120_000,
            Occupancy(window_s=180, view=View.OK, scans=9, median="few", p90=7),
        ),
    ]
    assert summarise(HOUR, rows).cells[0].seen == Seen("ok", 9, "few", 7, None)


def test_nobody_could_look_is_unknown_and_not_empty():
    cell = summarise(HOUR, [row("d", START, Occupancy(window_s=300, view=View.DARK))]).cells[0]
    assert cell.seen == Seen("dark", 0, None, None, None)
    assert cell.state is None


def test_the_latest_health_facts_stay_and_heat_needs_consecutive_windows():
    rows = [
        row("d", START + no * CELL_MS, Host(window_s=300, temperature_max_c=heat))
        for no, heat in enumerate((86, 84, 90, 91))
    ]
    rows.append(row("d", START, Network(window_s=300, rtt_ms=4)))
    hour = summarise(HOUR, rows)
    assert hour.hot_s == 600
    assert hour.host == {"temperature_max_c": 91}
    assert hour.network == {"rtt_ms": 4}


def test_events_and_the_boot_moment_are_kept():
    hour = summarise(HOUR, [row("d", START + 5, Event(name=EventName.SHUTDOWN), booted_ms=START)])
    assert [(one.at_ms, one.name) for one in hour.events] == [(START + 5, "shutdown")]
    assert (hour.booted_ms, hour.last_ms) == (START, START + 5)


def test_two_agents_on_one_asset_count_the_larger_per_window_not_the_sum():
    one = Hour(HOUR, (Cell(0, {"active": 200}), Cell(1, {"idle": 300})), first_ms=1, last_ms=5)
    other = Hour(
        HOUR,
        (Cell(0, {"active": 100}), Cell(1, {"active": 10}), Cell(2, {"idle": 5})),
        first_ms=0,
        last_ms=9,
    )
    joined = larger(one, other)
    assert [cell.used_s for cell in joined.cells] == [200, 10, 0]
    assert (joined.first_ms, joined.last_ms) == (0, 9)


@given(
    st.lists(st.tuples(st.integers(0, 3_599_999), st.integers(0, 300)), max_size=30), st.randoms()
)
def test_the_text_is_the_same_in_whatever_order_rows_come(windows, chance: random.Random):
    rows = [row("d", START + at, Usage(window_s=300, active_s=spent)) for at, spent in windows]
    told = to_text(summarise(HOUR, rows))
    chance.shuffle(rows)
    hour = summarise(HOUR, rows)
    assert to_text(hour) == told
    assert from_text(HOUR, told) == hour
    assert all(cell.reported_s <= 300 for cell in hour.cells)
