"""The bell that wakes the main loop."""

import subprocess
import sys
import threading

from ketang_agent.bell import Bell

STORM = """
import signal
from ketang_agent.bell import Bell

bell = Bell()
signal.signal(signal.SIGALRM, lambda *_: bell.ring())
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
for _ in range(20_000):
    bell.wait(0.0001)
    bell.ring()
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_signal_may_ring_it_at_any_moment_of_a_wait():
    subprocess.run([sys.executable, "-c", STORM], check=True, timeout=60)


def test_it_wakes_a_waiter_from_another_thread():
    bell = Bell()
    waiter = threading.Thread(target=bell.wait, args=(60,))
    waiter.start()
    bell.ring()
    waiter.join(30)
    assert not waiter.is_alive()


def test_many_rings_end_one_wait_and_are_forgotten():
    bell = Bell()
    for _ in range(1000):
        bell.ring()
    bell.wait(60)
    assert bell._rings.empty()
