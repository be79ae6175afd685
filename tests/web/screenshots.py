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
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from playwright.sync_api import Browser, Page, sync_playwright

from ketang_center.access.scope import Scope
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.service import RevocationList, load_authorities
from ketang_center.registry.values import Level
from ketang_cli.local_broker import free_port
from ketang_cli.stage import Stage
from ketang_contract.state import ConfigState
from ketang_provisioning.brokers import REVOKED
from ketang_provisioning.certificates import certificate_pem
from tests import parts
from tests.web.enrolled import DAY_MS, certificate, enrolment, fill_book
from tests.web.rolled import more_schools, rolled
from tests.web.seed import NOW_MS, PASSWORD, seeded
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
            throw_one_out(context.book, Path(place))
            for minute, count in ((2, 3), (1, 5)):
                at_ms = NOW_MS - minute * 60_000
                context.security.note(
                    at_ms, "broker_revoked_certificate", "s1-pc-4", "198.51.100.23", n=count
                )
            context.security.note(
                NOW_MS - 420_000, "enrol_code_expired", "c0des1", "192.0.2.7", "SN-S1-0006"
            )
            page = browser.new_page(viewport=WIDE)
            for name, path in (("enrolment", "enrolment"), ("security", "security")):
                page.goto(f"{url}/{path}?lang={lang}")
                page.screenshot(path=folder / f"{name}-{lang}.png", full_page=True)
            page.close()


def take_rollout(browser: Browser, folder: Path) -> None:
    """Take the page of a rollout under way, over devices that answer as they are told to."""
    with (
        tempfile.TemporaryDirectory(prefix="ketang-pictures-") as place,
        rolled(Path(place)) as world,
    ):
        more_schools(world, schools=24, rooms=12)
        world.place()
        for no, name in enumerate(sorted(one.id for one in world.context.registry.devices())):
            one = world.device(name)
            if no % 100 == 3:
                one.answer, one.reason = ConfigState.ROLLED_BACK, "not_connected"
            elif no % 50 == 7:
                one.answer = None
        with world.office() as office:
            made = office.admit(world.signed(release="spring-2026"), "publisher")
            office.begin(made.name, "publisher")
        with world.running() as steps:
            steps(60)
        with serving(world.context, free_port()) as url:
            page = browser.new_page(viewport={"width": 1280, "height": 1100})
            page.goto(f"{url}/sign-in?lang=zh")
            page.fill("input[name=name]", "publisher")
            page.fill("input[name=password]", PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_selector("#nav-rollouts")
            for lang in ("zh", "en"):
                page.goto(f"{url}/rollouts/1?lang={lang}")
                page.wait_for_selector("#pulse.on")
                page.screenshot(path=folder / f"rollout-{lang}.png")
            page.close()


def throw_one_out(book: Book, folder: Path) -> None:
    """Throw a stolen device out whose certificate is real, and make the list that says so."""
    authorities = load_authorities(enrolment())
    now = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    made = authorities[0].issue_client("s1-pc-4", key, now=now, lasts=timedelta(days=80))
    book.rows.run("DELETE FROM certificate WHERE device = 's1-pc-4'")
    book.add_certificate(
        replace(
            certificate("s1-pc-4", NOW_MS + 80 * DAY_MS),
            serial=f"{made.serial_number:x}",
            pem=certificate_pem(made).decode(),
        )
    )
    book.revoke("s1-pc-4", at_ms=NOW_MS - 3_600_000, why="stolen", by="demo")
    RevocationList(book, authorities, (folder / REVOKED,)).keep(NOW_MS)


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
    parser.add_argument(
        "--offices", action="store_true", help="enrolment, security and a rollout alone"
    )
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=parts.find("chromium"), args=_FLAGS)
        take_offices(browser, options.into)
        take_rollout(browser, options.into)
        if options.offices:
            return 0
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
