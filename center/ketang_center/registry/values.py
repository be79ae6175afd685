"""What the registry holds, as plain frozen values. All times are UTC milliseconds."""

from dataclasses import dataclass
from enum import StrEnum

from ketang_contract.errors import BadInput


class Level(StrEnum):
    """Floors of the organisation, from the top."""

    REGION = "region"
    CITY = "city"
    COUNTY = "county"
    SCHOOL = "school"
    ROOM = "room"

    @property
    def above(self) -> "Level | None":
        """The floor a unit's parent stands on; None at the top."""
        order = list(Level)
        at = order.index(self)
        return order[at - 1] if at else None


class Kind(StrEnum):
    """Kinds of device."""

    IFP = "ifp"
    OPS_PC = "ops_pc"
    TEACHER_PC = "teacher_pc"
    LAB_PC = "lab_pc"
    CLOUD_TERMINAL = "cloud_terminal"
    STUDENT_TABLET = "student_tablet"
    CLASS_BOARD = "class_board"
    RECORDER = "recorder"
    IOT_GATEWAY = "iot_gateway"
    ENV_SENSOR = "env_sensor"
    PROJECTOR = "projector"
    AP_SWITCH = "ap_switch"


class ServiceState(StrEnum):
    """Only what is in service stands in a denominator."""

    IN_SERVICE = "in_service"
    STOCK = "stock"
    REPAIR = "repair"
    LOST = "lost"
    SCRAPPED = "scrapped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A region, city, county, school or room."""

    id: str
    level: Level
    name_zh: str
    name_en: str
    parent: str | None = None

    def __post_init__(self) -> None:
        """Refuse a unit that hangs in the air."""
        if (self.parent is None) != (self.level is Level.REGION):
            raise BadInput(f"{self.id}: only a region has no parent")

    def name(self, lang: str) -> str:
        """Return the name in a language, ``zh`` or ``en``."""
        return self.name_en if lang == "en" else self.name_zh


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An asset. ``shared``: a class uses it; a teacher's PC is personal unless declared shared."""

    id: str
    kind: Kind
    name: str
    name_en: str = ""
    shared: bool = False

    @property
    def personal(self) -> bool:
        """Whether one person's habits show in its use (PRIVACY rule 6)."""
        return self.kind is Kind.STUDENT_TABLET or (
            self.kind is Kind.TEACHER_PC and not self.shared
        )

    def label(self, lang: str) -> str:
        """Return the name in a language; the Chinese one where there is no other."""
        return (self.name_en or self.name) if lang == "en" else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A device stands in a room from ``from_ms`` until before ``until_ms``; None: still."""

    device: str
    room: str
    from_ms: int
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A device's service state from ``from_ms`` until before ``until_ms``; None: still."""

    device: str
    state: ServiceState
    from_ms: int
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Lesson time on one weekday (Monday is 0), in minutes after local midnight."""

    weekday: int
    from_minute: int
    until_minute: int

    def __post_init__(self) -> None:
        """Refuse a span outside its day."""
        if not (0 <= self.weekday <= 6 and 0 <= self.from_minute < self.until_minute <= 24 * 60):  # noqa: PLR2004  (days of a week, hours of a day)
            raise BadInput(f"not a span of lesson time: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """When a school is in lesson. ``always_in_lesson`` is for demonstration schools."""

    school: str
    spans: tuple[Span, ...] = ()
    always_in_lesson: bool = False
    timezone: str = "Asia/Shanghai"

    def __post_init__(self) -> None:
        """Refuse a time zone this release cannot compute in."""
        if self.timezone != "Asia/Shanghai":
            raise BadInput(f"{self.school}: time zone {self.timezone} is not supported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A whole registry to load, parents before children."""

    units: tuple[Unit, ...] = ()
    devices: tuple[Device, ...] = ()
    placements: tuple[Placement, ...] = ()
    services: tuple[Service, ...] = ()
    calendars: tuple[Calendar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A device with the room and school it belonged to at the end of a stretch of time."""

    device: Device
    room: str
    school: str
    from_ms: int
    """When it came to this room."""
