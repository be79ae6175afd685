"""Reads rows straight from a damaged file's pages, and from its log's, without asking SQLite.

A page is taken for a leaf of a table and its cells for rows; whether a row is one of ours only its
sum tells. Format: SQLite's own description, "Database File Format" (b-tree pages, records, WAL).
"""

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from ketang_agent.spool.rows import PAGE_BYTES, record_sum, row_sum

_FILE_HEAD_BYTES = 100
_LOG_HEAD_BYTES = 32
_FRAME_HEAD_BYTES = 24
_PAGE_HEAD_BYTES = 8
_MOST_CELLS = PAGE_BYTES // 6
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_LONGEST_ROW = PAGE_BYTES - 35
"""A longer row spills to other pages; it is given up where SQLite cannot read it either."""
_ROW = 12
_BLOB = 12
Cell = tuple[int, list[int | str | bytes | None]]
"""A row id and the row's values."""


def pages(path: Path, most: int | None = None) -> Iterator[bytes]:
    """Yield the pages of a spool's file, then every page in its logs; unreadable ones are skipped.

    ``most`` limits the file's. Raises nothing: a file that is not there has no pages.
    """
    logs = [path.with_name(path.name + "-wal"), kept_log(path)]
    for one, start, skip in (
        (path, 0, 0),
        *((log, _LOG_HEAD_BYTES, _FRAME_HEAD_BYTES) for log in logs),
    ):
        try:
            with one.open("rb", buffering=0) as file:
                yield from islice(_chunks(file, start, skip), most if one == path else None)
        except OSError:
            continue


def kept_log(path: Path) -> Path:
    """A second name of the log as it was before SQLite opened it, and perhaps threw it away."""
    return path.with_suffix(".log")


def cells(page: bytes) -> Iterator[Cell]:
    """Yield what may be rows of an ordinary table; never raises, whatever the page holds."""
    count = min(int.from_bytes(page[3:5], "big"), _MOST_CELLS)
    for at in struct.unpack_from(f">{count}H", page, _PAGE_HEAD_BYTES):
        cell = _cell(page, at)
        if cell is not None:
            yield cell


def record_of(cell: Cell) -> bytes | None:
    """The line in a record's row, if it is one and as it was written; its key is the row id."""
    key, values = cell
    if len(values) != 3 or not isinstance(values[1], bytes):  # noqa: PLR2004  (columns of record)
        return None
    line = values[1]
    return line if values[2] == record_sum(key, line) else None


def store_of(cell: Cell) -> tuple[int, str, str | None] | None:
    """Number, name and parent in a store's row, if it is one."""
    no, values = cell
    if len(values) != 4 or not isinstance(values[1], str):  # noqa: PLR2004  (columns of store)
        return None
    store_id, parent = values[1], values[2]
    if values[3] != row_sum("store", no, store_id, parent):
        return None
    return no, store_id, parent if isinstance(parent, str) else None


def lane_of(cell: Cell) -> tuple[int, int, int] | None:
    """Number, head and epoch in a lane's row, if it is one."""
    no, values = cell
    if len(values) != 4:  # noqa: PLR2004  (columns of lane)
        return None
    _, head, epoch, found = values
    if not isinstance(head, int) or not isinstance(epoch, int):
        return None
    return (no, head, epoch) if found == row_sum("lane", no, head, epoch) else None


def _chunks(file: BinaryIO, start: int, skip: int) -> Iterator[bytes]:
    end = file.seek(0, 2)
    stride = skip + PAGE_BYTES
    for at in range(start, end, stride):
        try:
            file.seek(at)
            page = file.read(stride)[skip:]
        except OSError:  # a bad sector: the next may be good
            continue
        if page:
            yield page.ljust(PAGE_BYTES, b"\0")


def _cell(page: bytes, at: int) -> Cell | None:
    size, at = _varint(page, at)
    key, at = _varint(page, at)
    if not 0 < size <= _LONGEST_ROW or at + size > PAGE_BYTES:
        return None
    head_end, here = _varint(page, at)
    head_end += at
    kinds: list[int] = []
    while here < head_end and len(kinds) < _ROW:
        kind, here = _varint(page, here)
        kinds.append(kind)
    values: list[int | str | bytes | None] = []
    end, here = at + size, head_end
    for kind in kinds:
        long = _INTEGERS.get(kind, 0) if kind < _BLOB else (kind - _BLOB) // 2
        raw = page[here : here + long]
        here += long
        if here > end:
            return None
        values.append(_value(kind, raw))
    return key, values


def _value(kind: int, raw: bytes) -> int | str | bytes | None:
    if kind in _INTEGERS:
        return int.from_bytes(raw, "big", signed=True)
    if kind in (8, 9):
        return kind - 8
    if kind < _BLOB:
        return None
    return raw if kind % 2 == _BLOB % 2 else raw.decode("utf-8", "replace")


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for byte in page[at : at + 8]:
        at += 1
        if byte < 128:  # noqa: PLR2004  (the high bit says that more follows)
            return value << 7 | byte, at
        value = value << 7 | byte & 127
    return (value << 8 | page[at], at + 1) if at < len(page) else (0, at)
