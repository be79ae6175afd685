"""A centre on a full disk: it waits and says so, acknowledges nothing, and loses nothing."""

import contextlib
import logging
import os

from ketang_cli.local_broker import Kind
from tests.faults.test_full_disk import mount, unmount
from tests.flow.test_one_fact import Classroom

DISK_BYTES = 2 << 20


def fill(file):
    with file.open("ab", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))
    assert os.statvfs(file).f_bavail == 0


def test_a_centre_whose_disk_is_full_waits_for_room_and_takes_everything_then(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    disk = tmp_path / "center"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "ketang-test", str(disk))
    try:
        with Classroom(tmp_path, Kind.NATS) as room:
            room.create(10)
            room.pump(room.drained)
            fill(disk / "filler")
            room.create(2000)
            room.pump(lambda: "ingest.failing" in caplog.text)
            assert room.ingest.is_alive()
            (disk / "filler").unlink()
            room.pump(room.drained)
            assert "ingest.recovered" in caplog.text
            assert caplog.text.count("ingest.failing") == 1
            assert room.stored() == list(range(1, 2011))
    finally:
        unmount(disk)
