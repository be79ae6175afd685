"""The uplink as the main loop polls it, over a wire that a test holds in its hand."""

import pytest

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.client import Confirmed, Connected, Lost
from ketang_agent.uplink.link import FIRST_RETRY_MS, LONGEST_RETRY_MS, STANDS_MS, Link
from ketang_agent.uplink.sender import FIRST_WAIT_MS, LONGEST_WAIT_MS, MAX_UNCONFIRMED, Sender
from ketang_contract import topics
from ketang_contract.publish_schemas import CHANNELS
from ketang_contract.records import Family, Host, Record, TimeQuality


def at(ms):
    return Instant(1_790_000_000_000 + ms, ms, "boot-1")


class Wire:
    def __init__(self):
        self.next = []
        self.published = []
        self.subscribed = set()
        self.closed = False

    def start(self):
        pass

    def happenings(self):
        taken, self.next = self.next, []
        return taken

    def route(self):
        return Family.NONE, None

    def subscribe(self, topic):
        self.subscribed.add(topic)

    def publish(self, topic, payload, *, qos=1, retain=False):
        self.published.append(topic)
        return len(self.published)

    def close(self):
        self.closed = True

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


def test_a_device_listens_to_just_the_topics_that_the_open_interface_names(desk):
    desk.link.poll(at(0))
    desk.happens(Connected(), 1)
    named = {one.suffix.replace("{job}", "+") for one in CHANNELS if not one.upward}
    assert desk.wires[0].subscribed == {topics.of("panel-1", one) for one in named}


@pytest.mark.parametrize("confirms", [False, True])
def test_a_broker_that_confirms_nothing_is_left_before_its_backlog_fills_the_memory(desk, confirms):
    desk.link.poll(at(0))
    desk.happens(Connected(), 1)
    first = desk.wires[0]
    for turn in range(1, 3 * MAX_UNCONFIRMED):
        if confirms:
            first.next.append(Confirmed(len(first.published)))
        desk.link.poll(at(2 * turn * LONGEST_WAIT_MS))
    assert first.closed is not confirms
    assert (len(desk.wires) == 1) is confirms
    if not confirms:
        assert len(first.published) <= 2 * MAX_UNCONFIRMED
        desk.happens(Connected(), 10**9)
        assert any("/b/" in topic for topic in desk.wires[-1].published), "and tried anew"


def connects_when_it_may(desk):
    ms = desk.link.wake_at_ms()
    desk.link.poll(at(ms))
    desk.happens(Connected(), ms)
    return ms


def waits_after_standing(desk, stood_ms, times):
    """Connect and lose the connection again and again; how long it waited each time."""
    waits = []
    for _ in range(times):
        lost_ms = connects_when_it_may(desk) + stood_ms
        desk.happens(Lost("another took its place"), lost_ms)
        waits.append(desk.link.wake_at_ms() - lost_ms)
    return waits


def test_two_copies_of_a_device_do_not_throw_each_other_out_every_second_for_ever(desk):
    waits = waits_after_standing(desk, STANDS_MS - 1, 10)
    doubling = [min(FIRST_RETRY_MS << turn, LONGEST_RETRY_MS) for turn in range(10)]
    assert waits == doubling


def test_a_connection_that_stood_is_sought_again_within_a_second(desk):
    waits_after_standing(desk, 0, 10)
    assert waits_after_standing(desk, STANDS_MS, 3) == [FIRST_RETRY_MS] * 3


def test_a_device_that_loses_its_connection_after_an_hour_is_back_within_a_second(desk):
    assert waits_after_standing(desk, 3_600_000, 1) == [FIRST_RETRY_MS]


def test_attempts_that_never_connected_count_beside_those_that_did_not_stand(desk):
    desk.link.poll(at(0))
    desk.happens(Lost("no route"), 0)
    desk.link.poll(at(FIRST_RETRY_MS))
    desk.happens(Connected(), FIRST_RETRY_MS)
    desk.happens(Lost("another took its place"), FIRST_RETRY_MS + 1)
    assert desk.link.wake_at_ms() == 3 * FIRST_RETRY_MS + 1
