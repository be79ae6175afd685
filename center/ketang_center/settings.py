"""What the centre was told at installation: where its data, its broker and its console are."""

from dataclasses import dataclass
from pathlib import Path

from ketang_center.ingest.subscriber import Ear
from ketang_contract.tables import MAX_PATH, MOST_PORT, read_table

_KEYS = (
    "data_dir",
    "broker_host",
    "broker_port",
    "ca",
    "certificate",
    "key",
    "web_host",
    "web_port",
    "home",
    "demo",
    "own_device",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One file, ``center.toml``; paths in it are relative to it.

    Attributes:
        home: the unit whose figures the console shows; empty: the top of the registry.
        demo: fictitious schools; pages say so, and let a viewer change the role.
        own_device: this machine's own agent, shown first on its school's page.
    """

    data_dir: Path
    ear: Ear
    web_host: str
    web_port: int
    home: str = ""
    demo: bool = False
    own_device: str = ""


def read(path: Path) -> Settings:
    """Read a ``center.toml``.

    Raises:
        BadInput: the file, the key, and what is accepted, in one line.
    """
    here, said = path.resolve().parent, read_table(path)
    said.allow(*_KEYS)
    return Settings(
        data_dir=here / said.text("data_dir", most=MAX_PATH),
        ear=Ear(
            host=said.text("broker_host", most=MAX_PATH),
            port=said.integer("broker_port", 1, MOST_PORT, 8883),
            ca_file=here / said.text("ca", most=MAX_PATH),
            certificate_file=here / said.text("certificate", most=MAX_PATH),
            key_file=here / said.text("key", most=MAX_PATH),
        ),
        web_host=said.text("web_host", "127.0.0.1", most=MAX_PATH),
        web_port=said.integer("web_port", 0, MOST_PORT, 8080),
        home=said.text("home", ""),
        demo=said.boolean("demo", default=False),
        own_device=said.text("own_device", ""),
    )
