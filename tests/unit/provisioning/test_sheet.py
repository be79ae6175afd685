"""The printed sheet: one page, nothing from outside, and no name on it is markup."""

import re
import subprocess

import pytest
from tests import parts

from ketang_contract.errors import BadInput
from ketang_contract.kit import Line, read_line
from ketang_provisioning.sheet import Sheet, qr_svg, sheet_html, until_in_words

UNTIL_MS = 1_796_000_000_000


def sheet(**fields):
    said = {
        "school": "qinghe-1",
        "school_zh": "青禾第一小学",
        "school_en": "Qinghe First Primary",
        "code": "7K3M9QRTWX2A",
        "uses": 200,
        "expires_ms": UNTIL_MS,
        "url": "https://center.example:8443",
        "contact": "王老师 0951-1234567",
    }
    return Sheet(**{**said, **fields})


def test_it_says_all_that_a_technician_needs():
    page = sheet_html(sheet())
    for said in (
        "青禾第一小学",
        "Qinghe First Primary",
        "7K3M-9QRT-WX2A",
        "200 台",
        "2026 年 11 月 30 日（星期一）08:53（北京时间）",
        "Monday, 30 November 2026, 08:53, Beijing time",
        "https://center.example:8443",
        "王老师 0951-1234567",
        "ketang agent doctor",
    ):
        assert said in page
    assert '<span class="line">' not in page
    assert '<span class="line">' in sheet_html(sheet(contact=""))


def test_names_are_text_whatever_they_hold():
    evil = "\"><script>alert(1)</script><img src=x onerror='x'>{{ 7*7 }}"
    page = sheet_html(sheet(school_zh=evil, school_en=evil, school=evil, contact=evil))
    assert "<script" not in page
    assert "<img" not in page
    assert "{{ 7*7 }}" in page
    with pytest.raises(BadInput):
        sheet_html(sheet(url="javascript:alert(1)"))


def test_it_takes_nothing_from_outside_and_runs_nothing():
    page = sheet_html(sheet())
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href|url)\s*[=(]", page)
    assert not re.search(r"https?://(?!center\.example|www\.w3\.org)", page)


def test_the_end_is_told_in_beijing_time_whatever_the_machine_is_set_to():
    assert until_in_words(0) == (
        "1970 年 1 月 1 日（星期四）08:00（北京时间）",
        "Thursday, 1 January 1970, 08:00, Beijing time",
    )


def test_a_qr_code_is_an_svg_file_of_its_own():
    made = qr_svg("ketang:1:abc")
    assert made.startswith(b"<?xml")
    assert b"<script" not in made


def test_the_qr_code_on_the_page_holds_the_kits_line():
    import segno

    from ketang_contract.kit import make_line

    line = make_line(Line("https://center.example:8443", "7K3M9QRTWX2A"))
    assert read_line(line) == Line("https://center.example:8443", "7K3M9QRTWX2A")
    drawn = segno.make(line, error="m", micro=False).svg_inline(border=2, omitsize=True)
    assert drawn in sheet_html(sheet())


@pytest.mark.chromium
@pytest.mark.parametrize("contact", ["王老师 0951-1234567", "联系人" * 21])
def test_it_prints_on_one_page(tmp_path, contact):
    long = "宁川自治区青禾县第一实验小学北校区（原柳湾联合学校）"
    (tmp_path / "sheet.html").write_text(
        sheet_html(
            sheet(school_zh=long, url=f"https://{'long-' * 20}name.example:8443", contact=contact)
        )
    )
    browser = parts.find("chromium")
    subprocess.run(
        [
            str(browser),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={tmp_path / 'sheet.pdf'}",
            str(tmp_path / "sheet.html"),
        ],
        check=True,
        capture_output=True,
        timeout=90,
    )
    pages = re.findall(rb"/Count (\d+)", (tmp_path / "sheet.pdf").read_bytes())
    assert pages == [b"1"]
