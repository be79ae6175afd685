"""The sender: acks that come together, and when it wants to be woken."""

import pytest

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_agent.uplink.sender import Sender
from ketang_contract.ack import Ack
from ketang_contract.batch import decode
from ketang_contract.ranges import RangeSet
from ketang_contract.records import Host, Record, Stream, TimeQuality, Usage, to_line
from ketang_contract.validate import header

CENTER = "center-1"
OPS, USE = Host(window_s=300), Usage(window_s=300)


def at(seconds):
    return Instant(1_790_000_000_000 + seconds * 1000, seconds * 1000, "boot")


class Desk:
    def __init__(self, spool):
        self.spool = spool
        self.sender = Sender(spool, "dev-1", CENTER, jitter=lambda: 1.0, batch_records=10)

    def lane(self, stream):
        return Lane(self.spool.current_store, stream)

    def create(self, count, body=OPS):
        one = Record(
            subject="dev-1",
            wall_ms=at(0).wall_ms,
            boot_id="boot",
            boottime_ms=1,
            time=TimeQuality.FREE,
            body=body,
        )
        self.spool.append([one] * count)

    def send(self, seconds=0):
        sent = []
        while out := self.sender.next_frame(at(seconds)):
            self.sender.confirm(out.digest)
            sent.append((out.digest, header(decode(out.frame)[0])))
        return sent

    def ack(self, digest=None, stream=Stream.OPS, **fields):
        return to_line(
            Ack(
                **{
                    "center_id": CENTER,
                    "epoch": 1,
                    "store_id": self.spool.current_store,
                    "stream": stream,
                    "got": (digest,) if digest else (),
                    **fields,
                }
            )
        )


@pytest.fixture
def desk(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        yield Desk(spool)


def test_acks_that_come_together_are_marked_together(desk, monkeypatch):
    desk.create(95)
    desk.create(25, USE)
    frames = desk.send()
    marks = []
    mark = desk.spool.mark_acked
    monkeypatch.setattr(
        desk.spool, "mark_acked", lambda lane, *rest: (marks.append(lane), mark(lane, *rest))
    )
    desk.sender.on_acks([desk.ack(digest, said.stream) for digest, said in frames], at(1))
    assert sorted(lane.stream for lane in marks) == [Stream.OPS, Stream.USE]
    assert not any(desk.spool.pending(lane) for lane in desk.spool.lanes())


def test_what_is_no_ack_does_not_stop_those_beside_it(desk):
    desk.create(20)
    [(first, _), (second, _)] = desk.send()
    desk.sender.on_acks([desk.ack(first), b"\x00", b"{}", desk.ack(second)], at(1))
    assert not desk.spool.pending(desk.lane(Stream.OPS))


def test_a_new_epoch_in_the_same_group_queues_again_what_was_just_marked(desk):
    """The centre answered, went back to an older backup, and greets: it lacks the records."""
    desk.create(10)
    [(digest, _)] = desk.send()
    desk.sender.on_acks([desk.ack(digest), desk.ack(epoch=2)], at(1))
    assert desk.spool.pending(desk.lane(Stream.OPS)) == RangeSet.span(1, 10)


def test_what_was_marked_in_the_same_group_does_not_move_to_a_forked_store(desk):
    desk.create(10)
    [(first, _)] = desk.send(0)
    desk.send(31)  # unanswered
    [(again, _)] = desk.send(61)
    desk.sender.on_acks([desk.ack(first), desk.ack(again, fork=((1, 3),))], at(62))
    assert not any(desk.spool.pending(lane) for lane in desk.spool.lanes())
    assert {lane.store_id for lane in desk.spool.lanes()} == {desk.spool.current_store}


def test_a_silent_centre_wakes_nobody_for_a_moment_that_has_passed(desk):
    desk.create(5)
    for seconds in range(0, 4_000, 7):
        desk.send(seconds)
        wake_ms = desk.sender.wake_at_ms()
        assert wake_ms is not None
        assert wake_ms > at(seconds).boottime_ms
