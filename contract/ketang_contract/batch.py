"""The batch codec: one encoding byte, then zlib-compressed JSON Lines (a header, then records).

Lines rather than one array, so that the centre keeps and digests each record's bytes exactly as
they came, and a bad record is refused alone (docs/adr/0002). Pure; caps are checked before parsing.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from ketang_contract.errors import NotYet, Refused, TooLarge
from ketang_contract.limits import (
    AtMost,
    Between,
    BoottimeMs,
    Counter64,
    Identifier,
    Seq,
    Value,
    WallMs,
)
from ketang_contract.ranges import RangeSet
from ketang_contract.records import MAX_LINE_BYTES, Stream, to_line

SCHEMA = 1
OLDEST_SCHEMA = 1
ENCODING_ZLIB_JSONL = 1
MAX_RECORDS = 1000
MAX_RAW_BYTES = 1 << 20
MAX_FRAME_BYTES = 256 << 10
MAX_RATIO = 500
MAX_HEADER_BYTES = 32 << 10
MAX_DEPTH_MARKS = 24
"""Opening brackets a record may hold: an upper bound of its depth that costs one scan."""
MAX_RANGES = 256
_LEVEL = 3


class DropReason(StrEnum):
    """Why a record that had a number will never come."""

    EVICTED = "evicted"
    """The spool was at its cap; the lowest class went first, oldest first."""
    DAMAGED = "damaged"
    """The file was damaged and the record could not be salvaged."""
    EXPIRED = "expired"
    """A restored centre asked for it after the device had let it go."""
    UNREADABLE = "unreadable"
    """The centre could not decode it, alone in a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Value):
    """The device's clocks when it made the batch; lets the centre rebase a wrong wall clock."""

    wall_ms: WallMs
    boot_id: Identifier
    boottime_ms: BoottimeMs


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Value):
    """First line of a batch. ``seqs`` numbers the record lines in order; ``drops`` never come."""

    schema: Annotated[int, Between(0, 65535)]
    store_id: Identifier
    parent: Identifier | None = None
    """The store this one was forked from."""
    stream: Stream
    head: Counter64
    seqs: Annotated[tuple[tuple[Seq, Seq], ...], AtMost(MAX_RANGES)] = ()
    drops: Annotated[tuple[tuple[Seq, Seq, DropReason], ...], AtMost(MAX_RANGES)] = ()
    sent: Sent

    def __post_init__(self) -> None:
        """Refuse ranges that are not in order, or beyond the head: a set has one way to be told."""
        previous = 0
        for first, last in self.seqs:
            if not previous < first <= last:
                raise ValueError("seqs are not sorted, disjoint ranges")
            previous = last
        for first, last, _ in self.drops:
            if last < first:
                raise ValueError("a drop runs backwards")
            previous = max(previous, last)
        if previous > self.head:
            raise ValueError("a number beyond the head")

    @property
    def numbers(self) -> RangeSet:
        """The record lines' numbers as a set."""
        return RangeSet.of(self.seqs)


def encode(header: Header, lines: Sequence[bytes]) -> bytes:
    """Make a frame.

    Raises:
        TooLarge: over a cap the centre would refuse; send fewer records.
    """
    raw = b"\n".join((to_line(header), *lines))
    if len(lines) > MAX_RECORDS or len(raw) > MAX_RAW_BYTES:
        raise TooLarge(f"{len(lines)} records, {len(raw)} bytes")
    frame = bytes((ENCODING_ZLIB_JSONL,)) + zlib.compress(raw, _LEVEL)
    if len(frame) > MAX_FRAME_BYTES or len(raw) > len(frame) * MAX_RATIO:
        raise TooLarge(f"{len(raw)} bytes in a frame of {len(frame)}")
    return frame


def decode(frame: bytes) -> tuple[bytes, list[bytes]]:
    """Undo ``encode`` down to lines: the header's and the records', none of them parsed yet.

    Raises:
        Refused: the frame cannot be read, or is over a cap.
        NotYet: an encoding of a newer release.
    """
    if not frame:
        raise Refused("empty_frame")
    if frame[0] != ENCODING_ZLIB_JSONL:
        raise NotYet(f"encoding {frame[0]}")
    if len(frame) > MAX_FRAME_BYTES:
        raise Refused("frame_too_large", str(len(frame)))
    inflate = zlib.decompressobj()
    most = min(MAX_RAW_BYTES, len(frame) * MAX_RATIO)
    try:
        raw = inflate.decompress(memoryview(frame)[1:], most + 1)
    except zlib.error as problem:
        raise Refused("bad_compression", str(problem)) from problem
    if len(raw) > most:
        raise Refused("raw_too_large", str(len(raw)))
    if not inflate.eof or inflate.unused_data:
        raise Refused("bad_compression", "cut short, or followed by more")
    header, *lines = raw.split(b"\n")
    if len(header) > MAX_HEADER_BYTES:
        raise Refused("header_too_large", str(len(header)))
    if len(lines) > MAX_RECORDS:
        raise Refused("too_many_records", str(len(lines)))
    return header, lines


def check_line(line: bytes) -> None:
    """Refuse a record line that is too long or too deep to be worth parsing."""
    if len(line) > MAX_LINE_BYTES:
        raise Refused("record_too_large", str(len(line)))
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH_MARKS:
        raise Refused("record_too_deep")
