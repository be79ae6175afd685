"""The parts of a kill run: real processes that end by SIGKILL and are started again."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data, Level, Unit
from ketang_center.store.sqlite import Store
from ketang_cli.local_broker import LocalBroker, Program
from ketang_contract.errors import BadInput
from ketang_provisioning.ca import ThrowawayAuthority
from tests.faults.device import Orders


class Child:
    """A process of ours. ``kill`` is SIGKILL; an end nobody asked for is remembered."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command, self.log = command, log
        self.unasked: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def kill(self) -> None:
        if self._process is None:
            return
        code = self._process.poll()
        if code is not None:
            self.unasked.append(code)
        self._process.kill()
        self._process.wait()
        self._process = None

    def wait(self, until: float) -> int | None:
        """Return its exit status, or None when it still runs at a moment of ``monotonic``."""
        assert self._process is not None
        try:
            return self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None


class Scene:
    """Devices, a broker and a centre in one folder, with what each needs to find the others."""

    def __init__(
        self,
        folder: Path,
        program: Program,
        devices: tuple[str, ...],
        rate: int,
        *,
        within: tuple[str, ...] = (),
        **told: Any,
    ) -> None:
        """``within``: a command that starts devices elsewhere; ``told``: more of their orders."""
        self.folder, self._within = folder, within
        self._told = {"rate": rate, "host": LocalBroker.host} | told
        authority = ThrowawayAuthority(folder / "keys")
        self.broker = LocalBroker(folder / "broker", authority.server(), program=program)
        center = folder / "center"
        with Store(center) as store:
            center_id = store.control.center_id
        with Registry(center / "registry.db") as registry:
            top = Unit(id="top", parent=None, level=Level.REGION, name_zh="区", name_en="Region")
            registry.load(Data(units=(top,)))
        self.center = Child(self._center_command(authority), folder / "center.log")
        self.orders = {name: self._orders(authority, name, center_id) for name in devices}
        self.devices = {name: self._device(name) for name in devices}

    def _center_command(self, authority: ThrowawayAuthority) -> list[str]:
        identity = authority.client("center_ingest")
        file = self.folder / "center.toml"
        file.write_text(
            f'data_dir = "center"\nbroker_host = "127.0.0.1"\nbroker_port = {self.broker.port}\n'
            f'ca = "{identity.ca_file}"\ncertificate = "{identity.certificate_file}"\n'
            f'key = "{identity.key_file}"\nweb_port = 0\n',
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "ketang_cli.main", "center", "serve"]
        return [*command, "--settings", str(file)]

    def _orders(self, authority: ThrowawayAuthority, name: str, center_id: str) -> Path:
        folder, identity = self.folder / name, authority.client(name)
        folder.mkdir()
        return Orders(
            folder=str(folder),
            device=name,
            center_id=center_id,
            port=self.broker.port,
            ca_file=str(identity.ca_file),
            certificate_file=str(identity.certificate_file),
            key_file=str(identity.key_file),
            **self._told,
        ).write()

    def _device(self, name: str, *options: str) -> Child:
        command = [sys.executable, "-m", "tests.faults.device", str(self.orders[name]), *options]
        return Child([*self._within, *command], self.folder / name / "log")

    def start(self) -> None:
        self.broker.start()
        self.center.start()
        for one in self.devices.values():
            one.start()

    def drain(self, deadline_s: float) -> dict[str, int | None]:
        """Calm: everything is started once more and nothing is created; ``{device: status}``."""
        self.broker.start()
        self.center.kill()
        self.center.start()
        drained = {name: self._device(name, "--drain") for name in self.devices}
        for name, one in drained.items():
            self.devices[name].kill()
            one.start()
        until = time.monotonic() + deadline_s
        try:
            return {name: one.wait(until) for name, one in drained.items()}
        finally:
            for one in drained.values():
                one.kill()

    def look_at_the_center(self) -> tuple[int, int]:
        """Count its rows, and those a kill left without their mark, in a copy of its files.

        In a copy, because opening the files mends them, which is the centre's own task.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            copy = Path(folder)
            for pattern in ("rows-*", "control.db*"):
                for file in (self.folder / "center").glob(pattern):
                    shutil.copy(file, copy)
            with Store(copy) as store:
                days = [store.partitions.connection(day) for day in store.partitions.days()]
                rows = sum(db.execute("SELECT count(*) FROM row").fetchone()[0] for db in days)
                torn = sum(
                    len(seqs - store.control.ledger(key).stored)
                    for _, _, key, seqs in store.partitions.unmerged()
                )
        return rows, torn

    def stop(self) -> None:
        for one in (*self.devices.values(), self.center):
            one.kill()
        self.broker.stop()


class Storm:
    """A seeded schedule of kills, one thread for each victim, until each has had its share."""

    def __init__(self, scene: Scene, kills: int, seed: int) -> None:
        self.scene, self.kills, self.seed = scene, kills, seed
        self.count: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._lock = threading.Lock()

    def run(self) -> None:
        """Rage; returns when every victim was killed often enough."""
        scene = self.scene
        works: list[tuple[str, Callable[[random.Random], None]]] = [
            ("broker", self._kill_broker),
            ("center", self._kill_center),
        ]
        works += [
            (name, lambda chance, one=one: self._kill_agent(one, chance))
            for name, one in scene.devices.items()
        ]
        threads = [
            threading.Thread(target=self._guarded, args=(name, work, random.Random(f"{name} {at}")))
            for at, (name, work) in enumerate(works, self.seed)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(
        self, name: str, work: Callable[[random.Random], None], chance: random.Random
    ) -> None:
        try:
            work(chance)
        except (AssertionError, OSError, BadInput) as problem:
            self.troubles.append(f"{name}: {problem!r}")

    def _kill_agent(self, victim: Child, chance: random.Random) -> None:
        for _ in range(self.kills):
            time.sleep(chance.uniform(0.1, 3))
            victim.kill()
            self._note("agent")
            time.sleep(chance.random())
            victim.start()

    def _kill_center(self, chance: random.Random) -> None:
        victim, before = self.scene.center, 0
        for _ in range(self.kills):
            # it takes a second or two to come up: some kills meet it at that
            time.sleep(chance.uniform(0.1, 5))
            victim.kill()
            self._note("center")
            rows, torn = self.scene.look_at_the_center()
            if rows > before:
                self._note("center while it had work")
            if torn:
                self._note("center between rows and marks")
            before = rows
            time.sleep(chance.random())
            victim.start()

    def _kill_broker(self, chance: random.Random) -> None:
        broker = self.scene.broker
        outage, wipe = self.kills // 3, self.kills * 2 // 3
        for at in range(self.kills):
            time.sleep(chance.uniform(0.1, 3))
            pid = broker.pid
            assert pid is not None, "the broker ended by itself"
            os.kill(pid, signal.SIGKILL)
            broker.kill()
            self._note("broker")
            if at == wipe:
                broker.wipe_store()
                self._note("wiped store")
            # an outage long enough for a backlog of many batches; the devices are killed meanwhile
            time.sleep(5 if at == outage else chance.random())
            if at == outage:
                self._note("outage")
            broker.start()

    def _note(self, what: str) -> None:
        with self._lock:
            self.count[what] += 1
