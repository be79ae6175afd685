"""One short story for each protection: it ends well only because the protection is there."""

from ketang_contract.records import Stream
from tests.simulator.machine import DEVICE, UNREADABLE_FRAME, UNREADABLE_RECORD
from tests.simulator.world import World


def the_broker_confirms_and_loses(world: World) -> None:
    (machine,) = world.machines
    world.pass_all(0)
    machine.create(2, bulk=False)
    machine.send(1)
    world.up.clear()
    machine.confirm_all()


def nothing_is_said_to_what_was_sent(world: World) -> None:
    """Batch and greeting are lost, and no new connection hurries the resend."""
    (machine,) = world.machines
    machine.create(2, bulk=False)
    machine.send(1)
    world.up.clear()


def a_clone_greets_with_the_others_numbers_held(world: World) -> None:
    first = world.machines[0]
    world.clone(first)
    for number, machine in enumerate(world.machines):
        machine.create(2, bulk=False)
        if number == 0:
            machine.send(1)
            world.pass_all(0)
    world.machines[1].connect()
    world.pass_all(1)


def a_clone_uses_the_same_numbers(world: World) -> None:
    first = world.machines[0]
    world.clone(first)
    for number, machine in enumerate(world.machines):
        machine.create(2, bulk=False)
        machine.send(1)
        world.pass_all(number)


def a_clone_meets_rows_whose_marks_are_not_merged(world: World) -> None:
    """The control database could not be written; only the place of the rows tells of them."""
    first = world.machines[0]
    world.clone(first)
    world.up.clear()
    for machine in world.machines:
        machine.create(2, bulk=False)
        machine.send(1)
    world.handle_without_room(0)
    world.pass_all(1)


def the_centre_is_restored(world: World) -> None:
    world.back_up()
    (machine,) = world.machines
    machine.create(2, bulk=False)
    machine.send(1)
    world.pass_all(0)
    world.restore()


def a_clones_content_came_first_after_a_restore(world: World) -> None:
    world.back_up()
    first = world.machines[0]
    world.clone(first)
    world.machines[1].create(1, bulk=False)
    first.create(1, bulk=False)
    first.send(1)
    world.pass_all(0)
    world.restore()
    world.up.clear()
    world.machines[1].send(1)
    world.pass_all(1)


def a_thawed_disk_sends_again_what_it_had_moved(world: World) -> None:
    """Its numbers were forked to a new store before the disk went back."""
    first = world.machines[0]
    world.clone(first)
    first.create(1, bulk=False)
    first.send(1)
    world.pass_all(0)
    second = world.machines[1]
    second.create(1, bulk=False)
    second.take_snapshot()
    for _ in range(3):
        second.send(1)
        world.pass_all(1)
    second.thaw()


def a_worker_stalls_while_another_goes_ahead(world: World) -> None:
    """The other's marks are merged and gone from the journal when the first one writes."""
    (machine,) = world.machines
    world.pass_all(0)
    machine.create(12, bulk=True)
    machine.send(3)
    world.handle_while_overtaken(0)
    world.pass_all(0)


def a_worker_writes_rows_after_another_took_over(world: World) -> None:
    """Two copies of a disk use one number at different times: it has two places to stand in."""
    first = world.machines[0]
    world.clone(first)
    world.pass_all(0)
    for machine in world.machines:
        machine.create(1, bulk=False)
        world.now_ms += 3_600_000
    for machine in world.machines:
        machine.send(1)
    world.handle_while_replaced(0)
    world.pass_all(1)


def a_backup_is_taken_while_batches_come(world: World) -> None:
    """Its rows are newer than what it knows of them, and their sender is gone."""
    (machine,) = world.machines
    world.pass_all(0)
    for _ in range(2):
        machine.create(1, bulk=False)
        machine.send(1)
    world.back_up(meanwhile=2)
    world.pass_all(0)
    machine.reimage()
    world.restore()


def rows_without_marks_whose_sender_is_gone(world: World) -> None:
    (machine,) = world.machines
    world.pass_all(0)
    machine.create(2, bulk=False)
    machine.send(1)
    world.handle_and_crash(0)
    world.up.clear()
    machine.reimage()


def the_oldest_are_given_up(world: World) -> None:
    (machine,) = world.machines
    machine.create(4, bulk=False)
    machine.evict()


def a_clone_hears_the_others_answer(world: World) -> None:
    """Both listen to one topic. The batch that is acknowledged was never this one's."""
    first = world.machines[0]
    world.clone(first)
    for machine in world.machines:
        machine.create(2, bulk=False)
        machine.send(1)
    world.up.pop()
    world.pass_all(1)


def another_centre_answers(world: World) -> None:
    (machine,) = world.machines
    machine.create(2, bulk=False)
    machine.send(1)
    world.other_center_answers(-1, 0)
    world.up.clear()


def a_batch_comes_under_a_wrong_shard(world: World) -> None:
    """One that was never sent: whoever may write there must not write here."""
    (machine,) = world.machines
    machine.create(2, bulk=False)
    machine.send(1)
    world.mislead(-1)
    del world.up[:-1]
    world.handle(0, world.holder, keep=False)
    assert not world.stored(), "taken in under a shard that is not its device's"
    found = world.store.control.db.execute("SELECT reason FROM dead_letter").fetchall()
    assert found == [("wrong_shard",)]


def a_record_can_never_be_accepted(world: World) -> None:
    (machine,) = world.machines
    machine.create(1, bulk=False)
    machine.create_poison(UNREADABLE_RECORD)
    machine.create(1, bulk=False)


def a_refused_record_comes_twice(world: World) -> None:
    (machine,) = world.machines
    machine.create_poison(UNREADABLE_RECORD)
    machine.send(1)
    world.handle(-1, world.holder, keep=True)
    world.handle(-1, world.holder, keep=True)


def a_frame_can_never_be_read(world: World) -> None:
    (machine,) = world.machines
    machine.create(3, bulk=False)
    machine.create_poison(UNREADABLE_FRAME)


def the_device_dies_within_an_append(world: World) -> None:
    (machine,) = world.machines
    steps = 1
    while machine.dies_within(lambda: machine.create(2, bulk=False), steps):
        steps += 1


def the_device_dies_within_a_fork(world: World) -> None:
    first = world.machines[0]
    world.clone(first)
    for number, machine in enumerate(world.machines):
        machine.create(2, bulk=False)
        machine.send(1)
        world.pass_all(number, answered=number == 0)
    steps = 1
    second = world.machines[1]
    while second.dies_within(lambda: world.answer(-1, 1, keep=True), steps):
        second.send(1)
        world.down.clear()
        world.pass_all(1, answered=False)
        steps += 1


def the_centre_dies_between_rows_and_marks(world: World) -> None:
    (machine,) = world.machines
    machine.create(2, bulk=False)
    steps = 1
    machine.send(1)
    while world.center_dies_within(lambda: world.handle(-1, world.holder, keep=True), steps):
        steps += 1
    lines = sum(row[2] == Stream.EVENT and row[0] == DEVICE for row in world.rows())
    assert lines == 2, "taken for stored without a row"
