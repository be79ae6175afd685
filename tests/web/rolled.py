"""Rollouts in the fictitious region: signed releases, placements, and devices that answer."""

import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

from ketang_center.access.policy import Role
from ketang_center.access.scope import Scope
from ketang_center.registry.database import Registry
from ketang_center.registry.values import (
    Data,
    Device,
    Kind,
    Level,
    Placement,
    Service,
    ServiceState,
    Unit,
)
from ketang_center.rollouts import placing
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.bundles import Composer
from ketang_center.rollouts.engine import Engine, Sources
from ketang_center.rollouts.hearing import Inbox
from ketang_center.store.base import Presence
from ketang_center.web.rollout_desk import office_beside, trust_of
from ketang_contract.config import Config
from ketang_contract.layers import Placement as SignedPlacement
from ketang_contract.releases import write
from tests.configs import DAY_S, Signers
from tests.rollouts import FakeDevice
from tests.web.enrolled import enrolment, region
from tests.web.seed import NOW_MS, populate, seeded

PEOPLE = (
    ("publisher", [(Role.PUBLISHER, "lan")]),
    ("approver", [(Role.APPROVER, "lan")]),
    ("county-publisher", [(Role.PUBLISHER, "lan-xian")]),
    ("county-operator", [(Role.OPERATOR, "lan-xian")]),
)
SLOWER, WIDER = Config(host_s=300), Config(usage_s=10)
"""What widens nothing on any kind of device, and what needs two people."""


class World:
    """A centre's rollouts with an engine that is stepped, and a device behind every id.

    ``context`` is the console's. The clock stands still but for ``steps``.
    """

    def __init__(self, context, clock) -> None:
        self.context, self.clock = context, clock
        self.folder = context.data_dir
        self.signers = Signers(region())
        self.devices: dict[str, FakeDevice] = {}
        self.sent: list[str] = []
        self._last = 0

    def signed(self, content=SLOWER, target="lan", level="region", **more) -> bytes:
        """Sign a release file."""
        issued = {"issued_s": self.clock.now_ms // 1000, **more}
        return write(self.signers.release(target, level, content, **issued))

    def placements(self, *devices) -> list[bytes]:
        """Sign where devices stand, as the register has it; none named: all."""
        context, now_s = self.context, self.clock.now_ms // 1000
        tree, found = context.registry.tree(), []
        for one in context.registry.in_service(self.clock.now_ms, self.clock.now_ms + 1):
            if devices and one.device.id not in devices:
                continue
            self._last = max(now_s, self._last + 1)
            made = SignedPlacement(
                device=one.device.id,
                key_epoch=1,
                version=self._last,
                path=placing.way(tree, one.room),
                least=(),
                issued_s=now_s,
                expires_s=now_s + 30 * DAY_S,
            )
            found.append(self.signers.seal(made, self.signers.keys))
        return found

    def place(self, *devices) -> None:
        with office_beside(self.context, self.folder) as (office, _):
            taken = office.take_placements(self.placements(*devices), "publisher")
            assert not taken.refused, taken.refused[:3]

    @contextmanager
    def office(self):
        with office_beside(self.context, self.folder) as (office, _):
            yield office

    @contextmanager
    def running(self):
        """Give ``steps(count)``: the engine goes on, with connections of its own."""
        inbox = Inbox()
        trust = trust_of(self.context.enrolment)

        def say(topic: str, payload: bytes) -> Callable[[], bool]:
            device = topic.split("/")[3]
            self.sent.append(device)
            said = self.device(device).take(payload)
            if said is not None:
                inbox.hear(device, said, self.clock.now_ms)
            return lambda: True

        with (
            RolloutBook(self.folder / "rollouts.db") as book,
            Registry(self.folder / "registry.db") as registry,
        ):
            engine = Engine(
                book,
                registry,
                Composer(book, trust, lambda *_: ()),
                say,
                inbox,
                Sources(
                    presence=list,
                    hearing_since_ms=lambda: NOW_MS - 1000,
                    revisions=lambda: (0, trust.latest().version),
                ),
            )
            for one in book.all_placed():
                device = self.device(one)
                if device.connected:
                    inbox.hear(one, device.birth(), self.clock.now_ms)
                    inbox.hear(one, device.reported(), self.clock.now_ms)

            def steps(count: int = 20, every_ms: int = 500) -> None:
                for _ in range(count):
                    self.clock.now_ms += every_ms
                    engine.step(self.clock.now_ms)

            yield steps

    def device(self, name: str) -> FakeDevice:
        return self.devices.setdefault(name, FakeDevice(name))


class Clock:
    """The centre's, set by hand."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@contextmanager
def rolled(folder):
    """Give a ``World`` over a seeded region, with people of every role."""
    clock = Clock()
    home = Scope(Level.REGION, "lan")
    with seeded(folder, demo=False, home=home, clock=clock) as (context, *_):
        populate(context.accounts)
        populate(context.accounts, PEOPLE)
        yield World(replace(context, enrolment=enrolment()), clock)


KINDS = (Kind.IFP, Kind.OPS_PC, Kind.LAB_PC, Kind.TEACHER_PC)


def more_schools(world: World, schools: int, rooms: int) -> None:
    """Let the county have many more schools, with four devices a room, most of them connected."""
    units, devices, stays = [], [], []
    for at in range(schools):
        school = f"x{at}"
        names = (f"云溪第{at + 1}小学", f"Yunxi Primary {at + 1}")
        unit = Unit(
            id=school, parent="lan-xian", level=Level.SCHOOL, name_zh=names[0], name_en=names[1]
        )
        units.append(unit)
        for no in range(rooms):
            room = f"{school}-r{no}"
            units.append(
                Unit(
                    id=room,
                    parent=school,
                    level=Level.ROOM,
                    name_zh=f"{no + 1} 班",
                    name_en=f"Class {no + 1}",
                )
            )
            for kind in KINDS:
                name = f"{school}-{kind.value.replace('_', '-')}-{no}"
                shared = kind is not Kind.TEACHER_PC
                devices.append(Device(id=name, kind=kind, name=name, shared=shared))
                stays.append(Placement(device=name, room=room, from_ms=1))
                if zlib.crc32(name.encode()) % 9:
                    world.context.reading.set_presence(
                        Presence(name, 1, True, False, NOW_MS - 60_000, NOW_MS - 60_000, "0.2.0")
                    )
                else:
                    world.device(name).connected = False
    services = (Service(device=one.id, state=ServiceState.IN_SERVICE, from_ms=1) for one in devices)
    world.context.registry.load(
        Data(
            units=tuple(units),
            devices=tuple(devices),
            placements=tuple(stays),
            services=tuple(services),
        )
    )
