"""A centre put back from a backup: who was thrown out stays out, a used code stays used."""

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from tests.regions import KETANG, Region, enroll, now_ms

from ketang_agent.clock import SystemClock
from ketang_center import restoring, settings
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.merging import PUT_BACK
from ketang_center.enrolment.office import Office, Why
from ketang_center.enrolment.offsite import FILE, Offsite
from ketang_center.enrolment.service import EnrolmentService
from ketang_center.registry.database import Registry
from ketang_center.registry.values import ServiceState
from ketang_center.service import Center
from ketang_center.store.control import Control
from ketang_contract.errors import BadInput


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


def wait_for(condition, patience_s=60):
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


class Lost:
    """A region whose centre lost, by a restore, that a device was thrown out and another let in."""

    def __init__(self, folder):
        self.region, self.away = Region(folder), folder / "away"
        self.away.mkdir()
        self.out, self.there, self.later = self.region.register(3)
        with self.book() as book:
            book.claim(self.out, 1)
            self.send(book)
        shutil.copytree(self.region.data_dir, folder / "backup")
        throw_out(self.region, self.out.device)
        with self.book() as book:
            book.claim(self.there, 2)
            self.send(book)
        shutil.rmtree(self.region.data_dir)
        shutil.copytree(folder / "backup", self.region.data_dir)
        self.settings = settings.read(self.region.settings(offsite=self.away))

    def book(self):
        return Book(self.region.data_dir / "enrolment.db")

    def send(self, book):
        Offsite(self.away, self.region.code_key).send(book.rows)

    def serve(self, **changes):
        return self.region.center(offsite=self.away, **changes)

    def barred(self):
        with self.book() as book:
            return {one.device for one in book.revocations()}

    def state(self, asset):
        with Registry(self.region.data_dir / "registry.db") as registry:
            return registry.service_state(asset.device, now_ms())


@pytest.fixture
def lost(tmp_path):
    return Lost(tmp_path)


def test_a_folder_that_comes_back_while_the_centre_serves_brings_everything_back(lost, tmp_path):
    lost.away.rename(tmp_path / "unmounted")
    with lost.region.broker(), lost.serve():
        assert "offsite.away" in lost.region.log()
        throw_out(lost.region, lost.later.device)
        (tmp_path / "unmounted").rename(lost.away)
        wait_for(lambda: lost.barred() == {lost.out.device, lost.later.device})
        wait_for(lambda: lost.later.device in (lost.away / FILE).read_text("utf-8"))
        wait_for(lambda: "offsite.brought_back" in lost.region.log())
        wait_for(lambda: lost.state(lost.there) is ServiceState.IN_SERVICE)
    assert restoring.was_put_back(lost.settings), "the records are still owed"
    before = epoch(lost.region)
    with lost.region.broker(), lost.serve():
        assert epoch(lost.region) > before
    assert not restoring.was_put_back(lost.settings)


def test_a_crash_between_the_new_epoch_and_the_lines_is_noticed(lost, monkeypatch):
    before = epoch(lost.region)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Offsite, "bring_back", crash)
        with pytest.raises(KeyboardInterrupt):
            restoring.bring_back(lost.settings, int(time.time()))
    assert epoch(lost.region) > before
    assert restoring.was_put_back(lost.settings)
    assert restoring.bring_back(lost.settings, int(time.time())).lines == 2
    assert not restoring.was_put_back(lost.settings)
    with lost.book() as book:
        assert not book.rows.mark(PUT_BACK)


def test_without_the_folder_a_restore_cannot_be_finished_and_costs_no_resend(lost, tmp_path):
    before = epoch(lost.region)
    lost.away.rename(tmp_path / "unmounted")
    with pytest.raises(BadInput, match="mount it first"):
        restoring.bring_back(lost.settings, int(time.time()))
    assert epoch(lost.region) == before


def test_the_register_is_brought_up_to_the_book_at_the_start(lost):
    with lost.region.broker(), lost.serve():
        assert lost.state(lost.there) is ServiceState.IN_SERVICE
        assert lost.state(lost.out) is not ServiceState.IN_SERVICE


def test_another_code_key_ends_the_start_with_one_line(lost):
    (lost.region.center_folder / "code.key").write_bytes(os.urandom(32).hex().encode() + b"\n")
    file = lost.region.settings(offsite=lost.away)
    done = subprocess.run(
        [*KETANG, "center", "serve", "--settings", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "put back the code.key" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_hangs_does_not_keep_the_centre_from_starting(lost):
    (lost.away / FILE).unlink()
    os.mkfifo(lost.away / FILE)
    began_s = time.monotonic()
    assert not restoring.was_put_back(lost.settings, patience_s=0.5)
    assert time.monotonic() - began_s < 5
    os.close(os.open(lost.away / FILE, os.O_WRONLY | os.O_NONBLOCK))


def test_a_folder_that_others_could_read_is_made_private(lost):
    lost.region.data_dir.chmod(0o755)
    with lost.region.broker(), lost.serve():
        assert lost.region.data_dir.stat().st_mode & 0o777 == 0o700
        assert "center.made_private" in lost.region.log()


def test_the_centre_waits_for_no_other_machine_and_ingest_for_no_page(lost):
    center = Center(lost.settings)
    with closing(EnrolmentService(lost.settings.enrolment, lost.region.data_dir, "c")) as enrolment:
        duties = center._duties(enrolment)
    assert {one.name for one in duties if one.may_hang} == {"offsite", "audit_head"}
    assert {"revocation_list", "eviction"} <= {one.name for one in duties}
    assert center._bans._book is not center._book
    for one in center._books:
        one.close()
