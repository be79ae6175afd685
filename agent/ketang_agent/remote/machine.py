"""What a device keeps of its configuration: the state that ``trial`` moves on. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ketang_contract.config import Config
from ketang_contract.layers import LayerAt
from ketang_contract.permits import Permit
from ketang_contract.state import ConfigReport, ConfigState

_SAYS_NOTHING = Config()
COLLECTS_NOTHING = Config(
    usage_s=0,
    host_s=0,
    network_s=0,
    environment_s=0,
    inventory_s=0,
    security_s=0,
    occupancy_s=0,
    inference=False,
)
"""The last resort of an agent that crashes whatever it does: it can still be told another thing."""


class Phase(StrEnum):
    """Where a candidate stands."""

    STAGED = "staged"
    TRIAL = "trial"
    RETURNING = "returning"
    """Gone back, to see whether the device can connect without the candidate."""
    WAITING = "waiting"
    """Inconclusive; tried again once there is a connection."""


class Works(StrEnum):
    """How something does that a candidate brought."""

    NOT_ASKED = "not_asked"
    PENDING = "pending"
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judging child said. ``reason`` is empty where the bundle was accepted."""

    hash: str = ""
    attempt: int = 0
    reason: str = ""
    layers: tuple[LayerAt, ...] = ()
    config: Config = _SAYS_NOTHING
    fallback: Config = _SAYS_NOTHING
    held: Mapping[str, Any] = field(default_factory=dict)
    held_committed: Mapping[str, Any] = field(default_factory=dict)
    trust_version: int = 0
    permits: tuple[Permit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is to be tried."""

    hash: str
    attempt: int
    layers: tuple[LayerAt, ...]
    config: Config
    held: Mapping[str, Any]
    phase: Phase = Phase.STAGED
    since_ms: int = 0
    """Boot clock, of the boot ``boot_id``: when the phase began."""
    boot_id: str = ""
    starts: int = 0
    session: int = 0
    """The link's when the phase began: it must come back with a later one."""
    failing: tuple[str, ...] = ()
    """Collectors that failed before it was tried."""
    suspicions: int = 0
    """Trials that failed for want of a connection that there was without it."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A configuration that did not pass here, and why."""

    hash: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Before:
    """What ran before the one in force, while that is not proved steady yet."""

    hash: str | None
    layers: tuple[LayerAt, ...]
    in_force: Config
    committed_ms: int
    boot_id: str
    crashes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """All of it; ``base`` is the profile's, in force until something was committed."""

    base: Config
    in_force: Config
    running: str | None = None
    layers: tuple[LayerAt, ...] = ()
    held: Mapping[str, Any] = field(default_factory=dict)
    desired: str | None = None
    attempt: int = 0
    state: ConfigState = ConfigState.FACTORY
    candidate: Candidate | None = None
    failed: tuple[Failed, ...] = ()
    """Did not pass here, the newest last: not tried again by themselves."""
    refused: Failed | None = None
    """The last that was not even tried."""
    trial_ms: int = 0
    trust_version: int = 0
    before: Before | None = None
    unproved: bool = False
    """What is in force was narrowed just now: an agent that crashes may do so for that."""
    ended: bool = False
    """The agent was stopped in order; how it began the next time is no crash."""

    @property
    def applied(self) -> Config:
        """What the device does now."""
        one = self.candidate
        return one.config if one is not None and one.phase is Phase.TRIAL else self.in_force

    @property
    def report(self) -> ConfigReport:
        """What the device says of it."""
        failed = self.failed[-1] if self.failed else None
        if self.state is ConfigState.REJECTED:
            failed = self.refused
        told = {
            ConfigState.ROLLED_BACK: failed.reason if failed else "",
            ConfigState.REJECTED: failed.reason if failed else "",
            ConfigState.INCONCLUSIVE: self.candidate.why if self.candidate else "",
        }
        return ConfigReport(
            state=self.state,
            running=self.running,
            layers=self.layers,
            desired=self.desired,
            attempt=self.attempt,
            failed=(failed.hash or None) if failed else None,
            reason=told.get(self.state, ""),
            trial_ms=self.trial_ms,
            trust_version=self.trust_version,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is seen of the device now.

    ``acknowledged``: nothing of importance waits that this session's batches brought.
    ``sampled``: every collector ran since the configuration was applied. ``moment``: a change that
    is not to be tried at once may be tried now.
    """

    connected: bool
    session: int
    acknowledged: bool
    sampled: bool
    failing: frozenset[str] = frozenset()
    parts: Works = Works.NOT_ASKED
    """The model and the agent a candidate names: fetched and checked, or not."""
    model: Works = Works.NOT_ASKED
    moment: bool = False


def factory(base: Config) -> Machine:
    """Begin as a device that was never told anything."""
    return Machine(base=base, in_force=base)
