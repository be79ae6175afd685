"""``ketang agent``: run it, ask the running one, look into its buffer, or read every collector."""

import argparse
import importlib
import importlib.util
import json
import logging
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_agent import VERSION
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_agent.doctor import Check

_SPOOL = f"{__package__}.spool"
_MARKS = {"fine": "ok", "wrong": "WRONG", "unknown": "?"}
_LOG = "%(asctime)s %(levelname)s %(name)s %(message)s"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    run_action = actions.add_parser("run", help="report this device until stopped")
    _add_settings(run_action)
    watch = actions.add_parser("watch", help="run it, and change its release when it is told to")
    _add_settings(watch)
    watch.add_argument("--versions", type=Path, metavar="DIR", help="of its releases")
    status = actions.add_parser("status", help="ask the running agent how it is")
    _add_settings(status)
    status.add_argument("--json", action="store_true", help="everything, as one JSON object")
    doctor = actions.add_parser("doctor", help="say what works, what does not, and what to do")
    _add_settings(doctor)
    diagnostics = actions.add_parser(
        "diagnostics", help="write an archive about this agent, to look into or to hand on"
    )
    _add_settings(diagnostics)
    diagnostics.add_argument("--out", type=Path, required=True, metavar="FILE")
    notice = actions.add_parser(
        "notice", help="show a shutdown's countdown in this desktop session, until it ends"
    )
    notice.add_argument(
        "--port", type=int, metavar="N", help="of the agent's page, unless it is the usual one"
    )
    once = actions.add_parser("once", help="print one reading of every collector and stop")
    once.add_argument("--profile", default="teacher_pc", metavar="KIND")
    once.add_argument("--json", action="store_true", help="one JSON object a line")
    if importlib.util.find_spec(_SPOOL):
        spool = actions.add_parser("spool", help="look into the buffer of records on this device")
        importlib.import_module(_SPOOL).add_arguments(spool)


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: settings or profile are wrong: file, key, what is accepted.
    """
    match options.action:
        case "run" | "doctor":
            return (_run if options.action == "run" else _doctor)(options.settings)
        case "notice":
            return _notice(options.port)
        case "spool":
            return int(importlib.import_module(_SPOOL).run(options))
        case _:
            return _DOES[options.action](options)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, required=True, metavar="AGENT.TOML")


def _run(path: Path) -> int:
    from ketang_agent import settings
    from ketang_agent.service import Service

    said = settings.read(path)
    logging.basicConfig(stream=sys.stderr, level=said.log_level.upper(), format=_LOG)
    with Service(said, VERSION) as service:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.stop())
        return service.run()


def _notice(port: int | None) -> int:
    from ketang_agent import session_notice
    from ketang_agent.platforms.linux_dbus import SESSION, Bus
    from ketang_agent.remote.commands_desktop import DesktopNotice
    from ketang_agent.settings import LOCAL_PORT

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    session_notice.run(port or LOCAL_PORT, DesktopNotice(Bus(SESSION)))
    return 0


def _watch(options: argparse.Namespace) -> int:
    """Become the watcher, which carries none of what read this command line."""
    settings = options.settings.resolve()
    folder = (options.versions or settings.parent / "versions").resolve()
    words = [str(folder), str(settings)]
    if os.name != "nt":  # there it would be another process than the one that was started
        words = [sys.executable, "-P", "-m", "ketang_agent.watch", *words]
        os.execv(sys.executable, words)  # noqa: S606  # nosec B606  (our own program)
    from ketang_agent import watch

    return watch.main(words)


def _status(options: argparse.Namespace) -> int:
    """Print the running agent's account of itself; 1 when it does not answer."""
    from ketang_agent import doctor, settings

    said, why = doctor.ask(settings.read(options.settings))
    if said is None:
        print(f"ketang: the agent does not answer: {why}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(said, ensure_ascii=False))
    else:
        _print_status(said)
    return 0


def _print_status(said: dict[str, Any]) -> None:
    uplink, spool = said["uplink"], said["spool"]
    state = "connected" if uplink["connected"] else "not connected"
    waiting = spool["unsaved"] + sum(lane["pending"] for lane in spool["lanes"])
    print(f"device     {said['device']} ({said['profile']}), agent {said['agent_version']}")
    print(f"running    since {_at(said['started_ms'])}")
    print(f"centre     {state}: {uplink['broker']}, since {_at(uplink['since_ms'])}")
    print(f"confirmed  {_at(uplink['acked_at_ms'])}")
    print(f"waiting    {waiting} records; the window closes in {said['window_ends_in_s']} s")
    print(f"buffer     {spool['used_bytes'] >> 10} of {spool['cap_bytes'] >> 10} KB")
    if spool["trouble"]:
        print(f"disk       {spool['trouble']}; {spool['unsaved']} records wait in memory")
    for loss in spool["losses"]:
        print(f"lost       {loss['records']} of {loss['stream']}: {loss['reason']}")
    print(f"faults     {', '.join(said['faults']) or 'none'}")
    print(f"clock      {said['time']}")
    print(f"hours      {said['hours'].replace('_', ' ')}")
    _print_config(said["config"], said["judged"])
    print(f"camera     {said['camera']}{' ' + said['model'] if said['model'] else ''}")
    for one in said["collectors"]:
        why = f": {one['why']}" if one["why"] else ""
        print(f"  {one['name']:<10} every {one['interval_s']} s, {one['result']}{why}")


def _print_config(config: dict[str, Any], judged: dict[str, Any]) -> None:
    """Print what became of what the centre brought; a default is left out of ``config``."""
    state = config.get("state", "factory")
    why = " ".join(one for one in (config.get("reason", ""), judged["detail"]) if one)
    print(f"config     {state}{': ' + why if why and state != 'committed' else ''}")
    for digest, reason in judged["permits_dropped"]:
        print(f"not taken  filing or grant {digest[:12]}: {reason}")


def _at(wall_ms: int | None) -> str:
    if wall_ms is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_ms / 1000))


def _doctor(path: Path) -> int:
    """Print every check; 0 when all is fine, 1 when something is wrong, 2 for wrong settings."""
    from datetime import UTC, datetime

    from ketang_agent import doctor, settings

    try:
        said = settings.read(path)
    except BadInput:
        print("WRONG  settings: cannot be used; correct the line named below")
        raise
    checks = doctor.examine(said, datetime.now(UTC))
    for one in checks:
        _print_check(one)
    wrong = sum(one.verdict is doctor.Verdict.WRONG for one in checks)
    print(f"{wrong} of {len(checks)} checks are wrong" if wrong else "all is well")
    return 1 if wrong else 0


def _diagnostics(options: argparse.Namespace) -> int:
    """Write the archive; what the running agent logged is in those the centre asks for only."""
    from datetime import UTC, datetime

    from ketang_agent import diagnostics, doctor, settings

    said = settings.read(options.settings)
    status, _ = doctor.ask(said)
    checks = doctor.examine(said, datetime.now(UTC))
    sources = diagnostics.Sources(settings=said, status=status, checks=checks)
    try:
        diagnostics.write(sources, options.out.resolve())
    except OSError as problem:
        raise BadInput(f"{options.out}: {problem.strerror}") from None
    print(options.out)
    return 0


def _print_check(one: "Check") -> None:
    print(f"{_MARKS[one.verdict]:<6} {one.name}: {one.found}")
    if one.to_do:
        print(f"       -> {one.to_do}")


def _once(options: argparse.Namespace) -> int:
    from ketang_agent.clock import SystemClock
    from ketang_agent.collectors.base import CollectorSettings
    from ketang_agent.collectors.registry import collectors_of
    from ketang_agent.once import read_once
    from ketang_agent.platforms.linux import desktop
    from ketang_profiles import profile

    kind = profile.shipped(options.profile)
    collecting = CollectorSettings(
        intervals_s=kind.intervals_s, categories=kind.foreground, agent_version=VERSION
    )
    for one in read_once(collectors_of(collecting, desktop(os.environ)), SystemClock()):
        if options.json:
            print(json.dumps(asdict(one), ensure_ascii=False))
        else:
            said = one.reading if one.reading is not None else "-"
            print(f"{one.collector}: {said}{f'  ({one.reason})' if one.reason else ''}")
    return 0


_DOES = {"watch": _watch, "status": _status, "diagnostics": _diagnostics, "once": _once}
