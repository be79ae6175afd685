"""Whatever happens to device, broker and centre: nothing lost, nothing twice, every number told."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.simulator.world import World

RUNS = int(os.environ.get("KETANG_SIMULATOR_RUNS", "150"))
REACHED: Counter[str] = Counter()
small = st.integers(0, 5)
which = st.integers(0, 2)


class Spine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.world = World(self.folder)

    def machine(self, number):
        return self.world.machines[number % len(self.world.machines)]

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

    @rule(at=small, worker=st.sampled_from(["w1", "w2"]), keep=st.booleans())
    def deliver_up(self, at, worker, keep):
        self.world.handle(at, worker, keep=keep)

    @rule(at=small, to=which, keep=st.booleans())
    def deliver_down(self, at, to, keep):
        self.world.answer(at, to, keep=keep)

    @rule(at=small)
    def lose_up(self, at):
        if self.world.up:
            del self.world.up[at % len(self.world.up)]

    @rule(at=small)
    def lose_down(self, at):
        if self.world.down:
            del self.world.down[at % len(self.world.down)]

    @rule(seconds=st.sampled_from([1, 31, 1000]))
    def wait(self, seconds):
        self.world.now_ms += seconds * 1000

    @rule(m=which)
    def crash_device(self, m):
        self.machine(m).crash()

    @rule()
    def crash_center(self):
        self.world.crash_center()

    @rule(at=small)
    def crash_between_rows_and_marks(self, at):
        self.world.handle_and_crash(at)

    @rule(at=small)
    def stall_between_rows_and_marks(self, at):
        self.world.handle_while_overtaken(at)

    @rule(m=which)
    def evict(self, m):
        self.world.reached["evict"] += 1
        self.machine(m).evict()

    @rule(m=which)
    def let_go(self, m):
        self.machine(m).let_go()

    @rule(m=which)
    def snapshot(self, m):
        self.machine(m).take_snapshot()

    @rule(m=which)
    def frozen_disk(self, m):
        self.world.reached["frozen"] += self.machine(m).snapshot is not None
        self.machine(m).thaw()

    @rule(m=which)
    def clone(self, m):
        self.world.reached["clone"] += 1
        self.world.clone(self.machine(m))

    @rule(m=which)
    def reimage(self, m):
        self.world.reached["reimage"] += 1
        self.machine(m).reimage()

    @rule()
    def back_up(self):
        self.world.back_up()

    @rule()
    def restore(self):
        self.world.reached["restore"] += self.world.backup is not None
        self.world.restore()

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def trade_shard(self, worker):
        self.world.reached["trade"] += worker != self.world.holder
        self.world.trade(worker)

    def teardown(self):
        try:
            self.world.settle()
            self.world.check()
            REACHED.update(self.world.reached)
        finally:
            self.world.close()
            shutil.rmtree(self.folder)


TestSpine = Spine.TestCase
TestSpine.settings = settings(
    max_examples=RUNS,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
