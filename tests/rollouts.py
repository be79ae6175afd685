"""A centre's rollouts without its process: book, office and engine, a clock that is set, devices
that answer as they are told to.

``Scene(region, folder)`` shares a region's keys and has files of its own.
"""

import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace

from ketang_center.access.audit import Audit
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data, Device, Kind, Level, Placement, Service, Unit
from ketang_center.registry.values import ServiceState as InService
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.bundles import Composer
from ketang_center.rollouts.engine import Engine, Sources
from ketang_center.rollouts.filings import Filings
from ketang_center.rollouts.hearing import Inbox
from ketang_center.rollouts.office import Office
from ketang_center.rollouts.trusting import TrustHeld
from ketang_contract import layers, signatures, validate
from ketang_contract.batch import Sent
from ketang_contract.config import Config
from ketang_contract.layers import LAYER_TYPE, PLACEMENT_TYPE, Layer, LayerAt
from ketang_contract.releases import write
from ketang_contract.state import Birth, ConfigReport, ConfigState, Death, Reported
from ketang_contract.trust import read_accepted
from tests.configs import Signers
from tests.regions import UNITS, Region

WALL_MS = 1_790_000_000_000
KINDS = (Kind.OPS_PC, Kind.IFP, Kind.LAB_PC)
SENT = Sent(wall_ms=WALL_MS, boottime_ms=1, boot_id="boot-1")
CENTER, OTHER = "publisher", "approver"


class FakeDevice:
    """What a device is to the centre: it hears a bundle and says what became of it.

    ``answer`` is the state it comes to; None: it says nothing. ``queue`` holds words to be heard.
    """

    def __init__(self, name: str) -> None:
        self.name, self.answer, self.reason = name, ConfigState.COMMITTED, ""
        self.report = ConfigReport()
        self.session, self.connected = 1, True
        self.bundles: list[layers.Desired] = []
        self.tried: Counter = Counter()

    def take(self, raw: bytes) -> Reported | None:
        desired = layers.read_desired(raw)
        self.bundles.append(desired)
        name, at = read_bundle(desired)
        if not self.connected or self.answer is None:
            return None
        known = self.report.desired == name and self.report.attempt >= desired.attempt
        if not known:
            self.tried[name, desired.attempt] += 1
            self.report = replace(
                self.report,
                state=self.answer,
                desired=name,
                attempt=desired.attempt,
                reason=self.reason,
            )
            if self.answer is ConfigState.COMMITTED:
                self.report = replace(self.report, running=name, layers=at)
            if self.answer in {ConfigState.ROLLED_BACK, ConfigState.REJECTED}:
                self.report = replace(self.report, failed=name)
        return self.reported()

    def take_trust(self, desired: layers.Desired) -> None:
        """Take over the newest trust document of a bundle, whatever else it brings."""
        for raw in desired.trust:
            version = max(self.report.trust_version, read_accepted(raw).version)
            self.report = replace(self.report, trust_version=version)

    def reported(self) -> Reported:
        return Reported(
            session=self.session,
            sent=SENT,
            agent_version="0.2.0",
            profile="ops_pc",
            config=self.report,
        )

    def birth(self) -> Birth:
        return Birth(
            session=self.session,
            sent=SENT,
            agent_version="0.2.0",
            schema_oldest=1,
            schema_newest=1,
            config_running=self.report.running,
            config_desired=self.report.desired,
        )


def read_bundle(desired: layers.Desired) -> tuple[str, tuple[LayerAt, ...]]:
    """Name a bundle, and the places of its layers."""
    opened = [signatures.unverified(one, LAYER_TYPE) for one in desired.layers]
    placement = layers.digest(
        PLACEMENT_TYPE, signatures.unverified(desired.placement, PLACEMENT_TYPE)
    )
    read = [validate.signed(Layer, one) for one in opened]
    at = (LayerAt(target=one.target, key_epoch=one.key_epoch, version=one.version) for one in read)
    name = layers.config_hash(placement, (layers.digest(LAYER_TYPE, one) for one in opened))
    return name, tuple(sorted(at))


class Scene:
    """Devices ``d0``, ``d1`` and on, spread over the schools and three kinds."""

    def __init__(self, region: Region, folder, count: int = 30, schools: int = 2) -> None:
        self.folder, self.region, self.signers = folder, region, Signers(region)
        folder.mkdir(parents=True, exist_ok=True)
        self.now_ms = self.signers.trust.issued_s * 1000 + 3_600_000
        self.hearing_ms: int | None = self.now_ms - 1000
        self.schools = tuple(f"s{at}" for at in range(1, schools + 1))
        self.devices = {f"d{at}": FakeDevice(f"d{at}") for at in range(count)}
        self.published: list[tuple[str, bytes]] = []
        self.failing, self.taken = False, True
        self._stack = ExitStack()
        self._open()
        self._register()
        self.start()

    def _open(self) -> None:
        folder, enter = self.folder, self._stack.enter_context
        self.book = enter(RolloutBook(folder / "rollouts.db"))
        self.registry = enter(Registry(folder / "registry.db"))
        self.audit = Audit(folder / "audit.db")
        self._stack.callback(self.audit.close)
        self.filings = enter(Filings(folder / "filings.db", lambda: self.now_ms))
        raw = (self.region.center_folder / "trust.json").read_bytes()
        self.trust_documents = b"[" + raw + b"]"
        self.trust = TrustHeld(lambda: self.trust_documents)
        self.office = Office(
            self.book, self.registry, self.audit, self.trust, lambda: self.now_ms, self.filings
        )

    def _register(self) -> None:
        more = [one for one in self.schools if one not in {unit.id for unit in UNITS}]
        units = [
            *UNITS,
            *(
                Unit(id=one, level=Level.SCHOOL, parent="lan-xian", name_zh=one, name_en=one)
                for one in more
            ),
            *(
                Unit(id=f"{one}-r1", level=Level.ROOM, parent=one, name_zh="一班", name_en="1")
                for one in more
            ),
        ]
        names = list(self.devices)
        self.registry.load(
            Data(
                units=tuple(units),
                devices=tuple(
                    Device(id=one, kind=KINDS[at % 3], name=one) for at, one in enumerate(names)
                ),
                placements=tuple(
                    Placement(device=one, room=f"{self.school(one)}-r1", from_ms=1) for one in names
                ),
                services=tuple(
                    Service(device=one, state=InService.IN_SERVICE, from_ms=1) for one in names
                ),
            )
        )

    def school(self, device: str) -> str:
        return self.schools[int(device[1:]) // 3 % len(self.schools)]

    def path(self, device: str):
        school = self.school(device)
        above = (("region", "lan"), ("city", "lan-shi"), ("county", "lan-xian"))
        return (*above, ("school", school), ("room", f"{school}-r1"))

    def close(self) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the engine, as a centre does that was killed."""
        self.inbox = Inbox()
        composer = Composer(self.book, self.trust, self.filings.permits_for)
        self.engine = Engine(
            self.book,
            self.registry,
            composer,
            self.say,
            self.inbox,
            Sources(
                presence=list,
                hearing_since_ms=lambda: self.hearing_ms,
                revisions=lambda: (self.filings.version(), self.trust.latest().version),
            ),
        )
        self.greet(*self.devices)

    def greet(self, *names: str) -> None:
        for name in names:
            one = self.devices[name]
            if one.connected:
                self.inbox.hear(name, one.birth(), self.now_ms)
                self.inbox.hear(name, one.reported(), self.now_ms)

    def say(self, topic: str, payload: bytes):
        if self.failing:
            raise OSError("killed before the publish")
        device = topic.split("/")[3]
        self.published.append((device, payload))
        said = self.devices[device].take(payload)
        if said is not None:
            self.inbox.hear(device, said, self.now_ms)
        return lambda: self.taken

    def place(self, *names: str, **more) -> None:
        chosen = names or tuple(self.devices)
        made = [self.signers.placement(one, self.path(one), **more) for one in chosen]
        taken = self.office.take_placements(made, CENTER)
        assert not taken.refused, taken.refused[:3]

    def admit(self, content: Config | None = None, target="lan", level="region", **more):
        """Sign a release, admit it, and return what was signed."""
        signed = self.signers.release(target, level, content or Config(host_s=60), **more)
        self.office.admit(write(signed), CENTER)
        return signed

    def begin(self, signed, rules=None) -> int:
        name = self.signers.layer(signed.layer).release
        no = self.office.begin(name, CENTER, rules)
        if self.office.look.rollout(no).state == "awaiting":
            self.office.approve(no, OTHER)
        return no

    def push(self, content: Config | None = None, rules=None, **more) -> int:
        return self.begin(self.admit(content, **more), rules)

    def steps(self, count: int = 60, every_ms: int = 500) -> None:
        for _ in range(count):
            self.now_ms += every_ms
            self.engine.step(self.now_ms)

    def leave(self, name: str, *, orderly: bool = False) -> None:
        one = self.devices[name]
        one.connected = False
        self.inbox.hear(name, Death(session=one.session, orderly=orderly), self.now_ms)

    def come_back(self, name: str) -> None:
        one = self.devices[name]
        one.connected, one.session = True, one.session + 1
        self.greet(name)

    def counts(self, no: int) -> dict:
        found = self.office.look.status(no).counts
        return {state.value: count for state, count in found.items() if count}

    def state(self, no: int):
        return self.office.look.rollout(no).state.value

    def check_truth(self) -> None:
        """What the console shows of a device is what the device is, at rest."""
        for name, one in self.devices.items():
            shown = self.office.look.console_state(name)
            assert shown is None or shown == one.report, name


def new_region(folder) -> Region:
    return Region(folder)


def copy_of(scene: Scene, folder) -> None:
    shutil.copytree(scene.folder, folder)
