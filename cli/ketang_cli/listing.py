"""Lists on a terminal, as JSON, or as a table for a spreadsheet program."""

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from unicodedata import east_asian_width

from ketang_center.registry.spreadsheets import spreadsheet_safe
from ketang_contract.errors import BadInput
from ketang_provisioning.keys import write_private

_CHINA = timezone(timedelta(hours=8))


def show(options: argparse.Namespace, rows: Sequence[Mapping[str, object]], none: str) -> None:
    """Print rows as a table, or as JSON if asked; ``--csv`` writes them to a file as well.

    Args:
        options: with ``json`` and ``csv``.
        rows: all with the same names, in the order of the columns.
        none: what to say when there are no rows.
    """
    if options.csv:
        write(options.csv, _csv(rows))
    if options.json:
        print(json.dumps({"rows": rows}, ensure_ascii=False))
        return
    if not rows:
        print(none)
        return
    table = [tuple(rows[0]), *(tuple(str(value) for value in row.values()) for row in rows)]
    widths = [max(_width(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        cells = (
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        )
        print("  ".join(cells).rstrip())


def _csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    if rows:
        writer.writerow(rows[0])
    writer.writerows([spreadsheet_safe(str(value)) for value in row.values()] for row in rows)
    return out.getvalue().encode("utf-8-sig")  # Excel takes it for UTF-8 by the mark


def _width(text: str) -> int:
    return sum(2 if east_asian_width(one) in "WF" else 1 for one in text)


def clock(moment_ms: int) -> str:
    """Return a moment in Beijing time."""
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC).astimezone(_CHINA):%Y-%m-%d %H:%M}"


def write(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        write_private(path, content)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be written: {problem.strerror}") from problem
