"""Some of a region's devices, as threads of one process, which do as they are told.

Each has a folder, a certificate, a spool and connections of its own, and runs the agent's uplink
and its remote configuration as the agent does: judged, kept on disk, tried, committed, reported.
What it lacks are collectors, and a child for each judging: that is done in this process (a real
child's time is measured apart).
``python -m ketang_bench.rollout_devices DEVICES FIRST COUNT``; until stdin ends.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from ketang_agent import settings as settings_files
from ketang_agent.clock import SystemClock
from ketang_agent.collectors.base import Gatherer
from ketang_agent.credentials import Credentials
from ketang_agent.enrol.files import Place, write_private
from ketang_agent.following import BUSY_S, Following, Obeying
from ketang_agent.head_counting import HeadCounting
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.keeping import Keeper
from ketang_agent.observing import Observer, Parts
from ketang_agent.recorder import Recorder
from ketang_agent.remote import exchange, judging
from ketang_agent.remote.own_version import OwnVersion
from ketang_agent.remote.parts import Bringing
from ketang_agent.remote.presence import Folders
from ketang_agent.remote.remote import Child, Remote, Who
from ketang_agent.sampling import Hands, Sampling
from ketang_agent.scheduler import Scheduler
from ketang_agent.settings import Settings
from ketang_agent.spool.guard import Grip
from ketang_agent.status import Status
from ketang_agent.telling import Teller
from ketang_agent.uplink.client import Connection
from ketang_agent.uplink.link import Below, Link, Wire
from ketang_agent.uplink.sender import Sender
from ketang_bench.rollout_region import device_name
from ketang_contract.records import EventName
from ketang_contract.state import Camera
from ketang_profiles import profile
from ketang_profiles.configured import as_config

VERSION = "0.1.0"
_LOOK_S = 2.0
"""How often an agent looks at itself when nothing happens."""
_APART_S = 0.1
"""Between two devices' starts: a school's do not switch on in one instant."""
_SPOOL_BYTES = 8 << 20


class _Judged:
    """A child that is done already."""

    returncode: int | None = 0

    def poll(self) -> int | None:
        """It has ended."""
        return self.returncode

    def communicate(self) -> tuple[bytes, bytes]:
        """It said nothing."""
        return b"", b""

    def kill(self) -> None:
        """It has ended."""


def judge_here(words: Sequence[str]) -> Child:
    """Judge in this process what a child would: the same function over the same files."""
    folder, place = Path(words[-2]), Place(Path(words[-1]))
    said = judging.judge_folder(folder, place)
    write_private(folder / exchange.JUDGED, json.dumps(said).encode())
    return _Judged()


class RolloutDevice:
    """One device; ``run`` in a thread of its own until ``stop``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock, self._bell = SystemClock(), threading.Event()
        self._stopping = False
        kind = profile.shipped(settings.profile)
        settings.data_dir.mkdir(mode=0o700, exist_ok=True)
        self._keeper = Keeper(settings.data_dir, _SPOOL_BYTES)
        self._recorder, gatherer = Recorder(settings.device), Gatherer()
        self._observer = Observer(settings, VERSION, self._clock.now(), gatherer)
        self._teller = Teller()
        self._credentials = Credentials(settings.broker)
        who = Who(
            device=settings.device,
            agent_version=VERSION,
            folder=settings.data_dir,
            identity=settings.broker.certificate_file.parent,
            base=as_config(kind),
        )
        self._remote = Remote(who, start=judge_here)
        hands = Hands(Scheduler(self._clock), self._recorder, gatherer, self._observer)
        switch = KillSwitch(settings.data_dir / "counting.switch")
        heads = HeadCounting(None, kind, switch, settings.data_dir / "models")
        sampling = Sampling(hands, tuple, MappingProxyType({}))
        own = OwnVersion(None, VERSION)
        folders = Folders(identity=who.identity, data=settings.data_dir, versions=None)
        parts = Obeying(self._keeper, sampling, heads, self._say, own, Bringing(folders, own.here))
        self._following = Following(self._remote, parts, "warning")

    def run(self) -> None:
        """Do as told."""
        self._keeper.open(self._clock.now().wall_ms)
        self._say(EventName.AGENT_STARTED)
        self._following.begin(self._clock.now())
        link, sender = self._link()
        while not self._stopping:
            now = self._clock.now()
            link.poll(now)
            again = self._following.step(link, now)
            self._teller.tell(link, self._status(link, sender), now, again=again)
            self._bell.wait(BUSY_S if self._following.busy else _LOOK_S)
            self._bell.clear()
        link.stop()
        self._keeper.close()

    def stop(self) -> None:
        """Let ``run`` end."""
        self._stopping = True
        self._bell.set()

    def _link(self) -> tuple[Link, Sender]:
        settings, spool = self._settings, self._keeper.spool
        if spool is None:
            raise OSError(f"{settings.data_dir}: no spool: {self._keeper.trouble}")

        def connect(will: tuple[str, bytes]) -> Wire:
            context = self._credentials.context()
            return Connection(settings.broker, context, settings.device, will, self._bell.set)

        sender = Sender(spool, settings.device, settings.center_id)
        below = Below(self._following.bring, config=lambda: self._remote.report)
        return Link(spool, sender, settings.device, connect, VERSION, below=below), sender

    def _status(self, link: Link, sender: Sender) -> Status:
        now = self._clock.now()
        parts = Parts(
            keeper=self._keeper,
            grip=Grip.FREE,
            link=link,
            sender=sender,
            camera=Camera.OFF,
            faults=(),
            config=self._remote.report,
            permits=self._following.permit_signs(),
            model="",
            window_ends_in_s=0,
        )
        return self._observer.status(parts, now)

    def _say(self, name: EventName) -> None:
        now = self._clock.now()
        self._keeper.keep([self._recorder.event(name, now)], now.wall_ms)


def main() -> int:
    """Run them until stdin ends."""
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(level=logging.WARNING)
    devices = [
        RolloutDevice(settings_files.read(folder / device_name(number) / "agent.toml"))
        for number in range(first, first + count)
    ]
    threads = [threading.Thread(target=one.run) for one in devices]
    for thread in threads:
        thread.start()
        time.sleep(_APART_S)
    sys.stdin.read()
    for one in devices:
        one.stop()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
