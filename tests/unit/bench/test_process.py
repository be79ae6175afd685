"""Reading a process from outside: the arithmetic, and a real process."""

import os
import subprocess
import sys

import pytest

from ketang_bench import process

SMAPS = """\
55a000000000-55a000100000 r-xp 00000000 08:01 11 /usr/bin/python3
Rss:                1000 kB
Pss:                 100 kB
Private_Dirty:         0 kB
7f0000000000-7f0000100000 r-xp 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libc.so.6
Rss:                2000 kB
Pss:                  50 kB
Private_Dirty:         4 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Rss:                 500 kB
Pss:                 500 kB
Private_Dirty:       500 kB
"""


def test_shared_pages_count_in_full_unless_everybody_has_them():
    said = process.memory_of(SMAPS)
    assert said.pss_mb == round(650 / 1024, 2)
    assert said.pss_alone_mb == round((1000 + 50 + 500) / 1024, 2)
    assert said.private_dirty_mb == round(504 / 1024, 2)


def test_a_process_that_takes_memory_is_seen_to_have_it():
    code = "kept = bytearray(b'x') * (64 << 20); print('ready', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout.readline() == b"ready\n"
        said = process.memory(child.pid)
        assert 64 < said.private_dirty_mb <= said.pss_mb <= said.pss_alone_mb < 128
        assert process.peak_mb(child.pid) >= 64
        assert process.cpu_s(child.pid) >= 0
    finally:
        child.communicate(b"\n", timeout=30)


def test_cpu_time_grows_with_work():
    before = process.cpu_s(os.getpid())
    while process.cpu_s(os.getpid()) - before < 0.05:
        sum(range(10_000))


def test_a_process_that_is_gone_is_not_read():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait(30)
    with pytest.raises(OSError, match=str(child.pid)):
        process.cpu_s(child.pid)
