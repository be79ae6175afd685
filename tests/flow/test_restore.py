"""A centre put back from a backup: who was thrown out stays out, a used code stays used."""

import shutil
import sqlite3
import time
from contextlib import closing

from tests.regions import Region, enroll, now_ms

from ketang_agent.clock import SystemClock
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.office import Office, Why
from ketang_center.registry.database import Registry
from ketang_center.store.control import Control


def epoch(region):
    with closing(Control(region.data_dir / "control.db")) as control:
        return control.epoch


def throw_out(region, device):
    from ketang_center.access.audit import Audit

    with (
        Book(region.data_dir / "enrolment.db") as book,
        Registry(region.data_dir / "registry.db") as registry,
        closing(Audit(region.data_dir / "audit.db")) as audit,
    ):
        Office(book, registry, audit, now_ms).throw_out(device, Why.STOLEN, "operator")


def wait_for(condition, patience_s=30):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def journal(region, offsite):
    """Whether all that the book knows is off the machine too."""
    with Book(region.data_dir / "enrolment.db") as book:
        known = book.rows.version()
    file = offsite / "ketang-enrolment.jsonl"
    return file.exists() and f'{{"no": {known},' in file.read_text("utf-8")


def test_revocations_and_uses_come_back_and_devices_meet_a_new_epoch(tmp_path):
    region, offsite = Region(tmp_path), tmp_path / "away"
    offsite.mkdir()
    first, second, third = region.register(3)
    code = region.code(uses=2)
    kit = region.kit(tmp_path / "kit", code)

    def enrol(asset):
        folder = region.device_folder(tmp_path / asset.device)
        return enroll(folder, "--kit", str(kit), "--serial", asset.serial, "--wait", "3")

    with region.broker(), region.center(offsite=offsite):
        assert enrol(first).returncode == 0
    shutil.copytree(region.data_dir, tmp_path / "backup")
    with region.broker(), region.center(offsite=offsite):
        assert enrol(second).returncode == 0
        throw_out(region, first.device)
        wait_for(lambda: journal(region, offsite))
    before = epoch(region)
    shutil.rmtree(region.data_dir)
    shutil.copytree(tmp_path / "backup", region.data_dir)
    with region.broker(), region.center(offsite=offsite):
        assert "center.was_restored" in region.log()
        refused = enrol(third)
        assert refused.returncode != 0
        assert "used as often" in refused.stderr
    with Book(region.data_dir / "enrolment.db") as book:
        assert book.is_barred(first.device)
        assert [one.device for one in book.certificates_of(second.device)] == [second.device]
        assert [one.used for one in book.codes()] == [2]
    assert epoch(region) > before
    assert SystemClock().now().wall_ms // 1000 - epoch(region) < 600, "the clock, in seconds"
    with closing(sqlite3.connect(region.data_dir / "enrolment.db")) as db:
        (twice,) = db.execute(
            "SELECT count(*) FROM (SELECT device FROM certificate GROUP BY device, key_id"
            " HAVING count(*) > 1)"
        ).fetchone()
    assert twice == 0
