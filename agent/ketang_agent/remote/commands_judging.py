"""The judging child of commands: ``python -m ketang_agent.remote.commands_judging USED IDENTITY``.

It reads what is asked (one line of JSON) and the envelope behind it from standard input, judges by
the trust document held in the folder IDENTITY, and writes the job into the file USED before it says
yes: whatever happens after that, the job is not carried out a second time. Prints one JSON line.

The rules, each with its word:

1. ``bad_envelope``, ``bad_document``: not a command, strictly read. ``forged``: not signed by a key
   that is in force for commands, and for nothing narrower than the region.
2. ``wrong_device``, ``wrong_job``: meant for another device, or another topic.
3. ``expired``: its time is over by the latest of the clock and every signed time seen.
   ``too_early``: it was issued well ahead of that, so one of the two clocks is wrong.
4. ``used``: carried out before, or it cannot be told any more whether it was.

A disk that goes back in time forgets what was used, and cannot bring back a command whose ten
minutes are over. A clock that is set back and a disk that goes back, together with a command kept
since: then the signed times are what is left, and they are in the configuration's state as well.
"""

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ketang_agent.enrol import believing
from ketang_agent.enrol.files import Place, write_private
from ketang_contract import signatures, trust, validate
from ketang_contract.commands import COMMAND_TYPE, LASTS_MOST_S, MAX_COMMAND_BYTES, Command
from ketang_contract.errors import Refused
from ketang_contract.records import to_json
from ketang_contract.trust import Purpose, Trust

AHEAD_S = LASTS_MOST_S
"""How far the centre's clock may be ahead of the device's."""
_MOST_JOBS = 64
_MOST_ASKED_BYTES = 4096


class CommandRefused(Refused):
    """The command is not carried out; ``reason`` is one of the words above, or ``no_trust``.

    ``busy``: more commands are in their ten minutes than a device is ever asked.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the supervisor says beside the envelope. ``floor_s``: the latest signed time it knows.

    ``job`` is the one in the topic, ``now_s`` the clock.
    """

    device: str
    job: str
    now_s: int
    floor_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Jobs that were carried out, with their ends. Times are UTC seconds.

    ``floor_s``: no command that was accepted or forgotten was signed later. ``not_before_s``: what
    was signed earlier may have been used, and the record of it is lost.
    """

    floor_s: int = 0
    not_before_s: int = 0
    jobs: dict[str, int] = field(default_factory=dict)


_asked, _used = TypeAdapter(Asked), TypeAdapter(Used)


def judge(raw: bytes, asked: Asked, believed: Trust, used: Used) -> tuple[Command, Used]:
    """Judge an envelope; return the command, and what to keep before it is carried out. Pure.

    Raises:
        CommandRefused: with its word.
    """
    now_s = max(asked.now_s, asked.floor_s, used.floor_s, believed.issued_s)
    command = _opened(raw, believed, now_s)
    if command.device != asked.device:
        raise CommandRefused("wrong_device")
    if command.job != asked.job:
        raise CommandRefused("wrong_job")
    if now_s >= command.expires_s:
        raise CommandRefused("expired")
    if command.issued_s > now_s + AHEAD_S:
        raise CommandRefused("too_early")
    if command.job in used.jobs or command.issued_s < used.not_before_s:
        raise CommandRefused("used")
    kept = _pruned(used, now_s)
    if len(kept.jobs) >= _MOST_JOBS:
        raise CommandRefused("busy")
    jobs = {**kept.jobs, command.job: command.expires_s}
    return command, replace(kept, floor_s=max(kept.floor_s, command.issued_s), jobs=jobs)


def read_used(path: Path, now_s: int) -> Used:
    """Read what was used; a damaged file is replaced by one that bars all that is signed till now.

    Raises:
        OSError: the disk does not take it.
    """
    try:
        return _used.validate_json(path.read_bytes())
    except FileNotFoundError:
        return Used()
    except ValidationError:
        barred = Used(not_before_s=now_s + AHEAD_S + 1)
        write_private(path, json.dumps(asdict(barred)).encode())
        return barred


def take(raw: bytes, asked: Asked, used_file: Path, place: Place) -> Command:
    """Judge by what lies in the folders; when this returns, the job is marked as used on the disk.

    Raises:
        CommandRefused: with its word.
        OSError: the mark cannot be written, and the command must not be carried out.
    """
    held = believing.held(place)
    if held is None:
        raise CommandRefused("no_trust", "no trust document is held: ketang enroll")
    used = read_used(used_file, asked.now_s)
    command, kept = judge(raw, asked, trust.read_accepted(held), used)
    write_private(used_file, json.dumps(asdict(kept)).encode())
    return command


def _opened(raw: bytes, believed: Trust, now_s: int) -> Command:
    if len(raw) > MAX_COMMAND_BYTES:
        raise CommandRefused("bad_envelope", f"larger than {MAX_COMMAND_BYTES} bytes")
    keys = [one.public for one in believed.keys_for(Purpose.COMMAND, now_s, "")]
    try:
        payload = signatures.open_sealed(raw, COMMAND_TYPE, keys)
        return validate.signed(Command, payload)
    except Refused as why:
        word = "forged" if why.reason == "bad_signature" else why.reason
        raise CommandRefused(word, str(why)[:200]) from why


def _pruned(used: Used, now_s: int) -> Used:
    """Forget jobs whose time is over, and remember in the floor that it is."""
    over = [expires_s for expires_s in used.jobs.values() if expires_s <= now_s]
    jobs = {job: expires_s for job, expires_s in used.jobs.items() if expires_s > now_s}
    return replace(used, floor_s=max([used.floor_s, *over]), jobs=jobs)


def main() -> int:
    """Judge what comes on standard input; 0 when there is a verdict, be it a refusal."""
    line = sys.stdin.buffer.readline(_MOST_ASKED_BYTES)
    raw = sys.stdin.buffer.read(MAX_COMMAND_BYTES + 1)
    try:
        asked = _asked.validate_json(line)
        command = take(raw, asked, Path(sys.argv[1]), Place(Path(sys.argv[2])))
    except Refused as why:
        _say({"reason": why.reason, "detail": str(why)[:200]})
        return 0
    except (OSError, ValueError) as problem:
        _say({"reason": "not_judged", "detail": str(problem)[:200]})
        return 1
    _say({"reason": "", "command": to_json(command)})
    return 0


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    sys.exit(main())
