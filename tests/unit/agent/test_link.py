"""The uplink as the main loop polls it, over a wire that a test holds in its hand."""

import pytest

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.client import Connected, Lost
from ketang_agent.uplink.link import Link
from ketang_agent.uplink.sender import FIRST_WAIT_MS, Sender
from ketang_contract.records import Family, Host, Record, TimeQuality


def at(ms):
    return Instant(1_790_000_000_000 + ms, ms, "boot-1")


class Wire:
    def __init__(self):
        self.next = []
        self.published = []

    def start(self):
        pass

    def happenings(self):
        taken, self.next = self.next, []
        return taken

    def route(self):
        return Family.NONE, None

    def subscribe(self, topic):
        pass

    def publish(self, topic, payload, *, qos=1, retain=False):
        self.published.append(topic)
        return len(self.published)

    def close(self):
        pass

    def finish(self):
        pass


class Desk:
    def __init__(self, spool):
        self.wires = []
        sender = Sender(spool, "panel-1", "center-1", jitter=lambda: 1.0)
        self.link = Link(spool, sender, "panel-1", self._connect, "0.1.0", jitter=lambda: 1.0)

    def _connect(self, will):
        self.wires.append(Wire())
        return self.wires[-1]

    def happens(self, happening, ms):
        self.wires[-1].next.append(happening)
        self.link.poll(at(ms))


@pytest.fixture
def desk(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        body = Host(window_s=300)
        one = Record(
            subject="panel-1",
            wall_ms=at(0).wall_ms,
            boot_id="boot-1",
            boottime_ms=0,
            time=TimeQuality.FREE,
            body=body,
        )
        spool.append([one])
        yield Desk(spool)


def test_while_it_connects_nothing_overdue_keeps_the_main_loop_awake(desk):
    desk.link.poll(at(0))
    desk.happens(Connected(), 1)
    assert desk.link.wake_at_ms() == 1 + FIRST_WAIT_MS
    desk.happens(Lost("reset"), 2)
    desk.link.poll(at(10 * FIRST_WAIT_MS))
    assert len(desk.wires) == 2
    assert desk.link.connecting
    assert desk.link.wake_at_ms() is None
    desk.happens(Connected(), 11 * FIRST_WAIT_MS)
    assert not desk.link.connecting
    assert desk.link.wake_at_ms() == 12 * FIRST_WAIT_MS
