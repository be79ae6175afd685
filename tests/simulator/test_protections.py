"""Each protection, removed on purpose, must be missed: the state machine then finds a loss."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ketang_agent.spool.store import Spool
from ketang_agent.uplink.sender import Sender
from ketang_center.store.control import Control
from ketang_center.store.partitions import Partitions
from ketang_center.store.sqlite import Store
from ketang_contract.ledger import Ledger
from tests.simulator.test_state_machine import Spine

MOST_RUNS = int(os.environ.get("KETANG_PROTECTION_RUNS", "4000"))


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


def digests_are_not_compared(patch):
    patch.setattr(Store, "_digest_at", lambda self, key, row: row.digest)


def rows_in_place_are_taken_for_the_same(patch):
    patch.setattr(Partitions, "digest_at", lambda self, key, row: row.digest)


def forks_are_ignored(patch):
    patch.setattr(
        Spool, "fork", lambda self, lane, seqs, now_ms: self.mark_acked(lane, seqs, now_ms)
    )


def new_epochs_are_ignored(patch):
    patch.setattr(Spool, "reconcile", lambda self, lane, epoch, held, now_ms: None)


def moved_content_is_not_recognised(patch):
    patch.setattr(Store, "_stands_elsewhere", lambda self, key, row: False)


def leases_are_not_checked(patch):
    patch.setattr(Control, "check_lease", lambda self, shard, worker, epoch: None)
    patch.setattr(Ledger, "__eq__", lambda self, other: True)


def torn_writes_are_not_completed(patch):
    patch.setattr(Store, "complete", lambda self: None)


def losses_are_not_told(patch):
    patch.setattr(Sender, "_losses", lambda self, lane: ())
    patch.setattr(Spool, "untold", lambda self, lane: [])


def resends_are_forgotten(patch):
    patch.setattr(Sender, "_expire", lambda self, now_ms: None)
    patch.setattr(Sender, "begin_session", lambda self: None)


PROTECTIONS = [
    puback_counts_as_ack,
    held_marks,
    digests_are_not_compared,
    rows_in_place_are_taken_for_the_same,
    forks_are_ignored,
    new_epochs_are_ignored,
    moved_content_is_not_recognised,
    leases_are_not_checked,
    torn_writes_are_not_completed,
    losses_are_not_told,
    resends_are_forgotten,
]


@pytest.mark.soak
@pytest.mark.parametrize("remove", PROTECTIONS, ids=lambda one: one.__name__)
def test_a_removed_protection_is_missed(remove, monkeypatch):
    remove(monkeypatch)
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
    assert isinstance(caught.value, (AssertionError, BaseExceptionGroup)), caught.value
