"""From a device's messages through the real store and rollups to what a page shows."""

import pytest
from tests.web.seed import TODAY, offices, registry_data

from ketang_center import views
from ketang_center.access.scope import Scope
from ketang_center.ingest.worker import Message, Worker
from ketang_center.metrics.figures import DayState
from ketang_center.metrics.rollup import Rollup, RollupReader
from ketang_center.registry.calendars import HOUR_MS, day_starts_ms
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Level
from ketang_center.states import Connection
from ketang_center.store.partitions import SLOT_MS
from ketang_center.store.partitions import day_of as partition_of
from ketang_center.store.reading import ROWS, StoreReader
from ketang_center.store.sqlite import Store
from ketang_center.view_values import Context, Filters
from ketang_contract import batch, topics
from ketang_contract.batch import Header, Sent
from ketang_contract.ids import shard_of
from ketang_contract.records import (
    Event,
    EventName,
    IdleSource,
    Record,
    Stream,
    TimeQuality,
    Usage,
    to_line,
)
from ketang_contract.state import Birth, Death, StoreState

DEVICE = "s1-ifp-1"
START = day_starts_ms(TODAY) + 9 * HOUR_MS
SENT = Sent(wall_ms=START + HOUR_MS, boot_id="b", boottime_ms=2 * HOUR_MS)


class Clock:
    now_ms = START + HOUR_MS

    def __call__(self):
        return self.now_ms


@pytest.fixture
def centre(tmp_path):
    clock = Clock()
    with (
        Store(tmp_path) as store,
        StoreReader(tmp_path) as for_rollup,
        StoreReader(tmp_path) as for_pages,
        Registry(tmp_path / "registry.db") as registry,
        Rollup(for_rollup, tmp_path / "rollup.db", registry) as rollup,
        offices(tmp_path) as parts,
    ):
        registry.load(registry_data())
        rollups = RollupReader(tmp_path / "rollup.db")
        lease = store.take_lease([shard_of(DEVICE)], "w", clock.now_ms, HOUR_MS)
        context = Context(
            registry=registry,
            rollups=rollups,
            reading=for_pages,
            clock=clock,
            home=Scope(Level.SCHOOL, "s1"),
            **parts,
        )
        yield Worker(store, lease), rollup, context, clock
        rollups.close()


def say(worker, channel, document, at_ms):
    worker.handle([Message(topics.of(DEVICE, channel), to_line(document), at_ms)])


def send(worker, stream, first, bodies, at_ms):
    lines = [
        to_line(
            Record(
                subject=DEVICE,
                wall_ms=wall_ms,
                boot_id="b",
                boottime_ms=HOUR_MS + wall_ms - START,
                time=TimeQuality.SYNCED,
                body=body,
            )
        )
        for wall_ms, body in bodies
    ]
    header = Header(
        schema=1,
        store_id="store1",
        stream=stream,
        head=first + len(lines) - 1,
        seqs=((first, first + len(lines) - 1),),
        sent=SENT,
    )
    worker.handle([Message(topics.batch(DEVICE, stream), batch.encode(header, lines), at_ms)])


def shown(context):
    return next(
        row
        for row in views.devices(context, context.home, TODAY, Filters())
        if row.posted.device.id == DEVICE
    )


def test_a_birth_windows_and_a_shutdown_become_what_the_page_says(centre):
    worker, rollup, context, clock = centre
    now_ms = clock.now_ms
    assert shown(context).connection is Connection.NEVER
    say(
        worker,
        topics.BIRTH,
        Birth(
            session=1,
            sent=SENT,
            agent_version="0.1.0",
            schema_oldest=1,
            schema_newest=1,
            stores=(StoreState(store_id="store1", current=True),),
        ),
        now_ms,
    )
    assert shown(context).connection is Connection.CONNECTED
    assert shown(context).day is DayState.UNKNOWN

    usage = Usage(window_s=300, active_s=300, idle_source=IdleSource.XSCREENSAVER)
    send(worker, Stream.USE, 1, [(START + no * 300_000, usage) for no in range(12)], now_ms)
    assert rollup.step() == 1
    assert rollup.step() == 0
    page = views.device_day(context, context.home, DEVICE, TODAY)
    assert (page.row.day, page.figures.lesson_used_s, len(page.cells)) == (DayState.USED, 3600, 12)
    assert page.row.use.state == "active"
    totals = views.overview(context, context.home, TODAY).totals
    assert (totals.head, totals.stored, totals.missing) == (12, 12, 0)

    send(worker, Stream.EVENT, 1, [(now_ms - 1000, Event(name=EventName.SHUTDOWN))], now_ms)
    say(worker, topics.DEATH, Death(session=1, orderly=True), now_ms)
    rollup.step()
    assert shown(context).connection is Connection.ORDERLY
    assert shown(context).use.why == "off"
    clock.now_ms += 24 * HOUR_MS
    tomorrow = views.devices(context, context.home, TODAY.replace(day=TODAY.day + 1), Filters())
    assert next(row for row in tomorrow if row.posted.device.id == DEVICE).day is DayState.OFF


def test_a_resend_marks_its_hour_again_and_changes_no_figure(centre):
    worker, rollup, context, clock = centre
    usage = Usage(window_s=300, active_s=300)
    for _ in range(2):
        send(worker, Stream.USE, 1, [(START, usage)], clock.now_ms)
        assert rollup.step() == 1
        assert context.rollups.days(TODAY)[DEVICE, "s1"].active_s == 300


def test_a_bucket_is_looked_up_and_not_searched_for_among_all_devices(centre):
    worker, *_ = centre
    db = worker.store.partitions.connection(partition_of(START // SLOT_MS))
    plan = db.execute(f"EXPLAIN QUERY PLAN {ROWS}", (1, "d", "d")).fetchall()
    assert "(slot=? AND device=?)" in plan[0][3]


def test_a_good_bye_the_centre_missed_is_not_a_connection_for_ever(centre):
    worker, _, context, clock = centre
    born = Birth(
        session=1,
        sent=SENT,
        agent_version="0.1.0",
        schema_oldest=1,
        schema_newest=1,
    )
    say(worker, topics.BIRTH, born, clock.now_ms)
    clock.now_ms += HOUR_MS
    worker.store.control.note_listening(clock.now_ms)
    assert shown(context).connection is Connection.CONNECTED, "it may just not have spoken yet"
    clock.now_ms += HOUR_MS
    assert shown(context).connection is Connection.SILENT


def test_after_a_restore_every_bucket_is_computed_again(centre):
    """The rollups' file may be of an earlier time than the marks that were cleared for it."""
    worker, rollup, _, clock = centre
    send(worker, Stream.USE, 1, [(START, Usage(window_s=300, active_s=300))], clock.now_ms)
    assert rollup.step() == 1
    worker.store.begin_epoch(clock.now_ms // 1000)
    assert rollup.step() == 1
