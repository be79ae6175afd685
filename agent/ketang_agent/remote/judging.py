"""The judging child: ``python -m ketang_agent.remote.judging REMOTE IDENTITY``, then it ends.

It reads what came down (``received.json``) and what is held (``asked.json``) from the first folder,
takes over the trust documents that came along into the second, judges, and leaves its verdict in
``judged.json``. Exit status 0 when there is a verdict, be it a refusal. The only place beside
enrolment where a device loads ``cryptography`` and pydantic.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_agent.enrol import believing
from ketang_agent.enrol.files import Place, alone, write_private
from ketang_agent.remote import acceptance, holding, signed_time
from ketang_agent.remote.acceptance import ConfigRefused, Situation
from ketang_agent.remote.exchange import ASKED, JUDGED, RECEIVED
from ketang_agent.remote.permits_judging import judge_permits
from ketang_contract import config, layers, signatures, trust, validate
from ketang_contract.errors import BadInput, KetangError, Refused
from ketang_contract.layers import Desired
from ketang_contract.records import to_json
from ketang_contract.trust import Trust


@dataclass(frozen=True, slots=True)
class Asked:
    """What the supervisor says beside the bundle.

    Attributes:
        device: who is told.
        agent_version: of the agent.
        now_s: the device's clock.
        base: what the profile says.
        in_force: what applies.
        held: what an earlier verdict gave it.
        synced: somebody disciplines the clock.
    """

    device: str
    agent_version: str
    now_s: int
    base: dict[str, Any]
    in_force: dict[str, Any]
    held: dict[str, Any]
    synced: bool = False

    @property
    def standing(self) -> Mapping[str, Any]:
        """What is held, by this clock: the supervisor may have asked before it knew the time."""
        return signed_time.confirmed(self.held, self.now_s) if self.synced else self.held


def verdict(raw: bytes, asked: Asked, believed: Trust) -> dict[str, Any]:
    """Judge a bundle: what the supervisor is to keep, as JSON's own types. Nothing is written.

    Args:
        raw: what came down.
        asked: what the supervisor knows.
        believed: the trust document in force.
    """
    named, desired = "", None
    try:
        desired = layers.read_desired(raw)
        named = acceptance.name_of(desired, signatures.unverified)
        held = holding.read(asked.standing)
        situation = _situation(asked, believed)
        made = acceptance.judge(desired, held, situation)
    except Refused as why:
        detail = str(why)[:200]
        return {
            "hash": named,
            "attempt": desired.attempt if desired else 0,
            "reason": why.reason,
            "detail": detail,
        }
    permits = judge_permits(
        desired.permits,
        believed,
        asked.device,
        made.held_committed.path,
        max(asked.now_s, made.held.floor_s),
        situation,
        believed_until_s=_until_s(asked, believed),
    )
    return {
        "hash": made.hash,
        "attempt": desired.attempt,
        "reason": "",
        "permits": [to_json(one) for one in permits.permits],
        "permits_dropped": [[one.digest, one.reason] for one in permits.dropped],
        "layers": [to_json(one) for one in made.layers],
        "config": to_json(made.config),
        "fallback": to_json(made.fallback),
        "by": dict(made.by),
        "held": holding.write(made.held),
        "held_committed": holding.write(made.held_committed),
    }


def _until_s(asked: Asked, believed: Trust) -> int | None:
    """Say when a permit cannot have been signed yet; None where nobody disciplines the clock."""
    now_s = max(asked.now_s, believed.issued_s)
    return now_s + signed_time.AHEAD_S if asked.synced else None


def _situation(asked: Asked, believed: Trust) -> Situation:
    return Situation(
        device=asked.device,
        agent_version=asked.agent_version,
        base=config.from_json(asked.base),
        in_force=config.from_json(asked.in_force),
        trust=believed,
        now_s=asked.now_s,
        synced=asked.synced,
        signers=signatures.signed_by,
        payload=signatures.unverified,
        read=validate.signed,
    )


def _believed(place: Place, desired: Desired | None, asked: Asked) -> Trust:
    """Take over what came along of trust documents, and return the one in force.

    Raises:
        ConfigRefused: ``no_trust``: this device holds none, and nothing can be judged.
    """
    raw = believing.held(place)
    if raw is None:
        raise ConfigRefused("no_trust", "no trust document is held: ketang enroll")
    if desired is not None and desired.trust:
        with alone(place):
            try:
                return believing.take(place, desired.trust, "", _moment_s(asked, raw))
            except BadInput:  # it names no server that is in force: nobody is talked to here
                raw = believing.held(place) or raw
    return trust.read_accepted(raw)


def _moment_s(asked: Asked, raw: bytes) -> int:
    """Return the latest of the clock and every signed time this device has seen."""
    floor_s = signed_time.floor_of(asked.standing)
    return max(asked.now_s, floor_s, trust.read_accepted(raw).issued_s)


def _desired(raw: bytes) -> Desired | None:
    try:
        return layers.read_desired(raw)
    except Refused:
        return None  # told by the verdict


def judge_folder(folder: Path, place: Place) -> dict[str, Any]:
    """Judge what lies in a folder.

    Raises:
        BadInput: an enrolment is at work in the other folder just now.
        OSError: a file is missing.
        ValueError: the supervisor's own file is damaged.
    """
    raw = (folder / RECEIVED).read_bytes()
    of = {"of": hashlib.sha256(raw).hexdigest()}
    asked = Asked(**json.loads((folder / ASKED).read_bytes()))
    try:
        believed = _believed(place, _desired(raw), asked)
    except Refused as why:
        return of | {"hash": "", "attempt": 0, "reason": why.reason, "detail": str(why)[:200]}
    return of | verdict(raw, asked, believed) | {"trust_version": believed.version}


def main() -> int:
    """Judge what lies in the folders named on the command line."""
    folder, place = Path(sys.argv[1]), Place(Path(sys.argv[2]))
    try:
        said = judge_folder(folder, place)
    except (KetangError, OSError, ValueError, KeyError, TypeError) as problem:
        sys.stdout.write(json.dumps({"why": str(problem)[:300]}) + "\n")
        return 1
    write_private(folder / JUDGED, json.dumps(said).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
