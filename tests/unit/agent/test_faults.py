"""What stands wrong: raised when seen, cleared when gone for a while, never a flood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.clocks import FakeClock

from ketang_agent.collectors.base import HostReading
from ketang_agent.faults import CLEAR_AFTER_MS, Faults, Signs
from ketang_contract.records import EventName, Fault

RAISED, CLEARED = EventName.FAULT_RAISED, EventName.FAULT_CLEARED


class Ward:
    def __init__(self):
        self.clock, self.faults = FakeClock(), Faults()

    def see(self, after_s=0, **signs):
        changes = self.faults.judge(Signs(**signs), self.clock.passes(after_s))
        return [(one.name, one.fault) for one in changes]


@pytest.fixture
def ward():
    return Ward()


@pytest.mark.parametrize(
    ("signs", "fault"),
    [
        ({"spool_failing": True}, Fault.SPOOL_FAILING),
        ({"spool_pinned": True}, Fault.SPOOL_PINNED),
        ({"evicted": 3}, Fault.SPOOL_FULL),
        ({"refused": 1}, Fault.RECORDS_REFUSED),
        ({"collectors_failing": True}, Fault.COLLECTOR_FAILING),
        ({"worker_failing": True}, Fault.WORKER_FAILING),
        ({"host": HostReading(disk_free_pct=9.9)}, Fault.DISK_LOW),
        ({"host": HostReading(battery_health_pct=59)}, Fault.BATTERY_WORN),
    ],
)
def test_a_fault_is_raised_once_when_it_is_first_seen(ward, signs, fault):
    assert ward.see(**signs) == [(RAISED, fault)]
    assert ward.see(2, **signs) == []
    assert ward.faults.standing == (fault,)


@pytest.mark.parametrize(
    "host",
    [
        HostReading(),
        HostReading(disk_free_pct=10.0, battery_health_pct=60, temperature_c=85),
    ],
)
def test_a_healthy_or_silent_host_is_no_fault(ward, host):
    assert [ward.see(60, host=host) for _ in range(20)] == [[]] * 20


def test_a_fault_clears_only_after_it_was_gone_for_a_while(ward):
    ward.see(spool_failing=True)
    assert ward.see(CLEAR_AFTER_MS / 1000 - 1) == []
    assert ward.see(1) == [(CLEARED, Fault.SPOOL_FAILING)]
    assert ward.faults.standing == ()


def test_heat_counts_after_ten_minutes_and_starts_anew_when_it_was_cool(ward):
    hot, cool = HostReading(temperature_c=86), HostReading(temperature_c=60)
    assert ward.see(host=hot) == []
    assert ward.see(590, host=hot) == []
    assert ward.see(5, host=cool) == []
    assert ward.see(10, host=hot) == []
    assert ward.see(599, host=hot) == []
    assert ward.see(1, host=hot) == [(RAISED, Fault.TOO_HOT)]


def test_what_happened_in_a_moment_is_not_raised_again_without_news(ward):
    ward.see(refused=1)
    assert ward.see(3599, refused=1) == []
    assert ward.see(1, refused=1) == [(CLEARED, Fault.RECORDS_REFUSED)]
    assert ward.see(1, refused=1) == []
    assert ward.see(1, refused=2) == [(RAISED, Fault.RECORDS_REFUSED)]


def test_a_clock_that_nobody_believes_is_a_fault(ward):
    ward.clock.is_set_to(0)
    assert ward.see(1) == [(RAISED, Fault.CLOCK_WRONG)]


@given(st.lists(st.booleans(), min_size=1, max_size=400))
def test_however_it_flaps_it_never_floods(flaps):
    ward, step_s = Ward(), 15
    changes = [one for flap in flaps for one in ward.see(step_s, collectors_failing=flap)]
    assert len(changes) <= 2 + 2 * len(flaps) * step_s * 1000 // CLEAR_AFTER_MS
    names = [name for name, _ in changes]
    assert names == ([RAISED, CLEARED] * len(names))[: len(names)]
