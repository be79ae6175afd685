"""The registry: what stood where, when."""

from datetime import date

import pytest
from tests.web.seed import registry_data

from ketang_center.registry.calendars import (
    HOUR_MS,
    day_of,
    day_starts_ms,
    lesson_spans_ms,
    overlap_ms,
)
from ketang_center.registry.database import Registry
from ketang_center.registry.values import (
    Calendar,
    Data,
    Device,
    Kind,
    Level,
    Placement,
    Service,
    ServiceState,
    Span,
    Unit,
)
from ketang_contract.errors import BadInput


@pytest.fixture
def registry(tmp_path):
    with Registry(tmp_path / "registry.db") as found:
        found.load(registry_data())
        yield found


def test_a_device_that_moves_belongs_to_each_school_in_its_time(registry):
    at = day_starts_ms(date(2026, 3, 5))
    registry.place(Placement(device="s1-ifp-1", room="s2-r1", from_ms=at))
    assert registry.school_of("s1-ifp-1", at - 1) == "s1"
    assert registry.school_of("s1-ifp-1", at) == "s2"
    assert [one.until_ms for one in registry.placements("s1-ifp-1")] == [at, None]


def test_a_stay_entered_late_ends_where_the_next_begins(registry):
    first = registry.placements("s1-ifp-1")[0].from_ms
    registry.place(Placement(device="s1-ifp-1", room="s2-r1", from_ms=first - 1000))
    assert [(one.room, one.until_ms) for one in registry.placements("s1-ifp-1")] == [
        ("s2-r1", first),
        ("s1-r1", None),
    ]


def test_repair_leaves_the_denominator_from_its_day_on(registry):
    at = day_starts_ms(date(2026, 3, 5))
    registry.set_service(Service(device="s1-ifp-1", state=ServiceState.REPAIR, from_ms=at))
    before = {one.device.id for one in registry.in_service(at - 1000, at)}
    after = {one.device.id for one in registry.in_service(at, at + 1000)}
    assert before - after == {"s1-ifp-1"}


def test_a_load_that_fails_leaves_nothing_behind(registry):
    units = (Unit(id="s9", level=Level.SCHOOL, parent="lan-xian", name_zh="九", name_en="Nine"),)
    with pytest.raises(BadInput, match="no room"):
        registry.load(
            Data(
                units=units,
                devices=(Device(id="x", kind=Kind.IFP, name="x"),),
                placements=(Placement(device="x", room="s9", from_ms=0),),
            )
        )
    assert "s9" not in registry.tree()
    assert registry.device("x") is None


def test_a_unit_on_the_wrong_floor_is_refused(registry):
    with pytest.raises(BadInput, match="needs a county"):
        registry.add_unit(Unit(id="x", level=Level.SCHOOL, parent="lan", name_zh="x", name_en="x"))


def test_a_change_names_the_devices_it_touches(registry):
    at = registry.revision()
    registry.set_calendar(
        Calendar(school="s3", spans=(Span(weekday=0, from_minute=480, until_minute=525),))
    )
    assert registry.touched_since(at) == {
        f"s3-{kind}-{no}" for kind in ("ifp", "ops-pc") for no in (1, 2, 3)
    }


def test_lesson_time_is_local_and_only_on_its_weekday():
    calendar = Calendar(school="s", spans=(Span(weekday=2, from_minute=480, until_minute=525),))
    wednesday = date(2026, 3, 11)
    start = day_starts_ms(wednesday) + 8 * HOUR_MS
    assert lesson_spans_ms(calendar, wednesday) == ((start, start + 45 * 60_000),)
    assert lesson_spans_ms(calendar, date(2026, 3, 12)) == ()
    assert overlap_ms(((start, start + 100),), start - 50, start + 30) == 30


def test_a_local_day_begins_at_beijing_midnight():
    assert day_starts_ms(date(1970, 1, 2)) == 16 * HOUR_MS
    assert day_of(16 * HOUR_MS - 1) == date(1970, 1, 1)
    assert day_of(16 * HOUR_MS) == date(1970, 1, 2)


def test_a_personal_device_is_one_that_was_not_declared_shared():
    assert Device(id="a", kind=Kind.TEACHER_PC, name="a").personal
    assert not Device(id="a", kind=Kind.TEACHER_PC, name="a", shared=True).personal
    assert Device(id="a", kind=Kind.STUDENT_TABLET, name="a", shared=True).personal
    assert not Device(id="a", kind=Kind.IFP, name="a").personal
