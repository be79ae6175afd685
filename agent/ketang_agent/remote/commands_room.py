"""What people in the room are shown of commands, and what they say to it. Standard library only.

The main loop swaps in what is shown; the page's threads and the desktop put in what was said. A
word about anything that is not shown at that moment is no word.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from queue import Empty, SimpleQueue


class Word(StrEnum):
    """What a person can say."""

    CANCEL = "cancel"
    """Do not shut this device down. Anyone may."""
    SHOWN = "shown"
    """A desktop session shows the countdown: said by its notice, for nobody in particular."""
    AGREE = "agree"
    DECLINE = "decline"


@dataclass(frozen=True, slots=True)
class Leaving:
    """A shutdown that counts down. ``at_ms``: wall time at which it ends, for people to read.

    ``desktop``: the agent itself shows it on a desktop, so that nobody else need.
    """

    job: str
    who: str
    at_ms: int
    desktop: bool = False


@dataclass(frozen=True, slots=True)
class Asking:
    """Diagnostics that wait for a person. The archive is what would be sent, byte for byte.

    ``until_ms``: wall time, for people to read.
    """

    job: str
    who: str
    archive: Path
    sha256: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class Said:
    """One word about one job; ``sha256`` names the archive the person was shown."""

    word: Word
    job: str
    sha256: str = ""


class Room:
    """``ring`` wakes the main loop."""

    def __init__(self, ring: Callable[[], None] = lambda: None) -> None:
        self.ring = ring
        self._said: SimpleQueue[Said] = SimpleQueue()
        self.leaving: Leaving | None = None
        self.asking: Asking | None = None

    def say(self, said: Said) -> bool:
        """Take a person's word, from any thread; False where it is about nothing that is shown."""
        leaving, asking = self.leaving, self.asking
        if said.word in {Word.CANCEL, Word.SHOWN}:
            fits = leaving is not None and leaving.job == said.job
        else:
            fits = asking is not None and (asking.job, asking.sha256) == (said.job, said.sha256)
        if fits:
            self._said.put(said)
            self.ring()
        return fits

    def heard(self) -> list[Said]:
        """Take everything that was said since the last call."""
        found: list[Said] = []
        while True:
            try:
                found.append(self._said.get_nowait())
            except Empty:
                return found
