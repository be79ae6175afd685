"""What every request to the page may look at."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from ketang_agent.inference.switch import KillSwitch
from ketang_agent.remote.commands_room import Room
from ketang_agent.status import Status


@dataclass(slots=True)
class Desk:
    """What every request may look at. ``status`` is swapped whole by the main loop."""

    spool: Path
    switch: KillSwitch
    room: Room
    status: Status | None = None
    token: str = ""

    @property
    def data_dir(self) -> Path:
        """The agent's own folder."""
        return self.spool.parent

    def __post_init__(self) -> None:
        """A token nobody knows who has not read the page since this start."""
        self.token = secrets.token_urlsafe(16)
