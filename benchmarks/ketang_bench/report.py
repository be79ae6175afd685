"""What a benchmark says: one object, the same ten keys for all, and where it is kept."""

import json
import platform
import sqlite3
import ssl
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure. ``ratio`` is the value over a raw limit or peer measured in the same run.

    ``detail`` holds what else was measured, that raw limit, and how. Units are in its keys' names.
    """

    name: str
    value: float
    unit: str
    target: float
    limit: float
    ratio: float | None
    holds: bool
    detail: dict[str, Any] = field(default_factory=dict)


def whole(result: Result, command: str) -> dict[str, Any]:
    """Add the machine and the command: the object ``ketang bench --json`` prints."""
    return {**asdict(result), "machine": machine(), "command": command}


def machine() -> dict[str, Any]:
    """Describe the machine as far as figures depend on it."""
    cores = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": cores[0] if cores else platform.machine(),
        "cores": len(cores),
        "memory_mb": _total_memory_kb() // 1024,
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "load_1min": float(Path("/proc/loadavg").read_text("ascii").split()[0]),
    }


def save(said: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Keep an object as ``<date>-<name>.json``; one of the same day is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{date.today().isoformat()}-{said['name']}.json"  # noqa: DTZ011  (a file name)
    file.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return file


def _total_memory_kb() -> int:
    return int(Path("/proc/meminfo").read_text("ascii").split()[1])
