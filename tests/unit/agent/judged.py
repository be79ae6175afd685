"""A device's remote configuration with judging children that a test holds in its hand."""

import hashlib
import json
from dataclasses import replace

from ketang_agent.clock import Instant
from ketang_agent.remote import exchange, state_file
from ketang_agent.remote.machine import Look
from ketang_agent.remote.remote import Remote, Who
from ketang_contract import config as configs
from ketang_contract.config import Config, narrowed
from ketang_contract.records import to_json
from ketang_contract.state import ConfigState

BASE = Config(usage_s=20, host_s=60)
WIDER = replace(BASE, host_s=30)
NARROWER = replace(BASE, usage_s=60)
STEADY = Look(connected=True, session=1, acknowledged=True, sampled=True)
BACK = replace(STEADY, session=2)


def at(seconds):
    return Instant(1_790_000_000_000 + int(seconds * 1000), int(seconds * 1000), "boot-1")


def bundle(config, name="a", attempt=0):
    """What comes down: here it is the verdict itself, and the child only reads it out."""
    return json.dumps({"hash": name * 64, "attempt": attempt, "config": to_json(config)}).encode()


class Child:
    """A judging child; it ends when the test says so, or at once."""

    def __init__(self, folder, does="judges"):
        self.folder, self.does = folder, does
        self.returncode, self.said = None, b""
        self.killed = False
        self.received = (folder / exchange.RECEIVED).read_bytes()
        self.asked = json.loads((folder / exchange.ASKED).read_bytes())
        if does != "waits":
            self.end()

    def end(self):
        if not isinstance(self.does, str):
            self.leave(self.does)
        elif self.does != "leaves nothing":
            self.leave(self.verdict())
        self.returncode = 0

    def leave(self, said):
        raw = said if isinstance(said, bytes) else json.dumps(said).encode()
        (self.folder / exchange.JUDGED).write_bytes(raw)

    def verdict(self):
        said = json.loads(self.received)
        config = configs.from_json(said["config"])
        in_force = configs.from_json(self.asked["in_force"])
        return {
            **said,
            "of": hashlib.sha256(self.received).hexdigest(),
            "reason": "",
            "layers": [{"target": "lan", "key_epoch": 1, "version": 1}],
            "fallback": to_json(narrowed(in_force, config)),
            "held": {"of": said["hash"]},
            "held_committed": {"of": said["hash"], "committed": True},
            "trust_version": 1,
            "permits": [],
        }

    def poll(self):
        return self.returncode

    def communicate(self):
        return self.said, b""

    def kill(self):
        self.killed, self.returncode = True, -9


class Desk:
    """A ``Remote`` and the children it started; ``does`` is what the next ones do."""

    def __init__(self, folder, does="judges"):
        self.who = Who(
            device="pc-1", agent_version="0.1.0", folder=folder, identity=folder / "id", base=BASE
        )
        self.folder, self.does = folder / "remote", does
        self.children = []
        self.remote = Remote(self.who, ("judge",), self._start)
        self.remote.begin(at(0))

    def _start(self, words):
        assert list(words) == ["judge", str(self.folder), str(self.who.identity)]
        if isinstance(self.does, OSError):
            raise self.does
        self.children.append(Child(self.folder, self.does))
        return self.children[-1]

    def again(self, second=0, does="judges"):
        """The agent starts once more on the same folder."""
        made = object.__new__(Desk)
        made.who, made.folder, made.does, made.children = self.who, self.folder, does, []
        made.remote = Remote(made.who, ("judge",), made._start)
        made.remote.begin(at(second))
        return made

    def bring(self, config, name="a", second=0, attempt=0):
        self.remote.bring(bundle(config, name, attempt), at(second))

    def steps(self, second, look=STEADY, times=2):
        for _ in range(times):
            self.remote.step(look, at(second))

    def commit(self, config, name="a", second=0):
        self.bring(config, name, second)
        self.steps(second)
        self.steps(second + 1, BACK)
        assert self.state is ConfigState.COMMITTED

    @property
    def state(self):
        return self.remote.report.state

    @property
    def on_disk(self):
        return state_file.read(self.folder, BASE)
