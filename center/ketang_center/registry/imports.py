"""Rows of a school's device list: which column is which, and what is wrong in which cell.

All mistakes are gathered, so that a person mends them in one go. Whether a school or a room exists
is not asked here.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ketang_center.registry.spreadsheets import Grid, read, read_file
from ketang_center.registry.values import Kind
from ketang_contract.errors import BadInput
from ketang_contract.tables import hint
from ketang_profiles.profile import Profile, ReportedBy, shipped

MOST_PROBLEMS = 200
MAX_TEXT = 64
_HEADER_WITHIN = 10
"""Rows that may stand above the header: a title, a date, a note."""
_LEAST_KNOWN = 2
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "school": ("school", "school code", "school id", "学校代码", "学校标识码", "学校编码"),
    "asset": (
        "asset",
        "asset number",
        "asset no",
        "asset id",
        "asset tag",
        "资产编号",
        "资产编码",
        "资产号",
    ),
    "room": ("room", "room id", "room name", "classroom", "教室", "教室名称", "房间", "安装地点"),
    "kind": ("kind", "device kind", "type", "device type", "设备类型", "类型", "设备种类"),
    "serial": (
        "serial",
        "serial number",
        "serial no",
        "sn",
        "s/n",
        "序列号",
        "设备序列号",
        "出厂编号",
    ),
    "name": ("name", "device name", "名称", "设备名称"),
    "shared": ("shared", "共用", "是否共用"),
}
"""Names a header cell may have; the first one stands in messages."""
_NEEDED = ("school", "asset", "room", "kind", "serial")
_OTHER_KIND_NAMES: Mapping[Kind, tuple[str, ...]] = {
    Kind.IFP: ("panel", "interactive flat panel", "一体机", "教学一体机", "交互平板", "智慧黑板"),
    Kind.OPS_PC: ("ops", "ops电脑", "插拔式电脑", "ops pc"),
    Kind.TEACHER_PC: ("teacher pc", "教师机", "教师电脑", "教师办公电脑"),
    Kind.LAB_PC: ("lab pc", "学生机", "机房电脑", "机房计算机"),
    Kind.CLOUD_TERMINAL: ("thin client", "云桌面", "云桌面终端", "瘦终端"),
    Kind.STUDENT_TABLET: ("tablet", "平板", "学生平板电脑"),
    Kind.CLASS_BOARD: ("door board", "班牌", "智慧班牌"),
    Kind.RECORDER: ("recorder", "录播", "录播设备"),
    Kind.IOT_GATEWAY: ("gateway", "网关"),
    Kind.ENV_SENSOR: ("sensor", "传感器"),
    Kind.PROJECTOR: ("投影", "投影仪"),
    Kind.AP_SWITCH: ("ap", "switch", "交换机", "无线ap", "无线接入点"),
}
_YES = frozenset({"yes", "y", "true", "1", "shared", "是", "共用", "公用", "√"})
_NO = frozenset({"no", "n", "false", "0", "personal", "否", "专用", "个人", "×"})


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with, or to be known of, one cell, row or file."""

    file: str
    row: int
    """As the spreadsheet program counts; 0: the file as a whole."""
    column: str
    what: str
    """What it is and what to do, without a full stop."""

    def __str__(self) -> str:
        """Return the one line a person gets to read."""
        where = (f"row {self.row}" if self.row else "", self.column)
        return ": ".join(one for one in (self.file, *where, self.what) if one)


class BadRows(BadInput):
    """Rows of a file are wrong, so none was taken. Caller: show ``problems``, one line each."""

    def __init__(self, problems: Sequence[Problem], more: int = 0) -> None:
        first = str(problems[0]) if problems else ""
        rest = len(problems) - 1 + more
        super().__init__(f"{first} (and {rest} more)" if rest else first)
        self.problems = tuple(problems)
        self.more = more
        """How many there are beside those listed."""


@dataclass(slots=True)
class Problems:
    """Gathers mistakes, the first ``MOST_PROBLEMS`` word for word."""

    file: str
    found: list[Problem] = field(default_factory=list)
    more: int = 0

    def add(self, row: int, column: str, what: str) -> None:
        """Note one mistake."""
        if len(self.found) < MOST_PROBLEMS:
            self.found.append(Problem(self.file, row, column, what))
        else:
            self.more += 1

    def refuse(self) -> None:
        """Raise ``BadRows`` if anything was noted."""
        if self.found:
            raise BadRows(self.found, self.more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One device as it was entered; school and room are words that the registry has to know."""

    row: int
    school: str
    asset: str
    room: str
    kind: Kind
    serial: str
    name: str
    """Empty where none was given."""
    shared: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """A whole file, every cell of it good in itself."""

    file: str
    rows: tuple[Row, ...]
    ignored: tuple[str, ...] = ()
    """Headers of columns that mean nothing here."""


def open_rows(path: Path) -> Rows:
    """Read a device list from a file.

    Raises:
        BadRows: cells are wrong; every one is listed.
        BadInput: the file is no table, or lacks a column.
    """
    return _rows(read_file(path), path.name)


def read_rows(raw: bytes, name: str) -> Rows:
    """Read a device list that was sent; as ``open_rows``."""
    return _rows(read(raw, name), name)


def folded(text: str) -> str:
    """Return the spelling that words are compared by: NFKC, single spaces, no case."""
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


def agent_runs_on(kind: Kind) -> bool:
    """Tell whether a device of this kind can enrol: an agent runs on it."""
    return _profile(kind).reported_by is ReportedBy.AGENT


def kind_titles(kind: Kind) -> tuple[str, str]:
    """Return a kind's name in Chinese and in English."""
    profile = _profile(kind)
    return profile.title_zh, profile.title_en


def _rows(grids: Iterable[Grid], file: str) -> Rows:
    # A CSV was read once for each delimiter; the right one shows the most known headers.
    grid, no, columns = max((_header(one) for one in grids), key=lambda found: len(found[2]))
    problems = Problems(file)
    header = grid.rows.get(no, ())
    lacking = [COLUMNS[one] for one in _NEEDED if one not in columns]
    if lacking:
        names = ", ".join(f"{one[0]} ({_chinese(one)})" for one in lacking)
        seen = ", ".join(_shown(text) for text in header[:12] if text) or "nothing"
        raise BadInput(f"{file}: no column {names}; the header has: {seen}")
    for name, places in columns.items():
        if len(places) > 1:
            problems.add(no, header[places[1]], f"a second column for {name}; leave one")
    problems.refuse()
    at = {name: places[0] for name, places in columns.items()}
    below = [(row, cells) for row, cells in grid.rows.items() if row > no]
    if not below:
        raise BadInput(f"{file}: no rows below the header")
    found = [_Reader(problems, grid, header, at, row, cells).row() for row, cells in below]
    problems.refuse()
    known = {place for places in columns.values() for place in places}
    ignored = tuple(
        _shown(text) for place, text in enumerate(header) if text and place not in known
    )
    return Rows(file, tuple(one for one in found if one is not None), ignored)


def _header(grid: Grid) -> tuple[Grid, int, dict[str, list[int]]]:
    best: tuple[int, dict[str, list[int]]] = (next(iter(grid.rows), 0), {})
    for no, cells in list(grid.rows.items())[:_HEADER_WITHIN]:
        columns: dict[str, list[int]] = {}
        for place, text in enumerate(cells):
            name = _column_names().get(_bare(text))
            if name is not None:
                columns.setdefault(name, []).append(place)
        if len(columns) >= _LEAST_KNOWN and len(columns) > len(best[1]):
            best = no, columns
    return grid, *best


class _Reader:
    """Reads the cells of one row, noting what is wrong with each."""

    def __init__(
        self,
        problems: Problems,
        grid: Grid,
        header: Sequence[str],
        at: Mapping[str, int],
        row: int,
        cells: Sequence[str],
    ) -> None:
        self._problems, self._grid, self._header = problems, grid, header
        self._at, self._row, self._cells = at, row, cells
        self._good = True

    def row(self) -> Row | None:
        """Return the row, or None when a cell of it is wrong."""
        school, asset, room, serial = (
            self._text(name, needed=name != "serial")
            for name in ("school", "asset", "room", "serial")
        )
        name, kind = self._text("name", needed=False), self._kind()
        shared = self._shared(kind)
        if not self._good or kind is None:
            return None
        return Row(
            row=self._row,
            school=school,
            asset=asset,
            room=room,
            kind=kind,
            serial=serial,
            name=name,
            shared=shared,
        )

    def _wrong(self, column: str, what: str) -> None:
        self._good = False
        self._problems.add(self._row, self._header[self._at[column]], what)

    def _text(self, column: str, *, needed: bool) -> str:
        place = self._at.get(column, len(self._cells))
        text = self._cells[place] if place < len(self._cells) else ""
        fault = self._grid.faults.get((self._row, place))
        text = " ".join(unicodedata.normalize("NFKC", text).split())
        if fault:
            self._wrong(column, fault)
        elif needed and not text:
            self._wrong(column, "empty; fill it in")
        elif len(text) > MAX_TEXT:
            self._wrong(column, f"longer than {MAX_TEXT} characters; shorten it")
        elif not text.isprintable():
            self._wrong(column, "holds an invisible character; type it anew")
        else:
            return text
        return ""

    def _kind(self) -> Kind | None:
        text = self._text("kind", needed=True)
        kind = _kind_names().get(_bare(text))
        if text and kind is None:
            self._wrong("kind", f"'{text}' is unknown{hint(text, [one.value for one in Kind])}")
        return kind

    def _shared(self, kind: Kind | None) -> bool:
        text = folded(self._text("shared", needed=False))
        if text in _YES or text in _NO:
            return text in _YES
        if text:
            self._wrong("shared", f"'{text}' is not accepted; accepted: yes 是, no 否, or nothing")
        return kind is not None and _profile(kind).shared


def _bare(text: str) -> str:
    """Compare headers and kinds without spaces, underlines, marks, and notes in brackets."""
    plain = re.sub(r"\(.*?\)|\[.*?\]", "", folded(text))
    return re.sub(r"[\s_*:.'’-]", "", plain)


def _shown(text: str) -> str:
    """Shorten a stranger's text for a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text[:20])


def _chinese(names: Iterable[str]) -> str:
    return next(one for one in names if not one.isascii())


@cache
def _profile(kind: Kind) -> Profile:
    return shipped(kind)


@cache
def _column_names() -> dict[str, str]:
    return {_bare(text): name for name, texts in COLUMNS.items() for text in texts}


@cache
def _kind_names() -> dict[str, Kind]:
    return {_bare(text): kind for kind in Kind for text in _names_of(kind)}


def _names_of(kind: Kind) -> Iterator[str]:
    yield kind.value
    yield from kind_titles(kind)
    yield from _OTHER_KIND_NAMES.get(kind, ())
