"""What the real agent costs a classroom PC: memory and CPU, read from outside while it works."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ketang_bench import harness, process
from ketang_bench.process import Memory
from ketang_bench.region import Region, python, running, wait_until
from ketang_bench.report import Result
from ketang_cli.local_broker import Kind

ABOUT = "memory (MB) and CPU of a connected agent with every collector (nats-server, mTLS)"
TARGET, LIMIT = 27.0, 32.0
CPU_LIMIT_PCT = 0.17
BACKLOG_LIMIT_MB = 5.0
_SETTLE_S = {False: 30.0, True: 6.0}
_WATCH_S = {False: 600.0, True: 33.0}
_BACKLOG = 1_000_000
_BACKLOG_WATCH_S = 90.0


def run(folder: Path, *, quick: bool) -> Result:
    """Watch a connected agent do its ordinary work; full length, also with a million waiting."""
    region = Region(folder / "region", Kind.NATS)
    with region.broker, _screen(folder) as screen:
        bare = _bare(folder)
        with region.center_process(alone=True):
            agent = _watch(region, screen, _SETTLE_S[quick], _WATCH_S[quick])
        loaded = None if quick else _with_backlog(region, screen)
    memory: Memory = agent["memory"]
    value = memory.pss_alone_mb
    return Result(
        name="footprint",
        value=value,
        unit="MB",
        target=TARGET,
        limit=LIMIT,
        ratio=round(value / bare.pss_alone_mb, 2),
        holds=value <= LIMIT,
        detail={
            **asdict(memory),
            "bare_python": asdict(bare),
            "cpu_pct_of_a_core": agent["cpu_pct"],
            "cpu_limit_pct": CPU_LIMIT_PCT,
            "cpu_holds": agent["cpu_pct"] <= CPU_LIMIT_PCT,
            "start_cpu_s": agent["start_cpu_s"],
            "watched_s": _WATCH_S[quick],
            "threads": agent["threads"],
            "use_sampled": "on a virtual X display" if screen else "no: Xvfb is missing",
            **(loaded or {"backlog": "not measured in a quick run"}),
            "how": "value: PSS as though no other Python or OpenSSL process ran: pages of mapped"
            " files count in full, save the C library's, so the measuring process cannot flatter"
            " it; pss_mb is the kernel's own PSS beside it. Read by cat from /proc/PID/smaps, the"
            " highest of the readings after settling, with a centre that answers; CPU without the"
            " start. The bare process has imported psutil, paho, sqlite3 and ssl, and does nothing",
        },
    )


def _watch(region: Region, screen: str, settle_s: float, watch_s: float) -> dict[str, Any]:
    region.agent_settings()
    command = ["env", f"DISPLAY={screen}", *region.agent_command()]
    with running(command, region.folder / "agent.log") as agent:
        wait_until("the agent connects", lambda: _connected(agent.pid, region.broker.port))
        time.sleep(settle_s)
        start_cpu_s, began_s = process.cpu_s(agent.pid), time.monotonic()
        readings: list[Memory] = []
        while time.monotonic() - began_s < watch_s:
            time.sleep(min(10.0, watch_s))
            readings.append(process.memory(agent.pid))
        spent_s = process.cpu_s(agent.pid) - start_cpu_s
        lasted_s = time.monotonic() - began_s
        if not _connected(agent.pid, region.broker.port):
            wait_until("the agent is still connected", lambda: False, 0)
        return {
            "memory": max(readings, key=lambda one: one.pss_alone_mb),
            "cpu_pct": round(100 * spent_s / lasted_s, 3),
            "start_cpu_s": start_cpu_s,
            "threads": len(list(Path(f"/proc/{agent.pid}/task").iterdir())),
        }


def _with_backlog(region: Region, screen: str) -> dict[str, Any]:
    """The same agent, with a million records waiting and nobody who acknowledges."""
    before = _watch(region, screen, _SETTLE_S[True], _BACKLOG_WATCH_S)["memory"].pss_alone_mb
    data = region.folder / "data"
    shutil.rmtree(data)
    data.mkdir(mode=0o700)
    harness.make_backlog(data / "spool.db", _BACKLOG)
    after = _watch(region, screen, _SETTLE_S[True], _BACKLOG_WATCH_S)["memory"].pss_alone_mb
    more = round(after - before, 2)
    return {
        "backlog_records": _BACKLOG,
        "backlog_more_mb": more,
        "backlog_limit_mb": BACKLOG_LIMIT_MB,
        "backlog_holds": more <= BACKLOG_LIMIT_MB,
    }


def _bare(folder: Path) -> Memory:
    """Memory of an interpreter that has only imported what the agent is allowed to."""
    with running(python("ketang_bench.bare_imports"), folder / "bare.log") as bare:
        assert bare.stdout is not None  # noqa: S101  (running() pipes it)
        bare.stdout.readline()
        return process.memory(bare.pid)


def _connected(pid: int, port: int) -> bool:
    """Tell whether a process holds an established TCP connection to a port of this machine."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "01" and int(fields[2].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue
    return bool(inodes & found)


@contextmanager
def _screen(folder: Path) -> Iterator[str]:
    """Yield the name of a virtual display, so that use is really sampled; empty without Xvfb."""
    if shutil.which("Xvfb") is None:
        yield ""
        return
    reading, writing = os.pipe()
    words = ["-screen", "0", "640x480x24", "-nolisten", "tcp", "-displayfd", str(writing)]
    with (folder / "screen.log").open("wb") as log:
        server = subprocess.Popen(["Xvfb", *words], pass_fds=[writing], stdout=log, stderr=log)
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            yield f":{said.readline().strip()}"
    finally:
        server.terminate()
        server.wait(20)
