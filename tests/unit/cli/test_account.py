"""The demo's account reads both ends' own files, and finds what is wrong there."""

import pytest

from ketang_agent.spool.store import Spool
from ketang_center.ingest.worker import Message, Worker
from ketang_center.store.sqlite import Store
from ketang_cli.account import balance
from ketang_contract import topics
from ketang_contract.batch import DropReason, Header, Sent, encode
from ketang_contract.ids import shard_of
from ketang_contract.ranges import RangeSet
from ketang_contract.records import Host, Record, Stream, TimeQuality

DEVICE = "panel-1"
NOW_MS = 1_790_000_000_000


@pytest.fixture
def ends(tmp_path):
    folder = tmp_path / DEVICE
    folder.mkdir()
    with Spool(folder / "spool.db") as spool, Store(tmp_path / "center") as store:
        spool.append([record(at) for at in range(10)])
        yield spool, store, lambda: balance([folder / "spool.db"], tmp_path / "center")


def record(at):
    return Record(
        subject=DEVICE,
        wall_ms=NOW_MS,
        boot_id="boot-1",
        boottime_ms=1000 + at,
        time=TimeQuality.SYNCED,
        body=Host(window_s=300, uptime_s=at),
    )


def lane_of(spool):
    return next(one for one in spool.lanes() if one.stream is Stream.OPS)


def deliver(spool, store, seqs, *, store_id=None):
    lane = lane_of(spool)
    header = Header(
        schema=1,
        store_id=store_id or lane.store_id,
        stream=lane.stream,
        head=10,
        seqs=seqs.ranges,
        sent=Sent(wall_ms=NOW_MS, boot_id="boot-1", boottime_ms=5000),
    )
    frame = encode(header, [line for _, line in spool.read(lane, seqs)])
    lease = store.take_lease([shard_of(DEVICE)], "w", NOW_MS, 60_000)
    Worker(store, lease).handle(
        [Message(topics.batch(DEVICE, lane.stream), frame, NOW_MS)],
    )


def test_all_stored_balances(ends):
    spool, store, account = ends
    deliver(spool, store, RangeSet.span(1, 10))
    found = account()
    assert (found.created, found.stored, found.lost, found.twice, found.strange) == (
        10,
        10,
        0,
        0,
        0,
    )
    assert found.holds


def test_what_waits_on_the_device_is_no_loss_but_does_not_hold_yet(ends):
    spool, store, account = ends
    deliver(spool, store, RangeSet.span(1, 7))
    found = account()
    assert (found.stored, found.waiting, found.lost) == (7, 3, 0)
    assert not found.holds


def test_a_record_that_was_marked_and_never_stored_is_lost(ends):
    spool, store, account = ends
    deliver(spool, store, RangeSet.span(1, 7))
    spool.mark_acked(lane_of(spool), RangeSet.span(1, 10), NOW_MS)
    assert account().lost == 3


def test_rows_nobody_made_are_strange(ends):
    spool, store, account = ends
    deliver(spool, store, RangeSet.span(1, 10))
    deliver(spool, store, RangeSet.span(1, 2), store_id="another")
    found = account()
    assert found.strange == 2
    assert not found.holds


def test_a_loss_the_device_gave_up_is_waiting_for_nobody(ends):
    spool, _, account = ends
    spool.mark_lost(lane_of(spool), RangeSet.span(1, 10), DropReason.EVICTED, NOW_MS)
    found = account()
    assert (found.created, found.waiting, found.stored) == (10, 0, 0)
    assert not found.holds
