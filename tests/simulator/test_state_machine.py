"""Whatever happens to device, broker and centre: nothing lost, nothing twice, every number told.

What was reached is counted only where it had an effect: a frozen disk when the thawed disk gave a
number out again for other content, a clone when two copies used one number, a re-image when the new
store gave numbers out, a restore when the backup lacked something the centre had had, a shard trade
when the old worker tried to write after it.
"""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.simulator.machine import UNREADABLE_FRAME, UNREADABLE_RECORD
from tests.simulator.reached import MUST_REACH, REACHED
from tests.simulator.truth import check
from tests.simulator.world import World

RUNS = int(os.environ.get("KETANG_SIMULATOR_RUNS", "150"))
small = st.integers(0, 5)
anywhere = st.integers(0, 40)
which = st.integers(0, 2)
step = st.integers(1, 24)


class Spine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.world = World(self.folder)

    def machine(self, number):
        return self.world.machines[number % len(self.world.machines)]

    # Ordinary life.

    @rule(m=which, count=st.integers(1, 4), bulk=st.booleans())
    def create(self, m, count, bulk):
        self.machine(m).create(count, bulk=bulk)

    @rule(m=which, count=st.integers(1, 4), bulk=st.booleans(), answered=st.booleans())
    def an_ordinary_while(self, m, count, bulk, answered):
        """Create, send and deliver in order: most of a device's life."""
        machine = self.machine(m)
        machine.create(count, bulk=bulk)
        machine.confirm_all()
        machine.send(3)
        for _ in range(len(self.world.up)):
            self.world.handle(0, self.world.holder, keep=False)
        for _ in range(len(self.world.down) if answered else 0):
            self.world.answer(0, m, keep=False)

    @rule(m=which, most=st.integers(1, 4))
    def send(self, m, most):
        self.machine(m).send(most)

    @rule(m=which)
    def confirm(self, m):
        self.machine(m).confirm_all()

    @rule(seconds=st.sampled_from([1, 31, 1000]))
    def wait(self, seconds):
        self.world.now_ms += seconds * 1000

    @rule(m=which, line=st.sampled_from([UNREADABLE_RECORD, UNREADABLE_FRAME]))
    def poison(self, m, line):
        self.machine(m).create_poison(line)

    # The broker.

    @rule(at=anywhere, worker=st.sampled_from(["w1", "w2"]), keep=st.booleans())
    def deliver_up(self, at, worker, keep):
        self.world.handle(at, worker, keep=keep)

    @rule(at=anywhere, to=which, keep=st.booleans())
    def deliver_down(self, at, to, keep):
        self.world.answer(at, to, keep=keep)

    @rule(at=anywhere)
    def lose_up(self, at):
        if self.world.up:
            del self.world.up[at % len(self.world.up)]

    @rule(at=anywhere)
    def lose_down(self, at):
        if self.world.down:
            del self.world.down[at % len(self.world.down)]

    @rule(at=st.integers(0, 99))
    def repeat_up(self, at):
        self.world.repeat_up(at)

    @rule(at=st.integers(0, 99))
    def repeat_down(self, at):
        self.world.repeat_down(at)

    @rule(at=anywhere)
    def delay(self, at):
        self.world.delay(at)

    @rule()
    def let_through(self):
        self.world.let_through()

    @rule(at=st.integers(0, 99))
    def mislead(self, at):
        self.world.mislead(at)

    @rule(at=anywhere, to=which)
    def other_center_answers(self, at, to):
        self.world.other_center_answers(at, to)

    # Crashes.

    @rule(m=which)
    def crash_device(self, m):
        self.machine(m).crash()

    @rule(
        m=which,
        at=anywhere,
        steps=step,
        act=st.sampled_from(["create", "answer", "evict", "make_room", "let_go", "boot"]),
    )
    def device_dies_within(self, m, at, steps, act):
        machine = self.machine(m)
        acts = {
            "create": lambda: machine.create(2, bulk=False),
            "answer": lambda: self.world.answer(at, m, keep=True),
            "evict": machine.evict,
            "make_room": machine.make_room,
            "let_go": machine.let_go,
            "boot": machine.boot_up,
        }
        machine.dies_within(acts[act], steps)

    @rule()
    def crash_center(self):
        self.world.crash_center()

    @rule(at=anywhere, steps=step)
    def center_dies_within(self, at, steps):
        self.world.center_dies_within(
            lambda: self.world.handle(at, self.world.holder, keep=False), steps
        )

    @rule(steps=step, worker=st.sampled_from(["w1", "w2"]))
    def center_dies_taking_over(self, steps, worker):
        self.world.center_dies_within(lambda: self.world.trade(worker), steps)

    @rule(at=small)
    def crash_between_rows_and_marks(self, at):
        self.world.handle_and_crash(at)

    @rule(at=small)
    def stall_between_rows_and_marks(self, at):
        self.world.handle_while_overtaken(at)

    @rule(at=small)
    def no_room_for_marks(self, at):
        """What could not be marked stops the worker, as any trouble with its disk does."""
        self.world.handle_without_room(at)
        self.world.crash_center()

    @rule(at=small)
    def stall_before_rows(self, at):
        self.world.handle_while_replaced(at)

    # What is done to disks.

    @rule(m=which)
    def evict(self, m):
        self.world.reached["evict"] += 1
        self.machine(m).evict()

    @rule(m=which)
    def make_room(self, m):
        self.machine(m).make_room()

    @rule(m=which)
    def let_go(self, m):
        self.machine(m).let_go()

    @rule(m=which)
    def snapshot(self, m):
        self.machine(m).take_snapshot()

    @rule(m=which)
    def frozen_disk(self, m):
        self.machine(m).thaw()

    @rule(m=which)
    def clone(self, m):
        self.world.clone(self.machine(m))

    @rule(m=which)
    def reimage(self, m):
        self.machine(m).reimage()

    @rule(meanwhile=st.integers(0, 3))
    def back_up(self, meanwhile):
        self.world.back_up(meanwhile)

    @rule()
    def restore(self):
        self.world.restore()

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def trade_shard(self, worker):
        self.world.trade(worker)

    # Several steps at once, where chance alone would seldom put them in this order.

    @rule(m=which, first=which, bulk=st.booleans())
    def a_while_that_a_restore_undoes(self, m, first, bulk):
        """After the restore another machine may be the first to be heard."""
        self.world.back_up()
        self.an_ordinary_while(m, 2, bulk, answered=True)
        self.world.restore()
        self.machine(first).send(3)
        self.world.pass_all(first)

    @rule(m=which, stall=st.sampled_from(["handle_while_overtaken", "handle_while_replaced"]))
    def a_stalled_worker_with_much_to_do(self, m, stall):
        machine = self.machine(m)
        self.world.pass_all(m)
        machine.confirm_all()
        machine.create(9, bulk=True)
        machine.send(3)
        getattr(self.world, stall)(0)
        self.world.pass_all(m)

    @rule(m=which, bulk=st.booleans())
    def two_copies_at_different_times(self, m, bulk):
        self.world.clone(self.machine(m))
        for machine in self.world.machines[-2:]:
            machine.create(1, bulk=bulk)
            self.world.now_ms += 1_000_000
            machine.send(2)

    @rule(m=which)
    def rows_whose_sender_is_gone(self, m):
        self.machine(m).create(2, bulk=False)
        self.machine(m).send(1)
        self.world.handle_and_crash(-1)
        self.machine(m).reimage()

    @rule(m=which, meanwhile=st.integers(1, 3))
    def a_backup_while_batches_come(self, m, meanwhile):
        machine = self.machine(m)
        machine.confirm_all()
        machine.create(6, bulk=False)
        machine.send(3)
        self.world.back_up(meanwhile)

    def teardown(self):
        try:
            self.world.settle()
            check(self.world)
            REACHED["runs"] += 1
            REACHED.update(self.world.reached)
        finally:
            self.world.close()
            shutil.rmtree(self.folder)


def test_nothing_is_lost_and_nothing_twice_whatever_happens():
    run_state_machine_as_test(
        Spine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # A hundred times each in the long search. A short one is no search for the rare.
    least = min(100, RUNS // 100) if RUNS >= 1000 else 0
    rare = {name: REACHED[name] for name in MUST_REACH if REACHED[name] < least}
    assert not rare, f"reached too rarely in {REACHED['runs']} runs: {rare}"
