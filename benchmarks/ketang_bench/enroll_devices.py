"""Some of a school's devices, as threads of one process: each enrols, connects and is acknowledged.

Every device has a folder, a key, a spool and connections of its own, and runs the code of ``ketang
enroll`` and of the agent's uplink; what it lacks of an agent are the collectors.
``python -m ketang_bench.enroll_devices FOLDER KIT FINGERPRINT FIRST COUNT``; begins at a line on
stdin, ends with one JSON line.
"""

import json
import shutil
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ketang_agent import VERSION, settings
from ketang_agent.clock import Instant, SystemClock
from ketang_agent.credentials import Credentials
from ketang_agent.enrol import enrolling, files
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.client import Connection
from ketang_agent.uplink.link import Link
from ketang_agent.uplink.sender import Sender
from ketang_bench.enroll_region import serial
from ketang_contract import kit
from ketang_contract.errors import KetangError
from ketang_contract.records import Event, EventName, Host, Record

PATIENCE_S = 120.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Came:
    """How one device came in. Times are of this machine's monotonic clock; 0: it did not."""

    began_s: float
    enrolled_s: float = 0.0
    acknowledged_s: float = 0.0
    waits: int = 0
    """How often it was told to come back later, or found nobody."""
    why: str = ""


class _Waits:
    """Sleeps as told, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def sleep(self, wait_s: float) -> None:
        """Wait."""
        self.count += 1
        time.sleep(wait_s)


def come(folder: Path, kit_file: str, root: Path, number: int) -> Came:
    """Enrol one device, and have one batch of it acknowledged."""
    began_s, waits = time.monotonic(), _Waits()
    try:
        place = files.prepare(folder)
        shutil.copy(root, place.fingerprint)
        asking = enrolling.Asking(
            kit=kit.open_kit(kit_file),
            fingerprint=enrolling.read_fingerprint(place, ""),
            serial=serial(number),
            patience_s=PATIENCE_S,
        )
        enrolling.enrol(place, asking, clock=enrolling.Clock(time.time, waits.sleep))
        enrolled_s = time.monotonic()
        _report(settings.read(place.settings))
    except (KetangError, OSError) as why:
        return Came(began_s, waits=waits.count, why=str(why)[:200])
    return Came(began_s, enrolled_s, time.monotonic(), waits.count)


def _report(told: settings.Settings) -> None:
    """Connect with the new identity: a birth, one batch, and wait until the centre has it.

    Raises:
        TimeoutError: it was not acknowledged.
    """
    now, bell = SystemClock(), threading.Event()
    credentials = Credentials(told.broker)
    told.data_dir.mkdir(mode=0o700, exist_ok=True)
    spool = Spool(told.data_dir / "spool.db")
    spool.open()
    spool.append(_records(told.device, now.now()))
    link = Link(
        spool,
        Sender(spool, told.device, told.center_id),
        told.device,
        lambda will: Connection(told.broker, credentials.context(), told.device, will, bell.set),
        VERSION,
    )
    deadline = time.monotonic() + PATIENCE_S
    try:
        while any(spool.pending(lane) for lane in spool.lanes()):
            if time.monotonic() > deadline:
                raise TimeoutError("enrolled, and never acknowledged")
            link.poll(now.now())
            bell.wait(_LOOK_S)
            bell.clear()
    finally:
        link.stop()
        spool.close()


def _records(device: str, now: Instant) -> list[Record]:
    return [
        Record(
            subject=device,
            wall_ms=now.wall_ms,
            boot_id=now.boot_id,
            boottime_ms=now.boottime_ms,
            time=now.time,
            body=body,
        )
        for body in (Event(name=EventName.AGENT_STARTED), Host(window_s=300))
    ]


def main() -> int:
    """Let them come all at once."""
    folder, kit_file, root, first, count = sys.argv[1:]
    numbers = range(int(first), int(first) + int(count))
    came: list[Came] = []

    def one(number: int) -> None:
        came.append(come(Path(folder) / f"device-{number}", kit_file, Path(root), number))

    threads = [threading.Thread(target=one, args=(number,)) for number in numbers]
    print("ready", flush=True)
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps([asdict(device) for device in came]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
