"""What one kind of device collects, how often, and how much it may keep: one TOML file a kind.

Read by the agent's supervisor, so standard library only. A file is checked whole before anything of
it is used; what is wrong is told in one line: file, key, what is accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from ketang_contract.errors import BadInput
from ketang_contract.records import Category
from ketang_contract.tables import Table, hint, read_table

_HERE = Path(__file__).parent
_LISTS = _HERE / "foreground"
_MAX_NAME = 64
_SPOOL_MB = (8, 4096)


class Kind(StrEnum):
    """The kinds of device a region reports."""

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


class ReportedBy(StrEnum):
    """Who speaks for a device of this kind."""

    AGENT = "agent"
    """The agent runs on the device itself."""
    GATEWAY = "gateway"
    """A gateway's agent asks it, and names it as the record's subject."""
    FEED = "feed"
    """A browser or a management system's export; no agent ever runs on it."""


_COLLECTED_BY: Mapping[ReportedBy, frozenset[str]] = MappingProxyType(
    {
        ReportedBy.GATEWAY: frozenset({"host", "network", "environment", "inventory"}),
        ReportedBy.FEED: frozenset({"inventory"}),
    }
)
"""What can be learnt of a device from outside; an agent on it may collect everything."""


@dataclass(frozen=True, slots=True)
class _Interval:
    """Seconds between samples: the accepted range, and why it is no wider."""

    least_s: int
    most_s: int


_COLLECTORS: Mapping[str, _Interval] = MappingProxyType(
    {
        # A sample credits at most 60 s, so a slower one would leave seconds unknown.
        "usage": _Interval(10, 60),
        # At least one look a window of 300 s, at most what a window keeps.
        "host": _Interval(5, 300),
        "network": _Interval(5, 300),
        "environment": _Interval(5, 300),
        "inventory": _Interval(300, 86_400),
        "security": _Interval(300, 86_400),
        # People are counted in windows of five minutes or more.
        "occupancy": _Interval(300, 3_600),
    }
)
COLLECTORS: tuple[str, ...] = tuple(_COLLECTORS)
"""Names a profile may give an interval; a collector without one is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much a device may keep."""

    spool_max_mb: int
    """Megabytes (2**20 bytes) of records on disk, waiting and kept; 0: it keeps none itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of device. ``foreground`` maps an executable's base name, lower case."""

    kind: Kind
    title_zh: str
    title_en: str
    reported_by: ReportedBy
    shared: bool
    """False for a personal device: its use leaves the centre only in groups of ten or more."""
    intervals_s: Mapping[str, int]
    inference: bool = False
    """Whether people may be counted here once a school has granted it. Never on by itself."""
    foreground: Mapping[str, Category] = field(default_factory=lambda: MappingProxyType({}))
    caps: Caps


def kinds() -> tuple[str, ...]:
    """Kinds that have a profile in this release."""
    return tuple(kind.value for kind in Kind)


def shipped(kind: str) -> Profile:
    """Read the profile of a kind that comes with this release.

    Raises:
        BadInput: no such kind; names the nearest.
    """
    if kind not in kinds():
        raise BadInput(f"kind '{kind}': unknown{hint(kind, kinds())}")
    return read(_HERE / f"{kind}.toml")


def read(path: Path) -> Profile:
    """Read and check one profile.

    Raises:
        BadInput: one line with the file, the key and what is accepted.
    """
    top = read_table(path)
    top.allow(
        "kind",
        "title_zh",
        "title_en",
        "reported_by",
        "shared",
        "inference",
        "intervals_s",
        "foreground",
        "caps",
    )
    intervals_s = _intervals(top.table("intervals_s"))
    foreground = _foreground(top.table("foreground")) if "foreground" in top.values else {}
    profile = Profile(
        kind=Kind(top.one_of("kind", kinds())),
        title_zh=top.text("title_zh"),
        title_en=top.text("title_en"),
        reported_by=ReportedBy(top.one_of("reported_by", [one.value for one in ReportedBy])),
        shared=top.boolean("shared"),
        intervals_s=MappingProxyType(intervals_s),
        inference=top.boolean("inference"),
        foreground=MappingProxyType(foreground),
        caps=_caps(top.table("caps")),
    )
    _refuse_contradictions(profile, top)
    return profile


def _refuse_contradictions(profile: Profile, top: Table) -> None:
    """Refuse what each field allows and no device can do, or no school would want."""
    by = profile.reported_by
    for name in profile.intervals_s:
        if name not in _COLLECTED_BY.get(by, COLLECTORS):
            raise top.wrong(
                f"intervals_s.{name}",
                f"cannot be reported by {by}; accepted: {', '.join(sorted(_COLLECTED_BY[by]))}",
            )
    if profile.foreground and "usage" not in profile.intervals_s:
        raise top.wrong("foreground", "is of no use without intervals_s.usage")
    if profile.inference and "occupancy" not in profile.intervals_s:
        raise top.wrong("inference", "true needs intervals_s.occupancy; accepted: false")
    if not profile.shared and "occupancy" in profile.intervals_s:
        raise top.wrong("intervals_s.occupancy", "a personal device never counts people; leave out")
    keeps, spool_max_mb = by is ReportedBy.AGENT, profile.caps.spool_max_mb
    if keeps != (spool_max_mb > 0):
        accepted = f"{_SPOOL_MB[0]} to {_SPOOL_MB[1]}" if keeps else "0, it keeps no records itself"
        raise top.wrong(
            "caps.spool_max_mb",
            f"{spool_max_mb} does not fit a device that is reported by {by}; accepted: {accepted}",
        )


def _caps(table: Table) -> Caps:
    table.allow("spool_max_mb")
    spool_max_mb = table.integer("spool_max_mb", 0, _SPOOL_MB[1])
    if 0 < spool_max_mb < _SPOOL_MB[0]:
        raise table.wrong(
            "spool_max_mb",
            f"{spool_max_mb} is too small; accepted: 0, or {_SPOOL_MB[0]} to {_SPOOL_MB[1]}",
        )
    return Caps(spool_max_mb=spool_max_mb)


def _intervals(table: Table) -> dict[str, int]:
    table.allow(*COLLECTORS)
    return {
        name: table.integer(name, _COLLECTORS[name].least_s, _COLLECTORS[name].most_s)
        for name in table.values
    }


def _foreground(table: Table) -> dict[str, Category]:
    """Merge the named lists and the profile's own entries; its own win, within it none repeats."""
    table.allow("lists", *(one.value for one in Category))
    merged: dict[str, Category] = {}
    known = sorted(one.stem for one in _LISTS.glob("*.toml"))
    for name in table.texts("lists") if "lists" in table.values else []:
        if name not in known:
            raise table.wrong("lists", f"'{name}' is unknown{hint(name, known)}")
        path = _LISTS / f"{name}.toml"
        listed = read_table(path)
        listed.allow(*(one.value for one in Category))
        merged.update(_executables(listed))
    merged.update(_executables(table))
    return merged


def _executables(table: Table) -> dict[str, Category]:
    found: dict[str, Category] = {}
    for category in Category:
        if category.value not in table.values:
            continue
        for name in table.texts(category.value):
            if not 0 < len(name) <= _MAX_NAME or "/" in name or "\\" in name:
                raise table.wrong(category.value, f"'{name}' is no base name of an executable")
            if found.setdefault(name.lower(), category) != category:
                raise table.wrong(
                    category.value, f"'{name}' is under {found[name.lower()]} already"
                )
    return found
