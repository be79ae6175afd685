"""``ketang config`` at the centre: bring releases, follow rollouts, stop them, take them back.

These work on the centre's data folder, as ``ketang center units`` does; a centre that runs over it
sees a change within a second.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_cli import config_approving, config_placing, own_account
from ketang_cli.config_reading import read_bytes
from ketang_cli.provision_region import add_language, language
from ketang_contract.errors import BadInput
from ketang_contract.releases import MAX_RELEASE_BYTES

if TYPE_CHECKING:
    from ketang_center.rollouts.book import Rollout
    from ketang_center.rollouts.office import Office
    from ketang_center.rollouts.plan import Rules
    from ketang_center.rollouts.values import Member, Release
    from ketang_cli.provision_region import Language

_ACTS = {
    "approve": "agree to a rollout that widens; not for whoever brought it",
    "pause": "send to nobody more for now",
    "resume": "go on after a pause, or after a rollout stopped itself",
    "cancel": "send to nobody more for good; who has it keeps it",
    "retry": "send again to the devices where it failed",
}
_MOST_SHOWN = 200


def add_actions(actions: Any) -> None:
    """Declare what is done at the centre."""
    push = actions.add_parser("push", help="bring releases to the centre and begin their rollouts")
    push.add_argument("files", nargs="+", type=Path, metavar="RELEASE.JSON|PLACEMENTS.JSONL")
    push.add_argument("--keep", action="store_true", help="bring them only; begin nothing")
    push.add_argument("--groups", metavar="N,N", help="sizes of the first groups: 20,200")
    push.add_argument("--percents", metavar="P,P", help="and then, of the rest: 10,25,50,100")
    push.add_argument("--per-minute", type=int, metavar="N", help="devices sent to in a minute")
    export = actions.add_parser("export", help="list devices whose placement has to be signed")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.JSONL")
    status = actions.add_parser(
        "status", help="show releases and rollouts, or one rollout's groups"
    )
    status.add_argument("rollout", nargs="?", type=int, metavar="ROLLOUT")
    add_language(status)
    history = actions.add_parser("history", help="show who did what, of all rollouts or of one")
    history.add_argument("rollout", nargs="?", type=int, metavar="ROLLOUT")
    back = actions.add_parser("rollback", help="send the undo of a release; it needs no key")
    back.add_argument("release", metavar="RELEASE-ID")
    _add_why(back)
    made = [push, export, status, history, back]
    for name, told in _ACTS.items():
        act = actions.add_parser(name, help=told)
        act.add_argument("rollout", type=int, metavar="ROLLOUT")
        if name == "retry":
            act.add_argument("--device", nargs="+", default=[], metavar="DEVICE", help="only these")
        if name == "pause":
            _add_why(act)
        if name == "approve":
            own_account.add_arguments(act)
        made.append(act)
    for one in made:
        one.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")
        one.add_argument("--json", action="store_true")


def _add_why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--why", default="", metavar="TEXT", help="for the history")


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: it cannot be, in one line.
    """
    from ketang_center import settings
    from ketang_center.rollouts.office import open_office

    chosen = settings.read(options.settings)
    with open_office(chosen) as office:
        if options.action == "approve":
            config_approving.approve(office, chosen.data_dir, options)
            return _told(office, options)
        return _DO.get(options.action, _act)(office, options)


def _push(office: "Office", options: argparse.Namespace) -> int:
    from ketang_center.rollouts.office import this_person

    rules, who = _rules(options), this_person()
    lists = [path for path in options.files if config_placing.is_list(path)]
    # Placements first: a release begins only where devices are placed.
    status = max([_push_placements(office, path, who, options) for path in lists], default=0)
    for path in options.files:
        if path not in lists:
            _push_release(office, path, rules, who, options)
    return status


def _push_placements(office: "Office", path: Path, who: str, options: argparse.Namespace) -> int:
    with config_placing.open_lines(path) as lines:
        taken = office.take_placements((one.encode() for one in lines if one.strip()), who)
    for device, why in taken.refused:
        _say(options, {"device": device, "refused": why}, f"{device}: refused: {why}")
    said = {
        "file": str(path),
        "taken": taken.taken,
        "same": taken.same,
        "turned_away": taken.turned_away,
    }
    more = f", {taken.turned_away} refused" if taken.turned_away else ""
    line = f"{path}: {taken.taken} placements taken, {taken.same} known already{more}"
    _say(options, said, line)
    if taken.stopped:
        raise BadInput(f"{path}: {taken.stopped}")
    return 1 if taken.turned_away else 0


def _push_release(
    office: "Office", path: Path, rules: "Rules", who: str, options: argparse.Namespace
) -> None:
    from ketang_center.rollouts.admitting import HereAlready

    raw = read_bytes(path, MAX_RELEASE_BYTES)
    try:
        release = office.admit(raw, who)
    except HereAlready as known:
        if options.keep:
            raise BadInput(f"{path}: {known}") from known
        release = office.look.release(known.release)  # it was kept, and is to begin now
    except BadInput as problem:
        raise BadInput(f"{path}: {problem}") from problem
    hours = office.look.without_hours(release)
    if hours and not options.json:
        print(f"{path}: warning: {hours} devices would have no hours left to count use and heads")
    number = None if options.keep else office.begin(release.name, who, rules)
    state = None if number is None else office.look.rollout(number).state
    said = {
        "file": str(path),
        "release": release.name,
        "rollout": number,
        "state": state,
        "without_hours": hours,
    }
    told = "brought" if number is None else f"rollout {number} {state}"
    _say(options, said, f"{path}: {release.name}: {told}")


def _export(office: "Office", options: argparse.Namespace) -> int:
    from ketang_cli import config_desk

    found = list(office.export_placements())
    config_desk.write(options.out, "".join(f"{one}\n" for one in found).encode())
    _say(options, {"devices": len(found)}, f"{options.out}: {len(found)} devices to place")
    return 0


def _status(office: "Office", options: argparse.Namespace) -> int:
    if options.rollout is not None:
        return _one(office, options)
    rollouts, releases = office.look.rollouts(), office.look.releases()
    lacking = len(office.look.not_placed())
    if options.json:
        said = {
            "rollouts": [asdict(one) for one in rollouts],
            "releases": [_release(one) for one in releases],
            "not_placed": lacking,
        }
        print(json.dumps(said, ensure_ascii=False))
        return 0
    for one in rollouts:
        print(_line(one))
    begun = {one.release for one in rollouts}
    for known in releases:
        if known.name not in begun:
            print(f"-  {known.name}  {known.target}  not begun")
    if lacking:
        print(f"{lacking} devices have no placement that fits: ketang config export, place, push")
    return 0


def _one(office: "Office", options: argparse.Namespace) -> int:
    from ketang_center.rollouts.plan import State

    found = office.look.status(options.rollout)
    quiet = {State.PENDING, State.SENT, State.COMMITTED}
    members = office.look.members(options.rollout, limit=_MOST_SHOWN)
    troubled = [one for one in members if one.state not in quiet]
    if options.json:
        groups = [
            {"no": one.no, "bound": one.bound, "counts": dict(one.counts)} for one in found.groups
        ]
        said = {
            "rollout": asdict(found.rollout),
            "groups": groups,
            "counts": dict(found.counts),
            "total": found.total,
            "not_placed": found.not_placed,
            "members": [asdict(one) for one in troubled],
        }
        print(json.dumps(said, ensure_ascii=False))
        return 0
    print(_line(found.rollout))
    for group in found.groups:
        print(f"  group {group.no} (to {group.bound}): {_counted(group.counts)}")
    print(f"  {found.total} devices: {_counted(found.counts)}")
    if found.not_placed:
        print(f"  {found.not_placed} devices more have no placement that fits")
    for member in troubled:
        print(f"  {member.device}: {_in_words(member, language(options))}")
    return 0


def _in_words(member: "Member", lang: "Language") -> str:
    """Say how far a device has come, as the console does; the code is what guides name it by."""
    from ketang_center.web import rollout_words
    from ketang_center.web.text import words

    t = words(lang)
    state, why = t(f"member_state.{member.state.value}"), member.reason
    return f"{state}: {rollout_words.reason(why, t)} ({why})" if why else state


def _history(office: "Office", options: argparse.Namespace) -> int:
    from ketang_cli.listing import clock

    events = office.look.history(options.rollout)
    if options.json:
        print(json.dumps([asdict(one) for one in events], ensure_ascii=False))
        return 0
    for one in events:
        number = one.rollout or "-"
        print(f"{clock(one.at_ms)}  {number}  {one.who}  {one.what}  {one.detail}".rstrip())
    return 0


def _rollback(office: "Office", options: argparse.Namespace) -> int:
    from ketang_center.rollouts.office import this_person
    from ketang_center.rollouts.values import What

    office.look.release(options.release)
    rollouts = [one for one in office.look.rollouts() if one.release == options.release]
    sent = [one for one in rollouts if one.what is What.RELEASE]
    if not sent:
        raise BadInput(f"{options.release}: was never rolled out; there is nothing to take back")
    number = office.roll_back(sent[0].no, this_person(), options.why)
    said = {"release": options.release, "rollout": number}
    _say(options, said, f"{options.release}: taken back by rollout {number}")
    return 0


def _act(office: "Office", options: argparse.Namespace) -> int:
    from ketang_center.rollouts.office import this_person

    number, who = options.rollout, this_person()
    if options.action == "retry":
        count = office.retry_failed(number, who, options.device)
        _say(options, {"rollout": number, "devices": count}, f"{count} devices try again")
        return 0
    if options.action == "pause":
        office.pause(number, who, options.why)
    else:
        acts = {"resume": office.resume, "cancel": office.cancel}
        acts[options.action](number, who)
    return _told(office, options)


def _told(office: "Office", options: argparse.Namespace) -> int:
    """Say where a rollout stands after an act."""
    number = options.rollout
    state = office.look.rollout(number).state
    _say(options, {"rollout": number, "state": state}, f"rollout {number}: {state}")
    return 0


_DO = {
    "push": _push,
    "export": _export,
    "status": _status,
    "history": _history,
    "rollback": _rollback,
}


def _rules(options: argparse.Namespace) -> "Rules":
    from ketang_center.rollouts.plan import Rules

    said: dict[str, Any] = {}
    if options.groups is not None:
        said["groups"] = _numbers(options.groups, "--groups", 1_000_000)
    if options.percents is not None:
        percents = said["percents"] = _numbers(options.percents, "--percents", 100)
        if any(after <= before for before, after in pairwise(percents)):
            raise BadInput(f"--percents {options.percents[:40]}: accepted: growing ones, 10,25,100")
    if options.per_minute is not None:
        said["per_minute"] = _numbers(str(options.per_minute), "--per-minute", 1_000_000)[0]
    return replace(Rules(), **said)


def _numbers(text: str, option: str, most: int) -> tuple[int, ...]:
    words = text.split(",")
    if not all(one.isdecimal() and 0 < int(one) <= most for one in words):
        raise BadInput(
            f"{option} {text[:40]}: accepted: whole numbers from 1 to {most}, e.g. 20,200"
        )
    return tuple(map(int, words))


def _line(one: "Rollout") -> str:
    why = f": {one.reason}" if one.reason else ""
    return f"{one.no}  {one.release} ({one.what})  {one.target}  {one.state}{why}"


def _release(one: "Release") -> Mapping[str, object]:
    """A release for a machine, without its content: ``diff`` and ``explain`` show that."""
    return {name: value for name, value in asdict(one).items() if name not in {"content", "before"}}


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _say(options: argparse.Namespace, said: Mapping[str, object], line: str) -> None:
    print(json.dumps(said, ensure_ascii=False) if options.json else line)
