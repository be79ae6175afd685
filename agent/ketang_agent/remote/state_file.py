"""The machine on disk: one file, written whole, with the one before it beside it.

What is lost with both is what was held: the device then collects nothing, and takes what it is
brought next, which still has to be signed, in time and no older than its placement allows.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ketang_agent.enrol.files import write_private
from ketang_agent.remote.machine import (
    COLLECTS_NOTHING,
    Before,
    Candidate,
    Failed,
    Machine,
    Phase,
    Verdict,
    factory,
)
from ketang_contract import config
from ketang_contract.config import Config, narrowed
from ketang_contract.layers import LayerAt
from ketang_contract.permits import permit_from_json
from ketang_contract.records import to_json
from ketang_contract.state import ConfigState

log = logging.getLogger("ketang.config")

NAME, EARLIER, HELD = "remote.json", "remote.earlier.json", "remote.held"
"""The last says that something was accepted here once, whatever becomes of the others."""
_SCHEMA = 1


def read(folder: Path, base: Config) -> Machine:
    """Read the machine; a damaged file is passed over for the one before it.

    Where something had been accepted and none can be read, it is not known any more what that had
    narrowed: then nothing is collected until something was judged again.
    """
    lost = False
    for name in (NAME, EARLIER):
        try:
            raw = (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as problem:
            log.warning("config.unreadable file=%s why=%s", name, problem)
            lost = True
            continue
        try:
            return _based(_machine(_checked(raw)), base)
        except (ValueError, KeyError, TypeError) as problem:
            log.warning("config.damaged file=%s why=%s", name, problem)
            lost = True
    if lost and (folder / HELD).exists():
        return replace(factory(base), in_force=narrowed(base, COLLECTS_NOTHING))
    return factory(base)


def _based(machine: Machine, base: Config) -> Machine:
    """Lay the machine on the profile of today; it alone is in force where nothing was taken in."""
    return replace(machine, base=base, in_force=machine.in_force if machine.held else base)


def write(folder: Path, machine: Machine) -> None:
    """Keep the machine.

    Raises:
        OSError: the disk does not take it; the file is as before.
    """
    said = json.dumps(_said(machine), sort_keys=True)
    summed = {"sum": hashlib.sha256(said.encode()).hexdigest(), "machine": json.loads(said)}
    current = folder / NAME
    if current.exists():
        earlier = folder / EARLIER
        with suppress(OSError):  # some file systems know no second name; then there is one file
            earlier.unlink(missing_ok=True)
            earlier.hardlink_to(current)
    write_private(current, json.dumps(summed, sort_keys=True).encode())
    if machine.held and not (folder / HELD).exists():
        write_private(folder / HELD, b"")


def verdict_of(said: Mapping[str, Any]) -> Verdict:
    """Read what the judging child left.

    Raises:
        ValueError, KeyError, TypeError: it is damaged.
    """
    if said["reason"]:
        return Verdict(
            hash=said["hash"],
            attempt=said["attempt"],
            reason=said["reason"],
            trust_version=said.get("trust_version", 0),
        )
    return Verdict(
        hash=said["hash"],
        attempt=said["attempt"],
        layers=_layers(said["layers"]),
        config=config.from_json(said["config"]),
        fallback=config.from_json(said["fallback"]),
        held=said["held"],
        held_committed=said["held_committed"],
        trust_version=said["trust_version"],
        permits=tuple(permit_from_json(one) for one in said["permits"]),
    )


def _checked(raw: bytes) -> Mapping[str, Any]:
    said = json.loads(raw)
    machine: Mapping[str, Any] = said["machine"]
    if hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest() != said["sum"]:
        raise ValueError("its sum is another's")
    if machine["schema"] != _SCHEMA:
        raise ValueError("a schema this release does not know")
    return machine


def _said(machine: Machine) -> dict[str, Any]:
    one, before = machine.candidate, machine.before
    return {
        "schema": _SCHEMA,
        "in_force": to_json(machine.in_force),
        "running": machine.running,
        "layers": to_json(machine.layers),
        "held": machine.held,
        "desired": machine.desired,
        "attempt": machine.attempt,
        "state": machine.state,
        "candidate": None
        if one is None
        else {**asdict(one), "config": to_json(one.config), "layers": to_json(one.layers)},
        "failed": [asdict(each) for each in machine.failed],
        "refused": asdict(machine.refused) if machine.refused else None,
        "trial_ms": machine.trial_ms,
        "trust_version": machine.trust_version,
        "before": None
        if before is None
        else {
            **asdict(before),
            "in_force": to_json(before.in_force),
            "layers": to_json(before.layers),
        },
        "unproved": machine.unproved,
        "ended": machine.ended,
    }


def _machine(said: Mapping[str, Any]) -> Machine:
    in_force = config.from_json(said["in_force"])
    return Machine(
        base=in_force,  # the caller knows the profile's
        in_force=in_force,
        running=said["running"],
        layers=_layers(said["layers"]),
        held=said["held"],
        desired=said["desired"],
        attempt=said["attempt"],
        state=ConfigState(said["state"]),
        candidate=_candidate(said["candidate"]) if said["candidate"] else None,
        failed=tuple(Failed(**_known(Failed, one)) for one in said["failed"]),
        refused=Failed(**_known(Failed, said["refused"])) if said["refused"] else None,
        trial_ms=said["trial_ms"],
        trust_version=said["trust_version"],
        before=_before(said["before"]) if said["before"] else None,
        unproved=said.get("unproved", False),
        ended=said["ended"],
    )


def _candidate(said: Mapping[str, Any]) -> Candidate:
    return Candidate(
        **{
            **_known(Candidate, said),
            "layers": _layers(said["layers"]),
            "config": config.from_json(said["config"]),
            "phase": Phase(said["phase"]),
            "failing": tuple(said["failing"]),
        }
    )


def _before(said: Mapping[str, Any]) -> Before:
    return Before(
        **{
            **_known(Before, said),
            "layers": _layers(said["layers"]),
            "in_force": config.from_json(said["in_force"]),
        }
    )


def _known(kind: type[Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Pass over what a later release may have written, before this one was gone back to."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in said.items() if name in names}


def _layers(said: list[dict[str, Any]]) -> tuple[LayerAt, ...]:
    return tuple(LayerAt(**one) for one in said)
