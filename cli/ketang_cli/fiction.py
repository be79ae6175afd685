"""The demo's fictitious region: places, thirty devices in three schools, and each one's habits.

No figure here stands under a real county's name. Every school is always in lesson, so that a demo
shows the same at any hour of any day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ketang_center.registry.values import (
    Calendar,
    Data,
    Device,
    Kind,
    Level,
    Placement,
    Service,
    ServiceState,
    Unit,
)

OWN = "this-machine"
"""The machine the demo runs on, in the first room of the first school."""
PLACES = (
    Unit(
        id="lanchuan",
        level=Level.REGION,
        name_zh="岚川自治区（虚构）",
        name_en="Lanchuan (fictitious)",
    ),
    Unit(id="yunxi", level=Level.CITY, parent="lanchuan", name_zh="云溪市", name_en="Yunxi City"),
    Unit(
        id="qinghe", level=Level.COUNTY, parent="yunxi", name_zh="青禾县", name_en="Qinghe County"
    ),
    Unit(
        id="songtai",
        level=Level.COUNTY,
        parent="yunxi",
        name_zh="松台区",
        name_en="Songtai District",
    ),
)
SCHOOLS = (
    Unit(
        id="qinghe-1",
        level=Level.SCHOOL,
        parent="qinghe",
        name_zh="青禾第一小学",
        name_en="Qinghe First Primary",
    ),
    Unit(
        id="liuwan",
        level=Level.SCHOOL,
        parent="qinghe",
        name_zh="柳湾中学",
        name_en="Liuwan Middle School",
    ),
    Unit(
        id="songtai-x",
        level=Level.SCHOOL,
        parent="songtai",
        name_zh="松台实验学校",
        name_en="Songtai School",
    ),
)
ROOMS = 5
_KINDS = (
    (Kind.IFP, "ifp", "交互大屏", "Panel"),
    (Kind.OPS_PC, "pc", "OPS 电脑", "OPS PC"),
)


class Habit(StrEnum):
    """How a simulated device lives."""

    BUSY = "busy"
    QUIET = "quiet"
    IDLE = "idle"
    """On all day, used by nobody."""
    OFF = "off"
    """Shut down in order many days ago, and not switched on since."""
    LOST = "lost"
    """Fell silent some days ago, without a shutdown."""
    NEVER = "never"
    """Registered, and never installed."""
    BLIND = "blind"
    """Its desktop does not tell how long nobody touched it."""
    FULL_DISK = "full_disk"
    HOT = "hot"
    FAULTY = "faulty"
    """Reports a standing fault of its own."""
    WRONG_CLOCK = "wrong_clock"
    """Its wall clock is an hour slow."""


_HABITS = {
    "qinghe-1-pc-2": Habit.FULL_DISK,
    "qinghe-1-ifp-4": Habit.OFF,
    "qinghe-1-pc-4": Habit.OFF,
    "qinghe-1-pc-5": Habit.QUIET,
    "liuwan-ifp-2": Habit.LOST,
    "liuwan-pc-1": Habit.BLIND,
    "liuwan-ifp-4": Habit.FAULTY,
    "liuwan-pc-5": Habit.NEVER,
    "liuwan-pc-3": Habit.QUIET,
    "songtai-x-ifp-3": Habit.IDLE,
    "songtai-x-pc-2": Habit.HOT,
    "songtai-x-ifp-5": Habit.WRONG_CLOCK,
    "songtai-x-pc-4": Habit.QUIET,
}


@dataclass(frozen=True, slots=True)
class Simulated:
    """One simulated device. ``counts_people``: its room's school granted it."""

    id: str
    kind: Kind
    school: str
    room: str
    name_zh: str
    name_en: str
    habit: Habit
    counts_people: bool


def simulated() -> tuple[Simulated, ...]:
    """Return the thirty devices."""
    return tuple(_simulated())


def _simulated() -> Iterator[Simulated]:
    for school in SCHOOLS:
        for no in range(1, ROOMS + 1):
            for kind, short, zh, en in _KINDS:
                device = f"{school.id}-{short}-{no}"
                yield Simulated(
                    device,
                    kind,
                    school.id,
                    room_of(school.id, no),
                    f"{zh} {no}",
                    f"{en} {no}",
                    _HABITS.get(device, Habit.BUSY),
                    counts_people=kind is Kind.IFP and school.id != "liuwan",
                )


def room_of(school: str, no: int) -> str:
    """Return the id of a school's room."""
    return f"{school}-room-{no}"


def registry_data(since_ms: int) -> Data:
    """Return the whole region, everything in service since a moment (UTC milliseconds)."""
    rooms = tuple(
        Unit(
            id=room_of(school.id, no),
            level=Level.ROOM,
            parent=school.id,
            name_zh=f"{no} 年级 1 班",
            name_en=f"Class {no}-1",
        )
        for school in SCHOOLS
        for no in range(1, ROOMS + 1)
    )
    own = Device(id=OWN, kind=Kind.OPS_PC, name="本机", name_en="This machine", shared=True)
    devices = (
        own,
        *(
            Device(id=one.id, kind=one.kind, name=one.name_zh, name_en=one.name_en, shared=True)
            for one in simulated()
        ),
    )
    where = {OWN: room_of(SCHOOLS[0].id, 1)} | {one.id: one.room for one in simulated()}
    return Data(
        units=(*PLACES, *SCHOOLS, *rooms),
        devices=devices,
        placements=tuple(
            Placement(device=device, room=room, from_ms=since_ms) for device, room in where.items()
        ),
        services=tuple(
            Service(device=device, state=ServiceState.IN_SERVICE, from_ms=since_ms)
            for device in where
        ),
        calendars=tuple(Calendar(school=one.id, always_in_lesson=True) for one in SCHOOLS),
    )
