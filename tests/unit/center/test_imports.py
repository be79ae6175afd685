"""Device lists as schools send them: read whole or refused with every mistake named."""

import csv
import io
import tracemalloc
import zipfile
from datetime import date

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_center.registry import imports, spreadsheets
from ketang_center.registry.imports import BadRows, read_rows
from ketang_center.registry.spreadsheets import spreadsheet_safe
from ketang_center.registry.values import Kind
from ketang_contract.errors import BadInput

HEADER = ["学校代码", "资产编号", "教室", "设备类型", "序列号"]
ROW = ["s1", "ZC-001", "三年级1班", "交互式平板", "5CG1234ABC"]


def as_csv(*rows, delimiter=",", encoding="utf-8"):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue().encode(encoding)


def as_xlsx(*rows, change=None):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    if change:
        change(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def read_one(raw):
    (row,) = read_rows(raw, "list.csv").rows
    return row


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "，"])
def test_a_list_is_read_however_the_program_wrote_it(encoding, delimiter):
    row = read_one(as_csv(HEADER, ROW, delimiter=delimiter, encoding=encoding))
    assert (row.school, row.asset, row.room, row.kind, row.serial, row.row) == (
        "s1",
        "ZC-001",
        "三年级1班",
        Kind.IFP,
        "5CG1234ABC",
        2,
    )


def test_a_workbook_says_the_same_as_a_csv():
    assert read_one(as_xlsx(HEADER, ROW)) == read_one(as_csv(HEADER, ROW))


def test_columns_stand_in_any_order_under_chinese_or_english_names():
    header = [
        "Serial Number",
        " room ",
        "KIND",
        "备注",
        "School_Code",
        "资产编号（必填）",
        "Shared",
    ]
    row = ["5CG1234ABC", "三年级1班", "ifp", "x", "s1", "ZC-001", "是"]
    read = read_rows(as_csv(header, row), "list.csv")
    assert read.ignored == ("备注",)
    assert read.rows[0].asset == "ZC-001"
    assert read.rows[0].shared


def test_a_title_above_the_header_and_empty_rows_do_not_disturb():
    raw = as_csv(["设备登记表"], [], ["填表日期", "2026-09-01"], HEADER, [], ROW, [" ", ""])
    assert read_one(raw).row == 6


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("ifp", Kind.IFP),
        ("交互式平板", Kind.IFP),
        ("教学一体机", Kind.IFP),
        ("Teacher's PC", Kind.TEACHER_PC),
        ("OPS 插拔式电脑", Kind.OPS_PC),
        ("云终端", Kind.CLOUD_TERMINAL),
        ("lab_pc", Kind.LAB_PC),
        ("Computer-room PC", Kind.LAB_PC),
        ("录播主机", Kind.RECORDER),
    ],
)
def test_a_kind_is_known_by_its_id_and_its_names(word, kind):
    assert read_one(as_csv(HEADER, [*ROW[:3], word, ROW[4]])).kind is kind


def test_no_word_names_two_kinds():
    names = [imports._bare(one) for kind in Kind for one in set(imports._names_of(kind))]
    by_kind = {kind: {imports._bare(one) for one in imports._names_of(kind)} for kind in Kind}
    assert len(set(names)) == sum(len(one) for one in by_kind.values())


def test_a_device_is_shared_as_its_kind_is_unless_the_row_says_otherwise():
    header = [*HEADER, "共用"]
    told = {"": False, "是": True, "no": False, "1": True}
    for word, shared in told.items():
        row = [*ROW[:3], "teacher_pc", ROW[4], word]
        assert read_one(as_csv(header, row)).shared is shared
    assert read_one(as_csv(HEADER, ROW)).shared


def test_every_mistake_is_named_with_its_row_and_column():
    raw = as_csv(
        [*HEADER, "共用"],
        ["", "ZC-1", "r1", "ifp", "SN-0001"],
        ["s1", "", "r1", "pannel", "SN-0002"],
        ["s1", "ZC-3", "x" * 65, "ifp", "SN\u202e0003", "maybe"],
        [*ROW, "是"],
    )
    with pytest.raises(BadRows) as told:
        read_rows(raw, "list.csv")
    lines = [str(one) for one in told.value.problems]
    assert [line.split(": ")[:3] for line in lines] == [
        ["list.csv", "row 2", "学校代码"],
        ["list.csv", "row 3", "资产编号"],
        ["list.csv", "row 3", "设备类型"],
        ["list.csv", "row 4", "教室"],
        ["list.csv", "row 4", "序列号"],
        ["list.csv", "row 4", "共用"],
    ]
    assert "'pannel' is unknown" in lines[2]
    assert "(and 5 more)" in str(told.value)
    assert all(line.isprintable() for line in lines)


def test_two_hundred_mistakes_are_listed_and_the_rest_counted():
    with pytest.raises(BadRows) as told:
        read_rows(as_csv(HEADER, *[["", "a", "r", "ifp", "s"]] * 250), "list.csv")
    assert len(told.value.problems) == 200
    assert told.value.more == 50


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (HEADER[:4], r"no column serial \(序列号\)"),
        ([*HEADER[:4], "序列\x1b[31m"], r"序列\?\[31m"),
        (["a", "b"], "no column school"),
        ([*HEADER, "资产编码"], "a second column for asset"),
    ],
)
def test_a_header_that_lacks_or_repeats_a_column_is_refused(header, told):
    with pytest.raises(BadInput, match=told):
        read_rows(as_csv(header, ROW), "list.csv")


def test_a_header_alone_is_no_list():
    with pytest.raises(BadInput, match="no rows below"):
        read_rows(as_csv(HEADER), "list.csv")
    with pytest.raises(BadInput):
        read_rows(b"", "list.csv")


def refused(raw):
    with pytest.raises(BadRows) as told:
        read_rows(raw, "list.xlsx")
    return " | ".join(one.what for one in told.value.problems)


def test_what_the_spreadsheet_program_spoilt_is_named_not_guessed():
    assert "shortened" in refused(as_csv(HEADER, [*ROW[:4], "1.23457E+19"]))
    assert "15 digits" in refused(as_xlsx(HEADER, [*ROW[:4], 12345678901234567]))
    assert "made a date" in refused(as_xlsx(HEADER, [*ROW[:2], date(2026, 3, 1), *ROW[3:]]))


def test_a_formula_is_never_computed():
    assert "a formula" in refused(as_xlsx(HEADER, [*ROW[:4], '="5CG"&"1234"']))
    assert "longer than" in refused(as_csv(HEADER, [*ROW[:4], "=" + "x" * 300]))


def test_numbers_keep_the_zeros_that_were_shown():
    def show_zeros(book):
        book.active["B2"].number_format = "0000"

    row = read_one(as_xlsx(HEADER, ["s1", 12, 301, "ifp", 210235], change=show_zeros))
    assert (row.asset, row.room, row.serial) == ("0012", "301", "210235")


def test_a_cell_that_begins_like_a_formula_is_text_here_and_quoted_when_it_leaves():
    row = read_one(as_csv(HEADER, ["s1", "-12", "@r1", "ifp", "+86 1"]))
    assert (row.asset, row.room, row.serial) == ("-12", "@r1", "+86 1")
    for text in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "  =1"):
        assert spreadsheet_safe(text) == f"'{text}"
    assert spreadsheet_safe("ZC-001") == "ZC-001"


def test_only_the_first_visible_sheet_is_read():
    def hide(book):
        book.active.sheet_state = "hidden"
        second = book.create_sheet("list")
        second.append(HEADER)
        second.append(ROW)

    assert read_one(as_xlsx(["nothing"], change=hide)).asset == "ZC-001"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512), r"old \.xls"),
        (b"\xff\xfe\xfd", "no text table"),
        (b"a\x00b", "no text table"),
        (bytes((8 << 20) + 1), "larger than 8 MB"),
        (b"PK\x03\x04" + b"x" * 100, "damaged workbook"),
        (b'a,b\n"c' * 3 + b"\n", "no column|no CSV"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_what_to_do(raw, told):
    with pytest.raises(BadInput, match=told):
        read_rows(raw, "list.csv")


def rezipped(raw, changes):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name) or old.read(name))
    return out.getvalue()


def test_a_zip_bomb_is_refused_before_it_is_unpacked():
    bomb = rezipped(as_xlsx(HEADER, ROW), {"xl/worksheets/sheet1.xml": b" " * (200 << 20)})
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    with pytest.raises(BadInput, match="unpacks to"):
        read_rows(bomb, "list.xlsx")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_xml_that_names_entities_or_files_is_refused():
    sheet = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">
    <!ENTITY f SYSTEM "file:///etc/passwd">]>
    <worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>
    <row r="1"><c r="A1" t="inlineStr"><is><t>&b;&f;</t></is></c></row></sheetData></worksheet>"""
    raw = rezipped(as_xlsx(HEADER, ROW), {"xl/worksheets/sheet1.xml": sheet})
    with pytest.raises(BadInput, match="damaged workbook"):
        read_rows(raw, "list.xlsx")


def test_a_sheet_that_claims_a_million_rows_or_columns_costs_nothing():
    sheet = """<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">
    <dimension ref="A1:XFD1048576"/><sheetData>{}<row r="1048576"><c r="XFD1048576"><v>1</v></c>
    </row></sheetData></worksheet>"""
    cells = "".join(
        f'<row r="{n}">'
        + "".join(
            f'<c r="{"ABCDE"[at]}{n}" t="inlineStr"><is><t>{text}</t></is></c>'
            for at, text in enumerate(row)
        )
        + "</row>"
        for n, row in enumerate((HEADER, ROW), 1)
    )
    raw = rezipped(as_xlsx(HEADER, ROW), {"xl/worksheets/sheet1.xml": sheet.format(cells).encode()})
    assert read_one(raw).asset == "ZC-001"


def test_more_rows_than_any_school_has_are_refused():
    many = as_csv(HEADER, *[ROW] * (spreadsheets.MAX_ROWS + 1))
    with pytest.raises(BadInput, match="more than 20000 rows"):
        read_rows(many, "list.csv")


@given(st.binary(max_size=300))
def test_whatever_the_bytes_they_are_a_list_or_refused(raw):
    for head in (b"", b"PK\x03\x04", as_csv(HEADER)):
        with pytest.raises(BadInput):
            read_rows(head + raw, "list.csv")


def test_a_workbook_bent_at_any_place_is_read_or_refused():
    whole = as_xlsx(HEADER, ROW)
    for at in range(0, len(whole), 23):
        bent = bytearray(whole)
        bent[at] ^= 0x55
        try:
            read_rows(bytes(bent), "list.xlsx")
        except BadInput:
            continue
