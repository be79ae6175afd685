"""The region's tree from a spreadsheet: all of it, or none and every mistake."""

import pytest

from ketang_center.registry.database import Registry
from ketang_center.registry.imports import BadRows
from ketang_center.registry.tree import Tree
from ketang_center.registry.unit_rows import read_units
from ketang_center.registry.values import Data, Level
from ketang_contract.errors import BadInput

GOOD = """代码,层级,上级代码,名称,英文名称
s1,学校,xian,第一小学,First Primary
lan,区域,,岚川,Lanchuan
shi,市,lan,云溪市,
xian,县,shi,青禾县,Qinghe
"""


def file(tmp_path, text):
    path = tmp_path / "units.csv"
    path.write_text(text, "utf-8")
    return path


def test_parents_come_first_whatever_the_order_of_the_rows(tmp_path):
    units = read_units(file(tmp_path, GOOD), Tree([]))
    assert [one.level for one in units] == [Level.REGION, Level.CITY, Level.COUNTY, Level.SCHOOL]
    assert units[1].name("en") == "云溪市", "where no English name is given"
    with Registry(tmp_path / "registry.db") as registry:
        registry.load(Data(units=units))
        assert registry.tree().holds("lan", "s1")
        more = read_units(
            file(tmp_path, "code,level,parent,name\nr1,room,s1,一班\n"), registry.tree()
        )
        registry.load(Data(units=more))
        assert registry.tree().holds("s1", "r1")


@pytest.mark.parametrize(
    ("row", "column", "told"),
    [
        ("S 1,school,xian,x", "code", "a-z, 0-9"),
        ("s1,village,xian,x", "level", "one of region"),
        ("s1,school,shi,x", "parent", "stands in a county"),
        ("s1,school,,x", "parent", "only a region"),
        ("s1,school,nowhere,x", "parent", "stands in a county"),
        ("xian,county,shi,x", "code", "stands twice"),
        ("s1,school,xian,", "name", "1 to 64"),
    ],
)
def test_a_wrong_row_is_told_with_its_column(tmp_path, row, column, told):
    text = "code,level,parent,name\nlan,region,,x\nshi,city,lan,x\nxian,county,shi,x\n" + row
    with pytest.raises(BadRows) as caught:
        read_units(file(tmp_path, text), Tree([]))
    (problem,) = caught.value.problems
    assert (problem.row, problem.column) == (5, column)
    assert told in problem.what


def test_a_file_without_the_columns_says_which(tmp_path):
    with pytest.raises(BadInput, match="no column level"):
        read_units(file(tmp_path, "code,parent,name\nx,y,z\n"), Tree([]))
