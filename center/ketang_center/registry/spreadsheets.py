"""A table that somebody made in a spreadsheet program: CSV or XLSX in, text cells out.

The bytes are a stranger's. Sizes are capped before anything is parsed, XML goes through defusedxml
(openpyxl uses it where it is installed, and it is required here), no formula is computed, no link
followed. What a spreadsheet program spoils on its own is named rather than guessed: shortened long
numbers, dates made of room numbers.
"""

import codecs
import csv
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path

from ketang_contract.errors import BadInput

MAX_FILE_BYTES = 8 << 20
MAX_ROWS = 20_000
MAX_COLUMNS = 64
MAX_CELL = 200

_MAX_UNPACKED = 48 << 20
_MAX_STRINGS = 16 << 20
_MAX_MEMBERS = 500
_MOST_RATIO = 200
_SMALL = 1 << 20
_EXACT_TO = 10**15
"""A spreadsheet keeps 15 digits of a number; what came after them is lost."""
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_ZIP = b"PK\x03\x04"
_SHORTENED = re.compile(r"[0-9][.,]?[0-9]*E\+[0-9]+", re.IGNORECASE)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS = (",", ";", "\t", "，")
_NOT_ENTERED = {
    "f": "a formula; copy the column and paste it as values",
    "e": "an error of the spreadsheet; enter the value",
}
_READER_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    SyntaxError,
    RuntimeError,
    AssertionError,
)
"""What openpyxl is known to raise over a damaged workbook; it has no error of its own for it."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of text cells by row number, as the program shows it (from 1), empty rows left out.

    Attributes:
        faults: by row and column (from 0): why a cell's text is not what was entered.
    """

    rows: Mapping[int, tuple[str, ...]]
    faults: Mapping[tuple[int, int], str] = field(default_factory=dict)


def spreadsheet_safe(text: str) -> str:
    """Return a text that no spreadsheet program takes for a formula, for exports.

    A quote goes before ``= + - @`` and control characters (OWASP, CSV injection).
    """
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text


def read_file(path: Path) -> list[Grid]:
    """Read a file; see ``read``.

    Raises:
        BadInput: it cannot be read as a table, in one line with what to do.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    return read(raw, path.name)


def read(raw: bytes, name: str) -> list[Grid]:
    """Read a table by what its bytes are, whatever its name ends in.

    Returns:
        one grid; of a CSV one for each delimiter it may have been written with.

    Raises:
        BadInput: too large, damaged, or neither CSV nor XLSX; in one line with what to do.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise BadInput(f"{name}: larger than {MAX_FILE_BYTES >> 20} MB; split it by school")
    if raw.startswith(_OLE):
        raise BadInput(
            f"{name}: an old .xls, or locked with a password; save it as .xlsx without a password"
        )
    if raw.startswith(_ZIP):
        return [_read_xlsx(raw, name)]
    text = _decoded(raw, name)
    return [_read_csv(text, one, name) for one in _DELIMITERS if one in text] or [
        _read_csv(text, ",", name)
    ]


def _decoded(raw: bytes, name: str) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings: tuple[str, ...] = ("utf-16",)  # "Unicode text" of Excel
    else:
        encodings = ("utf-8-sig", "gb18030")
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise BadInput(f"{name}: no text table; save it as .xlsx or as CSV (UTF-8)")


def _read_csv(text: str, delimiter: str, name: str) -> Grid:
    rows: dict[int, tuple[str, ...]] = {}
    faults: dict[tuple[int, int], str] = {}
    try:
        for no, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)):
            kept = tuple(one.strip() for one in cells[:MAX_COLUMNS])
            if any(kept):
                _room_for_more(rows, name)
                rows[no + 1] = tuple(_checked(kept, no + 1, faults))
    except csv.Error as problem:
        raise BadInput(f"{name}: no CSV: {problem}; save it again from the program") from problem
    return Grid(rows, faults)


def _checked(cells: Iterable[str], no: int, faults: dict[tuple[int, int], str]) -> Iterator[str]:
    for at, text in enumerate(cells):
        if len(text) > MAX_CELL:
            faults[no, at] = f"longer than {MAX_CELL} characters; shorten it"
        elif _SHORTENED.fullmatch(text):
            faults[no, at] = (
                f"{text} is a long number that the program shortened;"
                " format the column as text and enter it again"
            )
        yield text[: MAX_CELL + 1]


def _room_for_more(rows: Mapping[int, object], name: str) -> None:
    if len(rows) > MAX_ROWS:
        raise BadInput(f"{name}: more than {MAX_ROWS} rows; split it by school")


def _read_xlsx(raw: bytes, name: str) -> Grid:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            _refuse_bomb(archive, name)
        with warnings.catch_warnings():
            # openpyxl warns of styles and extensions that it does not keep.
            warnings.simplefilter("ignore")
            return _sheet(raw, name)
    except _READER_ERRORS as problem:
        raise BadInput(
            f"{name}: a damaged workbook ({type(problem).__name__}); open it and save it again as"
            " .xlsx, or as CSV (UTF-8)"
        ) from problem


def _refuse_bomb(archive: zipfile.ZipFile, name: str) -> None:
    """Judge by the sizes the archive declares: a reader stops at them, so they cannot lie."""
    members = archive.infolist()
    heavy = [
        one
        for one in members
        if one.file_size > _SMALL and one.file_size > _MOST_RATIO * max(one.compress_size, 1)
    ]
    strings = sum(one.file_size for one in members if "sharedstrings" in one.filename.lower())
    total = sum(one.file_size for one in members)
    if heavy or total > _MAX_UNPACKED or strings > _MAX_STRINGS or len(members) > _MAX_MEMBERS:
        raise BadInput(
            f"{name}: unpacks to {total >> 20} MB, far more than {MAX_ROWS} rows need;"
            " copy the rows into a new workbook"
        )


def _sheet(raw: bytes, name: str) -> Grid:
    import openpyxl  # noqa: PLC0415  (slow to load, and few imports are workbooks)

    if not openpyxl.DEFUSEDXML:
        raise BadInput(f"{name}: workbooks need defusedxml: pip install 'ketang[center]'")
    book = openpyxl.load_workbook(
        io.BytesIO(raw), read_only=True, data_only=False, keep_links=False
    )
    rows: dict[int, tuple[str, ...]] = {}
    faults: dict[tuple[int, int], str] = {}
    try:
        shown = [one for one in book.worksheets if one.sheet_state == "visible"]
        if not shown:
            raise BadInput(f"{name}: has no visible sheet")
        # The sheet's own idea of its size is a stranger's word; without it rows come as they are.
        shown[0].reset_dimensions()
        empty: object = None
        for no, cells in enumerate(shown[0].iter_rows(max_col=MAX_COLUMNS), 1):
            if cells is empty:
                continue  # openpyxl fills a gap of a million rows with one and the same
            found = [_cell_text(one) for one in cells]
            kept = tuple(text for text, _ in found)
            if not any(kept):
                empty = cells
                continue
            _room_for_more(rows, name)
            rows[no] = tuple(_checked(kept, no, faults))
            faults |= {(no, at): fault for at, (_, fault) in enumerate(found) if fault}
    finally:
        book.close()
    return Grid(rows, faults)


def _cell_text(cell: object) -> tuple[str, str]:
    """Return a cell's text and, where that is not what was entered, why."""
    value, stored_as = getattr(cell, "value", None), getattr(cell, "data_type", "")
    if value is None:
        return "", ""
    if stored_as in _NOT_ENTERED:
        return "=", _NOT_ENTERED[stored_as]
    if isinstance(value, datetime | date | time | timedelta):
        return str(value), "the program made a date of it; format the column as text, enter it anew"
    if isinstance(value, bool):
        return ("yes" if value else "no"), ""
    if isinstance(value, int | float):
        return _number_text(value, str(getattr(cell, "number_format", "")))
    return str(value).strip(), ""


def _number_text(value: float, shown_as: str) -> tuple[str, str]:
    if abs(value) >= _EXACT_TO:
        return str(value), (
            "a number of more than 15 digits, whose end the program dropped;"
            " format the column as text and enter it again"
        )
    text = str(int(value)) if value == int(value) else str(value)
    # A number shown as 0012 was meant as 0012.
    return (text.zfill(len(shown_as)) if re.fullmatch("0+", shown_as) else text), ""
