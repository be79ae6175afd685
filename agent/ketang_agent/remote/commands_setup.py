"""Commands put together with the parts of the agent that carry them out.

What is needed seldom, the desktop, the probe and the archive, is made when a command asks for it.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import Gatherer, Reading
from ketang_agent.collectors.inventory import InventoryCollector
from ketang_agent.collectors.network import BrokerLink
from ketang_agent.log_tail import LogTail
from ketang_agent.platforms.base import Desktop
from ketang_agent.platforms.linux import desktop
from ketang_agent.platforms.linux_dbus import SESSION, SYSTEM, Bus
from ketang_agent.remote.commands import Commands
from ketang_agent.remote.commands_desktop import DesktopNotice, in_use, power_off
from ketang_agent.remote.commands_doing import Doers, Question
from ketang_agent.remote.commands_probe import prober
from ketang_agent.remote.commands_room import Room
from ketang_agent.settings import Settings
from ketang_agent.status import Status, to_json
from ketang_contract.config import Config, holds_at
from ketang_contract.records import TimeQuality

log = logging.getLogger("ketang.commands")

BUSY_S = 1.0
"""How soon a job at work is looked at again."""


class Uplink(Protocol):
    """What is asked of the link; ``uplink.link.Link``."""

    connected: bool
    session: int

    def say_answer(self, job: str, payload: bytes) -> bool:
        """Answer a command; False when there is no connection."""
        ...


class Page(Protocol):
    """What is asked of the page; ``local_page.server.LocalPage``."""

    @property
    def room(self) -> Room:
        """What people are shown of commands, and what they say."""
        ...

    @property
    def shown(self) -> Status | None:
        """The last status."""
        ...


class Configured(Protocol):
    """What is asked of the configuration; ``remote.Remote``."""

    @property
    def applied(self) -> Config:
        """What the device does now."""
        ...


class Recording(Protocol):
    """What takes readings; ``recorder.Recorder``."""

    def add(self, reading: Reading, now: Instant) -> None:
        """Take one."""


@dataclass(frozen=True, slots=True)
class Around:
    """The agent that is commanded.

    Attributes:
        version: of the agent.
        ring: wakes the main loop; from any thread.
        stop: ends the agent in order; what runs it starts it again.
        route: how the broker is reached now.
        floor_s: the latest signed time the configuration knows, UTC seconds.
    """

    settings: Settings
    version: str
    ring: Callable[[], None]
    stop: Callable[[], None]
    route: Callable[[], BrokerLink]
    floor_s: Callable[[], int] = lambda: 0


class Commanded:
    """``turn`` it in every round of the main loop."""

    def __init__(
        self,
        around: Around,
        page: Page,
        configured: Configured,
        gatherer: Gatherer,
        recorder: Recording,
    ) -> None:
        self._around, self._page, self._configured = around, page, configured
        self._gatherer, self._recorder = gatherer, recorder
        self._tail = LogTail()
        logging.getLogger("ketang").addHandler(self._tail)
        page.room.ring = around.ring
        settings = around.settings
        folder = settings.data_dir / "remote"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            log.warning("command.no_folder why=%s", problem)
        self._commands = Commands(
            settings.device,
            folder,
            settings.broker.certificate_file.parent,
            self._doers(),
            page.room,
            floor_s=around.floor_s,
        )
        self._session = 0

    def close(self) -> None:
        """Let go of the log, and of a child that judges."""
        self._commands.close()
        logging.getLogger("ketang").removeHandler(self._tail)

    @property
    def busy(self) -> bool:
        """Whether a round is worth it every ``BUSY_S``."""
        return self._commands.busy

    def take(self, job: str, raw: bytes, retained: bool, now: Instant) -> None:  # noqa: FBT001
        """Take what came on ``dn/cmd/{job}``."""
        self._commands.take(job, raw, retained, now)

    def turn(self, link: Uplink | None, now: Instant, wait_s: float) -> float:
        """Go on with every job, and tell what there is to tell.

        Returns:
            how long the main loop may wait: ``wait_s``, or less while something is at work.
        """
        self._commands.step(now)
        if link is not None and link.connected:
            if link.session != self._session:
                self._session = link.session
                self._commands.began_session()
            self._commands.tell(link.say_answer)
        return min(wait_s, BUSY_S) if self.busy else wait_s

    def _doers(self) -> Doers:
        around = self._around
        broker = around.settings.broker
        return Doers(
            read_inventory=self._read_inventory,
            probe=prober(broker.host, broker.port, around.route),
            bundle=self._bundle,
            restart=around.stop,
            power_off=lambda: power_off(Bus(SYSTEM)),
            why_not_after_hours=lambda now: why_not_after_hours(self._configured.applied, now),
            in_use=lambda _: in_use(self._desktop),
            notice=DesktopNotice(Bus(SESSION)),
        )

    @cached_property
    def _desktop(self) -> Desktop:
        return desktop(os.environ)

    def _read_inventory(self, now: Instant) -> bool:
        readings = self._gatherer.gather(InventoryCollector(self._around.version), now)
        for reading in readings:
            self._recorder.add(reading, now)
        return bool(readings)

    def _bundle(self, path: Path) -> Question:
        from ketang_agent import diagnostics  # noqa: PLC0415  (only who is asked pays)

        status = self._page.shown
        made = diagnostics.maker(
            self._around.settings,
            lambda: None if status is None else to_json(status),
            self._tail.lines,
        )
        question: Question = made(path)
        return question


def why_not_after_hours(config: Config, now: Instant) -> str:
    """Say why this is no time after hours; empty where hours are set and this is none of them."""
    if config.hours is None:
        return "no_hours"
    if now.time is TimeQuality.BAD:
        return "clock_wrong"
    return "in_hours" if holds_at(config.hours, now.wall_ms) else ""
