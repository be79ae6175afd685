"""What this device was told at installation: who it is, whom it obeys, where the broker is."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_agent.uplink.client import Broker
from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier

_TEXTS = ("device", "center_id", "profile", "data_dir", "broker_host", "ca", "certificate", "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One file, ``agent.toml``; paths in it are relative to it."""

    device: str
    center_id: str
    profile: str
    data_dir: Path
    broker: Broker


def read(path: Path) -> Settings:
    """Read an ``agent.toml``.

    Raises:
        BadInput: the file, the key, and what is accepted, in one line.
    """
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read ({problem.strerror}); name an agent.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise BadInput(f"{path}: not TOML: {problem}") from None
    unknown = sorted(set(said) - {*_TEXTS, "broker_port"})
    if unknown:
        raise BadInput(f"{path}: {unknown[0]}: unknown key; known: {', '.join(_TEXTS)}")
    for key in _TEXTS:
        if not isinstance(said.get(key), str) or not said[key]:
            raise BadInput(f"{path}: {key}: a text is needed")
    if not is_identifier(said["device"]):
        raise BadInput(f"{path}: device: a-z, 0-9 and '-' only, 36 at most")
    return _settings(path, said)


def _settings(path: Path, said: dict[str, Any]) -> Settings:
    port = said.get("broker_port", 8883)
    if type(port) is not int or not 0 < port < 65536:  # noqa: PLR2004  (TCP's own limit)
        raise BadInput(f"{path}: broker_port: a number from 1 to 65535 is needed")
    here = path.resolve().parent
    return Settings(
        device=said["device"],
        center_id=said["center_id"],
        profile=said["profile"],
        data_dir=here / said["data_dir"],
        broker=Broker(
            host=said["broker_host"],
            port=port,
            ca_file=here / said["ca"],
            certificate_file=here / said["certificate"],
            key_file=here / said["key"],
        ),
    )
