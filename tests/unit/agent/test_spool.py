"""The spool: what it keeps, what it gives up first, and what survives."""

import errno
import sqlite3
from pathlib import Path

import pytest

from ketang_agent.spool.limits import Reserve, make_room
from ketang_agent.spool.salvage import open_spool
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Damaged, Lane, Loss
from ketang_contract.batch import DropReason
from ketang_contract.ranges import RangeSet
from ketang_contract.records import Event, EventName, Host, Record, Stream, TimeQuality, Usage

DAY_MS = 86_400_000


def record(body, at_ms=1_790_000_000_000):
    return Record(
        subject="dev-1", wall_ms=at_ms, boot_id="b", boottime_ms=1, time=TimeQuality.FREE, body=body
    )


def host():
    return record(Host(window_s=300, uptime_s=7))


def event():
    return record(Event(name=EventName.WAKE))


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        yield spool


def lane(spool, stream):
    return Lane(spool.current_store, stream)


def test_numbers_never_repeat_and_what_waits_is_known_again_after_a_restart(spool, tmp_path):
    spool.append([host(), host(), event()])
    ops = lane(spool, Stream.OPS)
    spool.mark_acked(ops, RangeSet.span(2, 2), 5)
    spool.close()
    with Spool(tmp_path / "spool.db") as again:
        assert again.pending(ops) == RangeSet.span(1, 1)
        again.append([host()])
        assert again.pending(ops) == RangeSet.of([(1, 1), (3, 3)])
        assert again.head(lane(again, Stream.EVENT)) == 1


def test_a_record_is_in_the_spool_or_nothing_of_its_call_is(spool):
    spool._db.execute(
        "CREATE TRIGGER full AFTER INSERT ON record WHEN (SELECT count(*) FROM record) > 2"
        " BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    with pytest.raises(sqlite3.IntegrityError):
        spool.append([host()] * 3)
    ops = lane(spool, Stream.OPS)
    assert spool.head(ops) == 0
    assert not spool.pending(ops)
    spool._db.execute("DROP TRIGGER full")
    spool.append([host()])
    assert spool.pending(ops) == RangeSet.span(1, 1)


def test_at_the_cap_acknowledged_lines_go_first_and_are_no_loss(spool):
    spool.append([host()] * 2000)
    ops = lane(spool, Stream.OPS)
    spool.mark_acked(ops, RangeSet.span(1, 1900), 10 * DAY_MS)
    assert make_room(spool, spool.used_bytes() - 50_000, 10 * DAY_MS + 1) == 0
    assert spool.pending(ops) == RangeSet.span(1901, 2000)
    assert not spool.untold(ops)


def test_at_the_cap_the_least_important_stream_loses_its_oldest_and_the_loss_is_told(spool):
    usage = record(Usage(window_s=300, active_s=300))
    spool.append([event()] * 300 + [usage] * 300 + [host()] * 1000)
    cap = spool.used_bytes() - 60_000
    lost = make_room(spool, cap, DAY_MS)
    ops = lane(spool, Stream.OPS)
    assert spool.used_bytes() <= cap
    assert 0 < lost < 1000
    assert spool.pending(ops) == RangeSet.span(lost + 1, 1000)
    assert sum(one.last - one.first + 1 for one in spool.untold(ops)) == lost
    assert {one.reason for one in spool.untold(ops)} == {DropReason.EVICTED}
    for stream in (Stream.EVENT, Stream.USE):
        assert len(spool.pending(lane(spool, stream))) == 300


def test_a_told_loss_is_not_told_again_until_a_new_epoch_asks(spool):
    spool.append([host()] * 5)
    ops = lane(spool, Stream.OPS)
    spool.mark_lost(ops, RangeSet.span(1, 2), DropReason.EVICTED, 0)
    spool.mark_told(ops, [Loss(1, 2, DropReason.EVICTED)])
    assert not spool.untold(ops)
    spool.reconcile(ops, 2, RangeSet(), 0)
    assert spool.untold(ops) == [Loss(1, 2, DropReason.EVICTED)]


def test_a_restored_centre_gets_again_what_is_kept_and_is_told_what_is_gone(spool):
    spool.append([host()] * 6)
    ops = lane(spool, Stream.OPS)
    spool.mark_acked(ops, RangeSet.span(1, 2), 0)
    spool.let_go(ops, 1)
    spool.mark_acked(ops, RangeSet.span(3, 4), 5)
    spool.reconcile(ops, 9, RangeSet.span(1, 1), 7)
    assert spool.pending(ops) == RangeSet.span(3, 6)
    assert spool.untold(ops) == [Loss(2, 2, DropReason.EXPIRED)]
    assert spool.epoch(ops) == 9


def test_a_fork_moves_only_the_named_numbers_and_keeps_their_bytes(spool):
    spool.append([host()] * 4)
    ops = lane(spool, Stream.OPS)
    lines = dict(spool.read(ops, RangeSet.span(1, 4)))
    spool.fork(ops, RangeSet.span(2, 3), 0)
    moved = lane(spool, Stream.OPS)
    assert moved != ops
    assert spool.parent(moved.store_id) == ops.store_id
    assert spool.pending(ops) == RangeSet.of([(1, 1), (4, 4)])
    assert [line for _, line in spool.read(moved, RangeSet.span(1, 2))] == [lines[2], lines[3]]
    spool.fork(ops, RangeSet.span(4, 4), 0)
    assert lane(spool, Stream.OPS) == moved
    assert len(spool.pending(moved)) == 3


def test_a_session_number_is_never_given_twice(spool, tmp_path):
    first = spool.next_session()
    spool.close()
    with Spool(tmp_path / "spool.db") as again:
        assert again.next_session() == first + 1


def test_the_reserve_takes_real_room_and_gives_it_back(tmp_path):
    reserve = Reserve(tmp_path / "reserve")
    assert reserve.hold()
    assert reserve.path.stat().st_blocks * 512 >= 2 << 20
    reserve.release()
    assert not reserve.path.exists()


def test_acknowledgements_of_an_hour_are_one_range_and_a_day_has_few(spool):
    spool.append([host()] * 600)
    ops = lane(spool, Stream.OPS)
    for at in range(288):
        spool.mark_acked(ops, RangeSet.span(2 * at + 1, 2 * at + 2), DAY_MS + at * 300_000)
    rows = spool._db.execute("SELECT count(*) FROM fate").fetchone()[0]
    assert rows == 24
    assert spool.pending(ops) == RangeSet.span(577, 600)
    assert spool.let_go(ops, DAY_MS + 3_600_000) == 24
    assert spool.let_go(ops, DAY_MS + 3_600_000) == 0


def test_lines_are_let_go_in_portions(spool):
    spool.append([host()] * 100)
    ops = lane(spool, Stream.OPS)
    spool.mark_acked(ops, RangeSet.of([(1, 40), (51, 100)]), 0)
    assert spool.let_go(ops, 1, most=60) == 60
    assert [seq for seq, _ in spool.read(ops, RangeSet.span(1, 100))] == [
        *range(41, 51),
        *range(71, 101),
    ]
    assert spool.let_go(ops, 1, most=60) == 30


def test_a_loss_that_grew_while_it_was_told_is_told_again_whole(spool):
    spool.append([host()] * 20)
    ops = lane(spool, Stream.OPS)
    spool.mark_lost(ops, RangeSet.span(1, 5), DropReason.EVICTED, 0)
    on_its_way = spool.untold(ops)
    spool.mark_lost(ops, RangeSet.span(6, 9), DropReason.EVICTED, 0)
    spool.mark_told(ops, on_its_way)
    assert spool.untold(ops) == [Loss(1, 9, DropReason.EVICTED)]
    spool.mark_told(ops, spool.untold(ops))
    spool.mark_lost(ops, RangeSet.span(10, 12), DropReason.EVICTED, 0)
    assert spool.untold(ops) == [Loss(10, 12, DropReason.EVICTED)]


def test_a_file_kept_to_its_size_takes_records_only_where_others_went(spool):
    spool.append([host()] * 2000)
    ops = lane(spool, Stream.OPS)
    spool.hold_size(held=True)
    pages = spool._db.execute("PRAGMA page_count").fetchone()[0]
    with pytest.raises(sqlite3.OperationalError):
        spool.append([host()] * 500)
    assert spool.head(ops) == 2000
    make_room(spool, spool.used_bytes() - 200_000, 0)
    spool.append([host()] * 500)
    assert spool._db.execute("PRAGMA page_count").fetchone()[0] == pages
    spool.hold_size(held=False)
    spool.append([host()] * 2000)
    assert spool.head(ops) == 4500


def test_a_fate_that_was_changed_on_the_disk_is_damage_whoever_meets_it(spool):
    spool.append([host()] * 5)
    ops = lane(spool, Stream.OPS)
    spool.mark_lost(ops, RangeSet.span(1, 2), DropReason.EVICTED, 5)
    [loss] = spool.untold(ops)
    spool._db.execute("UPDATE fate SET reason = 'evicteD'")
    with pytest.raises(Damaged):
        spool.mark_told(ops, [loss])
    with pytest.raises(Damaged):
        spool.mark_lost(ops, RangeSet.span(4, 4), DropReason.EVICTED, 5)


def test_a_bad_sector_under_the_witness_is_damage_and_is_replaced(spool, tmp_path, monkeypatch):
    spool.append([host()] * 3)
    spool.close()
    good = Path.read_bytes

    def read_bytes(path):
        if path.suffix == ".heads":
            raise OSError(errno.EIO, "Input/output error")
        return good(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(Damaged):
        Spool(spool.path).open()
    monkeypatch.setattr("ketang_agent.spool.witness.Path.unlink", mended(monkeypatch, good))
    healed, salvaged = open_spool(spool.path, DAY_MS)
    with healed:
        assert salvaged.kept == 3
        assert salvaged.lost == 0


def mended(monkeypatch, good):
    """A file made anew lies on other sectors."""
    unlink = Path.unlink

    def unlinks(path, **how):
        if path.suffix == ".heads":
            monkeypatch.setattr(Path, "read_bytes", good)
        unlink(path, **how)

    return unlinks
