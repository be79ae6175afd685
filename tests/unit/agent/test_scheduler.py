import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.clocks import FakeClock

from ketang_agent.scheduler import Scheduler, next_due_ms


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def scheduler(clock):
    return Scheduler(clock)


def test_a_job_keeps_its_grid_however_late_each_run_is(clock, scheduler):
    runs = []
    scheduler.every(60, lambda now: runs.append(now.boottime_ms), name="usage")
    start_ms = clock.now().boottime_ms
    for late_s in (0, 3, 17, 1, 40):
        clock.passes(scheduler.run_due() + late_s)
    scheduler.run_due()
    assert [(at - start_ms) // 60_000 for at in runs] == list(range(len(runs)))
    assert scheduler.run_due() == pytest.approx(20)


def test_a_late_job_runs_once_and_skips_what_it_missed(clock, scheduler):
    runs = []
    scheduler.every(60, runs.append, name="usage")
    scheduler.run_due()
    clock.sleeps(1800)
    scheduler.run_due()
    scheduler.run_due()
    assert len(runs) == 2


def test_a_failing_job_does_not_stop_the_next_and_is_told_of_once(clock, scheduler, caplog):
    caplog.set_level(logging.INFO, "ketang.scheduler")
    runs, broken = [], [True]

    def fragile(now):
        if broken[0]:
            raise RuntimeError("no")

    scheduler.every(1, fragile, name="fragile")
    scheduler.every(1, runs.append, name="sound")
    for _ in range(3):
        clock.passes(scheduler.run_due())
    assert scheduler.failing == {"fragile"}
    broken[0] = False
    scheduler.run_due()
    assert len(runs) == 4
    assert not scheduler.failing
    assert [one.message.split()[0] for one in caplog.records] == ["job.failing", "job.back"]


def test_a_cancelled_job_does_not_run_even_when_cancelled_by_one_that_is_due_with_it(
    clock, scheduler
):
    runs = []
    scheduler.every(1, lambda now: scheduler.cancel("second"), name="first")
    scheduler.every(1, runs.append, name="second")
    scheduler.run_due()
    assert runs == []


def test_a_wall_clock_that_is_set_moves_no_job(clock, scheduler):
    scheduler.every(60, lambda now: None, name="usage")
    scheduler.run_due()
    clock.is_set(400 * 86_400)
    assert scheduler.run_due() == 60


def test_the_first_run_may_be_put_off(clock, scheduler):
    runs = []
    scheduler.every(60, runs.append, name="usage", first_in_s=7)
    assert scheduler.run_due() == 7
    assert runs == []


def test_an_interval_of_nothing_is_refused(scheduler):
    with pytest.raises(ValueError, match="interval"):
        scheduler.every(0, lambda now: None, name="never")


@given(st.integers(0, 10**12), st.integers(1, 10**8), st.integers(0, 10**13))
def test_the_next_moment_is_the_first_of_the_grid_after_now(due_ms, interval_ms, now_ms):
    following_ms = next_due_ms(due_ms, interval_ms, now_ms)
    assert following_ms > now_ms or following_ms == due_ms > now_ms
    assert (following_ms - due_ms) % interval_ms == 0
    assert following_ms == due_ms or following_ms - interval_ms <= now_ms


def test_a_job_can_be_run_at_once_and_an_unknown_one_is_no_error(clock, scheduler):
    runs = []
    scheduler.every(60, runs.append, name="power", first_in_s=60)
    scheduler.run("power")
    scheduler.run("nothing")
    assert runs == [clock.now()]
