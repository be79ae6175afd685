"""``ketang demo``: broker, centre, this machine's own agent, and thirty simulated devices.

``--check`` is the same without a person: it runs for a while, waits until this machine runs the
first release, ends everything in order, and compares the devices' own files with the centre's.
"""

import argparse
import os
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_cli.account import Balance
    from ketang_cli.stage import Stage
    from ketang_cli.stage_release import Progress

_SETTLE_S = 60.0
_POLL_S = 0.1
_MOST_DAYS = 60
_WEB_PORT = 8080
TOUR = """
演示数据：虚构的学校，永远在上课。 / Demo data: fictitious schools, always in lesson.

  打开 / open     {url}
  看 / look at    “本机”（这台电脑）· a tile's number, then its “?” · Devices · one device's day
  换角色 / role   a county or the region sees less than a school: switch at the top of the page
  弄坏它 / break  b + Enter   stop the broker (again: start it). Wait a minute: data age grows and
                              records are “on their way”; start it: the ledger balances again.
                  c + Enter   kill the centre without warning (again: start it). Nothing is lost.
  改配置 / config “下发” / Rollouts: a first release goes out; the region can take it back.
  结束 / end      q + Enter, or Ctrl-C: everything stops in order and the account is drawn up.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="where to keep its data")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier demo kept")
    parser.add_argument("--port", type=int, default=_WEB_PORT, help="of the console (8080)")
    parser.add_argument("--broker", choices=("mosquitto", "nats"), help="default: what is here")
    parser.add_argument("--days", type=int, default=14, help="of history the schools bring (14)")
    parser.add_argument("--check", action="store_true", help="run without a person, then account")
    parser.add_argument("--seconds", type=float, default=60, help="how long a check runs (60)")
    parser.add_argument("--json", action="store_true", help="print the account as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run the demo: 0 when every record made is stored exactly once at the end, 1 when not.

    A check is 1 as well where this machine's agent does not come to run the first release.

    Raises:
        BadInput: an option is wrong, or no broker is installed.
    """
    from ketang_cli.local_broker import Kind, find_broker
    from ketang_cli.stage import Stage

    if not 0 <= options.days <= _MOST_DAYS:
        raise BadInput(f"--days: a number from 0 to {_MOST_DAYS} is needed")
    began_s = time.monotonic()
    program = find_broker(Kind(options.broker) if options.broker else None)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    say = _say if not options.json else _say_nothing
    with (
        _folder(options) as folder,
        Stage(folder, program=program, days=options.days, web_port=options.port) as stage,
    ):
        say("Ketang 课堂 · 演示 / demo")
        for step in stage.open():
            say(f"  {time.monotonic() - began_s:4.1f} s  {step}")
        first_s = _first_stored(stage, began_s, stopped)
        if options.check:
            stopped.wait(max(0.0, options.seconds - (time.monotonic() - began_s)))
            _wait_for_release(stage, stopped)
        else:
            print(TOUR.format(url=stage.url), flush=True)
            _listen(stage, stopped)
        fallen = stage.fallen()
        for part in fallen:
            print(f"ketang: {part.name} ended by itself; see {part.log}", file=sys.stderr)
        release = stage.release()
        status = _finish(stage, first_s, release, say, as_json=options.json)
        lacks = options.check and not release.is_in_force
        return 1 if fallen or lacks else status


def _wait_for_release(stage: "Stage", stopped: threading.Event) -> None:
    """Wait until this machine's agent has tried the first release, and it is in force."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline and not stage.release().is_in_force:
        if stopped.wait(0.5):
            return


def _finish(
    stage: "Stage",
    first_s: float | None,
    release: "Progress",
    say: Callable[[str], None],
    *,
    as_json: bool,
) -> int:
    """End everything in order and draw up the account."""
    from ketang_cli.account import as_json as to_json

    say("\n正在结束 / stopping: the last windows are delivered first")
    stage.broker.start()
    stage.center.start()
    stage.stop_devices()
    _settle(stage)
    stage.center.stop()
    found = _balance(stage)
    absorbed = int(stage.center.last_words().get("duplicates", 0))
    if as_json:
        print(to_json(found, absorbed, first_s, release), flush=True)
    else:
        say(
            f"first release: {release.own} on this machine,"
            f" committed by {release.committed} of {release.devices} devices"
        )
        say(
            f"created {found.created} = stored {found.stored}"
            if found.holds
            else f"created {found.created}, stored {found.stored}, waiting {found.waiting},"
            f" dropped {found.dropped}"
        )
        say(f"lost {found.lost}, twice {found.twice}, duplicates absorbed {absorbed}")
    return 0 if found.holds else 1


def _settle(stage: "Stage") -> None:
    """Wait until the centre has taken in what the devices sent before they ended."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline and not _balance(stage).holds:
        time.sleep(0.5)


def _balance(stage: "Stage") -> "Balance":
    from ketang_cli.account import balance

    return balance(stage.spools(), stage.center_data)


def _first_stored(stage: "Stage", began_s: float, stopped: threading.Event) -> float | None:
    """Return when the first record of this run was durable at the centre, in seconds; or None."""
    began_ms = time.time_ns() // 10**6 - int((time.monotonic() - began_s) * 1000)
    deadline = time.monotonic() + _SETTLE_S
    uri = f"file:{stage.center_data / 'control.db'}?mode=ro"
    while time.monotonic() < deadline and not stopped.is_set():
        with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as db:
            seen_ms = db.execute("SELECT max(last_seen_ms) FROM presence").fetchone()[0]
            if seen_ms and seen_ms >= began_ms:
                return round(time.monotonic() - began_s, 2)
        time.sleep(_POLL_S)
    return None


def _listen(stage: "Stage", stopped: threading.Event) -> None:
    """Do what is typed until the end; without a terminal, wait for a signal."""
    typed = sys.stdin.isatty()
    while not stopped.is_set() and not stage.fallen():
        if not typed:
            stopped.wait(1)
            continue
        ready, _, _ = select.select([sys.stdin], [], [], 0.5)
        word = sys.stdin.readline() if ready else "\n"
        match word.strip().lower():
            case "q":
                return
            case "b":
                _toggle_broker(stage)
            case "c":
                _toggle_center(stage)
        typed = bool(word)


def _toggle_broker(stage: "Stage") -> None:
    if stage.broker.pid is None:
        stage.broker.start()
        _say("代理已恢复 / broker: started")
    else:
        stage.broker.stop()
        _say("代理已停 / broker: stopped; type b again to start it")


def _toggle_center(stage: "Stage") -> None:
    pid = stage.center.pid
    if pid is None:
        stage.center.start()
        _say("中心已恢复 / centre: started")
    else:
        os.kill(pid, signal.SIGKILL)
        _say("中心已被杀掉 / centre: killed; type c again to start it")


@contextmanager
def _folder(options: argparse.Namespace) -> Iterator[Path]:
    """Give the folder of this run: a throwaway one for a check, unless one is named."""
    from ketang_cli.stage import default_folder

    with ExitStack() as stack:
        if options.check and options.data is None:
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ketang-demo-")))
            return
        folder: Path = options.data or default_folder()
        if options.fresh and folder.exists():
            if not (folder / "run").is_dir():
                raise BadInput(f"--fresh: {folder} does not look like a demo's folder")
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield folder


def _say(text: str) -> None:
    print(text, flush=True)


def _say_nothing(_: str) -> None:
    pass
