"""What searches found once, told as they happened."""

import pytest

from tests.simulator.machine import UNREADABLE_FRAME
from tests.simulator.truth import check
from tests.simulator.world import World


@pytest.fixture
def world(folder):
    made = World(folder)
    yield made
    made.close()


def test_the_last_record_of_an_unreadable_batch_is_not_to_blame_before_it_was_alone(world):
    (machine,) = world.machines
    machine.create_poison(UNREADABLE_FRAME)
    machine.create(2, bulk=False)
    machine.send(1)
    world.pass_all(0, answered=False)
    machine.evict()
    world.pass_all(0)
    world.settle()
    check(world)


def test_a_clones_loss_does_not_keep_the_other_from_sending_again_after_a_restore(world):
    world.back_up()
    first = world.machines[0]
    first.create(1, bulk=False)
    first.send(1)
    world.pass_all(0, answered=False)
    world.clone(first)
    first.evict()
    world.machines[1].send(1)
    world.pass_all(1)
    world.restore()
    world.settle()
    check(world)


def test_a_machine_that_slept_through_a_restore_sends_again_what_another_wrote_since(world):
    first = world.machines[0]
    world.clone(first)
    second = world.machines[1]
    world.back_up()
    second.create(1, bulk=False)
    second.send(1)
    world.pass_all(1)
    world.restore()
    world.up.clear()
    first.create(1, bulk=False)
    first.send(1)
    world.pass_all(0)
    world.back_up()
    world.restore()
    world.settle()
    check(world)


def test_what_a_forked_store_brought_back_is_not_taken_again_under_its_old_number(world):
    first = world.machines[0]
    world.clone(first)
    second = world.machines[1]
    first.create(1, bulk=False)
    second.create(1, bulk=False)
    world.clone(second)
    world.back_up()
    first.send(1)
    world.pass_all(0)
    for _ in range(3):
        second.send(1)
        world.pass_all(1)
    world.restore()
    world.up.clear()
    second.connect()
    world.pass_all(1)
    second.send(1)
    world.pass_all(1)
    world.machines[2].send(1)
    world.pass_all(2)
    world.settle()
    check(world)


def test_content_a_clone_brought_under_another_name_is_no_reason_to_mark_it_under_this_one(world):
    """After a restore only the number would speak, and it stands for other content."""
    first = world.machines[0]
    world.clone(first)
    second = world.machines[1]
    first.create(1, bulk=False)
    world.now_ms += 1_000
    second.create(1, bulk=False)
    world.clone(second)
    third = world.machines[2]
    first.send(1)
    world.pass_all(0)
    world.back_up()
    second.send(1)
    world.pass_all(1)
    second.send(1)
    world.pass_all(1)
    second.reimage()
    third.send(1)
    world.pass_all(2)
    world.restore()
    world.settle()
    check(world)


def test_clones_that_share_a_fork_and_move_the_same_record_into_it_store_it_once(world):
    """Under different numbers: the one had made a record of its own there in between."""
    first = world.machines[0]
    world.clone(first)
    second = world.machines[1]
    second.create(9, bulk=True)
    second.send(3)
    world.pass_all(1)
    world.now_ms += 1_000
    first.create(9, bulk=True)
    first.send(1)
    world.pass_all(0)
    world.clone(first)
    world.machines[2].create(1, bulk=True)
    world.settle()
    check(world)
