"""A device of the small world: its disk, its memory, and its share of the outside ledger."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_agent.clock import Instant
from ketang_agent.spool.limits import make_room
from ketang_agent.spool.salvage import open_spool
from ketang_agent.spool.values import Lane
from ketang_agent.uplink.birth import birth_of
from ketang_agent.uplink.sender import Outgoing, Sender
from ketang_contract import topics
from ketang_contract.batch import DropReason
from ketang_contract.records import (
    Event,
    EventName,
    Host,
    Record,
    Stream,
    TimeQuality,
    stream_of,
    to_line,
)
from tests.simulator.power import Crash

if TYPE_CHECKING:
    from tests.simulator.world import World

START_MS = 1_790_000_000_000
DEVICE = "dev-a"
UNREADABLE_RECORD = b'{"poison":%d}'
UNREADABLE_FRAME = b'{"poison":\n%d}'
"""A line that is two: the numbers of its batch do not fit, so the whole frame is refused."""


@dataclass
class Machine:
    """One disk that answers to the device's name. Clones are machines of the same name."""

    world: "World"
    folder: Path
    boot: int = 0
    snapshot: Path | None = None
    outbox: list[Outgoing] = field(default_factory=list)
    doubtful: set[int] = field(default_factory=set)
    """Contents whose append did not return: they may have become durable or not."""
    thawed: bool = False
    reimaged: bool = False

    @property
    def name(self) -> str:
        return self.folder.name

    def boot_up(self) -> None:
        self.boot += 1
        self.spool, salvaged = open_spool(self.folder / "spool.db", self.world.now_ms)
        assert salvaged is None, f"a whole file was taken for a damaged one: {salvaged}"
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
        self.world.publish(topics.of(DEVICE, topics.BIRTH), to_line(birth))

    def now(self) -> Instant:
        ms = self.world.now_ms
        return Instant(ms, ms - START_MS + 1_000, f"boot-{self.name}-{self.boot}")

    # Power.

    def stop(self) -> None:
        self.spool.close()
        self.outbox.clear()

    def crash(self) -> None:
        self.world.device_fuse.mend()
        self.stop()
        self.boot_up()
        self.world.must |= self.doubtful & self.kept()
        self.doubtful.clear()

    def dies_within(self, act: Callable[[], object], steps: int) -> bool:
        """Do something while the power goes after some of its statements; whether it did go."""
        before = self.kept()
        self.world.device_fuse.light(steps)
        try:
            act()
        except Crash:
            self.world.reached["device died within"] += 1
        else:
            self.world.device_fuse.mend()
            return False
        self.world.device_fuse.cut(self.folder)
        self.crash()
        self.world.forgive(before)
        return True

    # Its own doing.

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
            self.world.contents[to_line(record)] = nonce
            self.doubtful.add(nonce)
            self.spool.append([record])
            self.doubtful.discard(nonce)
            self.world.must.add(nonce)
            self._note_number(Lane(self.spool.current_store, stream_of(body)))

    def create_poison(self, line: bytes) -> None:
        """A record that the centre can never accept: alone, or with its whole frame."""
        nonce = self.world.next_nonce()
        self.world.contents[line % nonce] = nonce
        lane = Lane(self.spool.current_store, Stream.EVENT)
        self.spool.append_lines([(lane, line % nonce)])
        self.world.reached["poison"] += 1
        self._note_number(lane)

    def send(self, most: int) -> None:
        for _ in range(most):
            out = self.sender.next_frame(self.now())
            if out is None:
                return
            self.world.publish(out.topic, out.frame)
            self.outbox.append(out)

    def confirm_all(self) -> None:
        for out in self.outbox:
            self.sender.confirm(out.digest)
        self.outbox.clear()

    # What it holds.

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

    # What it gives up, and what is done to its disk.

    def evict(self) -> None:
        """The two oldest of each lane go, as at the cap."""
        with self._losing():
            for lane in self.spool.lanes():
                oldest = self.spool.pending(lane).lowest(2)
                self.spool.mark_lost(lane, oldest, DropReason.EVICTED, self.world.now_ms)

    def make_room(self) -> None:
        """The cap is one byte below what the spool takes."""
        with self._losing():
            make_room(self.spool, self.spool.used_bytes() - 1, self.world.now_ms)

    def let_go(self) -> None:
        """Seven days pass at once; a centre restored meanwhile may miss what goes here."""
        with self._losing():
            for lane in self.spool.lanes():
                self.spool.let_go(lane, self.world.now_ms + 1)

    def take_snapshot(self) -> None:
        self.snapshot = self.world.copy_of(self)

    def thaw(self) -> None:
        """The disk goes back to its snapshot, as a frozen disk does at each boot."""
        if self.snapshot is None:
            return
        with self._losing():
            self.stop()
            shutil.rmtree(self.folder)
            shutil.copytree(self.snapshot, self.folder)
            self.world.copied = self.thawed = True
            self.boot_up()

    def reimage(self) -> None:
        with self._losing():
            self.reimaged = any(self.spool.head(lane) for lane in self.spool.lanes())
            self.stop()
            self.world.wipe(self.folder)
            self.boot_up()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        before = self.kept()
        yield
        self.world.forgive(before)

    def _note_number(self, lane: Lane) -> None:
        """Count what copies of a disk really did: the same number again, for other content."""
        key = (lane, self.spool.head(lane))
        user = self.world.users.setdefault(key, self.name)
        if user == self.name and key in self.world.used_by[self.name] and self.thawed:
            self.world.reached["frozen disk"] += 1
            self.thawed = False
        if user != self.name:
            self.world.note_clones(user, self.name)
        if self.reimaged:
            self.world.reached["re-image"] += 1
            self.reimaged = False
        self.world.used_by[self.name].add(key)
