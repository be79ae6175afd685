"""A duty that hangs or fails keeps no other from its time."""

import os
import threading
import time

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.offsite import FILE, Offsite
from ketang_center.warden import Duty, Warden


def rounds(*duties, lasts_s=2.5):
    """Run a warden for a while; how long it took to end."""
    warden = Warden(duties, lambda: 0, time.monotonic)
    thread = threading.Thread(target=warden.run, daemon=True)
    thread.start()
    time.sleep(lasts_s)
    warden.stop()
    began_s = time.monotonic()
    thread.join(10)
    assert not thread.is_alive()
    return time.monotonic() - began_s


def test_a_folder_that_hangs_does_not_keep_the_revocation_list_waiting(tmp_path):
    os.mkfifo(tmp_path / FILE)  # as a mount whose server is gone: opening it never returns
    looks = []
    with Book(tmp_path / "enrolment.db") as book:
        book.revoke("pc-1", at_ms=1, why="lost", by="test")
        offsite = Offsite(tmp_path, b"k" * 32)
        took_s = rounds(
            Duty("offsite", 0.5, lambda _: offsite.send(book.rows), may_hang=True),
            Duty("revocation_list", 0.5, looks.append),
        )
        assert len(looks) >= 3
        assert took_s < 4, "nor does it keep the centre from ending"
        # Let go of it: a reader that gets nothing.
        os.close(os.open(tmp_path / FILE, os.O_WRONLY | os.O_NONBLOCK))
        time.sleep(0.2)


def test_a_duty_that_fails_is_told_once_and_keeps_nobody_up(caplog):
    looks = []

    def fail(_):
        raise OSError("away")

    for may_hang in (False, True):
        looks.clear()
        caplog.clear()
        rounds(Duty("bad", 0.1, fail, may_hang), Duty("good", 0.1, looks.append), lasts_s=1.7)
        assert len(looks) >= 3
        assert caplog.text.count("warden.failing") == 1
