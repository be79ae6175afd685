"""One fact's walk over a real broker: spool, uplink, mTLS, ingest, store, acknowledgement, mark."""

import threading
import time

import pytest

from ketang_agent.clock import SystemClock
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.client import Broker, Connection, tls_context
from ketang_agent.uplink.link import Link
from ketang_agent.uplink.sender import Sender
from ketang_center.ingest.subscriber import Ear, Subscriber
from ketang_center.store.reading import StoreReader
from ketang_center.store.sqlite import Store
from ketang_cli.local_broker import Kind, LocalBroker, find_broker
from ketang_contract.records import Family, Host, Record, TimeQuality
from ketang_provisioning.ca import ThrowawayAuthority

BROKERS = (pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS)
DEVICE = "panel-1"
PATIENCE_S = 60


class Classroom:
    """A device, a broker and a centre, each of which can be ended and begun again."""

    def __init__(self, folder, kind):
        self.folder = folder
        self.clock = SystemClock()
        authority = ThrowawayAuthority(folder / "keys")
        self.device_identity = authority.client(DEVICE)
        self.center_identity = authority.client("center_ingest")
        program = find_broker(kind)
        self.broker = LocalBroker(folder / "broker", authority.server(), program=program)
        with Store(folder / "center") as store:
            self.center_id = store.control.center_id
        self.created = 0

    def __enter__(self):
        self.broker.start()
        self.start_center()
        self.start_device()
        return self

    def __exit__(self, *_):
        self.link.stop()
        self.spool.close()
        self.stop_center()
        self.broker.stop()

    def start_center(self):
        identity = self.center_identity
        self.subscriber = Subscriber(
            Ear(
                self.broker.host,
                self.broker.port,
                identity.ca_file,
                identity.certificate_file,
                identity.key_file,
            ),
            self.folder / "center",
        )
        self.ingest = threading.Thread(target=self.subscriber.run)
        self.ingest.start()

    def stop_center(self):
        self.subscriber.stop()
        self.ingest.join()

    def start_device(self):
        identity = self.device_identity
        broker = Broker(
            self.broker.host,
            self.broker.port,
            identity.ca_file,
            identity.certificate_file,
            identity.key_file,
        )
        context, self.bell = tls_context(broker), threading.Event()
        self.spool = Spool(self.folder / "spool.db")
        self.spool.open()
        self.link = Link(
            self.spool,
            Sender(self.spool, DEVICE, self.center_id),
            DEVICE,
            lambda will: Connection(broker, context, DEVICE, will, self.bell.set),
            "0.1.0",
            jitter=lambda: 0.1,
        )

    def create(self, count):
        now = self.clock.now()
        self.spool.append(
            [
                Record(
                    subject=DEVICE,
                    wall_ms=now.wall_ms,
                    boot_id=now.boot_id,
                    boottime_ms=now.boottime_ms,
                    time=TimeQuality.FREE,
                    body=Host(window_s=300, uptime_s=self.created + at),
                )
                for at in range(count)
            ]
        )
        self.created += count

    def pump(self, until):
        deadline = time.monotonic() + PATIENCE_S
        while not until() and time.monotonic() < deadline:
            self.link.poll(self.clock.now())
            self.bell.wait(0.05)
            self.bell.clear()
        assert until()

    def drained(self):
        return not any(self.spool.pending(lane) for lane in self.spool.lanes())

    def stored(self):
        with Store(self.folder / "center") as store:
            return sorted(
                row[0]
                for day in store.partitions.days()
                for row in store.partitions.connection(day).execute("SELECT seq FROM row")
            )


@pytest.fixture(params=BROKERS)
def room(request, tmp_path):
    with Classroom(tmp_path, request.param) as room:
        yield room


def test_a_record_reaches_the_centre_and_is_marked_by_its_own_acknowledgement(room):
    room.create(3)
    room.pump(room.drained)
    assert room.stored() == [1, 2, 3]
    with StoreReader(room.folder / "center") as reading:
        [presence] = reading.presence()
        assert presence.connected
        assert reading.take_dirty(10)
        [account] = [one for one in reading.accounts() if one.ledger.head]
        assert account.ledger.balanced


def test_how_the_broker_is_reached_is_known_while_it_is_reached(room):
    room.pump(lambda: room.link.connected)
    family, rtt_ms = room.link.route()
    assert family is Family.V4
    assert rtt_ms is not None
    assert 0 <= rtt_ms < 1000
    room.broker.kill()
    room.pump(lambda: not room.link.connected)
    assert room.link.route() == (Family.NONE, None)
    room.broker.start()


def test_a_killed_and_wiped_broker_costs_a_resend_and_not_a_record(room):
    room.create(50)
    room.pump(room.drained)
    room.broker.kill()
    room.broker.wipe_store()
    room.create(50)
    room.pump(lambda: not room.link.connected)
    room.broker.start()
    room.pump(room.drained)
    assert room.stored() == list(range(1, 101))


def test_records_made_while_the_centre_is_down_arrive_once_when_it_is_back(room):
    room.pump(lambda: room.link.connected)
    room.stop_center()
    room.create(20)
    for _ in range(10):
        room.link.poll(room.clock.now())
        time.sleep(0.02)
    assert not room.drained()
    room.start_center()
    room.pump(room.drained)
    assert room.stored() == list(range(1, 21))


def test_an_orderly_stop_is_told_from_a_lost_connection(room):
    room.pump(lambda: room.link.connected)
    room.create(1)
    room.pump(room.drained)
    room.link.stop()
    deadline = time.monotonic() + PATIENCE_S
    with StoreReader(room.folder / "center") as reading:
        while reading.presence()[0].connected and time.monotonic() < deadline:
            time.sleep(0.05)
        [presence] = reading.presence()
    assert not presence.connected
    assert presence.orderly
