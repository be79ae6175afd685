"""The region's tree from a spreadsheet: one row a unit, all of it good or none of it taken.

Columns in any order: code 代码, level 层级, parent 上级代码, name 名称, and, if wanted, name_en
英文名称. A unit that is there already is renamed.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from ketang_center.registry.imports import Problems
from ketang_center.registry.spreadsheets import Grid, read_file
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Level, Unit
from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "code": ("code", "id", "代码", "编码", "单位代码"),
    "level": ("level", "层级", "级别"),
    "parent": ("parent", "上级", "上级代码"),
    "name": ("name", "名称", "单位名称"),
    "name_en": ("name_en", "english", "英文名称", "英文名"),
}
_LEVELS: Mapping[Level, tuple[str, ...]] = {
    Level.REGION: ("region", "区域", "自治区", "省"),
    Level.CITY: ("city", "市", "地市", "州", "地区"),
    Level.COUNTY: ("county", "县", "区", "区县"),
    Level.SCHOOL: ("school", "学校", "校"),
    Level.ROOM: ("room", "教室", "班级", "房间"),
}
_MAX_NAME = 64


def read_units(path: Path, tree: Tree) -> tuple[Unit, ...]:
    """Read a file of units; parents come first in what is returned.

    Args:
        path: CSV or XLSX.
        tree: what is registered already, where a parent may stand too.

    Raises:
        BadRows: every row that is wrong, and what to do.
        BadInput: the file cannot be read as a table, or lacks a column.
    """
    grid, no, at = max((_header(one) for one in read_file(path)), key=lambda found: len(found[2]))
    lacking = [f"{one} ({COLUMNS[one][-2]})" for one in COLUMNS if one not in at]
    if lacking and lacking != [f"name_en ({COLUMNS['name_en'][-2]})"]:
        raise BadInput(f"{path.name}: no column {', '.join(lacking)}")
    problems = Problems(path.name)
    found: dict[str, tuple[int, Unit]] = {}
    for row, cells in grid.rows.items():
        if row > no:
            _take(found, problems, row, {key: _cell(cells, place) for key, place in at.items()})
    for row, unit in found.values():
        _check_parent(found, tree, problems, row, unit)
    problems.refuse()
    if not found:
        raise BadInput(f"{path.name}: no rows below the header")
    order = list(Level)
    return tuple(
        sorted((unit for _, unit in found.values()), key=lambda one: order.index(one.level))
    )


def _check_parent(
    found: Mapping[str, tuple[int, Unit]], tree: Tree, problems: Problems, row: int, unit: Unit
) -> None:
    parent, wanted = unit.parent, unit.level.above
    if parent is None or wanted is None:
        return
    if parent in found:
        level: Level | None = found[parent][1].level
    else:
        level = tree[parent].level if parent in tree else None
    if level is not wanted:
        what = f"{parent[:40]!r} is no {wanted}; a {unit.level} stands in a {wanted}"
        problems.add(row, "parent", f"{unit.id}: {what}")


def _take(
    found: dict[str, tuple[int, Unit]], problems: Problems, row: int, said: Mapping[str, str]
) -> None:
    code, level = said["code"], _level(said["level"])
    parent, name = said["parent"] or None, said["name"]
    if not is_identifier(code):
        problems.add(row, "code", f"{code[:40]!r} is not accepted; accepted: a-z, 0-9 and -")
    elif code in found:
        problems.add(row, "code", f"{code} stands twice; leave one")
    elif level is None:
        problems.add(row, "level", f"{said['level'][:40]!r}: one of {', '.join(Level)}")
    elif not 0 < len(name) <= _MAX_NAME:
        problems.add(row, "name", f"1 to {_MAX_NAME} characters")
    elif (parent is None) != (level is Level.REGION):
        problems.add(row, "parent", "only a region has none")
    else:
        english = said.get("name_en") or name
        unit = Unit(id=code, level=level, parent=parent, name_zh=name, name_en=english)
        found[code] = row, unit


def _header(grid: Grid) -> tuple[Grid, int, dict[str, int]]:
    for no, cells in grid.rows.items():
        found = {
            key: place
            for place, text in enumerate(cells)
            for key, names in COLUMNS.items()
            if _bare(text) in names
        }
        return grid, no, found
    return grid, 0, {}


def _cell(cells: Sequence[str], place: int) -> str:
    return cells[place].strip() if place < len(cells) else ""


def _level(text: str) -> Level | None:
    return next((level for level, names in _LEVELS.items() if _bare(text) in names), None)


def _bare(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip().lower()
