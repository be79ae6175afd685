"""The demo's fictitious region and the habits of its devices."""

from collections import Counter
from dataclasses import replace

import pytest

from ketang_center.registry.calendars import DAY_MS, day_of, day_starts_ms
from ketang_center.registry.database import Registry
from ketang_cli import behaviour, fiction
from ketang_cli.fiction import Habit
from ketang_contract.ids import is_identifier
from ketang_contract.limits import FEW

NOON_MS = day_starts_ms(day_of(1_790_000_000_000)) + 12 * 3_600_000
BUSY = next(one for one in fiction.simulated() if one.habit is Habit.BUSY)
HOURS_MS = [day_starts_ms(day_of(NOON_MS)) + hour * 3_600_000 + 60_000 for hour in range(24)]


def of(habit):
    return replace(BUSY, habit=habit)


def test_thirty_devices_stand_in_three_schools_that_are_always_in_lesson(tmp_path):
    devices = fiction.simulated()
    assert Counter(one.school for one in devices) == dict.fromkeys(
        ("qinghe-1", "liuwan", "songtai-x"), 10
    )
    assert all(is_identifier(one.id) for one in devices)
    with Registry(tmp_path / "registry.db") as registry:
        registry.load(fiction.registry_data(NOON_MS - DAY_MS))
        posted = registry.in_service(NOON_MS, NOON_MS + 1)
        assert {one.device.id for one in posted} == {one.id for one in devices} | {fiction.OWN}
        assert all(one.always_in_lesson for one in registry.calendars().values())


def test_every_habit_has_a_device_that_shows_it():
    assert {one.habit for one in fiction.simulated()} == set(Habit)


def test_the_same_minute_always_looks_the_same():
    for at_ms in range(NOON_MS, NOON_MS + 3_600_000, 60_000):
        assert behaviour.usage_at(BUSY, at_ms) == behaviour.usage_at(BUSY, at_ms)
        assert behaviour.heads_at(BUSY, at_ms) == behaviour.heads_at(BUSY, at_ms)


def test_a_count_of_one_to_four_is_only_ever_few():
    for at_ms in range(NOON_MS, NOON_MS + 3 * DAY_MS, 300_000):
        seen = behaviour.heads_at(BUSY, at_ms)
        for heads in (seen.median, seen.p90):
            assert heads in {None, FEW, 0} or heads >= 5


@pytest.mark.parametrize("now_ms", HOURS_MS)
def test_at_any_hour_classes_have_run_for_hours_and_no_day_overlaps_another(now_ms):
    since_ms = behaviour.running_since_ms(BUSY, now_ms)
    assert now_ms - since_ms >= 3 * 3_600_000
    days = behaviour.past_stretches(BUSY, now_ms - 14 * DAY_MS, now_ms)
    assert len(days) >= 12
    edges = [since_ms, *(edge for one in days for edge in (one.until_ms, one.from_ms))]
    assert edges == sorted(edges, reverse=True)


def test_a_lost_device_went_without_a_word_and_one_switched_off_said_so():
    lost = behaviour.past_stretches(of(Habit.LOST), NOON_MS - 14 * DAY_MS, NOON_MS)
    assert [one.orderly for one in lost][:2] == [False, True]
    off = behaviour.past_stretches(of(Habit.OFF), NOON_MS - 14 * DAY_MS, NOON_MS)
    assert off
    assert all(one.orderly for one in off)
    assert not behaviour.past_stretches(of(Habit.NEVER), NOON_MS - 14 * DAY_MS, NOON_MS)
