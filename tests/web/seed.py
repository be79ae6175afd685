"""A fictitious region with three schools and two days of data, ending at a fixed moment."""

import random
import shutil
from contextlib import contextmanager
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from ketang_center.access import passwords
from ketang_center.access.accounts import Accounts
from ketang_center.access.audit import Audit
from ketang_center.access.database import AccountsFile
from ketang_center.access.policy import Grant, Role
from ketang_center.access.scope import Scope
from ketang_center.access.sessions import Sessions
from ketang_center.enrolment.book import Book
from ketang_center.metrics.rollup import Rollup, RollupReader
from ketang_center.registry.calendars import HOUR_MS, day_starts_ms
from ketang_center.registry.database import Registry
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
from ketang_center.security import SecurityLog
from ketang_center.store.base import Account, Presence
from ketang_center.view_values import Context
from ketang_contract.ledger import Ledger
from ketang_contract.ranges import RangeSet
from ketang_contract.records import (
    Categories,
    Event,
    EventName,
    Fault,
    Host,
    IdleSource,
    Network,
    Occupancy,
    Stream,
    Usage,
    View,
)
from tests.web.fakes import FakeReading, row

TODAY = date(2026, 3, 11)
YESTERDAY = date(2026, 3, 10)
NOW_MS = day_starts_ms(TODAY) + 14 * HOUR_MS + 37 * 60_000
CELL_MS = 300_000
OWN = "own-1"
PLACES = (
    ("lan", None, Level.REGION, "岚川自治区（虚构）", "Lanchuan (fictitious)"),
    ("lan-shi", "lan", Level.CITY, "云溪市", "Yunxi City"),
    ("lan-xian", "lan-shi", Level.COUNTY, "青禾县", "Qinghe County"),
    ("lan-qu", "lan-shi", Level.COUNTY, "松台区", "Songtai District"),
)
SCHOOLS = (
    ("s1", "lan-xian", "青禾第一小学", "Qinghe First Primary", 5),
    ("s2", "lan-xian", "柳湾中学", "Liuwan Middle School", 4),
    ("s3", "lan-qu", "松台实验学校", "Songtai School", 3),
)


def registry_data() -> Data:
    units = [
        Unit(id=i, parent=p, level=level, name_zh=zh, name_en=en) for i, p, level, zh, en in PLACES
    ]
    devices, placements, calendars = [], [], []
    start_ms = day_starts_ms(date(2026, 3, 1))
    for school, parent, zh, en, rooms in SCHOOLS:
        units.append(Unit(id=school, parent=parent, level=Level.SCHOOL, name_zh=zh, name_en=en))
        calendars.append(Calendar(school=school, always_in_lesson=True))
        for no in range(1, rooms + 1):
            room = f"{school}-r{no}"
            units.append(
                Unit(
                    id=room,
                    parent=school,
                    level=Level.ROOM,
                    name_zh=f"{no} 年级 1 班",
                    name_en=f"Class {no}-1",
                )
            )
            for kind, zh_kind, en_kind in (
                (Kind.IFP, "交互大屏", "Panel"),
                (Kind.OPS_PC, "OPS 电脑", "OPS PC"),
            ):
                device = f"{school}-{kind.value.replace('_', '-')}-{no}"
                devices.append(
                    Device(
                        id=device,
                        kind=kind,
                        name=f"{zh_kind} {no}",
                        name_en=f"{en_kind} {no}",
                        shared=True,
                    )
                )
                placements.append(Placement(device=device, room=room, from_ms=start_ms))
    devices.append(
        Device(id=OWN, kind=Kind.TEACHER_PC, name="本机", name_en="This machine", shared=True)
    )
    placements.append(Placement(device=OWN, room="s1-r1", from_ms=start_ms))
    devices.append(Device(id="t-1", kind=Kind.TEACHER_PC, name="教师电脑 1"))
    placements.append(Placement(device="t-1", room="s1-r1", from_ms=start_ms))
    return Data(
        units=tuple(units),
        devices=tuple(devices),
        placements=tuple(placements),
        calendars=tuple(calendars),
        services=tuple(
            Service(device=one.device, state=ServiceState.IN_SERVICE, from_ms=start_ms)
            for one in placements
        ),
    )


def lesson(chance: random.Random) -> Usage:
    pick = chance.random()
    if pick < 0.55:
        active = chance.randrange(120, 301)
        return Usage(
            window_s=300,
            active_s=active,
            idle_s=300 - active,
            idle_source=IdleSource.XSCREENSAVER,
            categories=Categories(whiteboard=active),
        )
    if pick < 0.8:
        return Usage(
            window_s=300,
            presenting_s=240,
            idle_s=60,
            categories=Categories(media=240),
            idle_source=IdleSource.XSCREENSAVER,
        )
    return Usage(window_s=300, idle_s=300, idle_source=IdleSource.XSCREENSAVER)


def heads(chance: random.Random) -> Occupancy:
    if chance.random() < 0.1:
        return Occupancy(window_s=300, view=View.DARK)
    median = chance.choice(["few", 0, 18, 27, 31, 34])
    p90 = median + chance.randrange(0, 6) if isinstance(median, int) and median else median
    return Occupancy(window_s=300, view=View.OK, scans=30, median=median, p90=p90)


def fill_day(reading: FakeReading, device: str, day: date, until_ms: int, chance) -> None:
    start_ms = day_starts_ms(day) + 8 * HOUR_MS
    booted_ms = start_ms - 60_000
    rows = [row(device, start_ms, Event(name=EventName.AGENT_STARTED), booted_ms=booted_ms)]
    last_ms = min(until_ms - CELL_MS, start_ms + 9 * HOUR_MS)
    for at_ms in range(start_ms, last_ms + 1, CELL_MS):
        rows.append(row(device, at_ms, lesson(chance), booted_ms=booted_ms))
        rows.append(row(device, at_ms, heads(chance), booted_ms=booted_ms))
    rows.append(
        row(
            device,
            last_ms,
            Host(
                window_s=300,
                cpu_mean_pct=12,
                memory_used_pct=48,
                disk_free_pct=6 if "-3" in device else 55,
                temperature_max_c=61,
                uptime_s=20_000,
            ),
            booted_ms=booted_ms,
        )
    )
    rows.append(
        row(
            device,
            last_ms,
            Network(
                window_s=300,
                link="ethernet",
                link_mbps=1000,
                ipv4="private",
                ipv6="global",
                rtt_ms=4,
            ),
            booted_ms=booted_ms,
        )
    )
    reading.add(device, *rows)
    if until_ms > start_ms + 9 * HOUR_MS:
        reading.add(
            device,
            row(
                device,
                start_ms + 9 * HOUR_MS + 400_000,
                Event(name=EventName.SHUTDOWN),
                booted_ms=booted_ms,
            ),
        )


def fill(reading: FakeReading, data: Data) -> None:
    """s1-ifp-2 was shut down yesterday, s2-ifp-2 fell silent, s2-ops-pc-4 never came."""
    chance = random.Random(7)
    yesterday_end = day_starts_ms(TODAY)
    for one in data.devices:
        device = one.id
        if device == OWN:
            reading.set_presence(Presence(device, 1, True, False, NOW_MS - 120_000, 0, "0.1.0"))
            continue
        if device == "s2-ops-pc-4":
            continue
        silent = device == "s2-ifp-2"
        fill_day(
            reading, device, YESTERDAY, yesterday_end - (12 * HOUR_MS if silent else 0), chance
        )
        gone = silent or device == "s1-ifp-2"
        if not gone:
            fill_day(reading, device, TODAY, NOW_MS, chance)
        since_ms = yesterday_end - 8 * HOUR_MS if gone else day_starts_ms(TODAY) + 8 * HOUR_MS
        reading.set_presence(
            Presence(
                device,
                3,
                not gone,
                gone and not silent,
                since_ms,
                since_ms if gone else NOW_MS - 90_000,
                "0.1.0",
                faults=(Fault.COLLECTOR_FAILING,) if device == "s3-ifp-1" else (),
            )
        )
        reading.ledgers.append(
            Account(device, "store1", Stream.USE, Ledger(head=400, stored=RangeSet.span(1, 400)))
        )
    reading.feed.clear()


PASSWORD = "seven wet umbrellas"  # noqa: S105  (of fictitious people)
PEOPLE = (
    ("root", [(one, "lan") for one in Role]),
    ("county", [(Role.VIEWER, "lan-xian")]),
    ("county-admin", [(Role.ADMIN, "lan-xian")]),
    ("other-county", [(Role.VIEWER, "lan-qu")]),
    ("school", [(Role.VIEWER, "s1")]),
    ("school-operator", [(Role.OPERATOR, "s1")]),
    ("two", [(Role.VIEWER, "lan-xian"), (Role.VIEWER, "s3")]),
    ("nothing", []),
)


@contextmanager
def offices(folder: Path):
    """Give what a ``Context`` needs besides figures: accounts, sessions, security log, audit."""
    people = AccountsFile(folder / "accounts.db")
    security, audit = SecurityLog(folder / "security.db"), Audit(folder / "audit.db")
    book = Book(folder / "enrolment.db")
    try:
        yield {
            "accounts": Accounts(people),
            "sessions": Sessions(people),
            "security": security,
            "audit": audit,
            "book": book,
            "data_dir": folder,
        }
    finally:
        book.close()
        people.close()
        security.close()
        audit.close()


@cache
def hash_of_the_password() -> str:
    return passwords.hashed(PASSWORD)


def populate(accounts: Accounts, people=PEOPLE) -> None:
    """Add one account for each kind of visitor, all with ``PASSWORD``."""
    for name, grants in people:
        accounts.add(name, name.title(), hash_of_the_password(), must_change=False, at_ms=NOW_MS)
        for role, unit in grants:
            accounts.grant(name, Grant(role, unit))


@cache
def _made() -> tuple[Path, FakeReading]:
    """Make the region and all its figures, once for a run: hundreds of tests begin with them."""
    folder, data, reading = Path(mkdtemp(prefix="ketang-seed-")), registry_data(), FakeReading()
    with (
        Registry(folder / "registry.db") as registry,
        Rollup(reading, folder / "rollup.db", registry) as rollup,
    ):
        registry.load(data)
        fill(reading, data)
        while rollup.step(200):
            pass
    return folder, reading


def _copied(folder: Path) -> FakeReading:
    made, reading = _made()
    for file in made.iterdir():
        shutil.copy(file, folder)
    return reading.copy()


@contextmanager
def seeded(
    folder: Path, *, demo: bool = True, home: Scope | None = None, clock=lambda: NOW_MS, oidc=None
):
    """Give ``(context, reading, rollup)`` over real registry and rollup files in a folder."""
    reading = _copied(folder)
    with (
        Registry(folder / "registry.db") as registry,
        Registry(folder / "registry.db") as registry_of_rollup,
        Rollup(reading, folder / "rollup.db", registry_of_rollup) as rollup,
        offices(folder) as parts,
    ):
        rollups = RollupReader(folder / "rollup.db")
        try:
            yield (
                Context(
                    registry=registry,
                    rollups=rollups,
                    reading=reading,
                    clock=clock,
                    demo=demo,
                    home=home or Scope(Level.SCHOOL, "s1"),
                    own_device=OWN,
                    oidc=oidc,
                    **parts,
                ),
                reading,
                rollup,
            )
        finally:
            rollups.close()
