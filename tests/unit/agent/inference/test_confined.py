"""What a worker gives up, seen from a process that gave it up."""

import os
import socket
import subprocess
import sys

import pytest

from ketang_agent.inference.limits import CpuMeter, cost_of


def confined(code, folder, parent=None):
    start = (
        "from ketang_agent.inference.confine import confine, lock_memory\n"
        "from ketang_agent.inference.no_network import forgo_network\n"
        f"stays = confine({os.getpid() if parent is None else parent})\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", start + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout.split("\n")[:-1], done


def test_it_can_add_no_byte_to_any_file(tmp_path):
    (tmp_path / "there").write_bytes(b"x")
    code = (
        "for name in ('new', 'there'):\n"
        "    try:\n"
        "        with open(name, 'ab', buffering=0) as file: file.write(b'secret')\n"
        "    except OSError as problem: print(problem.errno)\n"
    )
    said, _ = confined(code, tmp_path)
    assert said == ["27", "27"]  # EFBIG
    assert [each.read_bytes() for each in sorted(tmp_path.iterdir())] == [b"", b"x"]


def test_it_leaves_no_core_and_cannot_be_looked_into(tmp_path):
    _, done = confined("import os\nos.abort()\n", tmp_path)
    assert done.returncode == -6
    assert list(tmp_path.iterdir()) == []
    said, _ = confined(
        "import resource, ctypes\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n",
        tmp_path,
    )
    assert said == ["(0, 0)", "0"]


def test_it_yields_to_other_work(tmp_path):
    said, _ = confined("import os\nprint(os.getpriority(os.PRIO_PROCESS, 0))\n", tmp_path)
    assert int(said[0]) >= 10


def test_it_does_not_stay_where_its_parent_has_gone(tmp_path):
    assert confined("print(stays)\n", tmp_path)[0] == ["True"]
    assert confined("print(stays)\n", tmp_path, parent=1)[0] == ["False"]


def test_memory_is_locked_or_it_is_said_that_it_is_not(tmp_path):
    said, _ = confined(
        "locked = lock_memory()\n"
        "status = open('/proc/self/status').read()\n"
        "print(locked, int(status.partition('VmLck:')[2].split()[0]) > 0)\n",
        tmp_path,
    )
    assert said in (["True True"], ["False False"])


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"])
def test_it_gets_no_socket_to_anywhere(tmp_path, family):
    if not hasattr(socket, family):
        pytest.skip("no such family here")
    said, done = confined(
        "import socket\n"
        f"print(forgo_network())\n"
        f"try: socket.socket(socket.{family}, socket.SOCK_DGRAM)\n"
        "except OSError as problem: print(problem.errno)\n",
        tmp_path,
    )
    if said[0] == "False":
        pytest.skip("this kernel has no such filter; the worker says so")
    assert said == ["True", "13"], done.stderr


def test_it_starts_no_program(tmp_path):
    said, _ = confined(
        "import os\nprint(forgo_network())\n"
        "try: os.execv('/bin/true', ['true'])\n"
        "except OSError as problem: print(problem.errno)\n",
        tmp_path,
    )
    if said[0] == "False":
        pytest.skip("this kernel has no such filter; the worker says so")
    assert said == ["True", "13"]


def test_what_a_process_costs_is_read_whatever_it_is_called(tmp_path):
    code = (
        "import ctypes, sys\n"
        "ctypes.CDLL(None).prctl(15, b') R 1 (', 0, 0, 0)\n"
        "block = bytearray(b'x') * (64 << 20)\n"
        "sum(range(3_000_000)); print('ready', flush=True); sys.stdin.read()"
    )
    held = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        held.stdout.readline()
        cost = cost_of(held.pid)
        assert 64 << 20 < cost.rss_bytes < 256 << 20
        assert 0 < cost.cpu_s < 60
    finally:
        held.kill()
        held.communicate()
    with pytest.raises(OSError):  # noqa: PT011  (either of two, as the kernel had it)
        cost_of(held.pid)


def test_a_share_is_told_only_over_its_whole_span():
    meter = CpuMeter(60)
    shares = [meter.share(cpu_s, at * 10_000) for at, cpu_s in enumerate((0, 9, 9, 9, 9, 9, 9, 9))]
    assert shares[:6] == [None] * 6
    assert shares[6] == pytest.approx(9 / 60)
    assert shares[7] == pytest.approx(0)
