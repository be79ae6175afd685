"""A release that breaks three of ten, in fleets of any size: how many it breaks before it stops."""

import pytest

from ketang_center.rollouts.plan import State
from tests.simulator_rollouts.fleet import (
    by_kind,
    by_school,
    fleet,
    roll_out,
    uniform,
)

POISONS = {"uniform": uniform, "by kind": by_kind, "by school": by_school}
HOUR_MS = 3_600_000
WHOLE_REGION = pytest.param(50_000, marks=pytest.mark.soak)
"""Half a minute each, where nothing stops it early."""


@pytest.mark.parametrize("count", [1_000, 50_000])
@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_fleet_has_forty_broken_devices_at_most(poison, count):
    for seed in range(8 if count == 1_000 else 2):
        ended = roll_out(fleet(count, POISONS[poison], seed), seed=seed)
        assert ended.state == "paused"
        assert ended.broken <= 40, (seed, ended)
        assert ended.most_unresolved <= 20


@pytest.mark.parametrize("count", [1, 19, 20, 21, 221, 1_000, 10_000, WHOLE_REGION])
def test_a_healthy_fleet_is_converted_to_the_last(count):
    ended = roll_out(fleet(count))
    assert ended.state == "finished"
    assert ended.counts == {State.COMMITTED: count}
    assert ended.took_ms < 2 * HOUR_MS


def test_one_device_in_a_hundred_that_fails_stops_no_healthy_release():
    ended = roll_out(fleet(5_000, lambda one, chance: chance.random() < 0.01, seed=4))
    assert ended.state == "finished"
    assert ended.counts[State.PENDING] == 0


@pytest.mark.parametrize("count", [1_000, 10_000, WHOLE_REGION])
@pytest.mark.parametrize("poison", POISONS)
def test_those_who_break_and_come_on_line_last_are_met_a_few_at_a_time(poison, count):
    devices = fleet(
        count, POISONS[poison], on_ms=lambda one, chance: 3 * HOUR_MS if one.breaks else 0
    )
    ended = roll_out(devices)
    assert ended.counts[State.COMMITTED] > count * 0.6
    assert ended.state == "paused"
    assert ended.broken <= 40


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_those_who_break_among_many_who_come_in_the_morning_are_met_a_few_at_a_time(share):
    def comes(one, chance):
        return chance.randint(11 * HOUR_MS, 12 * HOUR_MS) if int(one.id[1:]) % 2 else 0

    def breaks(one, chance):
        return int(one.id[1:]) % 2 == 1 and chance.random() < share

    ended = roll_out(fleet(10_000, breaks, on_ms=comes))
    assert ended.counts[State.COMMITTED] > 4_900
    assert ended.state == "paused"
    assert ended.broken <= 40


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_healthy_fleet_that_comes_in_the_course_of_a_day_is_converted_to_the_last(count):
    day = fleet(count, on_ms=lambda one, chance: chance.randint(0, 10 * HOUR_MS))
    ended = roll_out(day)
    assert ended.state == "finished"
    assert ended.took_ms < 10 * HOUR_MS + 15 * 60_000


def test_devices_that_never_come_block_nobody():
    devices = fleet(2_000, on_ms=lambda one, chance: 10**12 if chance.random() < 0.5 else 0)
    ended = roll_out(devices)
    assert ended.state == "finished"
    assert ended.counts[State.COMMITTED] + ended.counts[State.PENDING] == 2_000
    assert ended.counts[State.COMMITTED] > 900
