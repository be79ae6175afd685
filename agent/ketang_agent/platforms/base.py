"""What a collector may ask of the operating system, and what the operating system announces."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

from ketang_contract.records import IdleSource


class Power(StrEnum):
    """What the operating system announces of the machine's power."""

    SLEEPING = "sleeping"
    WOKEN = "woken"
    SHUTTING_DOWN = "shutting_down"


class IdleProbe(Protocol):
    """Knows how long nobody touched the device."""

    source: ClassVar[IdleSource]

    def idle_s(self) -> float:
        """Return seconds since the last input.

        Raises:
            NotApplicable: this desktop does not tell.
            OSError: it should have told.
        """
        ...


class ForegroundProbe(Protocol):
    """Knows which process owns the window in front; never its title."""

    def foreground_pid(self) -> int | None:
        """Return the process id; None when nothing is in front or it is not said.

        Raises:
            OSError: it could not be asked.
        """
        ...


class LockProbe(Protocol):
    """Knows whether the screen is locked."""

    def locked(self) -> bool:
        """Tell whether nobody can use the session, a log-in screen included.

        Raises:
            NotApplicable: nothing here keeps sessions, or nobody has one.
            OSError: it could not be asked.
        """
        ...


class AwakeProbe(Protocol):
    """Knows a reason why the display stays on without input: a film, a slide show, sound."""

    def held_awake(self) -> bool:
        """Tell whether there is such a reason now.

        Raises:
            NotApplicable: this desktop does not tell.
            OSError: it could not be asked.
        """
        ...


@dataclass(frozen=True, slots=True)
class Desktop:
    """The probes of this machine, best idle source first; all absent on a headless one."""

    idle: tuple[IdleProbe, ...] = ()
    foreground: ForegroundProbe | None = None
    lock: LockProbe | None = None
    awake: tuple[AwakeProbe, ...] = ()
