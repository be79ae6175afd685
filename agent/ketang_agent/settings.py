"""What this device was told at installation: who it is, whom it obeys, where the broker is."""

from dataclasses import dataclass
from pathlib import Path

from ketang_agent.uplink.client import Broker
from ketang_contract.tables import MAX_PATH, MOST_PORT, Table, read_table

_KEYS = (
    "device",
    "center_id",
    "profile",
    "data_dir",
    "broker_host",
    "broker_port",
    "ca",
    "certificate",
    "key",
    "local_port",
    "log_level",
    "contact",
    "occupancy",
)
_MOST_CONTACT = 1000
LOG_LEVELS = ("debug", "info", "warning", "error")
LOCAL_PORT = 8765


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancySettings:
    """Where people are counted. Whether they may be is for the profile, the grant and the switch.

    ``source`` is a video file, a folder of pictures, or the URL of a stream on this machine.
    """

    source: str
    model: str = "mtcnn"
    scan_s: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One file, ``agent.toml``; paths in it are relative to it."""

    device: str
    center_id: str
    profile: str
    data_dir: Path
    broker: Broker
    local_port: int = LOCAL_PORT
    """Of the page on this machine; 0: any free one."""
    log_level: str = "info"
    contact: str = ""
    """Whom to ask about this device, for the page on it; the school's own words."""
    occupancy: OccupancySettings | None = None


def read(path: Path) -> Settings:
    """Read an ``agent.toml``.

    Raises:
        BadInput: the file, the key, and what is accepted, in one line.
    """
    here, said = path.resolve().parent, read_table(path)
    said.allow(*_KEYS)
    return Settings(
        device=said.identifier("device"),
        center_id=said.identifier("center_id"),
        profile=said.text("profile"),
        data_dir=here / said.text("data_dir", most=MAX_PATH),
        broker=Broker(
            host=_host(said),
            port=said.integer("broker_port", 1, MOST_PORT, 8883),
            ca_file=here / said.text("ca", most=MAX_PATH),
            certificate_file=here / said.text("certificate", most=MAX_PATH),
            key_file=here / said.text("key", most=MAX_PATH),
        ),
        local_port=said.integer("local_port", 0, MOST_PORT, LOCAL_PORT),
        log_level=said.one_of("log_level", LOG_LEVELS, "info"),
        contact=said.text("contact", "", most=_MOST_CONTACT),
        occupancy=_occupancy(here, said.table("occupancy")) if "occupancy" in said else None,
    )


def _host(said: Table) -> str:
    """Read the broker's name; one that no resolver takes must not first fail in a thread."""
    name = said.text("broker_host", most=MAX_PATH)
    try:
        name.encode("idna")
    except UnicodeError as problem:
        raise said.wrong("broker_host", f"{name!r} is no host name: {problem}") from None
    return name


def _occupancy(here: Path, said: Table) -> OccupancySettings:
    """Read ``[occupancy]``; a path in it is relative to the file, as everywhere."""
    said.allow("source", "model", "scan_s")
    source = said.text("source", most=MAX_PATH)
    if "://" not in source and not source.isdecimal():  # a camera's number is refused by name
        source = str(here / source)
    return OccupancySettings(
        source=source,
        model=said.identifier("model", "mtcnn"),
        scan_s=said.integer("scan_s", 1, 300, 10),
    )
