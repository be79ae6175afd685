"""What the book of rollouts holds, as plain frozen values. Times are UTC milliseconds."""

from dataclasses import dataclass
from enum import StrEnum

from ketang_center.rollouts.plan import State
from ketang_contract.config import Config, Level
from ketang_contract.layers import LayerAt, Step


class RolloutState(StrEnum):
    """Where a rollout is."""

    AWAITING = "awaiting"
    """It widens what is collected: another person has to approve it first."""
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    """Everyone who could be reached has told how it went; who comes later still gets it."""
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled_back"
    """The undo was sent after it."""
    SUPERSEDED = "superseded"
    """A later release of the same target took its place."""


LIVE = frozenset({RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.FINISHED})
"""Their devices are listened to."""
SENDING = frozenset({RolloutState.RUNNING, RolloutState.FINISHED})


class What(StrEnum):
    """What a rollout brings."""

    RELEASE = "release"
    UNDO = "undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A layer as it was signed. ``digest`` names it."""

    digest: str
    target: str
    level: Level
    key_epoch: int
    version: int
    release: str
    undoes: int | None
    content: Config
    issued_s: int
    expires_s: int
    envelope: bytes

    @property
    def at(self) -> LayerAt:
        """Its place in its line of versions."""
        return LayerAt(target=self.target, key_epoch=self.key_epoch, version=self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A layer and its undo, admitted at this centre.

    Attributes:
        layer: digest of the layer; ``undo`` of its undo.
        widens: the collecting fields in which it allows more than what stands; needs two people.
        holders: who signed it.
        before: what the undo brings back.
    """

    name: str
    target: str
    level: Level
    key_epoch: int
    version: int
    undo_version: int
    layer: str
    undo: str
    widens: tuple[str, ...]
    holders: tuple[str, ...]
    admitted_by: str
    admitted_ms: int
    expires_s: int
    content: Config
    before: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A device's signed placement, the newest there is."""

    device: str
    key_epoch: int
    version: int
    digest: str
    path: tuple[Step, ...]
    least: tuple[LayerAt, ...]
    expires_s: int
    envelope: bytes

    @property
    def targets(self) -> tuple[str, ...]:
        """The units on its way, the region first, and the device itself."""
        return (*(one.unit for one in self.path), self.device)

    @property
    def school(self) -> str:
        """The school on its way; empty above schools."""
        return next((one.unit for one in self.path if one.level is Level.SCHOOL), "")


@dataclass(frozen=True, slots=True)
class Member:
    """One device of one rollout. ``group`` is 0 until its turn comes.

    Attributes:
        rollout: the rollout's number.
        hash: of the configuration it was sent, by which its reports are known.
        attempt: how often a person had it try again.
        sent_ms: when it was sent last; 0: never.
        updated_ms: when the state last changed.
        excused: a failure that a person has seen and resumed after; it stops nothing any more.
        position: in the rollout's order.
        cohort: when it had come on line, as it was sent to: ``plan.cohort_of``.
    """

    rollout: int
    device: str
    kind: str
    school: str
    position: int
    group: int = 0
    state: State = State.PENDING
    reason: str = ""
    attempt: int = 0
    sent_ms: int = 0
    updated_ms: int = 0
    excused: bool = False
    hash: str = ""
    cohort: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Had:
    """What the centre has for a device: the configuration it was last sent.

    ``stamp`` names the bundle with its permits, ``trust_version`` is the newest document in it.
    ``out``: the broker has taken it over; until it has, it is sent again at every start.
    """

    device: str
    hash: str
    stamp: str
    attempt: int
    sent_ms: int
    trust_version: int
    out: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history: who did what. ``who`` is ``center`` where no person did it."""

    at_ms: int
    rollout: int
    who: str
    what: str
    detail: str
