"""A small world: real spools, senders, store and workers around a broker that keeps no promise."""

import shutil
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_center.ingest.worker import Message, Worker
from ketang_center.store.partitions import Key, Row
from ketang_center.store.sqlite import Lease, Store
from ketang_contract import topics
from ketang_contract.ids import shard_of
from tests.simulator.machine import DEVICE, START_MS, Machine
from tests.simulator.power import Crash, Fuse, wired

if TYPE_CHECKING:
    from ketang_agent.spool.values import Lane

LEASE_MS = 60_000
WORKERS = ("w1", "w2")
WRONG_SHARD = "/00/"
REPEATABLE = 100
"""How many old messages the broker may still repeat."""
Publish = tuple[str, bytes]


class World:
    """Everything, and the outside ledger: which contents must be at the centre in the end.

    ``reached`` counts what came about in effect, not what was tried: see ``test_state_machine``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.now_ms = START_MS
        self.must: set[int] = set()
        self.contents: dict[bytes, int] = {}
        self.up: list[Publish] = []
        self.down: list[Publish] = []
        self.said_up: list[Publish] = []
        self.said_down: list[Publish] = []
        self.delayed: list[Publish] = []
        self.reached: Counter[str] = Counter()
        self.users: dict[tuple[Lane, int], str] = {}
        self.used_by: defaultdict[str, set[tuple[Lane, int]]] = defaultdict(set)
        self._clones_met: set[frozenset[str]] = set()
        self.copied = False
        """Whether any disk was ever thawed or cloned: else no number may ever be contested."""
        self._nonce = 0
        self._copies = 0
        self.backup: Path | None = None
        self.backup_contents: set[int] = set()
        self.machines: list[Machine] = []
        self.center_fuse, self.device_fuse = Fuse(), Fuse()
        self._stack = ExitStack()
        self._stack.enter_context(wired(self.folder / "center", self.center_fuse, self.device_fuse))
        self.holder = "w1"
        self._untried: set[str] = set()
        self._other: Worker | None = None
        self.open_stores()
        self.center_id = self.store.control.center_id
        self.leases: dict[str, Lease] = {}
        self.trade("w1")
        self.add_machine()

    @property
    def store(self) -> Store:
        return self.stores[self.holder]

    def open_stores(self) -> None:
        self.stores = {worker: Store(self.folder / "center") for worker in WORKERS}
        for store in self.stores.values():
            store.open()

    def close_stores(self) -> None:
        for store in self.stores.values():
            store.close()

    def next_nonce(self) -> int:
        self._nonce += 1
        return self._nonce

    # Machines.

    def add_machine(self, image: Path | None = None) -> Machine:
        machine = Machine(self, self.folder / f"m{len(self.machines)}")
        if image:
            shutil.copytree(image, machine.folder)
        else:
            machine.folder.mkdir()
        machine.boot_up()
        self.machines.append(machine)
        return machine

    def clone(self, machine: Machine) -> None:
        if len(self.machines) < 3:
            self.copied = True
            self.add_machine(self.copy_of(machine))

    def copy_of(self, machine: Machine) -> Path:
        """An image of a machine's disk, as it would be switched off now."""
        machine.spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._copies += 1
        copy = self.folder / f"copy{self._copies}"
        shutil.copytree(machine.folder, copy, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
        return copy

    @staticmethod
    def wipe(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()

    def note_clones(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        if pair not in self._clones_met:
            self._clones_met.add(pair)
            self.reached["clone"] += 1

    def alive(self) -> set[int]:
        return set().union(*(machine.kept() for machine in self.machines))

    def forgive(self, before: set[int]) -> None:
        """What was on a disk and is on none any more need not arrive, unless it has already."""
        self.must -= before - self.alive() - set(self.stored())

    # The broker: it loses (``del``), repeats, delays and reorders.

    def publish(self, topic: str, payload: bytes) -> None:
        self.up.append((topic, payload))
        self.said_up = [*self.said_up, (topic, payload)][-REPEATABLE:]

    def repeat_up(self, at: int) -> None:
        self.up.append(self.said_up[at % len(self.said_up)])

    def repeat_down(self, at: int) -> None:
        if self.said_down:
            self.down.append(self.said_down[at % len(self.said_down)])

    def delay(self, at: int) -> None:
        if self.up:
            self.delayed.append(self.up.pop(at % len(self.up)))

    def let_through(self) -> None:
        self.up += self.delayed
        self.delayed.clear()

    def mislead(self, at: int) -> None:
        """A batch also arrives under a shard that is not its device's."""
        topic, payload = self.said_up[at % len(self.said_up)]
        self.up.append((topic.replace(f"/{shard_of(DEVICE)}/", WRONG_SHARD, 1), payload))

    # The centre.

    def trade(self, worker: str) -> None:
        """A worker takes the shard; the former holder does not know and goes on."""
        self.now_ms += LEASE_MS + 1
        if worker != self.holder:
            self._untried.add(self.holder)
            self._untried.discard(worker)
        self.holder = worker
        self.leases[worker] = self.store.take_lease(
            [shard_of(DEVICE)], worker, self.now_ms, LEASE_MS
        )

    def handle(self, at: int, worker: str, *, keep: bool) -> None:
        if not self.up:
            return
        topic, payload = self.up[at % len(self.up)]
        if not keep:
            del self.up[at % len(self.up)]
        worker = worker if worker in self.leases else self.holder
        if worker in self._untried and topics.BATCH in topic:
            self._untried.discard(worker)
            self.reached["shard trade"] += 1
        replies = Worker(self.stores[worker], self.leases[worker]).handle(
            [Message(topic, payload, self.now_ms)]
        )
        assert not (replies and WRONG_SHARD in topic), "answered under a wrong shard"
        said = [(reply.topic, reply.payload) for reply in replies]
        self.down += said
        self.said_down = [*self.said_down, *said][-REPEATABLE:]

    def answer(self, at: int, to: int, *, keep: bool) -> None:
        if not self.down:
            return
        _, payload = self.down[at % len(self.down)]
        if not keep:
            del self.down[at % len(self.down)]
        machine = self.machines[to % len(self.machines)]
        machine.sender.on_ack(payload, machine.now())

    def pass_all(self, to: int, *, answered: bool = True) -> None:
        """Everything at the broker goes through in order; the answers go to one machine."""
        while self.up:
            self.handle(0, self.holder, keep=False)
        while answered and self.down:
            self.answer(0, to, keep=False)

    def other_center_answers(self, at: int, to: int) -> None:
        """A centre the device is not configured for takes a message in and answers it."""
        if not self.up:
            return
        if self._other is None:
            store = self._stack.enter_context(Store(self.folder / "other"))
            self._other = Worker(store, store.take_lease([shard_of(DEVICE)], "w", 0, 10**15))
        message = Message(*self.up[at % len(self.up)], self.now_ms)
        machine = self.machines[to % len(self.machines)]
        for reply in self._other.handle([message]):
            self.reached["other centre"] += 1
            machine.sender.on_ack(reply.payload, machine.now())

    def crash_center(self) -> None:
        self.center_fuse.mend()
        self.close_stores()
        self.open_stores()
        self.trade(self.holder)

    def center_dies_within(self, act: Callable[[], object], steps: int) -> bool:
        """The power goes after some of the centre's statements; whether it did go."""
        self.center_fuse.light(steps)
        try:
            act()
        except Crash:
            self.reached["centre died within"] += 1
        else:
            self.center_fuse.mend()
            return False
        self.center_fuse.cut(self.folder / "center")
        self.crash_center()
        return True

    def handle_while_overtaken(self, at: int) -> None:
        """A worker stalls between rows and marks; another takes the shard and goes ahead."""
        slow, partitions = self.holder, self.store.partitions
        commit = partitions.commit

        def stall() -> None:
            commit()
            self.reached["overtaken"] += 1
            partitions.commit = commit  # type: ignore[method-assign]
            self.trade(next(one for one in WORKERS if one != slow))
            self._untried.discard(slow)
            self.reached["shard trade"] += 1
            self.handle(at + 1, self.holder, keep=False)
            self.handle(at + 2, self.holder, keep=False)

        partitions.commit = stall  # type: ignore[method-assign]
        self.handle(at, slow, keep=False)
        partitions.commit = commit  # type: ignore[method-assign]

    def handle_while_replaced(self, at: int) -> None:
        """Another worker takes the shard when the first one has read what it knows of it.

        The first one's rows must not become durable: the new holder has looked for such already.
        """
        slow, partitions = self.holder, self.store.partitions
        insert = partitions.insert

        def late(key: Key, rows: list[Row]) -> tuple[int, list[Row]]:
            partitions.insert = insert  # type: ignore[method-assign]
            self.trade(next(one for one in WORKERS if one != slow))
            self._untried.discard(slow)
            self.reached["shard trade"] += 1
            self.reached["replaced"] += 1
            return insert(key, rows)

        partitions.insert = late  # type: ignore[method-assign]
        self.handle(at, slow, keep=False)
        partitions.insert = insert  # type: ignore[method-assign]

    def handle_without_room(self, at: int) -> None:
        """The rows became durable, and then the control database's disk was full."""
        commit, db = self.store.partitions.commit, self.store.control.db

        def fill() -> None:
            commit()
            db.execute("PRAGMA query_only = ON")

        self.store.partitions.commit = fill  # type: ignore[method-assign]
        try:
            self.handle(at, self.holder, keep=False)
        except sqlite3.OperationalError:
            self.reached["no room"] += 1
        self.store.partitions.commit = commit  # type: ignore[method-assign]
        db.execute("PRAGMA query_only = OFF")

    def handle_and_crash(self, at: int) -> None:
        """The power goes after the rows are durable and before they are marked."""
        commit = self.store.partitions.commit

        def die() -> None:
            commit()
            raise Crash

        self.store.partitions.commit = die  # type: ignore[method-assign]
        try:
            self.handle(at, self.holder, keep=False)
        except Crash:
            self.reached["torn"] += 1
        self.crash_center()

    def back_up(self, meanwhile: int = 0) -> None:
        """The control database first, then the rows, and ingest goes on in between."""
        self._copies += 1
        self.backup = self.folder / f"backup{self._copies}"
        self.backup.mkdir()
        self.store.control.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(self.folder / "center" / "control.db", self.backup)
        for _ in range(meanwhile):
            self.handle(0, self.holder, keep=False)
        for day in self.store.partitions.days():
            self.store.partitions.connection(day).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for path in (self.folder / "center").glob("rows-*.db"):
            shutil.copy(path, self.backup)
        self.backup_contents = set(self.stored())

    def restore(self) -> None:
        if self.backup is None:
            return
        self.reached["restore"] += not set(self.stored()) <= self.backup_contents
        self.must &= self.alive() | self.backup_contents
        self.close_stores()
        self.wipe(self.folder / "center")
        for path in self.backup.iterdir():
            shutil.copy(path, self.folder / "center")
        self.open_stores()
        self.store.begin_epoch(self.now_ms // 1000)
        self.trade(self.holder)
        for machine in self.machines:
            machine.connect()

    # What is there.

    def rows(self) -> list[tuple[str, str, str, int, int, int, bytes]]:
        """``(device, store, stream, seq, slot, true_ms, line)`` of every row."""
        return [
            row
            for day in self.store.partitions.days()
            for row in self.store.partitions.connection(day).execute(
                "SELECT device, store, stream, seq, slot, true_ms, line FROM row"
            )
        ]

    def stored(self) -> list[int]:
        return [self.contents[bytes(line)] for *_, line in self.rows()]

    def settle(self) -> None:
        """Let everything through until nothing waits."""
        self.let_through()
        self.trade(self.holder)
        for _ in range(200):
            self.now_ms += 700_000
            self.leases[self.holder] = self.store.take_lease(
                [shard_of(DEVICE)], self.holder, self.now_ms, LEASE_MS
            )
            for number, machine in enumerate(self.machines):
                # Clones share a client id: each speaks, and is spoken to, only while connected.
                self.down.clear()
                machine.connect()
                machine.confirm_all()
                machine.send(50)
                self.pass_all(number)
            if not any(
                machine.waiting() or machine.spool.untold(lane)
                for machine in self.machines
                for lane in machine.spool.lanes()
            ):
                return
        raise AssertionError("did not come to rest")

    def close(self) -> None:
        self.center_fuse.mend()
        self.device_fuse.mend()
        for machine in self.machines:
            machine.spool.close()
        self.close_stores()
        self._stack.close()
