"""The sender: order, windows, resends, and what an acknowledgement does."""

import pytest

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_agent.uplink.sender import KEPT_FOR_FRESH, MAX_UNCONFIRMED, Sender
from ketang_contract.ack import Ack
from ketang_contract.batch import decode
from ketang_contract.ranges import RangeSet
from ketang_contract.records import Host, Record, Stream, TimeQuality, to_line
from ketang_contract.validate import header

CENTER = "center-1"


def at(seconds):
    return Instant(1_790_000_000_000 + seconds * 1000, seconds * 1000, "boot")


class Desk:
    def __init__(self, spool):
        self.spool = spool
        self.sender = Sender(spool, "dev-1", CENTER, jitter=lambda: 1.0, batch_records=10)
        self.lane = Lane(spool.current_store, Stream.OPS)

    def create(self, count):
        self.spool.append(
            [
                Record(
                    subject="dev-1",
                    wall_ms=at(0).wall_ms,
                    boot_id="boot",
                    boottime_ms=1,
                    time=TimeQuality.FREE,
                    body=Host(window_s=300),
                )
            ]
            * count
        )

    def send(self, seconds=0):
        frames = []
        while out := self.sender.next_frame(at(seconds)):
            frames.append((out.digest, header(decode(out.frame)[0])))
        return frames

    def ack(self, seconds=0, **fields):
        ack = Ack(
            **{
                "center_id": CENTER,
                "epoch": 1,
                "store_id": self.lane.store_id,
                "stream": Stream.OPS,
                **fields,
            }
        )
        self.sender.on_ack(to_line(ack), at(seconds))


@pytest.fixture
def desk(tmp_path):
    with Spool(tmp_path / "spool.db") as spool:
        yield Desk(spool)


def test_the_newest_goes_first_and_the_backlog_leaves_room_for_what_comes(desk):
    desk.create(1000)
    desk.sender.begin_session()
    frames = desk.send()
    assert frames[0][1].seqs == ((991, 1000),)
    assert frames[1][1].seqs == ((1, 10),)
    assert len(frames) == MAX_UNCONFIRMED - KEPT_FOR_FRESH
    desk.create(1)
    assert [one.seqs for _, one in desk.send()] == [((1001, 1001),)]


def test_a_broker_confirmation_frees_the_window_and_marks_nothing(desk):
    desk.create(5)
    [(digest, _)] = desk.send()
    desk.sender.confirm(digest)
    assert len(desk.spool.pending(desk.lane)) == 5


def test_only_a_batch_we_sent_can_be_acknowledged(desk):
    desk.create(5)
    [(digest, _)] = desk.send()
    desk.ack(got=("0" * 64,), upto=5)
    assert len(desk.spool.pending(desk.lane)) == 5
    desk.ack(got=(digest,), center_id="center-2")
    assert len(desk.spool.pending(desk.lane)) == 5
    desk.ack(got=(digest,))
    assert not desk.spool.pending(desk.lane)


def test_what_is_not_answered_in_thirty_seconds_goes_again_later_and_later(desk):
    desk.create(5)
    desk.send(0)
    assert not desk.send(29)
    assert not desk.send(31)
    [(_, again)] = desk.send(61)
    assert again.seqs == ((1, 5),)
    assert not desk.send(61 + 60)


def test_an_answer_after_the_resend_still_counts(desk):
    desk.create(5)
    [(first, _)] = desk.send(0)
    desk.send(31)
    desk.send(61)
    desk.ack(got=(first,))
    assert not desk.spool.pending(desk.lane)


def test_a_greeting_sends_again_what_the_centre_missed_and_gives_the_newest_a_short_while(desk):
    desk.create(5)
    desk.send(10)
    desk.create(5)
    desk.send(19)
    desk.ack(20)
    assert [one.seqs for _, one in desk.send(20)] == [((1, 5),)]
    assert not desk.send(24)
    assert [one.seqs for _, one in desk.send(25)] == [((6, 10),)]
    assert not desk.send(49), "the next waits are the ordinary ones"


def test_what_is_answered_after_a_greeting_is_not_sent_again(desk):
    desk.create(5)
    [(digest, _)] = desk.send(19)
    desk.ack(20)
    desk.ack(22, got=(digest,))
    assert not desk.send(60)


def test_an_unreadable_frame_is_halved_until_one_record_is_to_blame(desk):
    desk.create(4)
    frames = desk.send()
    bad = 3
    for _ in range(10):
        for digest, said in frames:
            if bad in said.numbers:
                desk.ack(store_id=None, stream=None, unreadable=((digest, "bad_compression"),))
            else:
                desk.ack(got=(digest,))
        frames = desk.send()
        if not frames:
            break
        if any(one.drops for _, one in frames):
            break
    assert not desk.spool.pending(desk.lane)
    [loss] = desk.spool.untold(desk.lane)
    assert (loss.first, loss.last) == (bad, bad)


def test_an_ack_of_an_older_epoch_is_too_late(desk):
    desk.create(2)
    [(digest, _)] = desk.send()
    desk.ack(epoch=7)
    desk.ack(got=(digest,), epoch=6)
    assert desk.spool.pending(desk.lane) == RangeSet.span(1, 2)


def test_a_fork_moves_the_batchs_records_and_they_go_under_a_new_store(desk):
    desk.create(3)
    [(digest, _)] = desk.send()
    desk.ack(got=(digest,), fork=((2, 3),))
    assert not desk.spool.pending(desk.lane)
    [(_, said)] = desk.send()
    assert said.parent == desk.lane.store_id
    assert said.seqs == ((1, 2),)


def test_losses_are_told_even_when_nothing_else_waits(desk):
    desk.create(2)
    from ketang_contract.batch import DropReason

    desk.spool.mark_lost(desk.lane, RangeSet.span(1, 2), DropReason.EVICTED, 0)
    [(digest, said)] = desk.send()
    assert said.drops == ((1, 2, DropReason.EVICTED),)
    desk.ack(got=(digest,))
    assert not desk.send(100)
