"""Two machines under one id, through the real store: kept, out of the figures, then decided."""

import json
import logging
from contextlib import closing

import pytest
from tests.web.seed import TODAY, offices, registry_data

from ketang_center import clones, views
from ketang_center.access.audit import Audit
from ketang_center.access.scope import Scope
from ketang_center.clones import cases, decide
from ketang_center.enrolment.book import Book
from ketang_center.ingest.worker import Message, Worker
from ketang_center.metrics.rollup import Rollup, RollupReader
from ketang_center.registry.calendars import HOUR_MS, day_starts_ms
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Level
from ketang_center.security import SecurityLog
from ketang_center.store.reading import StoreReader
from ketang_center.store.sightings import Future
from ketang_center.store.sqlite import Store
from ketang_center.view_values import Context, Filters
from ketang_cli import main
from ketang_contract import batch, topics
from ketang_contract.batch import Header, Sent
from ketang_contract.errors import BadInput
from ketang_contract.ids import shard_of
from ketang_contract.records import (
    Inventory,
    Record,
    TimeQuality,
    Usage,
    stream_of,
    to_line,
)
from ketang_contract.state import Birth

DEVICE = "s1-ifp-1"
START_MS = day_starts_ms(TODAY) + 9 * HOUR_MS


class Machine:
    """One machine under the device's id; times in seconds since ``START_MS``."""

    def __init__(self, desk, name, began_s):
        self.desk, self.name, self.began_s = desk, name, began_s
        self.heads = {}
        self.session = 0

    def _sent(self, at_s):
        return Sent(
            wall_ms=START_MS + at_s * 1000,
            boot_id=f"boot-{self.name}",
            boottime_ms=(at_s - self.began_s) * 1000,
        )

    def connects(self, at_s):
        self.session += 1
        born = Birth(
            session=self.session,
            sent=self._sent(at_s),
            agent_version=f"0.1.{self.name}",
            schema_oldest=1,
            schema_newest=1,
        )
        self.desk.takes(topics.of(DEVICE, topics.BIRTH), to_line(born), at_s)

    def tells(self, at_s, body, of_s=None):
        sent, stream = self._sent(at_s), stream_of(body)
        of_s = at_s - 300 if of_s is None else of_s
        seq = self.heads[stream] = self.heads.get(stream, 0) + 1
        line = to_line(
            Record(
                subject=DEVICE,
                wall_ms=START_MS + of_s * 1000,
                boot_id=sent.boot_id,
                boottime_ms=max(0, of_s - self.began_s) * 1000,
                time=TimeQuality.SYNCED,
                body=body,
            )
        )
        header = Header(
            schema=1,
            store_id=f"store-{self.name}",
            stream=stream,
            head=seq,
            seqs=((seq, seq),),
            sent=sent,
        )
        self.desk.takes(topics.batch(DEVICE, stream), batch.encode(header, [line]), at_s)

    def is_used(self, at_s, active_s, of_s=None):
        self.tells(at_s, Usage(window_s=300, active_s=active_s), of_s)


class Desk:
    def __init__(self, worker, reading, rollup, context, clock):
        self.worker, self.reading, self.rollup = worker, reading, rollup
        self.context, self.clock = context, clock

    def takes(self, topic, payload, at_s):
        self.clock.now_ms = START_MS + at_s * 1000
        replies = self.worker.handle([Message(topic, payload, self.clock.now_ms)])
        assert replies or topics.BIRTH in topic, "everything is acknowledged"

    def active_s(self):
        """Seconds of use in the day's figures."""
        while self.rollup.step():
            pass
        day = self.context.rollups.days(TODAY).get((DEVICE, "s1"))
        return day.active_s if day else 0

    def attention(self):
        rows = views.devices(self.context, self.context.home, TODAY, Filters())
        return next(row.attention for row in rows if row.posted.device.id == DEVICE)

    def decides(self, *admitted, then=Future.SAME, at_s=3600):
        now_ms = START_MS + at_s * 1000
        boots = [f"boot-{name}" for name in admitted]
        return decide(self.reading, DEVICE, boots, then, by="lin", now_ms=now_ms)

    def two_machines(self):
        """Machine ``a`` with an hour of use, then ``b`` beside it for ten minutes: a case."""
        a, b = Machine(self, "a", -2 * 3600), Machine(self, "b", 0)
        a.connects(-3600)
        for no in range(12):
            a.is_used(-3600 + no * 300, 10)
        b.connects(5)
        b.is_used(300, 100)
        a.is_used(330, 200, of_s=-6900)  # windows of its own: of one, the figures take the larger
        b.is_used(600, 100)
        a.is_used(630, 200, of_s=-6600)
        return a, b


class Clock:
    now_ms = START_MS

    def __call__(self):
        return self.now_ms


@pytest.fixture
def desk(tmp_path):
    clock = Clock()
    with (
        Store(tmp_path) as store,
        StoreReader(tmp_path) as reading,
        StoreReader(tmp_path) as for_pages,
        Registry(tmp_path / "registry.db") as registry,
        Rollup(reading, tmp_path / "rollup.db", registry) as rollup,
        offices(tmp_path) as parts,
    ):
        registry.load(registry_data())
        rollups = RollupReader(tmp_path / "rollup.db")
        context = Context(
            registry=registry,
            rollups=rollups,
            reading=for_pages,
            clock=clock,
            home=Scope(Level.SCHOOL, "s1"),
            **parts,
        )
        security = SecurityLog(tmp_path / "clones-security.db")
        worker = Worker(
            store,
            store.take_lease([shard_of(DEVICE)], "w", clock.now_ms, 10 * HOUR_MS),
            security=security,
        )
        yield Desk(worker, reading, rollup, context, clock)
        security.close()
        rollups.close()


def test_what_came_since_the_second_machine_is_kept_and_in_no_figure(desk):
    a, b = desk.two_machines()
    assert desk.active_s() == 12 * 10
    accounts = {one.store_id: one.ledger for one in desk.reading.accounts([DEVICE])}
    assert {name: len(one.stored) for name, one in accounts.items()} == {
        "store-a": 14,
        "store-b": 2,
    }
    assert all(one.balanced for one in accounts.values())
    b.is_used(900, 100)
    a.is_used(930, 200)
    assert desk.active_s() == 12 * 10, "nor what comes later"


def test_figures_made_before_the_case_was_found_are_taken_back(desk):
    a, b = Machine(desk, "a", -3600), Machine(desk, "b", 0)
    a.connects(-300)
    a.is_used(-10, 10)
    b.connects(5)
    b.is_used(300, 100)
    assert desk.active_s() == 110
    assert desk.attention() == ()
    a.is_used(330, 200)
    assert desk.active_s() == 10
    assert desk.attention() == ("clone",)


def test_a_case_is_told_in_the_feed_in_the_log_and_in_the_security_log_once(desk, caplog):
    caplog.set_level(logging.WARNING)
    desk.two_machines()
    assert [one.what for one in desk.reading.changes(0)].count("clone") == 1
    assert [one for one in caplog.messages if one.startswith("device.cloned")] == [
        f"device.cloned device={DEVICE} boots=boot-a,boot-b"
    ]
    assert desk.worker.security.count("clone") == 1


def test_a_case_tells_the_two_machines_apart(desk):
    a, b = desk.two_machines()
    a.tells(700, Inventory(vendor="Acme", model="One"))
    b.tells(710, Inventory(vendor="Acme", model="Two"))
    b.connects(720)
    [case] = cases(desk.reading)
    assert (case.device, case.since_ms, case.decided_ms) == (DEVICE, START_MS + 5000, None)
    assert (case.older, case.newer) == ("boot-a", "boot-b")
    shown = [
        (
            one.boot_id,
            one.first_ms,
            round(one.last_ms, -3),
            one.records,
            one.session,
            one.version,
            one.model,
        )
        for one in case.boots
    ]
    at_ms = START_MS
    assert shown == [
        ("boot-a", at_ms - 3_600_000, at_ms + 700_000, 3, 1, "0.1.a", "Acme One"),
        ("boot-b", at_ms + 5_000, at_ms + 720_000, 3, 2, "0.1.b", "Acme Two"),
    ]


@pytest.mark.parametrize(("admitted", "active_s"), [("", 120), ("a", 520), ("b", 320), ("ab", 720)])
def test_a_decision_restores_exactly_what_was_admitted(desk, admitted, active_s):
    desk.two_machines()
    assert desk.active_s() == 120
    case = desk.decides(*admitted)
    assert (case.verdict, case.by, case.decided_ms) == (Future.SAME, "lin", START_MS + 3_600_000)
    assert {one.boot_id: one.counts for one in case.boots} == {
        "boot-a": "a" in admitted,
        "boot-b": "b" in admitted,
    }
    assert desk.active_s() == active_s
    assert desk.attention() == ()


def test_after_a_decision_later_boots_count_and_the_one_sent_away_never_does(desk):
    _, b = desk.two_machines()
    desk.decides("a")
    b.is_used(4000, 100)
    Machine(desk, "a-again", 4100).is_used(4400, 50)
    assert desk.active_s() == 520 + 50


def test_after_an_id_was_revoked_no_later_boot_counts(desk):
    desk.two_machines()
    desk.decides("a", then=Future.REVOKE)
    Machine(desk, "a-again", 4100).is_used(4400, 50)
    assert desk.active_s() == 520


def test_the_one_sent_away_that_comes_again_after_a_reboot_is_a_new_case(desk):
    a, _ = desk.two_machines()
    desk.decides("a")
    again = Machine(desk, "b-again", 4000)
    again.is_used(4300, 100)
    a.is_used(4330, 200)
    again.is_used(4600, 100)
    a.is_used(4630, 200)
    assert [one.decided_ms is None for one in cases(desk.reading)] == [True, False]
    assert desk.active_s() == 520, "all since it came again is in doubt"
    desk.decides("a", at_s=5000)
    assert desk.active_s() == 520 + 400
    first = cases(desk.reading)[1]
    assert [one.boot_id for one in first.boots] == ["boot-a", "boot-b"]


def test_what_was_recorded_before_and_came_in_between_waits_for_the_decision_too(desk):
    """Both copies bring what the image had in its spool, made in a boot of before."""
    desk.two_machines()
    Machine(desk, "z", -9000).is_used(900, 7, of_s=-8700)
    assert desk.active_s() == 120
    assert [one.boot_id for one in cases(desk.reading)[0].boots] == ["boot-a", "boot-b", "boot-z"]
    desk.decides("a", "z")
    assert desk.active_s() == 527


def test_a_decision_needs_an_open_case_and_boots_it_has(desk):
    with pytest.raises(BadInput, match="no case waits"):
        desk.decides("a")
    desk.two_machines()
    with pytest.raises(BadInput, match="boot-a, boot-b"):
        desk.decides("c")
    desk.decides("a")
    with pytest.raises(BadInput, match="no case waits"):
        desk.decides("b")


def test_a_transaction_that_comes_to_nothing_leaves_no_case_and_no_memory_of_one(desk):
    a, b = Machine(desk, "a", -3600), Machine(desk, "b", 0)
    a.is_used(-10, 10)
    a.is_used(0, 10)
    b.connects(5)
    b.is_used(300, 100)
    control = desk.worker.store.control

    def half_done():
        with control.transaction():
            control.note_clocks(DEVICE, a._sent(330), START_MS + 330_000)
            assert control.db.execute("SELECT count(*) FROM clone").fetchone() == (1,)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_done()
    assert control.sightings.take_found() == []
    assert not cases(desk.reading)
    a.is_used(340, 200)
    assert len(cases(desk.reading)) == 1


def test_a_worker_that_takes_a_shard_back_has_heard_what_the_other_wrote(desk, tmp_path):
    a, b = Machine(desk, "a", -3600), Machine(desk, "b", 0)
    a.is_used(-10, 10)
    a.is_used(0, 10)
    mine, shard, later_ms = desk.worker, [shard_of(DEVICE)], START_MS + 20 * HOUR_MS
    with Store(tmp_path) as other:
        desk.worker = Worker(other, other.take_lease(shard, "w2", later_ms, 1))
        b.connects(5)
        b.is_used(300, 100)
    mine.lease = mine.store.take_lease(shard, "w", later_ms + 10, HOUR_MS)
    desk.worker = mine
    a.is_used(330, 200)
    assert len(cases(desk.reading)) == 1


def test_an_old_file_of_the_centre_gets_the_new_tables(tmp_path):
    with Store(tmp_path) as store:
        store.control.db.executescript("DROP TABLE boot; DROP TABLE clone;")
    with StoreReader(tmp_path) as reading:
        assert cases(reading) == []


@pytest.fixture
def settings_file(tmp_path):
    path = tmp_path / "center.toml"
    path.write_text(
        'data_dir = "."\nbroker_host = "127.0.0.1"\nca = "ca"\ncertificate = "c"\nkey = "k"\n',
        encoding="utf-8",
    )
    return path


def test_a_person_lists_and_decides_at_the_machine_itself(desk, settings_file, capsys):
    desk.two_machines()
    words = ["center", "clones"]
    assert main.main([*words, "list", "--settings", str(settings_file)]) == 0
    [told] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told["device"] == DEVICE
    assert [one["records"] for one in told["boots"]] == [2, 2]
    asked = [*words, "decide", DEVICE, "--admit", "boot-b", "--then", "same"]
    assert main.main([*asked, "--settings", str(settings_file)]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "same"
    assert desk.active_s() == 320
    assert main.main([*asked, "--settings", str(settings_file)]) == main.REFUSED
    assert main.main([*words, "list", "--open", "--settings", str(settings_file)]) == 0
    assert capsys.readouterr().out == ""


def test_an_id_that_ends_at_the_machine_itself_is_thrown_out_before_the_case_is_closed(
    desk, settings_file, tmp_path, monkeypatch
):
    desk.two_machines()
    asked = ["center", "clones", "decide", DEVICE, "--then", "revoke"]
    asked += ["--settings", str(settings_file)]
    assert main.main([*asked, "--admit", "boot-z"]) == main.REFUSED
    with Book(tmp_path / "enrolment.db") as book:
        assert not book.is_barred(DEVICE), "an act that cannot be done throws nobody out"
        with monkeypatch.context() as crash:
            crash.setattr(clones, "decide", lambda *_, **__: (_ for _ in ()).throw(BadInput("x")))
            assert main.main(asked) == main.REFUSED
        assert book.is_barred(DEVICE)
        assert [one.why for one in book.revocations()] == ["clone"]
    assert len(cases(desk.reading, only_open=True)) == 1, "it still asks"
    assert main.main(asked) == 0
    with closing(Audit(tmp_path / "audit.db")) as audit:
        acts = [(one.action, one.unit) for one in audit if one.who == "console"]
    assert acts == [("revoke", "s1"), ("clone_decided", "s1"), ("clone_decided", "s1")]


def test_cases_are_read_of_the_devices_that_are_wanted(desk, monkeypatch):
    desk.two_machines()
    read = []
    monkeypatch.setattr(desk.reading, "rows_of", lambda one: read.append(one) or [])
    assert cases(desk.reading, ["another"]) == []
    assert read == []
    assert len(cases(desk.reading, [DEVICE])) == 1
