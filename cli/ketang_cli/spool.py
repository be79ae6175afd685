"""``ketang agent spool``: what waits on this device, in plain words, or as a table to take away."""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ketang_contract.errors import BadInput
from ketang_contract.records import BODIES, Stream

if TYPE_CHECKING:
    from ketang_agent.spool.human import Filter, Held, LaneStats

KINDS = {one.default: body for body in BODIES for one in fields(body) if one.name == "kind"}
_UNITS = {"s": "s", "ms": "ms", "pct": "%", "mb": "MB", "gb": "GB", "c": "°C", "ppm": "ppm"}
_KEYS = ("store_id", "stream", "seq", "waiting", "time", "subject", "clock", "kind")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``stats``, ``peek`` and ``export``."""
    actions = parser.add_subparsers(dest="spool_action", required=True, metavar="ACTION")
    stats = actions.add_parser("stats", help="how much waits, was acknowledged, was lost")
    peek = actions.add_parser("peek", help="the last records, in plain words")
    peek.add_argument("-n", "--count", type=int, default=20, metavar="N")
    export = actions.add_parser("export", help="every record, as CSV or JSON lines")
    export.add_argument("--format", choices=("csv", "jsonl"), default="csv")
    export.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    for one in (stats, peek, export):
        where = one.add_mutually_exclusive_group(required=True)
        where.add_argument("--settings", type=Path, metavar="AGENT.TOML")
        where.add_argument("--file", type=Path, metavar="SPOOL.DB")
    for one in (stats, peek):
        one.add_argument("--json", action="store_true", help="one JSON object a line")
    for one in (peek, export):
        one.add_argument("--stream", choices=[str(name) for name in Stream])
        one.add_argument("--kind", choices=KINDS)
        one.add_argument("--since", metavar="TIME", help="2026-09-01 or 2026-09-01T08:00")
        one.add_argument("--until", metavar="TIME", help="the same; this moment excluded")


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: the file, the settings or a time are wrong.
    """
    from ketang_agent.spool import human

    path = options.file or _path_from(options.settings)
    with human.opened(path) as db:
        if options.spool_action == "stats":
            _print_stats(human.stats(db), path, as_json=options.json)
        elif options.spool_action == "peek":
            if options.count < 1:
                raise BadInput(f"--count {options.count}: 1 or more is needed")
            _print_last(human.last(db, options.count, _filter(options)), as_json=options.json)
        else:
            found = human.records(db, _filter(options))
            with _output(options.output) as file:
                count = _write(found, options.format, options.kind, file)
            if options.output:
                print(f"{options.output}: {count} records")
    return 0


def _path_from(settings_file: Path) -> Path:
    from ketang_agent import settings

    return settings.read(settings_file).data_dir / "spool.db"


def _filter(options: argparse.Namespace) -> "Filter":
    from ketang_agent.spool.human import Filter

    return Filter(
        stream=Stream(options.stream) if options.stream else None,
        kind=options.kind,
        since_ms=_ms(options.since, "--since"),
        until_ms=_ms(options.until, "--until"),
    )


def _ms(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadInput(f"{name} {text}: write 2026-09-01 or 2026-09-01T08:00") from None


def _print_stats(lanes: "list[LaneStats]", path: Path, *, as_json: bool) -> None:
    files = [path, path.with_name(path.name + "-wal")]
    size = sum(one.stat().st_size for one in files if one.exists())
    if as_json:
        for one in lanes:
            print(json.dumps(asdict(one)))
        print(json.dumps({"file": str(path), "bytes": size}))
        return
    print(f"{path}: {size / (1 << 20):.1f} MB")
    if not lanes:
        print("nothing has been recorded yet")
        return
    print("store             stream  given out  waiting  at the centre  lost  waiting since")
    for one in lanes:
        since = "-" if one.oldest_waiting_ms is None else _time(one.oldest_waiting_ms)
        print(
            f"{one.store_id:<16}{'*' if one.current else ' '} {one.stream:<6} {one.head:>10}"
            f" {one.pending:>8} {one.acked:>14} {one.lost:>5}  {since}"
        )
    print("* takes new records")


def _print_last(found: "list[Held]", *, as_json: bool) -> None:
    for one in found:
        if as_json:
            print(json.dumps(_flat(one) | {"body": one.body}, ensure_ascii=False))
            continue
        said = ", ".join(_words(key, value) for key, value in one.body.items() if key != "kind")
        state = "waits" if one.waiting else "at the centre"
        print(f"{_time(one.wall_ms)}  {one.body.get('kind', '?'):<11} {said}  ({state})")
    if not found and not as_json:
        print("no such record is here")


def _words(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return " ".join([key, *(f"{name} {inner}" for name, inner in value.items())])
    name, _, unit = key.rpartition("_")
    if name and unit in _UNITS:
        return f"{name.replace('_', ' ')} {value} {_UNITS[unit]}"
    return f"{key.replace('_', ' ')} {value}"


def _write(found: "Iterable[Held]", form: str, kind: str | None, file: TextIO) -> int:
    """Write records one by one; return how many. A field at its default is empty in the table."""
    count = 0
    bodies = BODIES if kind is None else [KINDS[kind]]
    names = [one.name for body in bodies for one in fields(body) if one.name != "kind"]
    table = csv.DictWriter(file, [*_KEYS, *dict.fromkeys(names)], extrasaction="ignore")
    if form == "csv":
        table.writeheader()
    for one in found:
        count += 1
        if form == "csv":
            body = {
                key: json.dumps(value) if isinstance(value, dict) else value
                for key, value in one.body.items()
            }
            table.writerow(body | _flat(one))
        else:
            file.write(json.dumps(_flat(one) | {"body": one.body}, ensure_ascii=False) + "\n")
    return count


def _flat(one: "Held") -> dict[str, Any]:
    return {
        "store_id": one.store_id,
        "stream": str(one.stream),
        "seq": one.seq,
        "waiting": one.waiting,
        "time": _time(one.wall_ms),
        "subject": one.fields.get("subject"),
        "clock": one.fields.get("time"),
        "kind": one.body.get("kind"),
    }


def _time(ms: int) -> str:
    """Local time with its offset, which a table can be sorted by and a person can read."""
    return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "seconds")


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as problem:
        raise BadInput(f"{path}: cannot be written ({problem.strerror})") from None
