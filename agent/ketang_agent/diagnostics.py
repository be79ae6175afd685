"""The diagnostics archive: one zip of plain text and JSON that anybody can open and read.

It is put together from what is named here, never by taking things out of something larger: a field
that nobody thought of is not in it. No record, no frame, no name of a person, account or machine,
no path, no address, no key, no contact (PRIVACY rules 1 and 5).
"""

import io
import ipaddress
import json
import os
import platform
import re
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_agent import VERSION
from ketang_agent.enrol.files import write_private
from ketang_agent.log_tail import phrase
from ketang_agent.settings import Settings
from ketang_contract.commands import MAX_ARCHIVE_BYTES

if TYPE_CHECKING:
    from ketang_agent.doctor import Check

README, LOG = "README.txt", "log.txt"
_KEPT = 3
"""Archives that stay on the device, the newest."""
_MOST_REMOTE_BYTES = 1 << 20
_STATUS = (
    "device",
    "center_id",
    "agent_version",
    "profile",
    "started_ms",
    "now_ms",
    "boot_id",
    "time",
    "faults",
    "camera",
    "model",
    "window_ends_in_s",
)
_UPLINK = ("connected", "since_ms", "session", "acked_at_ms")
_SPOOL = ("used_bytes", "cap_bytes", "unsaved", "dropped", "lanes", "losses")
_COLLECTOR = ("name", "interval_s", "result")
_CONFIG = (
    "state",
    "running",
    "desired",
    "attempt",
    "layers",
    "in_force",
    "failed",
    "refused",
    "trial_ms",
    "trust_version",
)
_AMOUNT = re.compile(r"\b\d{1,7} (?:days|MB free|wait for the centre)\b")
_SAYS = """\
课堂 诊断包。只含下列文件，都是纯文本或 JSON。
不含任何记录、图像、姓名、账号、机器名、路径、地址或密钥。
Ketang diagnostics. These files and nothing else, all plain text or JSON; no record, no picture, no
name of a person, account or machine, no path, no address, no key.

versions.json  版本 · versions of the agent and of what it runs on
settings.json  设置（不含密钥和联系人） · settings, without secrets and without the contact
status.json    运行状态 · how the agent is doing
spool.json     缓存计数 · counts of the buffer: given out, acknowledged, waiting, lost
config.json    最近一次远程配置 · the last configuration from the centre, as it is carried out
doctor.json    自检结果 · what `ketang agent doctor` finds
log.txt        最近的日志（已脱敏） · the latest log lines, redacted
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What an archive is made from.

    Attributes:
        settings: as the agent was started with them.
        status: as ``status.to_json`` writes it; None where the agent does not run.
        checks: the doctor's.
        log: redacted lines (``log_tail``).
    """

    settings: Settings
    status: Mapping[str, Any] | None
    checks: "Sequence[Check]"
    log: Sequence[str] = ()


def files(sources: Sources) -> dict[str, str]:
    """Return the archive's files, by name; pure but for versions and the last configuration."""
    status = sources.status
    made: dict[str, Any] = {
        "versions.json": versions(),
        "settings.json": _settings(sources.settings),
        "status.json": None if status is None else _status(status),
        "spool.json": None if status is None else _picked(status.get("spool"), _SPOOL),
        "config.json": _config(sources.settings.data_dir / "remote" / "remote.json"),
        "doctor.json": [_check(one) for one in sources.checks],
    }
    texts = {name: json.dumps(said, ensure_ascii=False, indent=1) for name, said in made.items()}
    return {README: _SAYS, **texts, LOG: "".join(f"{line}\n" for line in sources.log)}


def write(sources: Sources, path: Path) -> None:
    """Write an archive, whole or not at all; the oldest lines of the log go where it is too large.

    Raises:
        OSError: the disk does not take it.
    """
    made = files(sources)
    raw = _zipped(made)
    while len(raw) > MAX_ARCHIVE_BYTES and made[LOG]:
        made[LOG] = made[LOG][len(made[LOG]) // 2 + 1 :].partition("\n")[2]
        raw = _zipped(made)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, raw)


def read(path: Path) -> dict[str, str]:
    """Read an archive's files for showing, in their order.

    Raises:
        OSError: it is not there, or is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {one: archive.read(one).decode("utf-8", "replace") for one in archive.namelist()}
    except (zipfile.BadZipFile, KeyError, RuntimeError) as problem:
        raise OSError(f"not an archive: {problem}") from problem


def forget_old(folder: Path) -> None:
    """Keep the newest archives only."""
    with suppress(OSError):
        found = sorted(folder.glob("diagnostics-*.zip"), key=lambda one: one.stat().st_mtime)
        for one in found[:-_KEPT]:
            one.unlink(missing_ok=True)


def maker(
    settings: Settings,
    status: Callable[[], Mapping[str, Any] | None],
    log: Callable[[], Sequence[str]],
) -> Callable[[Path], Any]:
    """Make what the supervisor asks for archives: a path in, a question for a thread out.

    Its answer is empty where the archive was written, else a word.
    """
    from ketang_agent.collectors.background import Background  # noqa: PLC0415

    def bundle(path: Path) -> Background[str]:
        said, lines = status(), log()

        def ask() -> str:
            from ketang_agent import doctor  # noqa: PLC0415  (only who is asked pays)

            try:
                checks = doctor.examine(settings, datetime.now(UTC))
                write(Sources(settings=settings, status=said, checks=checks, log=lines), path)
                forget_old(path.parent)
            except Exception:  # noqa: BLE001  (whatever it is, the answer says that it failed)
                return "failed"
            return ""

        return Background(ask, "failed", "ketang-diagnostics")

    return bundle


def versions() -> dict[str, str]:
    """Return versions of the agent and of what it runs on; never the machine's name."""
    kernel = re.match(r"[0-9.]{0,20}", os.uname().release)
    said = {
        "agent": VERSION,
        "python": platform.python_version(),
        "kernel": kernel[0] if kernel else "",
    }
    with suppress(OSError):
        system = platform.freedesktop_os_release()
        said |= {"os": system.get("ID", ""), "os_version": system.get("VERSION_ID", "")}
    return said | {"architecture": os.uname().machine, "platform": sys.platform}


def _settings(settings: Settings) -> dict[str, Any]:
    asked = settings.occupancy
    return {
        "device": settings.device,
        "center_id": settings.center_id,
        "profile": settings.profile,
        "broker_named_by": _named_by(settings.broker.host),
        "broker_port": settings.broker.port,
        "local_port": settings.local_port,
        "log_level": settings.log_level,
        "occupancy": None if asked is None else {"model": asked.model, "scan_s": asked.scan_s},
    }


def _named_by(host: str) -> str:
    try:
        return f"ipv{ipaddress.ip_address(host).version}"
    except ValueError:
        return "name"


def _status(status: Mapping[str, Any]) -> dict[str, Any]:
    spool = status.get("spool")
    trouble = str(spool.get("trouble", "")) if isinstance(spool, Mapping) else ""
    return {
        **_picked(status, _STATUS),
        "uplink": _picked(status.get("uplink"), _UPLINK),
        "disk_trouble": phrase(trouble) or bool(trouble),
        "collectors": [
            {**_picked(one, _COLLECTOR), "why": phrase(str(one.get("why", "")))}
            for one in status.get("collectors", ())
        ],
    }


def _check(check: "Check") -> dict[str, str]:
    """Say how a check came out, and of what was found only amounts and the system's own phrase."""
    amount = _AMOUNT.search(check.found)
    found = phrase(check.found) or (amount[0] if amount else "")
    return {"name": check.name, "verdict": check.verdict.value, "found": found}


def _config(path: Path) -> dict[str, Any] | None:
    try:
        raw = path.read_bytes()
        said = json.loads(raw)["machine"] if len(raw) <= _MOST_REMOTE_BYTES else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _picked(said, _CONFIG)


def _picked(said: Any, names: Sequence[str]) -> dict[str, Any]:
    if not isinstance(said, Mapping):
        return {}
    return {name: said[name] for name in names if name in said}


def _zipped(made: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in made.items():
            archive.writestr(zipfile.ZipInfo(name), text.encode(), zipfile.ZIP_DEFLATED)
    return out.getvalue()
