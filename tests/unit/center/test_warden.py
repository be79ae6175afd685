"""A duty that hangs or fails keeps no other from its time."""

import os
import threading
import time

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.offsite import FILE, Offsite
from ketang_center.warden import Duty, Warden

PATIENCE_S = 30


def rounds(*duties, until):
    """Run a warden until something holds, and let it end."""
    warden = Warden(duties, lambda: 0, time.monotonic)
    thread = threading.Thread(target=warden.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while not until() and time.monotonic() < deadline:
        time.sleep(0.02)
    warden.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert until()


def test_a_folder_that_hangs_does_not_keep_the_revocation_list_waiting(tmp_path):
    os.mkfifo(tmp_path / FILE)  # as a mount whose server is gone: opening it never returns
    looks, sends, over = [], [], threading.Event()

    def send(_):
        sends.append(1)
        try:
            offsite.send(book.rows)
        finally:
            over.set()

    with Book(tmp_path / "enrolment.db") as book:
        book.revoke("pc-1", at_ms=1, why="lost", by="test")
        offsite = Offsite(tmp_path, b"k" * 32)
        rounds(
            Duty("offsite", 0.5, send, may_hang=True),
            Duty("revocation_list", 0.5, looks.append),
            until=lambda: sends and len(looks) >= 3,
        )
        assert not over.is_set(), "it hangs still: nor does it keep the centre from ending"
        let_go(tmp_path / FILE, over)


def let_go(pipe, over):
    """Whoever reads the pipe gets nothing, and whoever writes to it is heard."""
    ear, deadline = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), time.monotonic() + PATIENCE_S
    while not over.wait(0.05) and time.monotonic() < deadline:
        os.close(os.open(pipe, os.O_WRONLY))
    os.close(ear)
    assert over.is_set()


def test_a_duty_that_fails_is_told_once_and_keeps_nobody_up(caplog):
    looks, failures = [], []

    def fail(_):
        failures.append(1)
        raise OSError("away")

    for may_hang in (False, True):
        looks.clear()
        failures.clear()
        caplog.clear()
        rounds(
            Duty("bad", 0.1, fail, may_hang),
            Duty("good", 0.1, looks.append),
            until=lambda: len(looks) >= 3 and len(failures) >= 3,
        )
        assert caplog.text.count("warden.failing") == 1
