"""Topic names: ``kt/v1/{shard}/{device}/…``. School and county are not in them: devices move."""

from dataclasses import dataclass

from ketang_contract.errors import Refused
from ketang_contract.ids import is_identifier, shard_of
from ketang_contract.records import Stream

ROOT = "kt/v1"
BIRTH, DEATH, LIVE, REPORTED, BATCH = "up/birth", "up/death", "up/live", "up/reported", "up/b"
ACK, DESIRED = "dn/ack", "dn/desired"
COMMAND, ANSWER = "dn/cmd", "up/cmd"
"""A job's number follows: ``dn/cmd/{job}``, ``up/cmd/{job}``."""
_STREAMS = frozenset(one.value for one in Stream)
CHANNELS = (BIRTH, DEATH, LIVE, REPORTED, BATCH)


@dataclass(frozen=True, slots=True)
class Upward:
    """A parsed topic of something a device says.

    ``stream`` is set for batches only, ``job`` for answers to commands only.
    """

    device: str
    channel: str
    stream: Stream | None = None
    job: str = ""


def of(device: str, channel: str) -> str:
    """Topic of one channel of one device."""
    return f"{ROOT}/{shard_of(device)}/{device}/{channel}"


def batch(device: str, stream: Stream) -> str:
    """Topic of a batch of one stream."""
    return of(device, f"{BATCH}/{stream}")


def everything_up(shard: str = "+") -> str:
    """Filter for all that the devices of a shard say."""
    return f"{ROOT}/{shard}/+/up/#"


def parse(topic: str) -> Upward:
    """Read a topic a device published to.

    Raises:
        Refused: not our form, an impossible id, or a shard that is not hash(device).
    """
    parts = topic.split("/", 4)
    if len(parts) != 5 or f"{parts[0]}/{parts[1]}" != ROOT:  # noqa: PLR2004
        raise Refused("bad_topic", topic[:120])
    _, _, shard, device, channel = parts
    if not is_identifier(device):
        raise Refused("bad_device", device[:60])
    if shard != shard_of(device):
        raise Refused("wrong_shard", device)
    if channel in CHANNELS[:-1]:
        return Upward(device, channel)
    head, _, stream = channel.rpartition("/")
    if head == BATCH and stream in _STREAMS:
        return Upward(device, BATCH, Stream(stream))
    if head == ANSWER and is_identifier(stream):
        return Upward(device, ANSWER, job=stream)
    raise Refused("bad_topic", topic[:120])
