"""What no honest device sends, and how the centre must take it; shared by the fuzzers."""

import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.contract.samples import EXAMPLES, USAGE

from ketang_center.ingest.worker import Message, Worker
from ketang_center.store.sqlite import Store
from ketang_contract import ack, batch, topics
from ketang_contract.errors import Refused
from ketang_contract.ids import frame_digest, shard_of
from ketang_contract.records import Stream, to_json, to_line

DEVICE = "ifp-0001"
TOPIC = topics.batch(DEVICE, Stream.USE)
RECEIVED_MS = 1_760_000_300_000
_REASON = re.compile(r"[a-z0-9_]{1,40}")
ALL_SHARDS = [f"{number:02x}" for number in range(256)]


@contextmanager
def centre(folder: Path) -> Iterator[Worker]:
    """A real store with every shard leased."""
    with Store(folder) as store:
        yield Worker(store, store.take_lease(ALL_SHARDS, "w_1", RECEIVED_MS, 10**12))


def header(**changes: Any) -> dict[str, Any]:
    """A header for one record, number 1; a change to None leaves the field out."""
    made = {
        "schema": 1,
        "store_id": "s-1",
        "stream": "use",
        "head": 1,
        "seqs": [[1, 1]],
        "sent": to_json(EXAMPLES["header"][0].sent),
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def frame(head: dict[str, Any] | bytes, *lines: bytes) -> bytes:
    """A frame of anything, however little it keeps to the caps."""
    first = head if isinstance(head, bytes) else json.dumps(head).encode("utf-8", "surrogatepass")
    return packed(b"\n".join((first, *lines)))


def packed(raw: bytes) -> bytes:
    return bytes((batch.ENCODING_ZLIB_JSONL,)) + zlib.compress(raw, 1)


GOOD = to_line(USAGE)


def record(old: bytes, new: bytes) -> bytes:
    """A frame whose one record has had a part replaced."""
    assert old in GOOD
    return frame(header(), GOOD.replace(old, new, 1))


@dataclass(frozen=True)
class Judged:
    """How a message was taken: ``got`` numbers refused, and the frame's own refusal."""

    unreadable: tuple[str, ...]
    refused: tuple[tuple[int, str], ...]
    acked: bool
    not_yet: bool


def judge(worker: Worker, message: Message) -> Judged:
    """Hand a message in, and hold whatever comes back against what was kept.

    Every refusal has a reason, in the answer and in the dead letters; every batch is answered
    unless it is not yet understood or for another worker's shard.
    """
    counts, db = worker.counts, worker.store.control.db
    refused, silent = counts.refused, counts.not_yet + counts.strangers
    not_yet = counts.not_yet
    buried = _buried(db)
    acks = []
    for reply in worker.handle([message]):
        assert reply.topic == topics.of(message.topic.split("/")[3], topics.ACK)
        acks.append(ack.parse(reply.payload))
    reasons = [why for one in acks for _, why in (*one.refused, *one.unreadable)]
    assert all(_REASON.fullmatch(why) for why in reasons)
    letters = [why for (why,) in db.execute("SELECT DISTINCT reason FROM dead_letter")]
    assert all(_REASON.fullmatch(why) for why in letters)
    if _is_batch(message.topic):
        answered = any(frame_digest(message.payload) in _named(one) for one in acks)
        assert answered != (counts.not_yet + counts.strangers > silent)
    if counts.refused > refused:
        assert _buried(db) > buried or any(one.refused for one in acks), "refused without a trace"
    return Judged(
        tuple(why for one in acks for _, why in one.unreadable),
        tuple(pair for one in acks for pair in one.refused),
        any(one.got for one in acks),
        counts.not_yet > not_yet,
    )


def _named(one: ack.Ack) -> tuple[str, ...]:
    return (*one.got, *(digest for digest, _ in one.unreadable))


def _is_batch(topic: str) -> bool:
    try:
        return topics.parse(topic).channel == topics.BATCH
    except Refused:
        return False


def _buried(db: Any) -> int:
    return int(db.execute("SELECT coalesce(sum(count), 0) FROM refusal").fetchone()[0])


def still_works(worker: Worker, number: int) -> None:
    """The next honest batch, of a store of its own, is taken in and acknowledged."""
    made = header(store_id="honest", head=number, seqs=[[number, number]])
    judged = judge(worker, Message(TOPIC, frame(made, GOOD), RECEIVED_MS))
    assert judged == Judged((), (), acked=True, not_yet=False)


def corpus() -> list[tuple[str, bytes]]:
    """Honest messages of every kind, ``(topic, payload)``."""
    found = [
        (topics.of(DEVICE, f"up/{name}"), to_line(one))
        for name in ("birth", "death", "live", "reported")
        for one in EXAMPLES[name]
    ]
    lines = [to_line(one) for one in EXAMPLES["record"]]
    found.append((TOPIC, frame(header(), GOOD)))
    found.append((TOPIC, frame(header(head=9, seqs=[[1, 1], [4, 4]]), *lines)))
    found.append((TOPIC, frame(header(head=9, seqs=[], drops=[[5, 9, "evicted"]]))))
    found.append((TOPIC, frame(header(parent="s-0", head=2, seqs=[[1, 2]]), *lines)))
    return found


def wrong_shard(topic: str) -> str:
    return topic.replace(f"/{shard_of(DEVICE)}/", "/00/", 1)
