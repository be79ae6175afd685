"""Takes the pictures under ``docs/img/`` from a running demo: ``make screenshots``.

Starts a demo of its own in a throwaway folder, waits until its history is told, and looks at the
pages a supervisor would look at first, in both languages. Needs Chromium.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from ketang_center.access.scope import Scope
from ketang_center.registry.values import Level
from ketang_cli.local_broker import free_port
from ketang_cli.stage import Stage
from tests import parts
from tests.web.enrolled import enrolment, fill_book
from tests.web.seed import NOW_MS, seeded
from tests.web.serving import serving

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "img"
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
_PATIENCE_S = 240
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]


def look_as(page: Page, url: str, office: str) -> None:
    page.goto(url)
    page.locator("#unit-role").select_option(office)
    page.locator(".demo button").click()


def shots(page: Page, url: str, lang: str) -> Iterator[str]:
    """Yield the name of each picture when the page is ready for it."""
    for office in ("qinghe-1", "lanchuan"):
        look_as(page, url, office)
        page.goto(f"{url}?lang={lang}")
        yield f"overview-{'school' if office == 'qinghe-1' else 'region'}"
    look_as(page, url, "qinghe-1")
    page.goto(f"{url}devices?lang={lang}")
    yield "devices"
    page.goto(f"{url}device/qinghe-1-ifp-1?lang={lang}")
    page.wait_for_selector(".curve canvas")
    yield "device"
    page.goto(f"{url}device/this-machine?lang={lang}")
    yield "this-machine"


def take(browser: Browser, url: str, folder: Path) -> None:
    for lang in ("zh", "en"):
        page = browser.new_page(viewport=WIDE)
        for name in shots(page, url, lang):
            page.screenshot(path=folder / f"{name}-{lang}.png", full_page=True)
        page.close()
    page = browser.new_page(viewport=NARROW)
    page.goto(f"{url}?lang=zh")
    page.screenshot(path=folder / "overview-phone-zh.png", full_page=True)
    page.close()


def take_offices(browser: Browser, folder: Path) -> None:
    """Take the pages of enrolment and security, over made-up requests: a demo has none."""
    county = Scope(Level.COUNTY, "lan-xian")
    for lang in ("zh", "en"):
        with (
            tempfile.TemporaryDirectory(prefix="ketang-pictures-") as place,
            seeded(Path(place), home=county) as (context, *_),
            serving(replace(context, enrolment=enrolment()), free_port()) as url,
        ):
            fill_book(context.book)
            context.book.settle(3, "refused")
            context.book.revoke("s1-pc-4", at_ms=NOW_MS - 3_600_000, why="stolen", by="demo")
            context.security.note(NOW_MS - 60_000, "ingest_revoked", "s1-pc-4")
            page = browser.new_page(viewport=WIDE)
            for name, path in (("enrolment", "enrolment"), ("security", "security")):
                page.goto(f"{url}/{path}?lang={lang}")
                page.screenshot(path=folder / f"{name}-{lang}.png", full_page=True)
            page.close()


def wait_until_told(stage: Stage) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while "past.told" not in stage.simulate.log.read_text("utf-8"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the history was not told in {_PATIENCE_S} s")
        time.sleep(0.5)
    time.sleep(5)  # the rollups' last steps, for a picture of whole days


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=PICTURES)
    parser.add_argument("--url", help="of a demo that runs already, with / at its end")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=parts.find("chromium"), args=_FLAGS)
        take_offices(browser, options.into)
        if options.url:
            take(browser, options.url, options.into)
            return 0
        with (
            tempfile.TemporaryDirectory(prefix="ketang-pictures-") as folder,
            Stage(Path(folder), days=14, web_port=0) as stage,
        ):
            for _ in stage.open():
                pass
            wait_until_told(stage)
            take(browser, stage.url, options.into)
            stage.stop_devices()
    return 0


if __name__ == "__main__":
    sys.exit(main())
