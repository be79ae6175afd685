"""``ketang agent``: run it, or see one reading of every collector."""

import argparse
import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

from ketang_agent import VERSION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``run`` and ``once``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    run_action = actions.add_parser("run", help="report this device until stopped")
    run_action.add_argument("--settings", type=Path, required=True, metavar="AGENT.TOML")
    once = actions.add_parser("once", help="print one reading of every collector and stop")
    once.add_argument("--profile", default="teacher_pc", metavar="KIND")
    once.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: settings or profile are wrong: file, key, what is accepted.
    """
    return _run(options.settings) if options.action == "run" else _once(options)


def _run(path: Path) -> int:
    from ketang_agent import settings
    from ketang_agent.service import Service

    with Service(settings.read(path), VERSION) as service:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.stop())
        service.run()
    return 0


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
