"""A main loop that hangs is ended, with or without a place to say so."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("before", ["", "sys.stderr = None;"])
def test_a_process_that_hangs_is_ended_even_where_there_is_no_standard_error(before):
    """As a service of Windows, which has none."""
    program = (
        "import sys, threading; from ketang_agent.remote import hanging;"
        f"{before} hanging.HANGS_S = 0.2; hanging.mind(); threading.Event().wait(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert bool(done.stderr) is (not before)


def test_who_is_not_minded_any_more_may_take_his_time():
    program = (
        "import sys, time; from ketang_agent.remote import hanging; sys.stderr = None;"
        "hanging.HANGS_S = 0.2; hanging.mind(); hanging.mind(); hanging.ignore(); time.sleep(1)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=50, check=False).returncode == 0
