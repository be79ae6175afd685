"""What ingest passes on of a device's word, and who counts as connected."""

import pytest

from ketang_center.ingest.worker import Message, Worker
from ketang_center.rollouts.hearing import Inbox, Sessions
from ketang_center.store.base import Presence
from ketang_center.store.sqlite import Store
from ketang_contract import topics
from ketang_contract.batch import Sent
from ketang_contract.ids import shard_of
from ketang_contract.records import to_line
from ketang_contract.state import Birth, Death, Live, Reported

SENT = Sent(wall_ms=1_790_000_000_000, boottime_ms=1, boot_id="boot-1")


def birth(session):
    return Birth(session=session, sent=SENT, agent_version="1", schema_oldest=1, schema_newest=1)


def reported(session):
    return Reported(session=session, sent=SENT, agent_version="1", profile="ops_pc")


@pytest.fixture
def heard_by(tmp_path):
    heard, answered = [], []
    with Store(tmp_path) as store:
        lease = store.take_lease([shard_of("d1")], "w", 1, 60_000)
        yield (
            Worker(
                store,
                lease,
                heard=lambda *said: heard.append(said),
                answered=lambda *said: answered.append(said),
            ),
            heard,
            answered,
        )


def test_ingest_passes_on_what_a_device_says_of_itself(heard_by):
    worker, heard, answered = heard_by
    words = {
        topics.BIRTH: birth(3),
        topics.REPORTED: reported(3),
        topics.LIVE: Live(session=3),
        topics.DEATH: Death(session=3),
    }
    worker.handle([Message(topics.of("d1", name), to_line(one), 5) for name, one in words.items()])
    said = [words[name] for name in (topics.BIRTH, topics.REPORTED, topics.DEATH)]
    assert heard == [("d1", one, 5) for one in said]
    assert not answered


def test_ingest_passes_on_an_answer_to_a_command(heard_by):
    worker, heard, answered = heard_by
    worker.handle([Message(topics.of("d1", f"{topics.ANSWER}/job-1"), b"{}", 5)])
    assert answered == [("d1", "job-1", b"{}", 5)]
    assert not heard


def test_ingest_passes_on_nothing_that_it_refuses(heard_by):
    worker, heard, _ = heard_by
    worker.handle([Message(topics.of("d1", topics.REPORTED), b'{"session": "x"}', 5)])
    assert not heard
    assert worker.counts.refused == 1


def test_the_latest_word_is_kept_and_what_is_given_back_is_older():
    inbox = Inbox()
    inbox.hear("d1", reported(1), 1)
    inbox.hear("d2", reported(1), 1)
    taken = inbox.take()
    assert not inbox.take().reports
    inbox.hear("d1", reported(2), 2)
    inbox.give_back(taken)
    assert {one: at_ms for one, (_, at_ms) in inbox.take().reports.items()} == {"d1": 2, "d2": 1}


def hear(sessions, *words):
    inbox = Inbox()
    for at_ms, one in words:
        inbox.hear("d1", one, at_ms)
    sessions.hear(inbox.take())


def test_births_and_deaths_of_older_sessions_change_nothing():
    sessions = Sessions()
    assert not sessions.connected("d1")
    hear(sessions, (10, birth(5)))
    assert sessions.connected("d1")
    hear(sessions, (11, Death(session=4)))
    assert sessions.connected("d1")
    hear(sessions, (12, Death(session=5, orderly=True)))
    assert not sessions.connected("d1")
    assert sessions.seen("d1").orderly
    hear(sessions, (13, birth(5)))
    assert not sessions.connected("d1")
    hear(sessions, (14, birth(6)))
    assert sessions.connected("d1")


def presence(session, last_seen_ms):
    return Presence("d1", session, True, False, 100, last_seen_ms, "1")


def test_who_was_connected_before_the_centre_was_deaf_has_to_speak_first():
    sessions = Sessions([presence(5, 0)])
    sessions.hearing_since_ms = 1000
    assert sessions.unsure("d1")
    assert not sessions.connected("d1")
    hear(sessions, (1001, birth(5)))
    assert sessions.unsure("d1"), "the broker has kept its birth, and may have for long"
    sessions.renew([presence(5, 1002)])
    assert sessions.connected("d1")
    other = Sessions([presence(5, 0)])
    other.hearing_since_ms = 1000
    hear(other, (1003, reported(5)))
    assert other.connected("d1")
