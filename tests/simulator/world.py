"""A small world: real spools, senders, store and workers around a broker that keeps no promise."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_agent.uplink.birth import birth_of
from ketang_agent.uplink.sender import Outgoing, Sender
from ketang_center.ingest.worker import Message, Worker
from ketang_center.store.sqlite import Key, Lease, Store
from ketang_contract import topics
from ketang_contract.batch import DropReason
from ketang_contract.ids import shard_of
from ketang_contract.records import Event, EventName, Host, Record, TimeQuality, to_line

DEVICE = "dev-a"
START_MS = 1_790_000_000_000
LEASE_MS = 60_000
WORKERS = ("w1", "w2")


class Crash(BaseException):
    """The power went."""


@dataclass
class Machine:
    """A device: its disk, and what it had in memory."""

    world: "World"
    folder: Path
    boot: int = 0
    snapshot: Path | None = None
    outbox: list[Outgoing] = field(default_factory=list)

    def boot_up(self) -> None:
        self.boot += 1
        self.spool = Spool(self.folder / "spool.db")
        self.spool.open()
        self.sender = Sender(
            self.spool,
            DEVICE,
            self.world.center_id,
            jitter=lambda: 0.5,
            batch_records=4,
        )
        self.connect()

    def connect(self) -> None:
        self.sender.begin_session()
        birth = birth_of(self.spool, self.spool.next_session(), self.now(), "1")
        self.world.up.append((topics.of(DEVICE, topics.BIRTH), to_line(birth)))

    def now(self) -> Instant:
        ms = self.world.now_ms
        return Instant(ms, ms - START_MS + 1_000, f"boot-{self.folder.name}-{self.boot}")

    def crash(self) -> None:
        self.spool.close()
        self.outbox.clear()
        self.boot_up()

    def create(self, count: int, *, bulk: bool) -> None:
        for _ in range(count):
            nonce = self.world.next_nonce()
            body = (
                Host(window_s=300, uptime_s=nonce)
                if bulk
                else Event(name=EventName.CLOCK_JUMP, seconds=nonce)
            )
            now = self.now()
            record = Record(
                subject=DEVICE,
                wall_ms=now.wall_ms,
                boot_id=now.boot_id,
                boottime_ms=now.boottime_ms,
                time=TimeQuality.SYNCED,
                body=body,
            )
            self.spool.append([record])
            self.world.contents[to_line(record)] = nonce
            self.world.must.add(nonce)

    def send(self, most: int) -> None:
        for _ in range(most):
            out = self.sender.next_frame(self.now())
            if out is None:
                return
            self.world.up.append((out.topic, out.frame))
            self.outbox.append(out)

    def confirm_all(self) -> None:
        for out in self.outbox:
            self.sender.confirm(out.digest)
        self.outbox.clear()

    def waiting(self) -> set[int]:
        return {
            self.world.contents[line]
            for lane in self.spool.lanes()
            for _, line in self.spool.read(lane, self.spool.pending(lane))
        }

    def kept(self) -> set[int]:
        """Everything whose line is still on this disk."""
        return {
            self.world.contents[bytes(line)]
            for (line,) in self.spool._db.execute("SELECT line FROM record")
        }

    def evict(self) -> None:
        for lane in self.spool.lanes():
            oldest = self.spool.pending(lane).lowest(2)
            for _, line in self.spool.read(lane, oldest):
                self.world.must.discard(self.world.contents[line])
            self.spool.mark_lost(lane, oldest, DropReason.EVICTED, self.world.now_ms)

    def let_go(self) -> None:
        """Seven days pass at once; a centre restored meanwhile may miss what goes here."""
        before = self.kept()
        for lane in self.spool.lanes():
            self.spool.let_go(lane, self.world.now_ms + 1)
        self.world.must -= (before - self.kept()) - set(self.world.stored())

    def take_snapshot(self) -> None:
        self.snapshot = self.world.copy_of(self.folder / "spool.db", self.spool)

    def thaw(self) -> None:
        """The disk goes back to its snapshot, as a frozen disk does at each boot."""
        if self.snapshot is None:
            return
        before = self.kept()
        self.spool.close()
        self.world.wipe(self.folder)
        shutil.copy(self.snapshot, self.folder / "spool.db")
        self.outbox.clear()
        self.boot_up()
        self.world.must -= before - self.kept()

    def reimage(self) -> None:
        self.world.must -= self.kept()
        self.spool.close()
        self.world.wipe(self.folder)
        self.outbox.clear()
        self.boot_up()


class World:
    """Everything, and the outside ledger: which contents must be at the centre in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = START_MS
        self.must: set[int] = set()
        self.contents: dict[bytes, int] = {}
        self.up: list[tuple[str, bytes]] = []
        self.down: list[tuple[str, bytes]] = []
        self.reached: Counter[str] = Counter()
        self._nonce = 0
        self._copies = 0
        self.backup: Path | None = None
        self.backup_contents: set[int] = set()
        self.machines: list[Machine] = []
        self.holder = "w1"
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

    def add_machine(self, image: Path | None = None) -> Machine:
        machine = Machine(self, self.folder / f"m{len(self.machines)}")
        machine.folder.mkdir()
        if image:
            shutil.copy(image, machine.folder / "spool.db")
        machine.boot_up()
        self.machines.append(machine)
        return machine

    def clone(self, machine: Machine) -> None:
        if len(self.machines) < 3:
            self.add_machine(self.copy_of(machine.folder / "spool.db", machine.spool))

    def copy_of(self, path: Path, spool: Spool) -> Path:
        spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._copies += 1
        copy = self.folder / f"copy{self._copies}.db"
        shutil.copy(path, copy)
        return copy

    @staticmethod
    def wipe(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()

    def trade(self, worker: str) -> None:
        """A worker takes the shard; the former holder does not know and goes on."""
        self.now_ms += LEASE_MS + 1
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
        replies = Worker(self.stores[worker], self.leases[worker]).handle(
            [Message(topic, payload, self.now_ms)]
        )
        self.down += [(reply.topic, reply.payload) for reply in replies]

    def answer(self, at: int, to: int, *, keep: bool) -> None:
        if not self.down:
            return
        _, payload = self.down[at % len(self.down)]
        if not keep:
            del self.down[at % len(self.down)]
        machine = self.machines[to % len(self.machines)]
        machine.sender.on_ack(payload, machine.now())

    def crash_center(self) -> None:
        self.close_stores()
        self.open_stores()
        self.trade(self.holder)

    def handle_while_overtaken(self, at: int) -> None:
        """A worker stalls between rows and marks; another takes the shard and goes ahead."""
        slow, partitions = self.holder, self.store.partitions
        commit = partitions.commit

        def stall() -> None:
            commit()
            self.reached["overtaken"] += 1
            partitions.commit = commit  # type: ignore[method-assign]
            self.trade(next(one for one in WORKERS if one != slow))
            self.handle(at + 1, self.holder, keep=False)
            self.handle(at + 2, self.holder, keep=False)

        partitions.commit = stall  # type: ignore[method-assign]
        self.handle(at, slow, keep=False)
        partitions.commit = commit  # type: ignore[method-assign]

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

    def back_up(self) -> None:
        """The control database first, then the rows, as the backup command does."""
        self._copies += 1
        self.backup = self.folder / f"backup{self._copies}"
        self.backup.mkdir()
        self.store.control.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(self.folder / "center" / "control.db", self.backup)
        for day in self.store.partitions.days():
            self.store.partitions.connection(day).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for path in (self.folder / "center").glob("rows-*.db"):
            shutil.copy(path, self.backup)
        self.backup_contents = set(self.stored())

    def restore(self) -> None:
        if self.backup is None:
            return
        alive = set().union(*(machine.kept() for machine in self.machines))
        self.must &= alive | self.backup_contents
        self.close_stores()
        self.wipe(self.folder / "center")
        for path in self.backup.iterdir():
            shutil.copy(path, self.folder / "center")
        self.open_stores()
        self.store.control.begin_epoch(self.now_ms // 1000)
        self.up.clear()
        self.trade(self.holder)
        for machine in self.machines:
            machine.connect()

    def stored(self) -> list[int]:
        return [
            self.contents[bytes(line)]
            for day in self.store.partitions.days()
            for (line,) in self.store.partitions.connection(day).execute("SELECT line FROM row")
        ]

    def keys(self) -> list[tuple[object, ...]]:
        return [
            row
            for day in self.store.partitions.days()
            for row in self.store.partitions.connection(day).execute(
                "SELECT device, store, stream, seq FROM row"
            )
        ]

    def settle(self) -> None:
        """Let everything through until nothing waits."""
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
                while self.up:
                    self.handle(0, self.holder, keep=False)
                while self.down:
                    self.answer(0, number, keep=False)
            if not any(
                machine.waiting() or machine.spool.untold(lane)
                for machine in self.machines
                for lane in machine.spool.lanes()
            ):
                return
        raise AssertionError("did not come to rest")

    def check(self) -> None:
        """What must hold at rest."""
        stored = Counter(self.stored())
        twice = {nonce for nonce, count in stored.items() if count > 1}
        assert not twice, f"stored twice: {twice}"
        keys = Counter(self.keys())
        assert max(keys.values(), default=0) <= 1, f"two rows of one number: {keys}"
        lost = self.must - set(stored)
        assert not lost, f"lost: {lost}"
        for machine in self.machines:
            for lane in machine.spool.lanes():
                self._check_ledger(machine, lane)

    def _check_ledger(self, machine: Machine, lane: Lane) -> None:
        ledger = self.store.control.ledger(Key(DEVICE, lane.store_id, lane.stream))
        head = machine.spool.head(lane)
        assert ledger.head >= head
        short = [seq for seq in range(1, head + 1) if seq not in ledger.known]
        assert not short, f"{lane} unaccounted: {short}"

    def close(self) -> None:
        for machine in self.machines:
            machine.spool.close()
        self.close_stores()
