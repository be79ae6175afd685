"""The agent as it is, but that its host collector breaks at certain intervals.

``python -m tests.faults.spoiled_agent SPOILED.json agent run --settings AGENT.TOML``

It stands for a release whose collector bears every interval but some: the configuration that asks
for one of those is signed, valid, and ends the agent or fails. Nothing in the agent knows of it.
"""

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any


class Breaks(IntEnum):
    """What an interval of the host collector, in seconds, does."""

    EXIT = 5
    EXIT_AT_ONCE = 6
    ABORT = 7
    SEGFAULT = 8
    FAIL = 9
    HANG = 10
    EXIT_LATER = 11
    """At its second sample: long after it looked well."""
    EXIT_NARROWED = 299
    """The same as ``EXIT_AT_ONCE``, by a configuration that only narrows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiled:
    """What is put into one life of the process.

    ``root``: where the boot's id is read. ``hurries``: what hangs is ended after two seconds, and a
    trial after eight. ``cut_at``: the power goes at this call to the disk, counted from the first
    write of a machine in trial or gone back from one; 0: never.
    """

    root: str
    data_dir: str
    hurries: bool = False
    cut_at: int = 0

    def write(self, file: Path) -> None:
        """Leave it for the process."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def spoil(said: Spoiled) -> None:
    """Change this process."""
    from ketang_agent import sampling, service
    from ketang_agent.clock import SystemClock
    from ketang_agent.collectors import host
    from ketang_agent.remote import remote, trial

    service.SystemClock = partial(SystemClock, Path(said.root))  # type: ignore[misc,assignment]
    if said.hurries:
        remote.HANGS_S, trial.TRIAL_MS = 2.0, 8_000
    interval_s, samples = [0], [0]
    apply, sample = sampling.Sampling.apply, host.HostCollector.sample

    def applied(self: Any, config: Any, now: Any) -> None:
        if interval_s[0] != config.host_s:
            interval_s[0], samples[0] = config.host_s, 0
        apply(self, config, now)

    def sampled(self: Any, now: Any) -> Iterator[Any]:
        samples[0] += 1
        do(interval_s[0], samples[0])
        return sample(self, now)

    sampling.Sampling.apply = applied  # type: ignore[method-assign]
    host.HostCollector.sample = sampled  # type: ignore[method-assign]
    if said.cut_at:
        cut_power(said)


def do(interval_s: int, samples: int) -> None:
    """Break, where the interval says so."""
    match interval_s:
        case Breaks.EXIT:
            raise SystemExit(3)
        case Breaks.EXIT_AT_ONCE | Breaks.EXIT_NARROWED:
            os._exit(4)
        case Breaks.ABORT:
            os.abort()
        case Breaks.SEGFAULT:
            ctypes.string_at(0)
        case Breaks.FAIL:
            raise OSError("this interval is too short for it")
        case Breaks.HANG:
            while True:
                time.sleep(3600)
        case Breaks.EXIT_LATER if samples > 1:
            os._exit(5)


def cut_power(said: Spoiled) -> None:
    """Lose what was not flushed of ``remote``, and die, at a call to the disk in a trial."""
    from ketang_agent.remote import state_file
    from ketang_agent.remote.machine import Phase
    from ketang_contract.state import ConfigState
    from tests.faults.losing_disk import LosingDisk

    write: Callable[..., None] = state_file.write
    seized: list[LosingDisk] = []

    def written(folder: Path, machine: Any) -> None:
        one = machine.candidate
        tried = machine.state is ConfigState.ROLLED_BACK or (one and one.phase is Phase.TRIAL)
        if tried and not seized:
            seized.append(LosingDisk(said.cut_at, Path(said.data_dir) / "remote"))
            seized[0].seize()
        write(folder, machine)

    state_file.write = written


if __name__ == "__main__":
    from ketang_cli.main import main

    spoil(Spoiled(**json.loads(Path(sys.argv[1]).read_text("utf-8"))))
    sys.exit(main(sys.argv[2:]))
