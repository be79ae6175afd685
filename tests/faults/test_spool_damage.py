"""A spool hurt in any way runs again at once, loses only what it says, repeats no number."""

import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ketang_agent.clock import Instant
from ketang_agent.spool import fates, quarantine, witness
from ketang_agent.spool.damage import is_damage
from ketang_agent.spool.salvage import Salvaged, open_spool
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Damaged, Fate, Lane
from ketang_agent.uplink.birth import birth_of
from ketang_agent.uplink.sender import Sender
from ketang_center.ingest.worker import Message, Worker
from ketang_center.store.sqlite import Key, Store
from ketang_contract import topics
from ketang_contract.batch import DropReason
from ketang_contract.ids import shard_of
from ketang_contract.ranges import RangeSet
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

START_MS = 1_790_000_000_000
DEVICE = "dev-a"
INJURIES = 240
Name = tuple[str, Stream, int]


def record(nonce):
    body = (
        Event(name=EventName.CLOCK_JUMP, seconds=nonce)
        if nonce % 5 == 0
        else Host(window_s=300, uptime_s=nonce)
    )
    return Record(
        subject=DEVICE,
        wall_ms=START_MS + nonce,
        boot_id="b",
        boottime_ms=nonce,
        time=TimeQuality.SYNCED,
        body=body,
    )


@dataclass
class Device:
    """A spool, the centre it speaks to, and what an outsider knows of both."""

    folder: Path
    now_ms: int = START_MS
    nonce: int = 0
    contents: dict[Name, bytes] = field(default_factory=dict)
    """Every number ever given out, with its line."""
    evicted: set[bytes] = field(default_factory=set)
    salvages: list[Salvaged] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "device" / "spool.db"

    def start(self) -> None:
        self.store = Store(self.folder / "center")
        self.store.open()
        self.reopen()

    def stop(self) -> None:
        self.spool.close()
        self.store.close()

    def reopen(self) -> None:
        self.spool, salvaged = open_spool(self.path, self.now_ms)
        if salvaged:
            self.salvages.append(salvaged)
        self.sender = Sender(
            self.spool, DEVICE, self.store.control.center_id, lambda: 0.5, batch_records=50
        )

    def instant(self) -> Instant:
        return Instant(self.now_ms, self.now_ms - START_MS + 10**6, "b")

    def create(self, count: int) -> None:
        """Give out numbers one record at a time, and hold each against all there were."""
        for _ in range(count):
            self.nonce += 1
            one = record(self.nonce)
            lane = Lane(self.spool.current_store, stream_of(one.body))
            self.spool.append([one])
            name = (lane.store_id, lane.stream, self.spool.head(lane))
            assert name not in self.contents, f"{name} was given out twice"
            self.contents[name] = to_line(one)

    def drain(self, batches: int) -> None:
        """Send and be answered, in order."""
        lease = self.store.take_lease([shard_of(DEVICE)], "w", self.now_ms, 60_000)
        worker = Worker(self.store, lease)
        birth = birth_of(self.spool, self.spool.next_session(), self.instant(), "1")
        self.sender.begin_session()
        up = [(topics.of(DEVICE, topics.BIRTH), to_line(birth))]
        for _ in range(batches):
            out = self.sender.next_frame(self.instant())
            if out is None and not up:
                return
            if out is not None:
                self.sender.confirm(out.digest)
                up.append((out.topic, out.frame))
            for reply in worker.handle([Message(*one, self.now_ms) for one in up]):
                self.sender.on_ack(reply.payload, self.instant())
            up.clear()

    def settle(self) -> None:
        """Drain to the end. Damage found on the way is healed as the service does it."""
        for _ in range(4):
            self.now_ms += 700_000
            try:
                self.drain(200)
            except Damaged:
                self.spool.close()
                self.reopen()
        waiting = {lane: self.spool.pending(lane) for lane in self.spool.lanes()}
        assert not any(waiting.values()), waiting
        assert not any(self.spool.untold(lane) for lane in waiting)

    def stored(self) -> Counter[bytes]:
        return Counter(
            bytes(line)
            for day in self.store.partitions.days()
            for (line,) in self.store.partitions.connection(day).execute("SELECT line FROM row")
        )

    def rows(self) -> dict[Name, bytes]:
        return {
            (store, Stream(stream), seq): bytes(line)
            for day in self.store.partitions.days()
            for store, stream, seq, line in self.store.partitions.connection(day).execute(
                "SELECT store, stream, seq, line FROM row"
            )
        }

    def check_device(self) -> None:
        """1..head is what waits and what has a fate, and what waits is what was written."""
        found = list(fates.read_all(self.spool._db))
        for lane in self.spool.lanes():
            no = self.spool._lanes[lane].no
            settled = [(one.first, one.last) for one in found if one.lane == no]
            ranges = RangeSet.of(settled)
            assert sum(last - first + 1 for first, last in settled) == len(ranges)
            assert not ranges & self.spool.pending(lane)
            assert ranges | self.spool.pending(lane) == RangeSet.span(1, self.spool.head(lane))
            for seq, line in self.spool.read(lane, self.spool.pending(lane)):
                known = self.contents.get((lane.store_id, lane.stream, seq))
                assert known is None or known == line, f"{lane} {seq} has other content"
                assert line in self.contents.values()

    def check_center(self) -> None:
        """Nothing twice, nothing under a false number, every number accounted for."""
        twice = [line for line, count in self.stored().items() if count > 1]
        assert not twice
        for name, line in self.rows().items():
            assert self.contents.get(name, line) == line, f"{name} has other content"
        for lane in self.spool.lanes():
            ledger = self.store.control.ledger(Key(DEVICE, lane.store_id, lane.stream))
            assert ledger.head >= self.spool.head(lane)
            assert not RangeSet.span(1, self.spool.head(lane)) - ledger.known, lane
            assert ledger.quarantined == 0

    def told(self) -> int:
        return sum(
            one.last - one.first + 1
            for one in fates.read_all(self.spool._db)
            if one.what == Fate.LOST and one.reason == DropReason.DAMAGED
        )

    def copy_to(self, folder: Path) -> "Device":
        """What a power-off leaves: the files as they are, log and all."""
        shutil.copytree(self.folder, folder)
        return Device(folder, self.now_ms, self.nonce, dict(self.contents), set(self.evicted))


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """One life in three moments: log full of everything, log half merged, closed in order."""
    device = Device(tmp_path_factory.mktemp("life") / "now")
    (device.folder / "device").mkdir(parents=True)
    device.start()
    device.create(300)
    device.drain(4)
    copies = [device.copy_to(device.folder.parent / "first")]
    device.now_ms += 3 * 3_600_000
    for lane in device.spool.lanes():
        lost = device.spool.pending(lane).lowest(7)
        device.evicted |= {line for _, line in device.spool.read(lane, lost)}
        device.spool.mark_lost(lane, lost, DropReason.EVICTED, device.now_ms)
        device.spool.let_go(lane, START_MS + 1)
    device.spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    device.spool._db.execute("PRAGMA wal_autocheckpoint = 0")  # what follows is in the log alone
    device.drain(3)
    device.create(150)
    copies.append(device.copy_to(device.folder.parent / "second"))
    device.stop()
    copies.append(device.copy_to(device.folder.parent / "third"))
    return copies


def flip_bits(chance, path):
    raw = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 3, 40])):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)


def cut_short(chance, path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(chance.choice([0, 1, chance.randrange(size), size - size % 4096 - 4096 * 2]))


def zero_pages(chance, path):
    pages = max(1, path.stat().st_size // 4096)
    with path.open("r+b") as file:
        for _ in range(chance.choice([1, 3])):
            file.seek(4096 * chance.randrange(pages))
            file.write(b"\0" * 4096)


def write_garbage(chance, path):
    with path.open("r+b") as file:
        file.seek(chance.randrange(path.stat().st_size))
        file.write(chance.randbytes(chance.choice([16, 700, 9000])))


def swap_pages(chance, path):
    pages = max(1, path.stat().st_size // 4096)
    with path.open("r+b") as file:
        one, other = (4096 * chance.randrange(pages) for _ in range(2))
        file.seek(one)
        block = file.read(4096)
        file.seek(other)
        file.write(block)


def take_away(chance, path):
    path.unlink()


def drop_a_table(chance, path):
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"DROP TABLE {chance.choice(['meta', 'store', 'lane', 'fate', 'record'])}")
        db.commit()


INJURY = [flip_bits, cut_short, zero_pages, write_garbage, swap_pages, take_away]
ON_THE_FILE = [*INJURY, drop_a_table]


@pytest.mark.parametrize("seed", range(INJURIES // 12))
def test_a_hurt_spool_runs_again_and_every_number_is_told(bases, tmp_path, seed):
    for turn in range(12):
        chance = random.Random(f"{seed}-{turn}")
        base = chance.choice(bases)
        device = base.copy_to(tmp_path / str(turn))
        parts = [device.path, device.path.with_name("spool.db-wal")]
        path = chance.choice([one for one in parts if one.exists() and one.stat().st_size])
        chance.choice(ON_THE_FILE if path == device.path else INJURY)(chance, path)
        if chance.random() < 0.15:
            flip_bits(chance, witness.path_for(device.path))
        before = set(device.contents.values()) - device.evicted
        device.start()
        device.create(20)
        device.settle()
        device.check_device()
        device.check_center()
        missing = before - set(device.stored())
        assert len(missing) <= device.told() + unnamed(device), "lost without a word"
        device.stop()
        shutil.rmtree(device.folder)


def unnamed(device):
    """Numbers of stores of which the hurt device knows nothing, or not how far they had come."""
    heads = {(lane.store_id, lane.stream): device.spool.head(lane) for lane in device.spool.lanes()}
    return sum(seq > heads.get((store, stream), 0) for store, stream, seq in device.contents)


def test_a_whole_spool_is_not_replaced(bases, tmp_path):
    for base in bases:
        device = base.copy_to(tmp_path / base.folder.name)
        device.start()
        assert not device.salvages
        device.create(5)
        device.settle()
        device.check_center()
        assert not device.told()
        assert set(device.contents.values()) - device.evicted == set(device.stored())
        device.stop()


def test_a_log_cut_to_nothing_is_noticed_and_its_numbers_are_told(bases, tmp_path):
    device = bases[1].copy_to(tmp_path / "one")
    device.path.with_name("spool.db-wal").unlink()
    device.start()
    (salvaged,) = device.salvages
    assert "back in time" in salvaged.why
    assert salvaged.lost == 150
    device.settle()
    device.check_center()
    assert device.told() == 150
    device.stop()


def test_one_flipped_bit_in_the_log_costs_one_page_at_most(bases, tmp_path):
    device = bases[1].copy_to(tmp_path / "one")
    log = device.path.with_name("spool.db-wal")
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 4
    log.write_bytes(raw)
    device.start()
    assert device.salvages[0].lost < 20
    device.settle()
    device.check_center()
    device.stop()


def test_a_changed_digit_in_a_waiting_record_is_never_sent(bases, tmp_path):
    device = bases[2].copy_to(tmp_path / "one")
    raw = device.path.read_bytes()
    at = raw.rindex(b'"seconds":450}}')
    device.path.write_bytes(raw[: at + 10] + b"9" + raw[at + 11 :])
    device.start()
    assert not device.salvages, "SQLite sees nothing wrong, nor does a cheap look"
    device.settle()
    assert len(device.salvages) == 1
    assert device.salvages[0].lost == 1
    device.check_device()
    device.check_center()
    device.stop()


def test_an_interrupted_salvage_is_begun_anew_or_ended(bases, tmp_path, monkeypatch):
    for step in range(40):
        device = bases[1].copy_to(tmp_path / str(step))
        device.path.with_name("spool.db-wal").unlink()
        left = step

        def tick(act):
            def instead(*args, **kwargs):
                nonlocal left
                if left == 0:
                    raise KeyboardInterrupt
                left -= 1
                return act(*args, **kwargs)

            return instead

        with monkeypatch.context() as patch:
            for name in ("rename", "unlink"):
                patch.setattr(Path, name, tick(getattr(Path, name)))
            try:
                open_spool(device.path, START_MS)[0].close()
            except KeyboardInterrupt:
                done = False
            else:
                done = True
        device.start()
        device.create(3)
        device.settle()
        device.check_center()
        device.stop()
        if done:
            assert step > 5
            return
    raise AssertionError("never came to an end")


def test_what_is_put_aside_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(quarantine, "MAX_BYTES", 5000)
    path = tmp_path / "spool.db"
    for turn in range(6):
        path.write_bytes(b"no database" * 1000)
        spool, salvaged = open_spool(path, START_MS + turn)
        spool.close()
        assert salvaged is not None
        assert salvaged.quarantine is not None
        assert salvaged.quarantine.exists()
    aside = list(tmp_path.glob("spool.damaged-*"))
    assert len({one.name[:18] for one in aside}) == quarantine.KEPT
    assert max(one.stat().st_size for one in aside) <= 5000


def test_a_session_number_that_cannot_be_read_is_replaced_by_a_higher_one(tmp_path):
    path = tmp_path / "spool.db"
    spool, _ = open_spool(path, START_MS)
    first = spool.next_session()
    spool.close()
    path.write_bytes(b"gone" * 3000)
    witness.path_for(path).unlink()
    spool, salvaged = open_spool(path, START_MS + 60_000)
    assert salvaged
    assert spool.next_session() > first
    spool.close()


def test_trouble_of_the_disk_is_no_damage(tmp_path):
    with pytest.raises(sqlite3.OperationalError) as caught:
        Spool(tmp_path / "no" / "folder" / "spool.db").open()
    assert not is_damage(caught.value)
    with Spool(tmp_path / "spool.db") as spool, closing(sqlite3.connect(spool.path)) as other:
        spool._db.execute("PRAGMA busy_timeout = 1")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as busy:
            spool.append([record(1)])
        assert not is_damage(busy.value)
        other.rollback()
        spool.append([record(1)])
