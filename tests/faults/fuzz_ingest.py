"""Coverage-guided hostile messages at the centre's worker over a real store.

Atheris is no dependency of the project. In an environment that has the project and its [center]
and [dev] parts, from the top of the checkout:

    python -m pip install atheris
    python -m tests.faults.fuzz_ingest -runs=100000 -seed=1

Prints its figures every 10,000 runs. Fails on an exception, a refusal without a reason, a batch
that is neither answered nor left for later, an honest batch that is not taken in afterwards, or a
resident memory that grew by 50 MB. An input is a topic in the length its first two bytes say, then
the payload.
"""

import json
import random
import sys
import tempfile
import zlib
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import atheris
import psutil

with atheris.instrument_imports(include=["ketang_contract", "ketang_center"]):
    import tests.unit.center.hostile as _instrumented  # noqa: F401  (its imports are instrumented)

from ketang_center.ingest.worker import Message
from ketang_contract import batch
from tests.unit.center.hostile import RECEIVED_MS, centre, corpus, judge, still_works

FRESH_EVERY = 2_000
WARM_RUNS = 4_000
SAY_EVERY = 10_000
MOST_GROWTH_BYTES = 50 << 20
MOST_BYTES = 1 << 16
_WORDS = (
    b"NaN",
    b"1e999",
    b"-1",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'"\\ud800"',
    b'"\\u0000"',
    b"9007199254740991",
    b"9007199254740992",
    b"9223372036854775808",
    b'"schema":2',
    b"[[1,9007199254740991]]",
    b'[[1,9007199254740991,"evicted"]]',
)
_TOPIC_WORDS = ("+", "#", "..", "/", "\0", "kt", "v2", "00", "up", "dn", "ack", "birth", "é")


def pack(topic: str, payload: bytes) -> bytes:
    name = topic.encode("utf-8", "replace")[:2000]
    return len(name).to_bytes(2, "big") + name + payload


def unpack(data: bytes) -> tuple[str, bytes]:
    """A topic as a client library gives it: text, whatever bytes were sent."""
    size = int.from_bytes(data[:2], "big")
    return data[2 : 2 + size].decode("utf-8", "replace"), data[2 + size :]


def change_json(value: Any, dice: random.Random) -> Any:
    """Change one place of a JSON value."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        name = dice.choice(list(value))
        if dice.random() < 0.1:
            del value[name]
        elif dice.random() < 0.1:
            value[name + "x"] = 1
        else:
            value[name] = change_json(value[name], dice)
        return value
    if isinstance(value, list) and value and dice.random() < 0.9:
        at = dice.randrange(len(value))
        value[at] = change_json(value[at], dice)
        return value * 2 if dice.random() < 0.1 else value
    if type(value) is int and dice.random() < 0.6:
        return max(-1, value + dice.choice([-1, 1, 300, 10**12, 2**53, 2**63]))
    return dice.choice([0, -1, 2**53 - 1, 2**64, 1e300, None, True, "", "x" * 40, "\ud800", [], {}])


def change_line(line: bytes, dice: random.Random) -> bytes:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return atheris.Mutate(line, len(line) + 64)
    return json.dumps(change_json(value, dice), separators=(",", ":")).encode()


def change_inside(raw: bytes, dice: random.Random) -> bytes:
    """Change the JSON Lines within a frame."""
    lines = raw.split(b"\n")
    at = dice.randrange(len(lines))
    match dice.randrange(7):
        case 0 | 1 | 2:
            lines[at] = change_line(lines[at], dice)
        case 3:
            lines.insert(at, dice.choice(lines))
        case 4:
            del lines[at]
        case 5:
            word, spot = dice.choice(_WORDS), dice.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:spot] + word + lines[at][spot + dice.randrange(12) :]
        case _:
            return atheris.Mutate(raw, len(raw) + 64)
    return b"\n".join(lines)


def change_payload(payload: bytes, dice: random.Random) -> bytes:
    kind, body = payload[:1], payload[1:]
    if kind == bytes((batch.ENCODING_ZLIB_JSONL,)) and dice.random() < 0.9:
        try:
            raw = zlib.decompressobj().decompress(body, 1 << 20)
            return kind + zlib.compress(change_inside(raw, dice), 1)
        except zlib.error:
            pass
    if payload[:1] == b"{" and dice.random() < 0.7:
        return change_line(payload, dice)
    return atheris.Mutate(payload, len(payload) + 64) if payload else b"{}"


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Change the topic seldom, the payload mostly from within its compression."""
    dice = random.Random(seed)
    topic, payload = unpack(data)
    if not payload or dice.random() < 0.02:
        topic, payload = dice.choice(corpus())
    if dice.random() < 0.1:
        parts = topic.split("/")
        parts[dice.randrange(len(parts))] = dice.choice(_TOPIC_WORDS)
        topic = "/".join(parts)
    else:
        payload = change_payload(payload, dice)
    return pack(topic, payload)[:most]


class Target:
    """The centre under fire; its folder is emptied every so often."""

    def __init__(self) -> None:
        self.runs = 0
        self.told: Counter[str] = Counter()
        self.first_rss_bytes = self.last_rss_bytes = 0
        self._process = psutil.Process()
        self._stack = ExitStack()
        memory = Path("/dev/shm")
        self._memory = memory if memory.is_dir() else None

    def __call__(self, data: bytes) -> None:
        if self.runs % FRESH_EVERY == 0:
            self._begin_anew()
        self.runs += 1
        topic, payload = unpack(data)
        judged = judge(self._worker, Message(topic, payload, RECEIVED_MS))
        self._count(*judged.unreadable, *(why for _, why in judged.refused))
        self._count(*["acknowledged"] * judged.acked, *["not yet"] * judged.not_yet)
        if self.runs % 500 == 0:
            still_works(self._worker, self.runs % FRESH_EVERY + 1)
        if self.runs % FRESH_EVERY == 0:
            self._weigh()
        if self.runs % SAY_EVERY == 0:
            self._say()

    def _count(self, *told: str) -> None:
        self.told.update(told)

    def _begin_anew(self) -> None:
        self._stack.close()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(dir=self._memory))
        self._worker = self._stack.enter_context(centre(Path(folder)))

    def _weigh(self) -> None:
        self.last_rss_bytes = self._process.memory_info().rss
        if self.runs <= WARM_RUNS:
            self.first_rss_bytes = self.last_rss_bytes
        grown = self.last_rss_bytes - self.first_rss_bytes
        assert grown < MOST_GROWTH_BYTES, f"grew by {grown >> 20} MB in {self.runs} runs"

    def _say(self) -> None:
        """Print the figures so far; the fuzzer ends its process without asking anyone."""
        grown = (self.last_rss_bytes - self.first_rss_bytes) / (1 << 20)
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.told.items()))
        sys.stdout.write(
            f"fuzz_ingest: {self.runs} runs, memory grew by {grown:.1f} MB after the first"
            f" {WARM_RUNS}; answers: {told}\n"
        )
        sys.stdout.flush()


def main() -> None:
    target = Target()
    with tempfile.TemporaryDirectory() as seeds:
        for number, (topic, payload) in enumerate(corpus()):
            (Path(seeds) / f"{number}").write_bytes(pack(topic, payload))
        arguments = [*sys.argv, f"-max_len={MOST_BYTES}", f"-artifact_prefix={seeds}/", seeds]
        atheris.Setup(arguments, target, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
