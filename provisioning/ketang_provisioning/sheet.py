"""The sheet a technician takes along: one printed A4 page, Chinese first, English beside it.

One HTML file without anything outside it: the style and the QR code are inline, and no script runs.
The code stands on it in the clear, so the sheet says what to do when it is lost.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import segno
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ketang_contract.kit import Line, center_url, make_line, normalise_code, show_code

_CHINA = timezone(timedelta(hours=8))
_WEEKDAYS_ZH = "一二三四五六日"
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What stands on the page. ``contact``: whom to call; empty: a line to write on."""

    school: str
    school_zh: str
    school_en: str
    code: str
    uses: int
    expires_ms: int
    url: str
    contact: str = ""


def until_in_words(moment_ms: int) -> tuple[str, str]:
    """Return a moment as a person reads it, Beijing time, in Chinese and in English."""
    at = datetime.fromtimestamp(moment_ms / 1000, UTC).astimezone(_CHINA)
    # Not strftime: its names follow the locale of the machine.
    weekday, month, clock = at.weekday(), at.month, f"{at:%H:%M}"
    return (
        f"{at.year} 年 {month} 月 {at.day} 日（星期{_WEEKDAYS_ZH[weekday]}）{clock}（北京时间）",
        f"{_WEEKDAYS[weekday]}, {at.day} {_MONTHS[month - 1]} {at.year}, {clock}, Beijing time",
    )


def qr_svg(text: str) -> bytes:
    """Return a text as a QR code (ISO/IEC 18004), a whole SVG file."""
    out = BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="svg", border=4, scale=8)
    return out.getvalue()


def sheet_html(sheet: Sheet) -> str:
    """Return the page, complete; every text in it is escaped.

    Raises:
        BadInput: the code or the address is none.
    """
    url, code = center_url(sheet.url), normalise_code(sheet.code)
    made = segno.make(make_line(Line(url, code)), error="m", micro=False)
    zh, en = until_in_words(sheet.expires_ms)
    return _PAGES.get_template("sheet.html").render(
        sheet=sheet,
        code=show_code(code),
        # Of segno's own making: path data, no text.
        qr=Markup(made.svg_inline(border=2, omitsize=True)),  # nosec B704  # noqa: S704  (as said above)
        until_zh=zh,
        until_en=en,
    )
