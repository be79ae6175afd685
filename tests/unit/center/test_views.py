"""Views over the seeded region: what the first screen says, and to whom."""

import pytest
from tests.web.seed import NOW_MS, OWN, TODAY, YESTERDAY, seeded

from ketang_center import views
from ketang_center.access.scope import OutOfScope, SchoolsOwn, Scope
from ketang_center.metrics.figures import DayState
from ketang_center.registry.calendars import HOUR_MS, day_starts_ms
from ketang_center.registry.values import Calendar, Level, Placement, Service, ServiceState
from ketang_center.states import Connection, Freshness, Why
from ketang_center.view_values import Filters
from ketang_center.web import live

SCHOOL = Scope(Level.SCHOOL, "s1")
COUNTY = Scope(Level.COUNTY, "lan-xian")
REGION = Scope(Level.REGION, "lan")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    with seeded(tmp_path_factory.mktemp("centre")) as (found, *_):
        yield found


def test_the_first_screen_counts_each_device_once(context):
    page = views.overview(context, REGION, TODAY)
    counts = page.counts
    assert {state: counts.of(state) for state in DayState} == {
        DayState.USED: 21,
        DayState.ON: 0,
        DayState.OFF: 1,
        DayState.LOST: 1,
        DayState.UNKNOWN: 1,
        DayState.NEVER: 1,
    }
    assert page.in_service == counts.in_service == 25
    assert page.personal == 1
    assert page.connections == {
        Connection.CONNECTED: 22,
        Connection.ORDERLY: 1,
        Connection.SILENT: 1,
        Connection.NEVER: 1,
    }


def test_a_units_figures_are_the_sum_of_its_childrens(context):
    page = views.overview(context, REGION, TODAY)
    found = {one.unit.id: one.counts for one in page.branches}
    assert set(found) == {"lan", "lan-shi", "lan-xian", "lan-qu", "s1", "s2", "s3"}
    for state in DayState:
        assert found["lan-xian"].of(state) == found["s1"].of(state) + found["s2"].of(state)


def test_narrowing_opens_no_cell_that_was_closed(tmp_path):
    with seeded(tmp_path) as (context, *_):
        for device in ("s3-ifp-3", "s3-ops-pc-3"):
            context.registry.set_service(
                Service(device=device, state=ServiceState.STOCK, from_ms=day_starts_ms(TODAY))
            )
        for scope in (REGION, COUNTY):
            page = views.overview(context, scope, TODAY)
            closed = {one.unit.id for one in page.branches if one.counts is None}
            assert bool(closed) is (scope is REGION)
            for unit in closed:
                assert views.overview(context, scope, TODAY, unit).counts is None


def test_this_machine_is_connected_and_its_first_window_closes_at_the_next_five_minutes(context):
    own = views.overview(context, SCHOOL, TODAY).own
    assert own.connection is Connection.CONNECTED
    assert own.freshness is Freshness.NONE
    assert own.use.why is Why.FIRST_WINDOW
    assert own.use.at_ms == NOW_MS + 3 * 60_000, "it is 14:37, the window closes at 14:40"
    assert own.day is DayState.UNKNOWN


def test_this_machines_card_is_not_shown_above_its_school(context):
    assert views.overview(context, REGION, TODAY).own is None
    assert views.overview(context, Scope(Level.SCHOOL, "s2"), TODAY).own is None


def test_a_list_holds_only_the_scopes_devices_and_above_school_no_use(context):
    mine = views.devices(context, SCHOOL, TODAY, Filters())
    assert {row.posted.school for row in mine} == {"s1"}
    assert all(row.use is not None for row in mine if not row.posted.device.personal)
    county = views.devices(context, COUNTY, TODAY, Filters())
    assert {row.posted.school for row in county} == {"s1", "s2"}
    assert all(row.use is None and row.day is None for row in county)
    assert views.devices(context, COUNTY, TODAY, Filters(day_state="used")) == []


def test_a_personal_device_is_listed_without_use_connection_or_age(context):
    row = next(
        one
        for one in views.devices(context, SCHOOL, TODAY, Filters())
        if one.posted.device.id == "t-1"
    )
    assert (row.use, row.day, row.connection, row.age_ms, row.since_ms) == (None,) * 4 + (0,)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(q="交互 2"), {"s1-ifp-2"}),
        (Filters(q="panel 2"), {"s1-ifp-2"}),
        (Filters(connection="orderly"), {"s1-ifp-2"}),
        (Filters(day_state="off"), {"s1-ifp-2"}),
        (Filters(attention=True), {"s1-ifp-3", "s1-ops-pc-3"}),
        (Filters(unit="s1-r4"), {"s1-ifp-4", "s1-ops-pc-4"}),
        (Filters(q="nothing like it"), set()),
    ],
)
def test_filters_narrow_the_list(context, filters, expected):
    rows = views.devices(context, SCHOOL, TODAY, filters)
    assert {row.posted.device.id for row in rows} == expected


def test_a_devices_day_is_its_schools_own_and_every_look_is_on_record(context):
    page = views.device_day(context, SCHOOL, "s1-ifp-1", TODAY)
    assert page.row.day is DayState.USED
    assert min(page.cells) == 8 * 12
    with pytest.raises(SchoolsOwn):
        views.device_day(context, COUNTY, "s1-ifp-1", TODAY)
    with pytest.raises(SchoolsOwn):
        views.device_day(context, SCHOOL, "t-1", TODAY)
    with pytest.raises(OutOfScope):
        views.device_day(context, SCHOOL, "s2-ifp-1", TODAY)
    assert [(one.who, one.action, one.subject) for one in context.audit.entries()] == [
        ("school:s1", "device_day", f"s1-ifp-1@{TODAY}")
    ]
    assert context.audit.first_broken() is None


def test_another_days_page_still_tells_the_state_of_now(context):
    page = views.device_day(context, SCHOOL, "s1-ifp-1", YESTERDAY)
    assert page.row.use.state is not None
    assert page.row.use.at_ms > NOW_MS - 3_600_000


def test_on_a_past_day_the_own_device_did_not_report_and_is_never_seen(context):
    rows = views.devices(context, SCHOOL, YESTERDAY, Filters(q=OWN))
    assert rows[0].day is DayState.NEVER


def test_the_ledger_adds_up_over_the_devices_in_view(context):
    totals = views.overview(context, SCHOOL, TODAY).totals
    assert (totals.head, totals.stored, totals.missing) == (4000, 4000, 0)


def test_live_news_stay_in_the_scope(context):
    seen = live.followed(context.registry, context.clock())[SCHOOL.root]
    assert seen >= {OWN, "s1-ifp-1"}
    assert not seen & {"t-1", "s2-ifp-1"}


def test_a_school_without_lessons_leaves_the_denominators_of_the_units_above_it(tmp_path):
    with seeded(tmp_path) as (context, _, rollup):
        context.registry.set_calendar(Calendar(school="s2"))
        rollup.step()
        page = views.overview(context, COUNTY, TODAY)
        found = {one.unit.id: one for one in page.branches}
        assert (page.in_service, page.uncounted, page.no_lessons) == (19, 8, False)
        assert page.counts.in_service == 11, "those of s1 alone"
        assert (found["s2"].in_service, found["s2"].counts, found["s2"].lessons) == (8, None, False)


def test_without_lessons_anywhere_each_device_is_still_told_of(tmp_path):
    with seeded(tmp_path) as (context, _, rollup):
        for school in ("s1", "s2", "s3"):
            context.registry.set_calendar(Calendar(school=school))
        rollup.step()
        page = views.overview(context, REGION, TODAY)
        assert (page.no_lessons, page.uncounted, page.counts.in_service) == (True, 0, 25)


def test_records_are_not_counted_where_use_is_not_shown(tmp_path):
    with seeded(tmp_path) as (context, *_):
        for device in ("s3-ifp-3", "s3-ops-pc-3"):
            context.registry.set_service(
                Service(device=device, state=ServiceState.STOCK, from_ms=day_starts_ms(TODAY))
            )
        assert views.overview(context, REGION, TODAY).totals is not None
        assert views.overview(context, REGION, TODAY, "s3").totals is None


def test_above_the_school_and_for_a_personal_device_no_reason_depends_on_the_day(tmp_path):
    """Full disks are told by day: the days with the reason would be the days it was on."""
    with seeded(tmp_path) as (context, *_):
        sunday = YESTERDAY.replace(day=8)
        found = {}
        for scope in (SCHOOL, COUNTY):
            for day in (TODAY, sunday):
                rows = views.devices(context, scope, day, Filters(attention=True))
                found[scope.role, day] = {row.posted.device.id for row in rows}
        assert found[Level.SCHOOL, sunday] == set(), "nothing came on that day"
        assert found[Level.COUNTY, sunday] == found[Level.COUNTY, TODAY] != set()
        page = views.overview(context, COUNTY, sunday)
        assert page.attention == len(found[Level.COUNTY, TODAY])


def test_a_school_a_device_has_left_keeps_its_days_and_sees_nothing_of_now(tmp_path):
    with seeded(tmp_path) as (context, _, rollup):
        moved_ms = day_starts_ms(TODAY) + 9 * HOUR_MS
        context.registry.place(Placement(device="s1-ifp-1", room="s2-r1", from_ms=moved_ms))
        rollup.step()
        page = views.device_day(context, SCHOOL, "s1-ifp-1", YESTERDAY)
        assert page.row.day is DayState.USED
        row = page.row
        assert (row.connection, row.use, row.age_ms, row.since_ms) == (None, None, None, 0)
        assert page.accounts == ()
        before = views.overview(context, SCHOOL, YESTERDAY)
        assert sum(before.connections.values()) == before.in_service - 1


def test_after_the_centre_was_away_silence_is_judged_from_when_it_listens_again(tmp_path):
    now_ms = NOW_MS
    with seeded(tmp_path, clock=lambda: now_ms) as (context, reading, _):
        now_ms += 3 * HOUR_MS
        reading.listening = now_ms - 60_000
        page = views.overview(context, Scope(Level.SCHOOL, "s2"), TODAY)
        assert page.connections[Connection.CONNECTED] == 6
        assert page.counts.of(DayState.LOST) == 1, "the one that was lost before"
        own = next(
            row
            for row in views.devices(context, SCHOOL, TODAY, Filters(q=OWN))
            if row.posted.device.id == OWN
        )
        assert own.day is DayState.UNKNOWN, "nobody could hear it, so it is not lost"
        reading.listening = now_ms - 16 * 60_000
        page = views.overview(context, SCHOOL, TODAY)
        assert page.connections[Connection.CONNECTED] == 0
