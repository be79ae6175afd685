"""What the rest of the centre may ask of the store: a narrow, replaceable protocol."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ketang_contract.ledger import Ledger
from ketang_contract.records import Record, Stream
from ketang_contract.state import Camera


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A raw record as it came, with what the centre added.

    ``true_ms`` is the record's time rebased on the device's boot clock and the moment of receipt
    (UTC, milliseconds); it equals the record's own wall time unless that was off by over 120 s,
    and then ``clock_suspect`` is set.
    """

    record: Record
    true_ms: int
    received_ms: int
    clock_suspect: bool


@dataclass(frozen=True, slots=True)
class Dirty:
    """A rollup bucket whose raw changed: one subject, one hour (``true_ms // 3_600_000``)."""

    device: str
    subject: str
    hour: int
    mark: int
    """Grows with every change; clearing an older mark leaves a newer one standing."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of a device's connection right now."""

    device: str
    session: int
    connected: bool
    orderly: bool
    """The last good-bye was said, not inferred by the broker."""
    since_ms: int
    """When ``connected`` last changed."""
    last_seen_ms: int
    """When the last batch arrived."""
    agent_version: str
    faults: tuple[str, ...] = ()
    camera: Camera = Camera.OFF


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the live feed: something about a device changed."""

    no: int
    device: str
    what: str
    """``connection``, ``fault`` (the camera's state as well) or ``clone``."""
    at_ms: int


@dataclass(frozen=True, slots=True)
class Account:
    """One stream of one store of one device, and what became of its numbers."""

    device: str
    store_id: str
    stream: Stream
    ledger: Ledger


class Reading(Protocol):
    """What rollups, metrics and views may do. All times are UTC milliseconds."""

    def take_dirty(self, limit: int) -> list[Dirty]:
        """Return up to ``limit`` buckets to recompute, longest waiting first; they stay marked."""
        ...

    def clear_dirty(self, done: Iterable[Dirty]) -> None:
        """Unmark buckets whose rollup is durable, unless they changed again meanwhile."""
        ...

    def bucket(self, device: str, subject: str, hour: int) -> list[StoredRow]:
        """Return every raw row that counts and whose ``true_ms`` lies in the hour, in its order."""
        ...

    def presence(self, devices: Sequence[str] | None = None) -> list[Presence]:
        """Return the presence of the named devices, or of all; the never-seen are left out."""
        ...

    def doubted(self) -> frozenset[str]:
        """Return the devices that are two machines, while no person has decided."""
        ...

    def listening_ms(self) -> int:
        """Return since when the centre has heard its devices without a break; 0: never yet."""
        ...

    def changes(self, after: int, limit: int = 500) -> list[Change]:
        """Return the live feed after a number, oldest first."""
        ...

    def accounts(self, devices: Sequence[str] | None = None) -> list[Account]:
        """Return the ledgers of the named devices, or of all."""
        ...
