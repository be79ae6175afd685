"""A disk that is full, read-only or dead: the least important goes first, all is told, it goes on.

The disks are real: a small tmpfs, and a small ext4 on a loop device, mounted for one test. That
takes root: ``sudo make test``.
"""

import fcntl
import os
import sqlite3
import subprocess

import pytest

from ketang_agent.keeping import Keeper
from ketang_agent.spool import guard
from ketang_agent.spool.guard import Grip
from ketang_agent.spool.limits import RESERVE_BYTES, make_room
from ketang_agent.spool.salvage import open_spool
from ketang_agent.spool.values import Lane
from ketang_contract.batch import DropReason
from ketang_contract.ranges import RangeSet
from ketang_contract.records import (
    Event,
    EventName,
    Host,
    Record,
    Stream,
    TimeQuality,
    Usage,
    to_line,
)

NOW_MS = 1_790_000_000_000
DISK_BYTES = 12 << 20
FS_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_NOLOGFLUSH = b"\2\0\0\0"


def mount(*words):
    """Mount, or skip with a line that says what is missing; where parts are required, fail."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root: sudo make test")
    done = subprocess.run(
        ["mount", *words], capture_output=True, check=False, text=True, timeout=30
    )
    if done.returncode:
        why = f"this system lets nobody mount: {done.stderr.strip()}"
        if os.environ.get("KETANG_REQUIRE_PARTS") == "1":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)


def unmount(folder):
    # Lazily: a test that failed may still hold files there.
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "ketang-test", str(folder))
    yield folder
    unmount(folder)


def record(body):
    return Record(
        subject="dev-1",
        wall_ms=NOW_MS,
        boot_id="b",
        boottime_ms=1,
        time=TimeQuality.FREE,
        body=body,
    )


HOST = record(Host(window_s=300, uptime_s=7))
USAGE = record(Usage(window_s=300, active_s=300))
EVENT = record(Event(name=EventName.WAKE))


def fill(folder, keep_bytes=0):
    """Others take the rest of the disk."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - keep_bytes)
    return ballast


def lane(spool, stream):
    return Lane(spool.current_store, stream)


def check_books(spool):
    """1..head is what waits and what has a fate, and every line that waits can be read."""
    for one in spool.lanes():
        pending = spool.pending(one)
        lost = RangeSet.of((loss.first, loss.last) for loss in spool.untold(one))
        assert not pending & lost
        assert pending | lost == RangeSet.span(1, spool.head(one))
        assert sum(1 for _ in spool.read(one, pending)) == len(pending)


def test_on_a_full_disk_the_least_important_goes_first_and_new_records_are_kept(disk):
    keeper = Keeper(disk, DISK_BYTES * 2)
    assert keeper.open(NOW_MS)
    keeper.keep([EVENT] * 200 + [USAGE] * 200, NOW_MS)
    for _ in range(10):
        keeper.keep([HOST] * 1000, NOW_MS)
    ballast = fill(disk)
    for _ in range(60):
        keeper.keep([EVENT, USAGE] + [HOST] * 150, NOW_MS)
        keeper.tidy(NOW_MS)
    spool = keeper.spool
    assert spool is not None
    assert keeper.unsaved + keeper.dropped == 0, keeper.trouble
    assert keeper.evicted > 0
    for stream in (Stream.EVENT, Stream.USE):
        assert spool.pending(lane(spool, stream)) == RangeSet.span(1, 260)
    losses = spool.untold(lane(spool, Stream.OPS))
    assert sum(one.last - one.first + 1 for one in losses) == keeper.evicted
    assert {one.reason for one in losses} == {DropReason.EVICTED}
    check_books(spool)
    ballast.unlink()
    keeper.keep([HOST] * 500, NOW_MS)
    keeper.tidy(NOW_MS)
    assert not keeper.trouble
    assert (disk / "spool.reserve").stat().st_size == RESERVE_BYTES
    check_books(spool)
    keeper.close()
    again, salvaged = open_spool(keeper.path, NOW_MS)
    assert salvaged is None
    check_books(again)
    again.close()


def test_a_full_disk_without_reserve_loses_nothing_that_was_taken(disk):
    spool, _ = open_spool(disk / "spool.db", NOW_MS)
    fill(disk, keep_bytes=300_000)
    taken = 0
    with pytest.raises(sqlite3.OperationalError) as caught:  # noqa: PT012  (until it is full)
        while True:
            spool.append([HOST] * 100)
            taken += 100
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    ops = lane(spool, Stream.OPS)
    assert spool.head(ops) == taken
    check_books(spool)
    (disk / "ballast").unlink()
    spool.append([HOST])
    assert spool.head(ops) == taken + 1
    spool.close()
    again, salvaged = open_spool(disk / "spool.db", NOW_MS)
    assert salvaged is None
    assert again.head(ops) == taken + 1
    check_books(again)
    again.close()


def test_the_spool_opens_on_a_full_disk_out_of_its_reserve(disk):
    keeper = Keeper(disk, DISK_BYTES)
    keeper.open(NOW_MS)
    keeper.keep([HOST] * 3000, NOW_MS)
    keeper.close()
    fill(disk)
    again = Keeper(disk, DISK_BYTES)
    assert again.open(NOW_MS), again.trouble
    again.keep([EVENT], NOW_MS)
    assert again.unsaved == 0
    again.close()


def test_a_damaged_spool_on_a_full_disk_is_replaced_by_what_fits(disk):
    keeper = Keeper(disk, DISK_BYTES)
    keeper.open(NOW_MS)
    keeper.keep([EVENT] * 500, NOW_MS)
    for _ in range(25):
        keeper.keep([HOST] * 1000, NOW_MS)
    keeper.close()
    raw = bytearray(keeper.path.read_bytes())
    raw[20 * 4096 : 22 * 4096] = b"\0" * 8192
    keeper.path.write_bytes(raw)
    fill(disk)
    spool, salvaged = open_spool(keeper.path, NOW_MS)
    assert salvaged
    assert salvaged.kept > 500
    events, ops, *_ = (one for one in spool.lanes() if one.stream is not Stream.USE)
    assert len(spool.pending(events)) >= 400, "events come first"
    lost = sum(one.last - one.first + 1 for each in (events, ops) for one in spool.untold(each))
    assert lost == salvaged.lost == 25_500 - salvaged.kept
    check_books(spool)
    spool.append([EVENT])
    spool.close()


def test_a_read_only_disk_is_waited_for(disk):
    keeper = Keeper(disk, DISK_BYTES)
    keeper.open(NOW_MS)
    keeper.keep([HOST] * 10, NOW_MS)
    keeper.close()
    mount("-o", "remount,ro", str(disk))
    again = Keeper(disk, DISK_BYTES)
    assert not again.open(NOW_MS)
    again.keep([EVENT] * 5, NOW_MS)
    assert again.unsaved == 5
    assert again.trouble
    mount("-o", "remount,rw", str(disk))
    assert again.open(NOW_MS)
    again.keep([], NOW_MS)
    assert again.unsaved == 0
    assert not again.trouble
    spool = again.spool
    assert spool is not None
    assert len(spool.pending(lane(spool, Stream.OPS))) == 10
    assert len(spool.pending(lane(spool, Stream.EVENT))) == 5
    again.close()


def test_a_disk_that_dies_under_the_spool_loses_nothing_that_was_taken(tmp_path):
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, timeout=30)
    mount("-o", "loop", str(image), str(folder))
    try:
        keeper = Keeper(folder, DISK_BYTES)
        keeper.open(NOW_MS)
        keeper.keep([HOST] * 300, NOW_MS)
        at = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(at, FS_IOC_SHUTDOWN, SHUTDOWN_NOLOGFLUSH)
        os.close(at)
        for _ in range(3):
            keeper.keep([EVENT], NOW_MS)
            keeper.tidy(NOW_MS)
            keeper.open(NOW_MS)
        assert keeper.unsaved == 3
        assert keeper.trouble
        waiting = keeper._unsaved
        keeper._shut()
    finally:
        unmount(folder)
    mount("-o", "loop", str(image), str(folder))
    try:
        back = Keeper(folder, DISK_BYTES)
        assert back.open(NOW_MS)
        back.keep(waiting, NOW_MS)
        spool = back.spool
        assert spool is not None
        assert len(spool.pending(lane(spool, Stream.OPS))) == 300
        assert len(spool.pending(lane(spool, Stream.EVENT))) == 3
        check_books(spool)
        back.close()
    finally:
        unmount(folder)


def test_a_spool_at_its_cap_stays_there_whatever_comes(tmp_path):
    spool, _ = open_spool(tmp_path / "spool.db", NOW_MS)
    cap = 1 << 20
    for _ in range(30):
        spool.append([EVENT] * 10 + [HOST] * 500)
        make_room(spool, cap, NOW_MS)
        assert spool.used_bytes() <= cap
    assert len(spool.pending(lane(spool, Stream.EVENT))) == 300
    assert len(spool.untold(lane(spool, Stream.OPS))) == 1, "one range, however often"
    check_books(spool)
    assert spool.path.stat().st_size < 2 * cap
    spool.close()


def test_a_foreign_reader_does_not_make_the_log_grow_without_end(tmp_path):
    """An hour of a fast drain in small: nothing goes beyond 64 MB, and all goes on afterwards."""
    spool, _ = open_spool(tmp_path / "spool.db", NOW_MS)
    log = tmp_path / "spool.db-wal"
    spool.append([HOST] * 1000)
    reader = sqlite3.connect(spool.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM record").fetchone()
    lines = [(lane(spool, Stream.OPS), to_line(HOST))] * 5000
    grip, grips = Grip.FREE, []
    for _ in range(120):
        grip = guard.judge(guard.measure(spool), grip)
        grips.append(grip)
        if grip is not Grip.CHOKED:
            spool.append_lines(lines)
        assert log.stat().st_size <= guard.MAX_LOG_BYTES
    assert grips[-1] is Grip.CHOKED
    assert Grip.PINNED in grips
    reader.execute("COMMIT")
    reader.close()
    grip = guard.judge(guard.measure(spool), grip)
    assert grip is Grip.FREE
    assert log.stat().st_size == 0
    spool.append_lines(lines)
    check_books(spool)
    spool.close()


def test_once_pinned_only_a_small_log_is_free_again():
    mb = 1 << 20
    assert guard.judge(39 * mb, Grip.FREE) is Grip.FREE
    assert guard.judge(41 * mb, Grip.FREE) is Grip.PINNED
    assert guard.judge(20 * mb, Grip.PINNED) is Grip.PINNED
    assert guard.judge(61 * mb, Grip.PINNED) is Grip.CHOKED
    assert guard.judge(2 * mb, Grip.CHOKED) is Grip.FREE
