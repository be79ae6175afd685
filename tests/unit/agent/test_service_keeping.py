"""The way into the spool over disks that are full, failing, or not there."""

import sqlite3

import pytest
from tests.unit.agent.clocks import FakeClock

from ketang_agent.keeping import Keeper
from ketang_agent.spool.salvage import open_spool
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Damaged
from ketang_contract.records import Event, EventName, Host, Inventory, Record, TimeQuality

NOW_MS = FakeClock().now().wall_ms


def record(at, body=None):
    return Record(
        subject="panel-1",
        wall_ms=NOW_MS,
        boot_id="boot-1",
        boottime_ms=at,
        time=TimeQuality.SYNCED,
        body=body or Host(window_s=300, uptime_s=at),
    )


@pytest.fixture
def keeper(tmp_path):
    keeper = Keeper(tmp_path, 8 << 20, most_unsaved=10)
    assert keeper.open(NOW_MS)
    yield keeper
    keeper.close()


def pages(keeper):
    return keeper.spool._db.execute("PRAGMA page_count").fetchone()[0]


def let_grow_to(keeper, most):
    """SQLite's own limit is answered as a full disk is: SQLITE_FULL."""
    keeper.spool._db.execute(f"PRAGMA max_page_count = {most}")


def waiting(keeper):
    return sum(len(keeper.spool.pending(lane)) for lane in keeper.spool.lanes())


def test_what_is_kept_is_in_the_spool(keeper):
    keeper.keep([record(1), record(2)], NOW_MS)
    assert (waiting(keeper), keeper.unsaved, keeper.trouble) == (2, 0, "")


def test_a_full_disk_never_raises_and_costs_only_what_it_says(keeper):
    keeper.keep([record(at) for at in range(10)], NOW_MS)
    let_grow_to(keeper, pages(keeper))
    for at in range(3000):
        keeper.keep([record(at, Inventory(model="x" * 64, vendor="y" * 64))], NOW_MS)
        assert keeper.unsaved <= 10
    assert waiting(keeper) + keeper.unsaved + keeper.evicted + keeper.dropped == 3010
    assert keeper.evicted or keeper.dropped


def test_when_the_disk_takes_records_again_all_that_waited_goes_in(keeper):
    keeper.spool._db.execute("PRAGMA query_only = ON")
    for at in range(7):
        keeper.keep([record(at)], NOW_MS)
    assert (keeper.unsaved, waiting(keeper)) == (7, 0)
    assert "readonly" in keeper.trouble
    keeper.spool._db.execute("PRAGMA query_only = OFF")
    keeper.keep([], NOW_MS)
    assert (keeper.unsaved, keeper.trouble, waiting(keeper)) == (0, "", 7)


def test_acknowledged_records_make_room_before_waiting_ones_do(keeper):
    keeper.keep([record(at) for at in range(2000)][:10], NOW_MS)
    keeper.spool.append([record(at) for at in range(5000)])
    for lane in keeper.spool.lanes():
        keeper.spool.mark_acked(lane, keeper.spool.pending(lane), NOW_MS)
    let_grow_to(keeper, pages(keeper))
    for at in range(500):
        keeper.keep([record(at)], NOW_MS)
    assert (waiting(keeper), keeper.evicted, keeper.dropped) == (500, 0, 0)


def test_a_spool_that_cannot_be_opened_is_tried_again_and_loses_nothing_within_bounds(tmp_path):
    answers = [OSError(30, "Read-only file system"), sqlite3.OperationalError("unable to open")]

    def opens(path, now_ms):
        if answers:
            raise answers.pop(0)
        return open_spool(path, now_ms)

    keeper = Keeper(tmp_path / "data", 8 << 20, opens, most_unsaved=3)
    assert not keeper.open(NOW_MS)
    assert "Read-only" in keeper.trouble
    keeper.keep([record(at) for at in range(5)], NOW_MS)
    assert (keeper.unsaved, keeper.dropped) == (3, 2)
    assert not keeper.open(NOW_MS)
    assert keeper.open(NOW_MS)
    keeper.keep([], NOW_MS)
    assert (waiting(keeper), keeper.unsaved, keeper.trouble) == (3, 0, "")
    keeper.close()


def test_one_record_that_is_too_large_does_not_hold_up_the_others(keeper, monkeypatch):
    large = record(1, Inventory(model="好" * 64, vendor="好" * 64))
    monkeypatch.setattr("ketang_contract.records.MAX_LINE_BYTES", 400)
    keeper.keep([large, record(2, Event(name=EventName.WAKE))], NOW_MS)
    assert (waiting(keeper), keeper.unsaved, keeper.dropped) == (1, 0, 1)


def test_damage_shuts_the_spool_and_opening_anew_salvages_it(keeper):
    keeper.keep([record(1)], NOW_MS)
    keeper.note(sqlite3.DatabaseError("database disk image is malformed"))
    assert keeper.spool is None
    keeper.keep([record(2)], NOW_MS)
    assert keeper.unsaved == 1
    assert keeper.open(NOW_MS)
    keeper.keep([], NOW_MS)
    assert waiting(keeper) == 2


def test_while_the_log_may_not_grow_records_wait_in_memory(keeper):
    keeper.writing = False
    keeper.keep([record(1)], NOW_MS)
    keeper.tidy(NOW_MS)
    assert (waiting(keeper), keeper.unsaved) == (0, 1)
    keeper.writing = True
    keeper.keep([], NOW_MS)
    assert waiting(keeper) == 1


class Unholdable(Spool):
    def hold_size(self, *, held):
        raise Damaged("page_count")


def test_a_spool_that_breaks_while_its_reserve_is_taken_is_a_fault_and_no_crash(tmp_path):
    def opens(path, now_ms):
        spool = Unholdable(path)
        spool.open()
        return spool, None

    keeper = Keeper(tmp_path, 8 << 20, opens)
    assert not keeper.open(NOW_MS)
    assert (keeper.spool, keeper.trouble) == (None, "page_count")


def test_damage_met_while_tidying_shuts_the_spool(keeper, monkeypatch):
    monkeypatch.setattr(Spool, "hold_size", Unholdable.hold_size)
    keeper.tidy(NOW_MS)
    assert keeper.spool is None
