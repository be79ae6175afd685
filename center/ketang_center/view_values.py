"""What views take and return: frozen values, with nothing in them a scope did not allow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ketang_center.access.accounts import Accounts
from ketang_center.access.audit import Audit
from ketang_center.access.scope import Scope
from ketang_center.access.sessions import Sessions
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.settings import Enrolment
from ketang_center.metrics.figures import Counts, DayState, DayUse
from ketang_center.metrics.rollup import RollupReader
from ketang_center.metrics.windows import Cell, Happening
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Posted, Unit
from ketang_center.security import SecurityLog
from ketang_center.settings import Oidc
from ketang_center.states import Connection, Freshness, UseNow
from ketang_center.store.base import Account, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What pages read from, and how this centre is set up. All read from one thread.

    Attributes:
        clock: the centre's time, UTC milliseconds.
        home: what a viewer of the demo sees who has chosen nothing.
        demo: fictitious schools; pages say so, nobody logs in, and anyone may change the role.
        oidc: a provider that vouches for people, if there is one.
        own_device: this machine's own agent, shown on its school's first page.
        book: who may come in and who is in; None where nothing of enrolment is shown.
        enrolment: how this centre lets devices in; None: it enrols nobody.
        data_dir: where the files are, for long work on connections of its own.
    """

    registry: Registry
    rollups: RollupReader
    reading: Reading
    clock: Callable[[], int]
    home: Scope
    accounts: Accounts
    sessions: Sessions
    security: SecurityLog
    audit: Audit
    demo: bool = False
    own_device: str | None = None
    oidc: Oidc | None = None
    book: Book | None = None
    enrolment: Enrolment | None = None
    data_dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A device as a list shows it. None where the scope does not allow a look."""

    posted: Posted
    path: tuple[Unit, ...]
    """From school to room."""
    connection: Connection | None
    """As of now, like ``use``; so None too where the device stands elsewhere by now."""
    since_ms: int
    freshness: Freshness
    age_ms: int | None
    use: UseNow | None
    day: DayState | None
    attention: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A unit in the tree with its figures; ``counts`` is None where a cell would be too small."""

    unit: Unit
    depth: int
    in_service: int
    attention: int
    counts: Counts | None
    lessons: bool
    """Whether any of its schools had lessons that day; what had none is in no denominator."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of every number given out by the devices in view."""

    head: int
    stored: int
    dropped: int
    refused: int
    quarantined: int

    @property
    def missing(self) -> int:
        """Given out and not accounted for yet: on their way."""
        return self.head - self.stored - self.dropped - self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The first page."""

    day: date
    today: date
    first_day: date | None
    unit: Unit
    path: tuple[Unit, ...]
    in_service: int
    personal: int
    counts: Counts | None
    attention: int
    branches: tuple[Branch, ...]
    connections: Mapping[Connection, int]
    totals: Totals | None
    own: Row | None
    own_cells: Mapping[int, Cell]
    no_lessons: bool
    uncounted: int
    """Devices in service at schools that had no lessons while others had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list is narrowed to; empty means everything."""

    unit: str | None = None
    q: str = ""
    connection: str = ""
    freshness: str = ""
    day_state: str = ""
    attention: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDay:
    """One device's day."""

    row: Row
    day: date
    today: date
    first_day: date | None
    figures: DayUse | None
    cells: Mapping[int, Cell]
    """By cell of the local day, 0 to 287; what is not there was not reported."""
    events: tuple[Happening, ...]
    lessons: tuple[tuple[int, int], ...]
    host: Mapping[str, object] | None
    network: Mapping[str, object] | None
    accounts: tuple[Account, ...]
