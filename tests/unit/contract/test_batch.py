"""The batch codec: what goes in comes out, byte for byte, and caps hold before parsing."""

import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.contract.samples import SENT, USAGE, records

from ketang_contract import batch
from ketang_contract.batch import Header, check_line, decode, encode
from ketang_contract.errors import NotYet, Refused, TooLarge
from ketang_contract.records import MAX_LINE_BYTES, Stream, to_line

HEADER = Header(schema=batch.SCHEMA, store_id="s-1", stream=Stream.USE, head=1000, sent=SENT)
lines = st.lists(st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"")), max_size=20)


def frame_of(raw: bytes) -> bytes:
    return bytes((batch.ENCODING_ZLIB_JSONL,)) + zlib.compress(raw)


def reason_of(frame: bytes) -> str:
    with pytest.raises(Refused) as caught:
        decode(frame)
    return caught.value.reason


@given(lines)
def test_lines_come_back_byte_for_byte(some):
    header, back = decode(encode(HEADER, some))
    assert header == to_line(HEADER)
    assert back == some


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(records, max_size=5))
def test_records_of_every_kind_travel_as_the_bytes_they_were_written(some):
    written = [to_line(one) for one in some]
    assert all(b"\n" not in line for line in written)
    assert decode(encode(HEADER, written))[1] == written


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_not_yet_and_nothing_else(garbage):
    for frame in (garbage, bytes((1,)) + garbage, frame_of(garbage)):
        try:
            decode(frame)
        except (Refused, NotYet):
            continue


@given(lines, st.data())
def test_a_frame_cut_short_or_followed_by_more_is_refused(some, data):
    frame = encode(HEADER, some)
    cut = data.draw(st.integers(1, len(frame) - 1))
    assert reason_of(frame[:cut]) == "bad_compression"
    assert reason_of(frame + b"\0") == "bad_compression"


def test_a_newer_encoding_is_not_yet():
    with pytest.raises(NotYet):
        decode(b"\x02anything")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty_frame"),
        (b"\x01" + b"x" * batch.MAX_FRAME_BYTES, "frame_too_large"),
        (frame_of(b"0" * (batch.MAX_RAW_BYTES + 1)), "raw_too_large"),
        (frame_of(b"0" * 600_000), "raw_too_large"),
        (frame_of(b"0" * 33 * 1024 + b"\n" + bytes(range(11, 250)) * 9), "header_too_large"),
        (frame_of(b"{}" + b"\n[1]" * (batch.MAX_RECORDS + 1)), "too_many_records"),
    ],
)
def test_each_cap_is_told_by_its_reason(frame, reason):
    assert reason_of(frame) == reason


def test_a_bomb_costs_no_more_memory_than_its_cap():
    import tracemalloc

    bomb = frame_of(b"0" * (64 << 20))
    tracemalloc.start()
    assert reason_of(bomb) == "raw_too_large"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * batch.MAX_RAW_BYTES


@pytest.mark.parametrize(
    "some",
    [
        [b"{}"] * (batch.MAX_RECORDS + 1),
        [b"x" * MAX_LINE_BYTES] * 300,
    ],
    ids=["too many", "too large"],
)
def test_what_the_centre_would_refuse_is_never_made(some):
    with pytest.raises(TooLarge):
        encode(HEADER, some)


@given(lines)
def test_every_frame_that_can_be_made_can_be_read(some):
    decode(encode(HEADER, some))


def test_a_full_batch_of_real_records_is_within_the_caps():
    header, back = decode(encode(HEADER, [to_line(USAGE)] * 600))
    assert len(back) == 600
    assert len(header) <= batch.MAX_HEADER_BYTES


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b"x" * (MAX_LINE_BYTES + 1), "record_too_large"), (b"[" * 25, "record_too_deep")],
)
def test_a_line_too_long_or_too_deep_is_not_parsed(line, reason):
    with pytest.raises(Refused) as caught:
        check_line(line)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "changed",
    [
        {"seqs": ((3, 4), (1, 2))},
        {"seqs": ((1, 4), (4, 5))},
        {"seqs": ((2, 1),)},
        {"drops": ((2, 1, "evicted"),)},
        {"head": 3, "seqs": ((1, 4),)},
        {"head": 3, "drops": ((4, 4, "evicted"),)},
    ],
)
def test_a_header_with_ranges_out_of_order_or_beyond_the_head_cannot_be_made(changed):
    with pytest.raises(ValueError, match=r"seqs|drop|beyond"):
        Header(
            **{
                "schema": 1,
                "store_id": "s",
                "stream": Stream.USE,
                "head": 9,
                "sent": SENT,
                **changed,
            }
        )
