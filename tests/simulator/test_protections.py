"""Each protection, removed on purpose, must be missed.

Every removal names the story that needs the protection: with it the story ends well, without it
something is lost, told wrongly or never comes to rest. The long search must miss each one too.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ketang_agent.spool.store import Spool
from ketang_agent.uplink import sender as sender_module
from ketang_agent.uplink.sender import Sender
from ketang_center.ingest.worker import Worker
from ketang_center.store.control import Control
from ketang_center.store.partitions import Partitions
from ketang_center.store.sqlite import Store
from ketang_contract import topics
from ketang_contract.errors import NotYet
from ketang_contract.ids import shard_of
from ketang_contract.ledger import Ledger
from tests.simulator import scenarios
from tests.simulator.test_state_machine import Spine
from tests.simulator.truth import check
from tests.simulator.world import World

MOST_RUNS = int(os.environ.get("KETANG_PROTECTION_RUNS", "1500"))


def puback_counts_as_ack(patch):
    def confirm(self, digest):
        self._unconfirmed.discard(digest)
        flight = self._flights.pop(digest, None)
        if flight:
            self._spool.mark_acked(flight.lane, flight.seqs, 0)

    patch.setattr(Sender, "confirm", confirm)


def held_marks(patch):
    mark = Sender._mark

    def too_trusting(self, lane, ack, now):
        self._spool.mark_acked(lane, ack.held, now.wall_ms)
        mark(self, lane, ack, now)

    patch.setattr(Sender, "_mark", too_trusting)


def acks_for_unknown_batches_mark(patch):
    mark = Sender._mark

    def too_trusting(self, lane, ack, now):
        for digest in ack.got:
            if digest not in self._known:
                self._spool.mark_acked(lane, self._spool.pending(lane), now.wall_ms)
        mark(self, lane, ack, now)

    patch.setattr(Sender, "_mark", too_trusting)


def any_centre_is_obeyed(patch):
    on_ack, parse = Sender.on_ack, sender_module.acks.parse

    def obedient(self, payload, now):
        patch.setattr(
            sender_module.acks,
            "parse",
            lambda one: replace(parse(one), center_id=self._center_id),
        )
        on_ack(self, payload, now)

    patch.setattr(Sender, "on_ack", obedient)


def digests_are_not_compared(patch):
    patch.setattr(Store, "_digest_at", lambda self, key, row: row.digest)


def rows_in_place_are_taken_for_the_same(patch):
    insert = Partitions.insert

    def blind(self, key, rows):
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Partitions, "digest_at", lambda self, key, row: row.digest)
            return insert(self, key, rows)

    patch.setattr(Partitions, "insert", blind)


def forks_are_ignored(patch):
    patch.setattr(
        Spool, "fork", lambda self, lane, seqs, now_ms: self.mark_acked(lane, seqs, now_ms)
    )


def new_epochs_are_ignored(patch):
    patch.setattr(Spool, "reconcile", lambda self, lane, epoch, held, now_ms: None)


def what_came_after_a_restore_counts_as_held(patch):
    patch.setattr(Control, "held", lambda self, key, ledger: ledger.known)


def moved_content_is_not_recognised(patch):
    patch.setattr(Store, "_stands_elsewhere", lambda self, key, row: False)


def leases_are_not_checked(patch):
    patch.setattr(Control, "check_lease", lambda self, shard, worker, epoch: None)
    patch.setattr(Ledger, "__eq__", lambda self, other: True)


def rows_are_written_without_a_lease(patch):
    patch.setattr(Store, "_check_lease", lambda self, keys, lease: None)
    merge = Store._merge

    def late(self, admissions, forks, lease, before, after):
        for key in before:
            shard = shard_of(key.device)
            self.control.check_lease(shard, lease.worker, lease.epochs.get(shard, 0))
        merge(self, admissions, forks, lease, before, after)

    patch.setattr(Store, "_merge", late)


def a_restored_centre_does_not_look_at_its_rows(patch):
    patch.setattr(Store, "begin_epoch", lambda self, unix_s: self.control.begin_epoch(unix_s))


def torn_writes_are_not_completed(patch):
    patch.setattr(Store, "complete", lambda self: None)


def losses_are_not_told(patch):
    patch.setattr(Sender, "_losses", lambda self, lane: ())
    patch.setattr(Spool, "untold", lambda self, lane: [])


def resends_are_forgotten(patch):
    patch.setattr(Sender, "_expire", lambda self, now_ms: None)
    patch.setattr(Sender, "begin_session", lambda self: None)
    patch.setattr(Sender, "_resend_missed", lambda self, lane, now_ms: None)


def any_shard_is_taken(patch):
    parse = topics.parse

    def trusting(topic):
        device = topic.split("/")[3]
        return parse(topics.of(device, topic.split("/", 4)[4]))

    patch.setattr(topics, "parse", trusting)


def a_bad_record_silences_its_batch(patch):
    decode = Worker._decode

    def silent(self, upward, message):
        made = decode(self, upward, message)
        if made.refused:
            raise NotYet("nothing is said")
        return made

    patch.setattr(Worker, "_decode", silent)


def unreadable_frames_are_not_answered(patch):
    patch.setattr(Worker, "_bury", lambda self, message, why: [])


def unreadable_frames_are_not_bisected(patch):
    patch.setattr(Sender, "_bisect", lambda self, digest, now: None)


def refusals_are_kept_each_time(patch):
    account = Store._account

    def forgetful(self, one, different, ledger):
        made = account(self, one, different, replace(ledger, refused=Ledger().refused))
        return replace(made, refused=made.refused | ledger.refused)

    patch.setattr(Store, "_account", forgetful)


def spool_steps_are_not_one_transaction(patch):
    @contextmanager
    def loose(self):
        yield

    patch.setattr(Spool, "_transaction", loose)


def marks_go_before_rows(patch):
    commit, merged = Partitions.commit, Partitions.merged

    def late(self):
        commit(self)
        merged(self)

    patch.setattr(Partitions, "commit", lambda self: None)
    patch.setattr(Partitions, "merged", late)
    patch.setattr(Partitions, "leave_marks", Partitions.rollback)
    patch.setattr(Partitions, "forget", lambda self, marks: None)


@dataclass(frozen=True)
class Protection:
    """A removal, the story that misses it, and whether the search can.

    What only a second fault on top of another protection's removal would show, it cannot.
    """

    remove: Callable[[pytest.MonkeyPatch], None]
    story: Callable[[World], None]
    searched: bool = True


PROTECTIONS = [
    Protection(puback_counts_as_ack, scenarios.the_broker_confirms_and_loses),
    Protection(held_marks, scenarios.a_clone_greets_with_the_others_numbers_held),
    Protection(acks_for_unknown_batches_mark, scenarios.a_clone_hears_the_others_answer),
    Protection(any_centre_is_obeyed, scenarios.another_centre_answers),
    Protection(digests_are_not_compared, scenarios.a_clone_uses_the_same_numbers),
    Protection(
        rows_in_place_are_taken_for_the_same,
        scenarios.a_clone_meets_rows_whose_marks_are_not_merged,
        searched=False,  # rows without marks are completed before the next batch is looked at
    ),
    Protection(forks_are_ignored, scenarios.a_clone_uses_the_same_numbers),
    Protection(new_epochs_are_ignored, scenarios.the_centre_is_restored),
    Protection(
        what_came_after_a_restore_counts_as_held,
        scenarios.a_clones_content_came_first_after_a_restore,
    ),
    Protection(
        moved_content_is_not_recognised, scenarios.a_thawed_disk_sends_again_what_it_had_moved
    ),
    Protection(leases_are_not_checked, scenarios.a_worker_stalls_while_another_goes_ahead),
    Protection(
        rows_are_written_without_a_lease, scenarios.a_worker_writes_rows_after_another_took_over
    ),
    Protection(
        a_restored_centre_does_not_look_at_its_rows,
        scenarios.a_backup_is_taken_while_batches_come,
    ),
    Protection(torn_writes_are_not_completed, scenarios.rows_without_marks_whose_sender_is_gone),
    Protection(losses_are_not_told, scenarios.the_oldest_are_given_up),
    Protection(resends_are_forgotten, scenarios.nothing_is_said_to_what_was_sent),
    Protection(any_shard_is_taken, scenarios.a_batch_comes_under_a_wrong_shard),
    Protection(a_bad_record_silences_its_batch, scenarios.a_record_can_never_be_accepted),
    Protection(unreadable_frames_are_not_answered, scenarios.a_frame_can_never_be_read),
    Protection(unreadable_frames_are_not_bisected, scenarios.a_frame_can_never_be_read),
    Protection(refusals_are_kept_each_time, scenarios.a_refused_record_comes_twice),
    Protection(spool_steps_are_not_one_transaction, scenarios.the_device_dies_within_a_fork),
    Protection(
        marks_go_before_rows,
        scenarios.the_centre_dies_between_rows_and_marks,
        searched=False,  # locks held that long stop the search at its first stalled worker
    ),
]
each = pytest.mark.parametrize("one", PROTECTIONS, ids=lambda one: one.remove.__name__)


def tell(story, folder):
    world = World(folder)
    try:
        story(world)
        world.settle()
        check(world)
    finally:
        world.close()


@each
def test_with_it_its_story_ends_well(one, folder):
    tell(one.story, folder)


@each
def test_without_it_its_story_does_not(one, folder, monkeypatch):
    one.remove(monkeypatch)
    with pytest.raises((AssertionError, sqlite3.DatabaseError)):
        tell(one.story, folder)


@pytest.mark.soak
@pytest.mark.parametrize(
    "one", [one for one in PROTECTIONS if one.searched], ids=lambda one: one.remove.__name__
)
def test_the_search_misses_it_too(one, monkeypatch):
    one.remove(monkeypatch)
    with pytest.raises(BaseException) as caught:  # noqa: PT011  (any failure of the machine will do)
        run_state_machine_as_test(
            Spine,
            settings=settings(
                max_examples=MOST_RUNS,
                stateful_step_count=60,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    missed = (AssertionError, sqlite3.DatabaseError, BaseExceptionGroup)
    assert isinstance(caught.value, missed), caught.value
