"""``ketang agent doctor``: what works on this device, what does not, and what to do about it.

It asks the running agent over the page on this machine and never connects to the broker itself:
a second connection under the device's name would throw the first one out.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ketang_agent import judged, power
from ketang_agent.enrol.files import Place
from ketang_agent.enrol.matters import matter
from ketang_agent.hours import Hours
from ketang_agent.settings import OccupancySettings, Settings
from ketang_contract.errors import BadInput
from ketang_profiles import profile

_ANSWER_S = 5.0
_MOST_BYTES = 1 << 20
_LOW_BYTES = 256 << 20
_SOON_DAYS = 30
_EXPIRY = """
import sys
try:
    from cryptography import x509
except ImportError:
    sys.exit(3)
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        print(x509.load_pem_x509_certificates(file.read())[0].not_valid_after_utc.isoformat())
"""
_NO_CRYPTOGRAPHY = 3
_DO_ABOUT = {
    "spool_full": "the centre was away for long, or the device makes too much: see the uplink",
    "spool_failing": "free disk space, check the disk (dmesg) and who may write to data_dir",
    "spool_pinned": "end the program that holds spool.db open: fuser spool.db",
    "disk_low": "free disk space",
    "too_hot": "clean the fan and give the device air",
    "battery_worn": "replace the battery",
    "collector_failing": "see the collectors below",
    "worker_failing": "see the log for camera, source or model",
    "clock_wrong": "set the time, and turn on a time service (timedatectl set-ntp true)",
    "filing_expiring": "have the model filed anew: the centre's page of filings",
    "filing_expired": "have the model filed anew; until then it does not run",
    "grant_expired": "the school may grant the camera anew",
    "records_refused": "tell the centre's operator: agent and centre may be of different releases",
}


_DO_ABOUT_PERMITS = {
    "expired": "have it renewed: the centre's page of filings",
    "one_holder": "have the second holder sign it as well",
    "ill_timed": "see the clock, here and where it was signed",
    "bad_envelope": "agent and centre may be of different releases",
    "bad_document": "agent and centre may be of different releases",
}
_HOURS = {
    Hours.NOT_SET: "none are set: counted round the clock, and no after-hours shutdown",
    Hours.OPEN: "set; now is within them",
    Hours.CLOSED: "set; now is outside them, and neither use nor people are counted",
    Hours.NEVER: "set, and leave no moment in a week: neither use nor people are ever counted",
}


class Verdict(StrEnum):
    """How a check came out. UNKNOWN is no fault: the line says what could not be seen."""

    FINE = "fine"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's: what was looked at, what was found, what to do."""

    name: str
    verdict: Verdict
    found: str
    to_do: str = ""


def examine(settings: Settings, now: datetime) -> list[Check]:
    """Check everything that can be seen from here."""
    checks = [Check("settings", Verdict.FINE, f"readable; this is {settings.device}")]
    checks += _files(settings, now)
    checks.append(_disk(settings.data_dir))
    if settings.occupancy:
        checks.append(_counting(settings, settings.occupancy))
    status, why = ask(settings)
    if status is None:
        to_do = "start it: systemctl start ketang-agent, or ketang agent run"
        checks.append(Check("agent", Verdict.WRONG, f"does not answer: {why}", to_do))
        return checks
    if status.get("device") != settings.device:
        checks.append(
            Check(
                "agent",
                Verdict.WRONG,
                f"another device's agent answers: {status.get('device')}",
                "give each agent on this machine a local_port of its own",
            )
        )
        return checks
    checks += _told(status)
    checks.append(_switching_off(power.as_owner_of(settings.data_dir), status["hours"]))
    return checks


def ask(settings: Settings) -> tuple[dict[str, Any] | None, str]:
    """Ask the running agent for its status; None and the reason where it does not answer."""
    url = where(settings)
    if not url:
        return None, f"local_port is 0 and {settings.data_dir / 'local-page'} cannot be read"
    try:
        with closing(HTTPConnection(urlsplit(url).netloc, timeout=_ANSWER_S)) as connection:
            connection.request("GET", "/status.json")
            answer = connection.getresponse()
            raw = answer.read(_MOST_BYTES)
            said = json.loads(raw) if answer.status == 200 else None  # noqa: PLR2004  (HTTP's own)
    except (OSError, HTTPException, ValueError) as problem:
        return None, f"{url} ({problem or type(problem).__name__})"
    if not isinstance(said, dict) or "uplink" not in said:
        return None, f"{url} (somebody else answers there)"
    return said, ""


def where(settings: Settings) -> str:
    """Address of the running agent's page: as the agent wrote it, else from the settings."""
    try:
        return (settings.data_dir / "local-page").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return f"http://127.0.0.1:{settings.local_port}/" if settings.local_port else ""


def _files(settings: Settings, now: datetime) -> Iterator[Check]:
    broker, missing = settings.broker, False
    for name, path in (
        ("ca", broker.ca_file),
        ("certificate", broker.certificate_file),
        ("key", broker.key_file),
    ):
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as problem:
            secret = name == "key" and isinstance(problem, PermissionError)
            verdict = Verdict.UNKNOWN if secret else Verdict.WRONG
            to_do = "run the doctor as root to see it" if secret else f"correct {name} in the file"
            yield Check(name, verdict, f"{path}: {problem.strerror}", to_do)
            missing = missing or not secret
    if missing:
        return
    yield Check("certificate files", Verdict.FINE, "are there")
    trouble = matter(Place(broker.certificate_file.parent), int(now.timestamp()))
    if trouble:
        yield Check("identity", Verdict.WRONG, *trouble.split("; ", 1))
    yield from _expiry([broker.ca_file, broker.certificate_file], now)


def _expiry(files: list[Path], now: datetime) -> Iterator[Check]:
    """Ask a child process for the dates, so that nothing heavy is loaded here."""
    name = "certificate dates"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _EXPIRY, *map(str, files)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        yield Check(name, Verdict.UNKNOWN, f"not checked: {problem}")
        return
    if done.returncode == _NO_CRYPTOGRAPHY:
        yield Check(name, Verdict.UNKNOWN, "not checked: the cryptography package is not installed")
        return
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        yield Check(name, Verdict.WRONG, f"not certificates: {last}", "install them anew")
        return
    for file, line in zip(files, done.stdout.split(), strict=False):
        days = (datetime.fromisoformat(line) - now).days
        found = f"{file.name} is valid until {line[:10]}, {days} days"
        if days < 0:
            yield Check(name, Verdict.WRONG, f"{file.name} ended on {line[:10]}", "renew it")
        elif days < _SOON_DAYS:
            yield Check(name, Verdict.FINE, found, "renew it soon")
        else:
            yield Check(name, Verdict.FINE, found)


def _disk(folder: Path) -> Check:
    try:
        disk = os.statvfs(folder)
    except OSError as problem:
        to_do = "make the folder, for the agent's account alone (mode 700)"
        return Check("disk", Verdict.WRONG, f"{folder}: {problem.strerror}", to_do)
    free_bytes = disk.f_bavail * disk.f_frsize
    found = f"{free_bytes >> 20} MB free for {folder}"
    if free_bytes < _LOW_BYTES:
        return Check("disk", Verdict.WRONG, found, "free disk space")
    return Check("disk", Verdict.FINE, found)


def _counting(settings: Settings, asked: OccupancySettings) -> Check:
    """Judge ``[occupancy]`` as the agent does, without starting a worker."""
    from ketang_agent.inference.plan import plan_of  # noqa: PLC0415  (asked for by few)

    name, to_do = "counting people", "correct [occupancy] in the settings, or take it out"
    try:
        if "occupancy" not in profile.shipped(settings.profile).intervals_s:
            return Check(name, Verdict.WRONG, f"a {settings.profile} never counts people", to_do)
        plan_of(asked.source, asked.model, asked.scan_s)
    except BadInput as problem:
        return Check(name, Verdict.WRONG, str(problem), to_do)
    return Check(name, Verdict.FINE, f"may be done, with {asked.model}")


def _told(status: dict[str, Any]) -> Iterator[Check]:
    """Turn what the agent says of itself into checks."""
    uplink, spool = status["uplink"], status["spool"]
    yield Check("agent", Verdict.FINE, f"runs, version {status['agent_version']}")
    if uplink["connected"]:
        yield Check("centre", Verdict.FINE, f"the agent is connected to {uplink['broker']}")
    else:
        yield Check(
            "centre",
            Verdict.WRONG,
            f"the agent is not connected to {uplink['broker']}; records wait on this device",
            "check the network cable, the name and port, and that a firewall lets them through",
        )
    if spool["trouble"]:
        to_do = _DO_ABOUT["spool_failing"]
        yield Check("records", Verdict.WRONG, f"the disk takes none: {spool['trouble']}", to_do)
    else:
        waiting = sum(lane["pending"] for lane in spool["lanes"])
        used = f"{spool['used_bytes'] >> 10} of {spool['cap_bytes'] >> 10} KB"
        yield Check("records", Verdict.FINE, f"{waiting} wait for the centre; {used} used")
    yield _clock(status["time"])
    yield _config(status["config"], judged.from_json(status["judged"]))
    yield from _permits(judged.from_json(status["judged"]))
    yield Check("hours", Verdict.FINE, _HOURS.get(status["hours"], status["hours"]))
    for fault in status["faults"]:
        name = fault.replace("_", " ")
        yield Check("fault", Verdict.WRONG, name, _DO_ABOUT.get(fault, "see the log"))
    for one in status["collectors"]:
        yield _collector(one)


def _clock(time: str) -> Check:
    if time == "synced":
        return Check("clock", Verdict.FINE, "kept right by a time service")
    if time == "bad":
        return Check("clock", Verdict.WRONG, "is far off", _DO_ABOUT["clock_wrong"])
    return Check("clock", Verdict.UNKNOWN, "nobody keeps it right", _DO_ABOUT["clock_wrong"])


def _permits(found: judged.Judged) -> Iterator[Check]:
    """Say which filings and grants came and were not taken, with the device's own reason."""
    for digest, reason in found.dropped:
        line = f"{digest[:12]} was brought and not taken: {reason}"
        to_do = _DO_ABOUT_PERMITS.get(reason, "have it signed anew: the centre's page of filings")
        yield Check("filing or grant", Verdict.WRONG, line, to_do)


def _switching_off(said: power.Power, hours: str) -> Check:
    """Say whether an after-hours shutdown would be let; it matters where hours are set."""
    name = "after-hours shutdown"
    if said is power.Power.YES:
        return Check(name, Verdict.FINE, "logind lets the agent's account switch this device off")
    if said is power.Power.NO_LOGIND:
        return Check(name, Verdict.FINE, "not on this device: no logind answers here")
    if said is power.Power.UNKNOWN:
        return Check(
            name, Verdict.UNKNOWN, "logind was not asked", "run the doctor as root to see it"
        )
    if said is power.Power.BLOCKED:
        to_do = "see which program blocks it: systemd-inhibit --list"
        return Check(name, Verdict.UNKNOWN, "let, but a program blocks it now", to_do)
    found = "logind does not let the agent's account switch this device off"
    if hours == Hours.NOT_SET:
        return Check(name, Verdict.FINE, f"{found}; no hours are set, so nobody can ask for it")
    return Check(
        name, Verdict.WRONG, found, "put 50-ketang.rules into /etc/polkit-1/rules.d (install guide)"
    )


def _config(said: dict[str, Any], left: judged.Judged) -> Check:
    """Say what became of the configuration that was brought last; a default is left out of it."""
    name, state = "configuration", said.get("state", "factory")
    running = said.get("running", "")[:12]
    if state == "factory":
        return Check(name, Verdict.FINE, "none was brought yet; the profile's own is in force")
    if state in {"rolled_back", "rejected"}:
        found = f"{said.get('desired', 'what was brought')[:12]}: {state}, {said.get('reason')}"
        found += f" ({left.detail})" if left.detail else ""
        kept = f"; {running} is in force" if running else "; the profile's own is in force"
        return Check(name, Verdict.WRONG, found + kept, "tell whoever published it")
    if state == "committed":
        return Check(name, Verdict.FINE, f"{running} is in force")
    return Check(name, Verdict.FINE, f"{said.get('desired', '')[:12]}: {state}")


def _collector(one: dict[str, Any]) -> Check:
    name, result, why = f"collector {one['name']}", one["result"], one["why"]
    if result == "failing":
        return Check(name, Verdict.WRONG, why or "cannot be read", "see the log; update the agent")
    if result == "not_applicable":
        return Check(name, Verdict.FINE, f"this device lacks it: {why}")
    return Check(name, Verdict.FINE, "works" if result == "ok" else "not asked yet")
