"""The power goes before each statement and after each commit, one world for each such moment."""

from itertools import count

import pytest

from tests.simulator.machine import UNREADABLE_FRAME, UNREADABLE_RECORD
from tests.simulator.truth import check
from tests.simulator.world import World


def one_batch_answered(world):
    (machine,) = world.machines
    machine.create(3, bulk=False)
    machine.send(1)
    world.pass_all(0, answered=False)
    return machine


def taking_records_in(world):
    return lambda: world.machines[0].create(3, bulk=False)


def an_acknowledgement(world):
    one_batch_answered(world)
    return lambda: world.pass_all(0)


def a_fork(world):
    first = world.machines[0]
    world.clone(first)
    for machine in reversed(world.machines):
        machine.create(2, bulk=False)
        machine.send(1)
        world.pass_all(1, answered=machine is not first)
    return lambda: world.pass_all(0)


def giving_records_up(world):
    world.machines[0].create(4, bulk=False)
    return world.machines[0].evict


def a_loss_that_is_told(world):
    machine = world.machines[0]
    machine.create(4, bulk=False)
    machine.evict()
    machine.send(2)
    world.pass_all(0, answered=False)
    return lambda: world.pass_all(0)


def letting_go(world):
    machine = one_batch_answered(world)
    world.pass_all(0)
    return machine.let_go


def making_room(world):
    machine = one_batch_answered(world)
    world.pass_all(0)
    machine.create(3, bulk=True)
    return machine.make_room


def a_new_epoch(world):
    world.pass_all(0)
    world.back_up()
    machine = one_batch_answered(world)
    world.pass_all(0)
    machine.let_go()
    one_batch_answered(world)
    world.pass_all(0)
    machine.create(1, bulk=False)
    machine.evict()
    world.restore()
    world.pass_all(0, answered=False)
    return lambda: world.pass_all(0)


def an_unreadable_frame(world):
    machine = world.machines[0]
    machine.create_poison(UNREADABLE_FRAME)
    machine.send(1)
    world.pass_all(0, answered=False)
    return lambda: world.pass_all(0)


def a_start(world):
    one_batch_answered(world)
    return world.machines[0].boot_up


def a_first_start(world):
    one_batch_answered(world)
    return world.machines[0].reimage


ON_THE_DEVICE = [
    taking_records_in,
    an_acknowledgement,
    a_fork,
    giving_records_up,
    a_loss_that_is_told,
    letting_go,
    making_room,
    a_new_epoch,
    an_unreadable_frame,
    a_start,
    a_first_start,
]


def a_batch(world):
    (machine,) = world.machines
    world.pass_all(0)
    machine.create(2, bulk=False)
    world.now_ms += 86_400_000
    machine.create(1, bulk=False)
    machine.create_poison(UNREADABLE_RECORD)
    machine.send(1)
    return lambda: world.handle(-1, world.holder, keep=False)


def a_clones_batch(world):
    first = world.machines[0]
    world.clone(first)
    for machine in world.machines:
        machine.create(2, bulk=False)
        machine.send(1)
        if machine is first:
            world.pass_all(0)
    return lambda: world.handle(-1, world.holder, keep=False)


def a_birth(world):
    return lambda: world.handle(0, world.holder, keep=False)


def an_unreadable_batch(world):
    world.machines[0].create_poison(UNREADABLE_FRAME)
    world.machines[0].send(1)
    return lambda: world.handle(-1, world.holder, keep=False)


def taking_over_half_done_work(world):
    world.pass_all(0)
    world.machines[0].create(2, bulk=False)
    world.machines[0].send(1)
    world.handle_without_room(0)
    return lambda: world.trade("w2")


def an_epoch_that_begins(world):
    (machine,) = world.machines
    world.pass_all(0)
    machine.create(1, bulk=False)
    machine.send(1)
    world.back_up(meanwhile=1)
    world.pass_all(0)
    machine.reimage()
    world.restore()
    return lambda: world.store.begin_epoch(world.now_ms // 1000 + 1)


AT_THE_CENTRE = [
    a_batch,
    a_clones_batch,
    a_birth,
    an_unreadable_batch,
    taking_over_half_done_work,
    an_epoch_that_begins,
]


def at_every_step(folder, dies):
    """Run ``dies(world, step)`` in fresh worlds until it comes through alive; return the steps."""
    for step in count(1):
        world = World(folder / str(step))
        try:
            died = dies(world, step)
            world.settle()
            check(world)
        finally:
            world.close()
        if not died:
            return step - 1
    raise AssertionError


@pytest.mark.parametrize("prepare", ON_THE_DEVICE, ids=lambda one: one.__name__)
def test_the_device_may_die_at_every_step_of(prepare, folder):
    def dies(world, step):
        act = prepare(world)
        return world.machines[0].dies_within(act, step)

    assert at_every_step(folder, dies) >= 4


@pytest.mark.parametrize("prepare", AT_THE_CENTRE, ids=lambda one: one.__name__)
def test_the_centre_may_die_at_every_step_of(prepare, folder):
    def dies(world, step):
        act = prepare(world)
        return world.center_dies_within(act, step)

    assert at_every_step(folder, dies) >= 4
