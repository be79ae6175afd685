"""What the centre may ask one device to do at once, and what the device answers.

A command is a signed document (DSSE, ``COMMAND_TYPE``) on ``dn/cmd/{job}``, QoS 1, never retained.
It binds one device and one job, holds for ten minutes at most, and is carried out once. What may be
asked is the closed list ``What``: never a program's name, an argument or a path.

An answer goes up on ``up/cmd/{job}``: one line of JSON. The line that ends a job of diagnostics is
followed by a newline and the archive itself, which the line names by its SHA-256: it comes by the
connection that proves which device speaks, together with its answer or not at all, and needs no
second door, key or proof.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from ketang_contract import strict_json
from ketang_contract.errors import Refused
from ketang_contract.layers import Seconds
from ketang_contract.limits import Between, Count, Digest, Identifier, Matches, TaggedBy, Value
from ketang_contract.records import Family, to_json, to_line

COMMAND_TYPE = "application/vnd.ketang.command+json"
LASTS_MOST_S: Final = 600
COUNTDOWN_LEAST_S, COUNTDOWN_MOST_S = 60, 600
MAX_COMMAND_BYTES = 4 << 10
"""Of an envelope on the wire: some eight times a usual one."""
MAX_ARCHIVE_BYTES = 512 << 10
MAX_LINE_BYTES = 4 << 10
Who = Annotated[str, Matches("[a-z0-9][a-z0-9._@-]{0,63}")]
"""The name of an account: who asks, as people in the room read it."""
Reason = Annotated[str, Matches("[a-z0-9_]{0,40}")]


class What(StrEnum):
    """All that a device can be asked to do."""

    READ_INVENTORY = "read_inventory"
    NETWORK_PROBE = "network_probe"
    RESTART_AGENT = "restart_agent"
    DIAGNOSTICS = "diagnostics"
    SHUT_DOWN = "shut_down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Value):
    """One thing asked of one device. Times are UTC seconds.

    ``countdown_s`` is how long people in the room have to say no to a shutdown; of nothing else.
    """

    device: Identifier
    job: Identifier
    what: What
    who: Who
    issued_s: Seconds
    expires_s: Seconds
    countdown_s: Annotated[int, Between(COUNTDOWN_LEAST_S, COUNTDOWN_MOST_S)] | None = None

    def __post_init__(self) -> None:
        """Refuse a command that holds for longer than any may, and a countdown of anything else."""
        if not 0 < self.expires_s - self.issued_s <= LASTS_MOST_S:
            raise ValueError(f"a command holds for at most {LASTS_MOST_S} seconds")
        if (self.what == What.SHUT_DOWN) != (self.countdown_s is not None):
            raise ValueError("a countdown belongs to a shutdown, and to nothing else")


class State(StrEnum):
    """How far a device has come with a job; the last five end it."""

    RECEIVED = "received"
    WAITING_CONSENT = "waiting_consent"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    """By a person in the room, or for one who uses the device."""
    EXPIRED = "expired"
    FAILED = "failed"


ENDS = frozenset({State.DONE, State.REFUSED, State.CANCELLED, State.EXPIRED, State.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRead(Value):
    """The device's description was read anew; what changed comes with the next records."""

    kind: Literal["inventory"] = "inventory"
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed(Value):
    """How the broker is reached: the address family and round trip in use, and one fresh try."""

    kind: Literal["probe"] = "probe"
    family: Family = Family.NONE
    rtt_ms: Count | None = None
    dns_ms: Count | None = None
    connect_ms: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive(Value):
    """The archive that follows the line."""

    kind: Literal["diagnostics"] = "diagnostics"
    bytes: Annotated[int, Between(1, MAX_ARCHIVE_BYTES)]
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Countdown(Value):
    """How a shutdown is announced. ``desktop``: the desktop shows it too, not the page alone."""

    kind: Literal["countdown"] = "countdown"
    seconds: Annotated[int, Between(0, COUNTDOWN_MOST_S)]
    desktop: bool = False


Result = Annotated[InventoryRead | Probed | Archive | Countdown, TaggedBy("kind")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Value):
    """What became of a job so far. ``reason``: a closed word of the device's, never free text."""

    job: Identifier
    state: State
    reason: Reason = ""
    result: Result | None = None


def payload(command: Command) -> bytes:
    """Write a command as what gets signed: canonical JSON, defaults left out."""
    return strict_json.canonical(to_json(command))


def write_answer(answer: Answer, archive: bytes = b"") -> bytes:
    """Write an answer for the wire, with the archive it names, if any."""
    line = to_line(answer)
    return line + b"\n" + archive if archive else line


def split_answer(raw: bytes) -> tuple[bytes, bytes]:
    """Part an answer's line from the archive behind it; neither is judged yet.

    Raises:
        Refused: ``bad_document``: larger than any may be.
    """
    line, _, archive = raw.partition(b"\n")
    if len(line) > MAX_LINE_BYTES or len(archive) > MAX_ARCHIVE_BYTES:
        raise Refused("bad_document", "an answer larger than any may be")
    return line, archive


def check_archive(answer: Answer, archive: bytes) -> None:
    """See that an archive is the one its answer names, and that there is one where it says so.

    Raises:
        Refused: ``bad_document``.
    """
    said = answer.result if isinstance(answer.result, Archive) else None
    if (said is not None and answer.state == State.DONE) != bool(archive):
        raise Refused("bad_document", "an archive without its answer, or the other way round")
    if said is None or not archive:
        return
    if (len(archive), hashlib.sha256(archive).hexdigest()) != (said.bytes, said.sha256):
        raise Refused("bad_document", "another archive than the answer names")
