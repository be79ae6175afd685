"""``ketang config check``, ``diff``, ``show``, ``explain``: read configurations, write nothing."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_cli.provision_region import add_language, language
from ketang_contract.config import (
    DIRECTIONS,
    Config,
    Level,
    Merged,
    Said,
    changed,
    merge,
    misplaced,
)
from ketang_contract.errors import BadInput
from ketang_contract.records import to_json

if TYPE_CHECKING:
    from ketang_center.rollouts.looking import Explained
    from ketang_contract.releases import Release
    from ketang_provisioning.config_words import Language

LEVELS = tuple(one.value for one in Level)


@dataclass(frozen=True, slots=True)
class Read:
    """What a file says: a person's TOML, or a release's layer (which knows its level)."""

    content: Config
    level: Level | None


def add_actions(actions: Any) -> None:
    """Declare ``check``, ``diff``, ``show`` and ``explain``."""
    check = actions.add_parser("check", help="tell whether a file is right, in one line")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE.TOML")
    check.add_argument("--level", choices=LEVELS, default="region", help="whose layer it becomes")
    add_language(check)
    diff = actions.add_parser("diff", help="show which fields widen, narrow or change")
    diff.add_argument("was", type=Path, metavar="BEFORE", help="a file, or a release")
    diff.add_argument("after", type=Path, metavar="AFTER")
    diff.add_argument("--level", choices=LEVELS, help="region, unless a release says another")
    show = actions.add_parser("show", help="print what a release says, as a file to be edited")
    show.add_argument("release", metavar="RELEASE.JSON", help="or its id, with --settings")
    show.add_argument("--settings", type=Path, metavar="CENTER.TOML", help="one the centre has")
    explain = actions.add_parser(
        "explain", help="show which layer set each value, from releases or at the centre"
    )
    explain.add_argument(
        "--release", nargs="+", type=Path, default=[], metavar="RELEASE.JSON", help="off line"
    )
    explain.add_argument("--profile", metavar="KIND", help="of the device, with --release")
    explain.add_argument("--device", metavar="DEVICE", help="at the centre, with --settings")
    explain.add_argument("--settings", type=Path, metavar="CENTER.TOML")
    for one in (diff, explain):
        one.add_argument("--json", action="store_true")
        add_language(one)


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: a file that is wrong: file, key, what is accepted.
    """
    if options.action == "check":
        return _check(options)
    if options.action == "diff":
        return _diff(options)
    if options.action == "show":
        return _show_release(options)
    if options.device is not None:
        return _at_centre(options)
    return _off_line(options)


def read(path: Path) -> Read:
    """Read a person's file (``.toml``) or a release's layer; its signatures are not asked.

    Raises:
        BadInput: it is neither.
    """
    from ketang_provisioning import config_files, signing

    if path.suffix == ".toml":
        return Read(config_files.read_config(path), None)
    layer = signing.opened(read_release(path)).layer
    return Read(layer.content, layer.level)


def read_release(path: Path) -> "Release":
    """Read a release file.

    Raises:
        BadInput: it is none; in one line.
    """
    from ketang_contract import releases

    raw = read_bytes(path, releases.MAX_RELEASE_BYTES)
    try:
        return releases.read(raw)
    except BadInput as problem:
        raise BadInput(f"{path}: {problem}") from problem


def read_bytes(path: Path, most: int) -> bytes:
    """Read a file with a cap.

    Raises:
        BadInput: it cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    if len(raw) > most:
        raise BadInput(f"{path}: larger than {most} bytes; that is the wrong file")
    return raw


def _check(options: argparse.Namespace) -> int:
    from ketang_provisioning import config_files, config_words

    for path in options.files:
        content = config_files.read_config(path)
        wrong = misplaced(content) if options.level != Level.REGION else ()
        if wrong:
            raise BadInput(f"{path}: {wrong[0]}: the region's alone, not for a {options.level}")
        print(f"{path}: ok")
        chosen = language(options)
        for line in config_words.contents(content, chosen):
            print(f"  {line}")
        for one in config_words.cautions(content, Level(options.level)):
            print(f"  {config_words.caution(one, chosen)}")
    return 0


def _diff(options: argparse.Namespace) -> int:
    from ketang_profiles.configured import agents
    from ketang_provisioning import config_words, standings
    from ketang_provisioning.signing import Stood

    was, after = read(options.was), read(options.after)
    known = options.level or after.level or was.level or Level.REGION
    wide = standings.widening(Level(known), Stood(was.content), Stood(after.content), agents())
    if options.json:
        moves = {
            name: config_words.move(name, was.content, after.content, wide)
            for name in changed(was.content, after.content)
        }
        sorts = {
            one.value: [name for name, found in moves.items() if found is one]
            for one in config_words.Move
        }
        print(json.dumps(sorts))
        return 0
    lines = list(config_words.differences(was.content, after.content, language(options), wide))
    for line in lines or ["没有区别" if language(options) == "zh" else "no difference"]:
        print(line)
    return 0


def _show_release(options: argparse.Namespace) -> int:
    from ketang_provisioning import config_files

    if options.settings is None:
        content = read(Path(options.release)).content
    else:
        from ketang_center import settings
        from ketang_center.rollouts.office import open_office

        with open_office(settings.read(options.settings)) as office:
            content = office.look.release(options.release).content
    print(config_files.write_config(content), end="")
    return 0


def _off_line(options: argparse.Namespace) -> int:
    from ketang_profiles import profile
    from ketang_profiles.configured import as_config
    from ketang_provisioning import signing

    if not options.release or options.profile is None:
        raise BadInput("name --release and --profile, or --device and --settings")
    base = as_config(profile.shipped(options.profile))
    layers = [signing.opened(read_release(path)).layer for path in options.release]
    order = list(Level)
    layers.sort(key=lambda one: order.index(one.level))
    if len({one.level for one in layers}) != len(layers):
        raise BadInput("two releases of one level: a device has one at most")
    said = [Said(one.target, one.level, one.content) for one in layers]
    _show(merge(base, said), said, base, options)
    return 0


def _at_centre(options: argparse.Namespace) -> int:
    from ketang_center import settings
    from ketang_center.rollouts.office import open_office
    from ketang_profiles import profile
    from ketang_profiles.configured import as_config

    if options.settings is None:
        raise BadInput("--device needs --settings CENTER.TOML")
    with open_office(settings.read(options.settings)) as office:
        found = office.look.explain(options.device)
    said = [Said(one.target, one.level, one.content) for one in found.layers]
    kinds = {member.kind for _, member in found.memberships}
    base = as_config(profile.shipped(kinds.pop())) if len(kinds) == 1 else None
    _show(found.merged, said, base, options, found)
    return 0


def _show(
    merged: Merged,
    layers: Sequence[Said],
    base: Config | None,
    options: argparse.Namespace,
    found: "Explained | None" = None,
) -> None:
    """Print every field: its value, who set it, and what each layer and the profile say."""
    from ketang_provisioning.config_words import caution, cautions

    spoken = {name for one in layers for name in DIRECTIONS if _says(one.content, name)}
    rows = [
        name
        for name in DIRECTIONS
        if name != "schema" and (name in spoken or _says(merged.config, name))
    ]
    if options.json:
        fields = {name: _as_object(name, merged, layers, base) for name in rows}
        warned = {"warnings": list(cautions(merged.config))}
        print(json.dumps({"fields": fields, **warned, **_reported(found)}, ensure_ascii=False))
        return
    chosen = language(options)
    for name in rows:
        print(_line(name, merged, layers, base, chosen))
    for one in cautions(merged.config):
        print(caution(one, chosen))
    if found is not None:
        said = found.reported
        told = (
            "-" if said is None else f"{said.state}, {said.running or '-'} {said.reason}".rstrip()
        )
        wanted = found.wanted_hash or "-"
        if chosen == "zh":
            print(f"最后下发：{wanted}\n设备所报：{told}")
        else:
            print(f"sent last: {wanted}\nthe device reports: {told}")


def _reported(found: "Explained | None") -> dict[str, Any]:
    if found is None:
        return {}
    said = None if found.reported is None else asdict(found.reported)
    return {"wanted": found.wanted_hash, "reported": said, "reported_ms": found.reported_ms}


def _line(
    name: str,
    merged: Merged,
    layers: Sequence[Said],
    base: Config | None,
    chosen: "Language",
) -> str:
    from ketang_provisioning.config_words import title, words

    zh = chosen == "zh"
    by = merged.by.get(name) or ("设备类型" if zh else "profile")
    parts = [] if base is None else [("设备类型" if zh else "profile", getattr(base, name))]
    parts += [(one.target, getattr(one.content, name)) for one in layers]
    detail = ", ".join(
        f"{who}: {words(name, value, chosen)}" for who, value in parts if value is not None
    )
    value = words(name, getattr(merged.config, name), chosen)
    return f"{title(name, chosen)} = {value}  [{by}]  ({detail})"


def _as_object(
    name: str, merged: Merged, layers: Sequence[Said], base: Config | None
) -> dict[str, Any]:
    return {
        "value": to_json(getattr(merged.config, name)),
        "by": merged.by.get(name, "profile"),
        "profile": None if base is None else to_json(getattr(base, name)),
        "layers": {
            one.target: to_json(getattr(one.content, name))
            for one in layers
            if _says(one.content, name)
        },
    }


def _says(content: Config, name: str) -> bool:
    return name != "schema" and getattr(content, name) is not None
