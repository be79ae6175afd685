"""A cloned disk on a real broker: noticed within a minute, kept apart, decided by a person."""

import shutil
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.web.seed import registry_data

from ketang_agent.clock import SystemClock
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.client import Broker, Connection, tls_context
from ketang_agent.uplink.link import Link
from ketang_agent.uplink.sender import Sender
from ketang_center.clones import cases, decide
from ketang_center.ingest.subscriber import Ear, Subscriber
from ketang_center.metrics.rollup import Rollup, RollupReader
from ketang_center.registry.calendars import day_of
from ketang_center.registry.database import Registry
from ketang_center.security import SecurityLog
from ketang_center.store.reading import StoreReader
from ketang_center.store.sightings import Future
from ketang_center.store.sqlite import Store
from ketang_cli.local_broker import Kind, LocalBroker, find_broker
from ketang_contract.records import Record, TimeQuality, Usage
from ketang_provisioning.ca import ThrowawayAuthority

pytestmark = pytest.mark.mosquitto

DEVICE = "s1-ifp-1"
NOTICED_S = 60
PATIENCE_S = 60
CELL_MS = 300_000
DAY_MS = 86_400_000


class Machine:
    """One machine: its disk, its boot, its link. Records are windows nobody else's share."""

    def __init__(self, site, name, first_cell):
        self.site, self.boot_id, self._cell = site, f"boot-{name}", first_cell
        self.folder = site.folder / name
        self._clock = SystemClock()
        self.made = 0

    def now(self):
        now = self._clock.now()
        return replace(now, boot_id=self.boot_id, boottime_ms=now.boottime_ms + 2 * DAY_MS)

    def starts(self):
        """As a machine that is switched on: it connects at once."""
        self.folder.mkdir(exist_ok=True)
        self.spool = Spool(self.folder / "spool.db")
        self.spool.open()
        sender = Sender(self.spool, DEVICE, self.site.center_id)
        self.link = Link(self.spool, sender, DEVICE, self.site.connect, "0.1.0")

    def stops(self):
        self.link.stop()
        self.spool.close()

    def is_used(self, active_s):
        """Record one window, of yesterday or earlier today."""
        now = self.now()
        began_ms = now.wall_ms // CELL_MS * CELL_MS - self._cell * CELL_MS
        self._cell -= 1
        self.made += 1
        body = Usage(window_s=300, active_s=active_s, idle_s=self.made)
        self.spool.append(
            [
                Record(
                    subject=DEVICE,
                    wall_ms=began_ms,
                    boot_id=self.boot_id,
                    boottime_ms=now.boottime_ms - (now.wall_ms - began_ms),
                    time=TimeQuality.SYNCED,
                    body=body,
                )
            ]
        )

    @property
    def drained(self):
        return not any(self.spool.pending(lane) for lane in self.spool.lanes())


class Site:
    """Broker and centre, with the registry and the rollups."""

    def __init__(self, folder):
        self.folder = folder
        authority = ThrowawayAuthority(folder / "keys")
        device, center = authority.client(DEVICE), authority.client("center_ingest")
        self.broker = LocalBroker(
            folder / "broker", authority.server(), program=find_broker(Kind.MOSQUITTO)
        )
        self.center = folder / "center"
        with Store(self.center) as store:
            self.center_id = store.control.center_id
        self.security = SecurityLog(self.center / "security.db")
        where = self.broker.host, self.broker.port
        files = center.ca_file, center.certificate_file, center.key_file
        self.subscriber = Subscriber(Ear(*where, *files), self.center, security=self.security)
        self.ingest = threading.Thread(target=self.subscriber.run)
        self._broker = Broker(*where, device.ca_file, device.certificate_file, device.key_file)
        self._context, self._bell = tls_context(self._broker), threading.Event()

    def __enter__(self):
        self.broker.start()
        self.ingest.start()
        self.reading = StoreReader(self.center).__enter__()
        return self

    def __exit__(self, *_):
        self.reading.__exit__(None, None, None)
        self.subscriber.stop()
        self.ingest.join()
        self.broker.stop()
        self.security.close()

    def connect(self, will):
        return Connection(self._broker, self._context, DEVICE, will, self._bell.set)

    def pump(self, *machines, until, within_s=PATIENCE_S):
        """Run the machines' main loops until something holds; seconds it took."""
        began_s = time.monotonic()
        while not until():
            assert time.monotonic() - began_s < within_s
            for one in machines:
                one.link.poll(one.now())
            self._bell.wait(0.05)
            self._bell.clear()
        return time.monotonic() - began_s

    def active_s(self):
        """Seconds of use in all figures of the device."""
        with (
            Registry(self.center / "registry.db") as registry,
            Rollup(self.reading, self.center / "rollup.db", registry) as rollup,
        ):
            registry.load(registry_data())
            while rollup.step():
                pass
        rollups = RollupReader(self.center / "rollup.db")
        today = day_of(time.time_ns() // 10**6)
        found = [rollups.days(today - timedelta(days=ago)) for ago in range(3)]
        rollups.close()
        return sum(use.active_s for day in found for key, use in day.items() if key[0] == DEVICE)

    def stored(self):
        """How many rows of each boot and store there are, each content once."""
        rows = []
        for path in self.center.glob("rows-*.db"):
            with sqlite3.connect(path) as db:
                rows += db.execute("SELECT store, json_extract(line, '$.boot_id'), line FROM row")
        assert len({bytes(line) for *_, line in rows}) == len(rows)
        return Counter((boot, store) for store, boot, _ in rows)


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path) as site:
        yield site


def test_a_cloned_disk_is_noticed_within_a_minute_and_both_streams_are_kept_apart(site):
    first, second = Machine(site, "a", 280), Machine(site, "b", 140)
    first.starts()
    for _ in range(3):
        first.is_used(1)
    site.pump(first, until=lambda: first.drained)
    first.stops()
    shutil.copytree(first.folder, second.folder)
    first.starts()
    site.pump(first, until=lambda: first.link.connected)
    assert site.active_s() == 3

    second.starts()
    site.pump(first, second, until=lambda: second.link.connected)
    for _ in range(5):
        first.is_used(10)
        second.is_used(100)
    took_s = site.pump(
        first, second, until=lambda: cases(site.reading, only_open=True), within_s=NOTICED_S
    )
    assert took_s < NOTICED_S
    for one in (first, second):  # each alone, so that none waits for the other's place
        one.stops()
    for one in (first, second):
        one.starts()
        one.is_used(10 if one is first else 100)
        site.pump(one, until=lambda one=one: one.drained)
        one.stops()

    stored = site.stored()
    by_boot = {boot: Counter() for boot, _ in stored}
    for (boot, store), count in stored.items():
        by_boot[boot][store] += count
    assert {boot: found.total() for boot, found in by_boot.items()} == {"boot-a": 9, "boot-b": 6}
    accounts = site.reading.accounts([DEVICE])
    assert all(one.ledger.balanced for one in accounts), "nothing is lost"
    assert site.security.count("clone") == 1
    assert site.active_s() == 3, "and nothing of either is in the figures"

    [case] = cases(site.reading)
    assert {one.boot_id: one.records for one in case.boots} == {"boot-a": 6, "boot-b": 6}
    now_ms = time.time_ns() // 10**6
    decide(site.reading, DEVICE, ["boot-b"], Future.SAME, by="lin", now_ms=now_ms)
    assert site.active_s() == 3 + 6 * 100, "exactly what was admitted"
