"""Hostile payloads at the centre: refused with a reason or left unanswered, and it goes on.

``tests/faults/fuzz_ingest.py`` searches on, guided by coverage.
"""

import json
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.center.hostile import (
    DEVICE,
    GOOD,
    RECEIVED_MS,
    TOPIC,
    Judged,
    centre,
    corpus,
    frame,
    header,
    judge,
    packed,
    record,
    still_works,
    wrong_shard,
)
from tests.unit.contract.samples import json_values

from ketang_center.ingest import worker as taking_in
from ketang_center.ingest.worker import MOST_DAYS, Message
from ketang_center.store.sqlite import Key
from ketang_contract import batch, topics
from ketang_contract.records import Stream

BIG = 2**53 - 1
HEAD = json.dumps(header()).encode()


@pytest.fixture
def worker(tmp_path):
    with centre(tmp_path) as made:
        yield made


def bad_header(payload):
    return (TOPIC, payload, Judged(("bad_header",), (), acked=False, not_yet=False))


def bad_frame(payload, why):
    return (TOPIC, payload, Judged((why,), (), acked=False, not_yet=False))


def bad_record(payload, why="bad_record"):
    return (TOPIC, payload, Judged((), ((1, why),), acked=True, not_yet=False))


def silently(topic, payload=b""):
    return (topic, payload or frame(header(), GOOD), Judged((), (), acked=False, not_yet=False))


NOT_YET = Judged((), (), acked=False, not_yet=True)
HOSTILE = {
    "empty": bad_frame(b"", "empty_frame"),
    "no zlib": bad_frame(b"\x01garbage", "bad_compression"),
    "cut short": bad_frame(frame(header(), GOOD)[:-3], "bad_compression"),
    "followed by more": bad_frame(frame(header(), GOOD) + b"\0", "bad_compression"),
    "zip bomb": bad_frame(packed(b"0" * 50_000_000), "raw_too_large"),
    "zip bomb within the ratio": bad_frame(
        packed(b'{"a":' + b"[" * batch.MAX_RAW_BYTES), "raw_too_large"
    ),
    "header too large": bad_frame(
        b"\x01" + zlib.compress(HEAD[:-1] + b" " * 33_000 + b"}", 0), "header_too_large"
    ),
    "deep header": bad_header(b"\x01" + zlib.compress(b"[" * 30_000, 0)),
    "deep record": bad_record(frame(header(), b"[" * 60), "record_too_deep"),
    "long record": bad_record(
        frame(header(), GOOD[:-1] + bytes(range(32, 127)).replace(b"{", b"") * 45),
        "record_too_large",
    ),
    "NaN": bad_record(record(b'"active_s":200', b'"active_s":NaN')),
    "1e999": bad_record(record(b'"active_s":200', b'"active_s":1e999')),
    "Infinity in the header": bad_header(frame(HEAD.replace(b'"head": 1', b'"head": Infinity'))),
    "1e999 in the header": bad_header(frame(HEAD.replace(b'"head": 1', b'"head": 1e999'))),
    "lone surrogate": bad_record(record(b'"subject":"ifp-0001"', b'"subject":"\\ud800"')),
    "lone surrogate in the header": bad_header(frame(header(store_id="\ud800"), GOOD)),
    "bytes that are no UTF-8": bad_record(record(b"ifp-0001", b"ifp-\xff\xfe")),
    "UTF-16": bad_header(frame(json.dumps(header()).encode("utf-16"), GOOD)),
    "NUL": bad_record(record(b"ifp-0001", b"ifp-\\u0000")),
    "raw NUL": bad_record(record(b"ifp-0001", b"ifp-\0")),
    "NUL as store": bad_header(frame(header(store_id="s\0"), GOOD)),
    "2^63": bad_record(record(b'"boottime_ms":5000', b'"boottime_ms":9223372036854775808')),
    "2^63 as number": bad_header(frame(header(head=2**63, seqs=[[2**63, 2**63]]), GOOD)),
    "2^53 as number": bad_header(frame(header(head=2**53, seqs=[[2**53, 2**53]]), GOOD)),
    "a million digits": bad_header(
        b"\x01" + zlib.compress(b'{"schema":' + b"9" * 20_000 + b"}", 0)
    ),
    "true as number": bad_header(frame(header(head=True), GOOD)),
    "a float as number": bad_header(frame(header(head=1.0), GOOD)),
    "unknown field": bad_record(record(b'"window_s":300', b'"window_s":300,"face":1')),
    "unknown field in the header": bad_header(frame(header(face=1), GOOD)),
    "unknown kind": bad_record(record(b'"kind":"usage"', b'"kind":"face"')),
    "wrong stream": (
        TOPIC,
        frame(header(stream="ops"), GOOD),
        Judged(("wrong_stream",), (), acked=False, not_yet=False),
    ),
    "more lines than numbers": bad_header(frame(header(), GOOD, GOOD)),
    "more numbers than lines": bad_header(frame(header(head=9, seqs=[[1, 9]]), GOOD)),
    "all numbers there are": bad_header(frame(header(head=BIG, seqs=[[1, BIG]]), GOOD)),
    "numbers backwards": bad_header(frame(header(head=9, seqs=[[9, 1]]), GOOD)),
    "numbers twice": bad_header(frame(header(head=2, seqs=[[1, 1], [1, 1]]), GOOD, GOOD)),
    "a number beyond the head": bad_header(frame(header(head=0), GOOD)),
    "number nought": bad_header(frame(header(seqs=[[0, 0]]), GOOD)),
    "a drop backwards": bad_header(frame(header(head=9, drops=[[9, 1, "evicted"]]), GOOD)),
    "a drop for no known reason": bad_header(frame(header(head=9, drops=[[2, 2, "x"]]), GOOD)),
    "too many ranges": bad_header(
        frame(header(head=900, seqs=[[at, at] for at in range(1, 600, 2)]), *[GOOD] * 300)
    ),
    "schema too old": bad_frame(frame(header(schema=0), GOOD), "schema_too_old"),
    "no header": bad_header(frame(b"[]", GOOD)),
    "an empty line": bad_record(frame(header(), b"")),
    "newer schema": (TOPIC, frame(header(schema=2), GOOD), NOT_YET),
    "newer schema, other fields": (TOPIC, frame({"schema": 7, "all": "new"}, GOOD), NOT_YET),
    "newer encoding": (TOPIC, b"\x02" + GOOD, NOT_YET),
    "wrong shard": silently(wrong_shard(TOPIC)),
    "wildcard device": silently("kt/v1/00/+/up/b/use"),
    "wildcards all the way": silently("kt/v1/00/#"),
    "a device with a dot": silently("kt/v1/00/a.b/up/b/use"),
    "unknown stream": silently(topics.of(DEVICE, "up/b/face")),
    "unknown channel": silently(topics.of(DEVICE, "up/faces")),
    "downwards": silently(topics.of(DEVICE, topics.ACK)),
    "another root": silently("x/y/z"),
    "a long topic": silently("kt/v1/" + "a/" * 30_000),
    "a document too large": silently(topics.of(DEVICE, topics.BIRTH), b" " * 70_000),
    "a deep document": silently(topics.of(DEVICE, topics.REPORTED), b"[" * 60_000),
    "a document of NaN": silently(topics.of(DEVICE, topics.DEATH), b'{"session":NaN}'),
    "a session of 2^63": silently(topics.of(DEVICE, topics.DEATH), b'{"session":%d}' % 2**63),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_payload_is_told_by_its_reason(worker, name):
    topic, payload, expected = HOSTILE[name]
    before = worker.counts.refused
    assert judge(worker, Message(topic, payload, RECEIVED_MS)) == expected
    assert worker.counts.refused == before + (not expected.not_yet)
    still_works(worker, 1)


def test_the_second_of_two_equal_names_never_decides(worker):
    """Whatever a duplicate key says, the record's own bytes are kept and read one way."""
    twice = record(b'"window_s":300', b'"window_s":300,"window_s":999')
    assert judge(worker, Message(TOPIC, twice, RECEIVED_MS)).refused == ((1, "bad_record"),)
    later = record(b'"window_s":300', b'"window_s":999,"window_s":300')
    judge(worker, Message(TOPIC, later, RECEIVED_MS))
    still_works(worker, 1)


def test_a_schema_named_twice_is_not_taken_for_both(worker):
    raw = HEAD[:-1] + b', "schema": 2}'
    assert judge(worker, Message(TOPIC, frame(raw, GOOD), RECEIVED_MS)).not_yet
    raw = b'{"schema": 2, ' + HEAD[1:]
    judge(worker, Message(TOPIC, frame(raw, GOOD), RECEIVED_MS))
    still_works(worker, 1)


def test_a_loss_of_all_numbers_there_are_costs_one_range(worker):
    made = header(head=BIG, seqs=[[BIG, BIG]], drops=[[1, BIG, "evicted"]])
    for _ in range(2):
        assert judge(worker, Message(TOPIC, frame(made, GOOD), RECEIVED_MS)).acked
    ledger = worker.store.control.ledger(Key(DEVICE, "s-1", "use"))
    assert ledger.balanced
    assert ledger.stored.ranges == ((BIG, BIG),)
    assert ledger.dropped.ranges == ((1, BIG - 1),)
    still_works(worker, 1)


def of_days(first, days):
    """A frame with a record of each of so many days; its numbers are those of the days."""
    lines = [
        GOOD.replace(
            b'"wall_ms":1760000000000', b'"wall_ms":%d' % (1_760_000_000_000 + 86_400_000 * day)
        )
        for day in range(first, first + days)
    ]
    return frame(header(head=first + days - 1, seqs=[[first, first + days - 1]]), *lines)


def test_batches_of_hundreds_of_days_hold_few_files_open(worker):
    """Each day is a file; every one held open would cost descriptors until none is left."""
    worker.handle(
        [Message(TOPIC, of_days(1 + 60 * at, 60), RECEIVED_MS) for at in range(5)],
    )
    assert len(worker.store.partitions._open) <= 41
    assert len(worker.store.partitions.days()) == 300
    still_works(worker, 301)


def test_a_batch_of_too_many_days_is_told_to_be_halved_and_its_halves_are_taken(worker):
    judged = judge(worker, Message(TOPIC, of_days(1, 2 * MOST_DAYS), RECEIVED_MS))
    assert judged == Judged(("too_many_days",), (), acked=False, not_yet=False)
    assert worker.store.partitions.days() == []
    for first in (1, 1 + MOST_DAYS):
        assert judge(worker, Message(TOPIC, of_days(first, MOST_DAYS), RECEIVED_MS)).acked
    assert worker.store.control.ledger(Key(DEVICE, "s-1", "use")).balanced


@pytest.mark.parametrize("most", [2_000, pytest.param(20_000, marks=pytest.mark.soak)])
def test_a_stream_with_too_many_holes_waits(worker, monkeypatch, most):
    monkeypatch.setattr(taking_in, "MAX_LEDGER_RANGES", most)
    number = 1
    for _ in range(most // 222):
        ranges = [[at, at] for at in range(number, number + 512, 2)]
        made = header(head=number + 512, seqs=[], drops=[[*one, "evicted"] for one in ranges])
        last = judge(worker, Message(TOPIC, frame(made), RECEIVED_MS))
        number += 512
    assert last.not_yet
    still_works(worker, 1)


topic_texts = st.one_of(
    st.sampled_from([topic for topic, _ in corpus()]),
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["kt", "v1", "00", DEVICE, "+", "#", "", "up", "b", "use", "\0", "é"]),
        max_size=8,
    ).map("/".join),
)
numbers = st.one_of(
    st.integers(-1, 12), st.sampled_from([2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64])
)
ranges = st.lists(st.tuples(numbers, numbers), max_size=4)
headers = st.builds(
    lambda some, extra: header(**some, **extra),
    st.fixed_dictionaries(
        {},
        optional={
            "head": numbers | json_values,
            "seqs": ranges | json_values,
            "drops": st.lists(st.tuples(numbers, numbers, st.just("evicted")), max_size=3),
            "schema": numbers,
            "stream": st.sampled_from(["use", "ops", "x"]) | json_values,
            "store_id": st.text(max_size=5) | json_values,
            "parent": st.text(max_size=5),
            "sent": json_values,
        },
    ),
    st.dictionaries(st.sampled_from(["face", "x"]), json_values, max_size=1),
)


@st.composite
def changed_lines(draw):
    """A good record with one value, or one stretch of its bytes, replaced."""
    if draw(st.booleans()):
        body = json.loads(GOOD)
        inner = draw(st.sampled_from([body, body["body"], body["body"]["categories"]]))
        inner[draw(st.sampled_from([*inner, "x"]))] = draw(json_values | numbers)
        return json.dumps(body).encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(GOOD)))
    return GOOD[:at] + draw(st.binary(max_size=6)) + GOOD[at + draw(st.integers(0, 6)) :]


payloads = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(packed),
    st.builds(
        lambda made, lines: frame(made, *lines),
        headers,
        st.lists(changed_lines() | st.just(GOOD), max_size=4),
    ),
    json_values.map(lambda one: json.dumps(one).encode("utf-8", "surrogatepass")),
    st.sampled_from([payload for _, payload in corpus()]),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(topic_texts, payloads), min_size=1, max_size=30))
def test_whatever_comes_is_answered_or_kept_and_ingest_goes_on(messages):
    memory = Path("/dev/shm")
    with (
        TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        centre(Path(folder)) as worker,
    ):
        for topic, payload in messages:
            judge(worker, Message(topic, payload, RECEIVED_MS))
        still_works(worker, 1)


def test_each_honest_message_is_taken(worker):
    for topic, payload in corpus():
        judged = judge(worker, Message(topic, payload, RECEIVED_MS))
        assert not judged.unreadable
    assert worker.counts.refused == 0
    assert worker.store.control.ledger(Key(DEVICE, "s-1", Stream.USE)).stored
