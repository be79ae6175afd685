"""A device with a trust document, a centre's command key, and doers that count what they did."""

from dataclasses import dataclass, field
from pathlib import Path

from ketang_agent.clock import Instant
from ketang_agent.enrol.files import Place
from ketang_agent.remote.commands import Commands
from ketang_agent.remote.commands_doing import Doers
from ketang_agent.remote.commands_room import Room
from ketang_contract import signatures
from ketang_contract.commands import (
    COMMAND_TYPE,
    Answer,
    Command,
    Probed,
    What,
    payload,
    split_answer,
)
from ketang_contract.trust import PAYLOAD_TYPE, Purpose, RootKey, Trust, TrustedKey
from ketang_contract.validate import document
from ketang_provisioning.keys import key_id, make_ec, make_ed25519, public_pem

DEVICE = "s1-pc-1"
NOW_S = 1_800_000_000
DAY_S = 86_400
ROOT, COMMAND_KEY, OTHER_KEY, SCHOOL_KEY, STRANGER = (
    make_ed25519(),
    make_ec(),
    make_ec(),
    make_ec(),
    make_ec(),
)


def trusted(key, purpose, scope="", *, until_s=NOW_S + 900 * DAY_S):
    public = public_pem(key.public_key())
    return TrustedKey(
        key_id(key.public_key()), public, purpose, scope, "center", NOW_S - 90 * DAY_S, until_s
    )


def trust(**changes):
    root = RootKey(key_id(ROOT.public_key()), public_pem(ROOT.public_key()), "holder")
    said = {
        "version": 1,
        "issued_s": NOW_S - 90 * DAY_S,
        "expires_s": NOW_S + 900 * DAY_S,
        "threshold": 1,
        "roots": (root,),
        "keys": (
            trusted(COMMAND_KEY, Purpose.COMMAND),
            trusted(OTHER_KEY, Purpose.CONFIG),
            trusted(SCHOOL_KEY, Purpose.COMMAND, "s2"),
        ),
    }
    return Trust(**{**said, **changes})


def identity(folder: Path, held: Trust | None = None) -> Place:
    folder.mkdir(exist_ok=True)
    place = Place(folder)
    place.trust.write_bytes(signatures.seal((held or trust()).payload(), PAYLOAD_TYPE, [ROOT]))
    return place


def command(what=What.READ_INVENTORY, **changes) -> Command:
    said = {
        "device": DEVICE,
        "job": "job-1",
        "what": what,
        "who": "yunxi-it",
        "issued_s": NOW_S,
        "expires_s": NOW_S + 600,
        "countdown_s": 60 if what == What.SHUT_DOWN else None,
    }
    return Command(**{**said, **changes})


def sealed(one=None, key=COMMAND_KEY, kind=COMMAND_TYPE) -> bytes:
    return signatures.seal(payload(one or command()), kind, [key])


@dataclass
class Slow:
    """A question that a test answers."""

    latest: object = None
    asking: bool = False
    asked: int = 0

    def start(self):
        self.asked += 1


@dataclass
class Machine:
    """What the doers did, and what they will say."""

    archive: bytes = b"an archive"
    hours: bool = False
    why_not: str = ""
    used: bool | None = False
    did: list[str] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    pressed: bool = False
    desktop: bool = True
    problem: Exception | None = None
    probe: Slow = field(default_factory=lambda: Slow(Probed(rtt_ms=3)))
    bundle: Slow = field(default_factory=lambda: Slow(""))

    def doers(self) -> Doers:
        return Doers(
            read_inventory=lambda _: self._do("read") is None,
            probe=self.probe,
            bundle=self._bundle,
            restart=lambda: self._do("restart"),
            power_off=lambda: self._do("power_off"),
            why_not_after_hours=lambda _: "in_hours" if self.hours else self.why_not,
            in_use=lambda _: self.used,
            notice=self,
        )

    def _do(self, what):
        if self.problem:
            raise self.problem
        self.did.append(what)

    def _bundle(self, path):
        path.write_bytes(self.archive)
        return self.bundle

    def show(self, who, seconds):
        assert who
        self.shown.append(seconds)
        return self.desktop

    def cancelled(self):
        return self.pressed

    def close(self):
        self.did.append("closed")


class Device:
    """A supervisor's commands, with a clock that the test moves and the real judging child."""

    def __init__(self, folder: Path, machine: Machine | None = None, **more) -> None:
        self.folder, self.machine, self.room = folder / "remote", machine or Machine(), Room()
        self.folder.mkdir(exist_ok=True)
        self.place = identity(folder / "identity")
        self.wall_s, self.boot_ms, self.connected = NOW_S, 1_000_000, True
        self.sent: list[tuple[str, bytes]] = []
        self.commands = self.start(**more)

    def start(self, **more) -> Commands:
        self.commands = Commands(
            DEVICE, self.folder, self.place.folder, self.machine.doers(), self.room, **more
        )
        return self.commands

    @property
    def now(self) -> Instant:
        return Instant(self.wall_s * 1000, self.boot_ms, "boot-1")

    def take(self, raw, job="job-1", *, retained=False):
        self.commands.take(job, raw, retained, self.now)

    def step(self, seconds=1):
        self.wall_s += seconds
        self.boot_ms += seconds * 1000
        self.commands.step(self.now)
        self.commands.tell(self._say)

    def judged(self):
        """Step until nothing waits for the child; its time is real, the device's stands still."""
        self.commands.step(self.now)
        while self.commands._child or self.commands._waiting:
            if self.commands._child:
                self.commands._child.process.wait(60)
            else:
                self.boot_ms += 1000
            self.commands.step(self.now)
        self.commands.tell(self._say)

    def run(self, one: Command):
        """Have a good command judged and begun."""
        self.take(sealed(one), one.job)
        self.judged()

    def _say(self, job, raw):
        if self.connected:
            self.sent.append((job, raw))
        return self.connected

    @property
    def answers(self) -> list[Answer]:
        return [document(Answer, split_answer(raw)[0]) for _, raw in self.sent]

    @property
    def states(self) -> list[str]:
        return [one.state.value for one in self.answers]
