"""A demo started at any hour of any day has figures at once: its schools are always in lesson."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.web.seed import offices

from ketang_agent.clock import SystemClock
from ketang_agent.uplink.client import Broker
from ketang_center import views
from ketang_center.access.scope import Scope
from ketang_center.ingest.worker import Message, Worker
from ketang_center.metrics.figures import DayState
from ketang_center.metrics.rollup import Rollup, RollupReader
from ketang_center.registry.calendars import SHANGHAI, day_of
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Level
from ketang_center.store.reading import StoreReader
from ketang_center.store.sqlite import Store
from ketang_center.view_values import Context
from ketang_cli import fiction
from ketang_cli.simulated_device import SimulatedDevice
from ketang_contract.ids import shard_of
from ketang_provisioning.ca import ThrowawayAuthority

HOURS = [
    datetime(2026, 11, 29, 0, 25, tzinfo=SHANGHAI),  # a Sunday night
    datetime(2026, 11, 29, 2, 30, tzinfo=SHANGHAI),
    datetime(2027, 2, 1, 7, 0, tzinfo=SHANGHAI),
    datetime(2027, 2, 6, 12, 0, tzinfo=SHANGHAI),  # New Year's holidays
    datetime(2028, 2, 29, 23, 59, tzinfo=SHANGHAI),
]
SCHOOL = fiction.SCHOOLS[0].id


class ShiftedClock:
    """This machine's clock at another date; the boot clock runs as it does."""

    def __init__(self, at):
        self._clock = SystemClock()
        self._shift_ms = int(at.astimezone(UTC).timestamp() * 1000) - self._clock.now().wall_ms

    def now(self):
        now = self._clock.now()
        return replace(now, wall_ms=now.wall_ms + self._shift_ms)


def deliver(device, worker, clock):
    """Hand everything a device has over to the centre, without a broker."""
    device._sender.begin_session()
    while out := device._sender.next_frame(device._clock.now()):
        for reply in worker.handle([Message(out.topic, out.frame, clock.now().wall_ms)]):
            device._sender.on_acks([reply.payload], device._clock.now())
        device._sender.confirm(out.digest)


@pytest.mark.parametrize("at", HOURS, ids=str)
def test_a_school_that_was_just_started_shows_use_of_today(at, tmp_path):
    clock = ShiftedClock(at)
    now_ms = clock.now().wall_ms
    authority = ThrowawayAuthority(tmp_path / "keys")
    folder = tmp_path / "center"
    with Store(folder) as store:
        for what in fiction.simulated():
            if what.school != SCHOOL:
                continue
            one = authority.client(what.id)
            broker = Broker("127.0.0.1", 1, one.ca_file, one.certificate_file, one.key_file)
            center = store.control.center_id
            device = SimulatedDevice(
                what,
                tmp_path / what.id,
                broker,
                center,
                clock,
                lambda: None,
                tmp_path / "trust.json",
            )
            device.catch_up()
            lease = store.take_lease([shard_of(what.id)], "w", now_ms, 60_000)
            deliver(device, Worker(store, lease), clock)
            assert device.drained
            device.close()
    with (
        Registry(tmp_path / "registry.db") as registry,
        StoreReader(folder) as reading,
        Rollup(reading, tmp_path / "rollup.db", registry) as rollup,
        offices(tmp_path) as parts,
    ):
        registry.load(fiction.registry_data(now_ms - 86_400_000))
        while rollup.step():
            pass
        rollups = RollupReader(tmp_path / "rollup.db")
        context = Context(
            registry=registry,
            rollups=rollups,
            reading=reading,
            clock=lambda: clock.now().wall_ms,
            home=Scope(Level.SCHOOL, SCHOOL),
            **parts,
        )
        page = views.overview(context, context.home, day_of(now_ms))
        rollups.close()
    assert not page.no_lessons
    assert page.counts.of(DayState.USED) >= 3
    assert page.attention >= 1
