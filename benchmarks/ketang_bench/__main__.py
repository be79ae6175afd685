"""``python -m ketang_bench NAME``: run one benchmark, or all; ``ketang bench`` calls this."""

import argparse
import importlib
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol, cast

from ketang_bench import report
from ketang_contract.errors import KetangError

NAMES = ("footprint", "start", "drain", "puback", "enroll", "rollout")
"""Every benchmark, one module each."""
MISSED, FAILED = 1, 2


class Benchmark(Protocol):
    """What a benchmark's module offers."""

    ABOUT: str

    def run(self, folder: Path, *, quick: bool) -> report.Result:
        """Measure, with files under ``folder`` only."""
        ...


def main() -> int:
    """Run what was asked; 1 when a figure misses its limit, 2 when none could be taken."""
    options = _parser().parse_args()
    # What was started here must not stay behind when this is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.name == "list":
        for name in NAMES:
            print(f"{name:<12}{_load(name).ABOUT}")
        return 0
    status = 0
    for name in NAMES if options.name == "all" else (options.name,):
        try:
            said = _measure(name, options)
        except KetangError as problem:
            print(f"ketang: {name}: {problem}", file=sys.stderr)
            status = FAILED
            continue
        if not said["holds"]:
            status = status or MISSED
        print(json.dumps(said, ensure_ascii=False) if options.json else _line(said), flush=True)
        if options.save:
            print(f"kept: {report.save(said)}", file=sys.stderr)
    return status


def _measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="ketang-bench-", dir=options.folder))
    try:
        result = _load(name).run(folder, quick=options.quick)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return report.whole(result, f"ketang bench {name}{' --quick' if options.quick else ''} --json")


def _line(said: dict[str, Any]) -> str:
    verdict = "holds" if said["holds"] else "MISSED"
    ratio = "" if said["ratio"] is None else f", {said['ratio']} of the raw limit"
    return (
        f"{said['name']:<12}{said['value']:>12} {said['unit']}"
        f"  (limit {said['limit']}, target {said['target']}{ratio}): {verdict}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ketang bench", description=__doc__)
    parser.add_argument("name", choices=(*NAMES, "all", "list"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--folder", type=Path)
    return parser


def _load(name: str) -> Benchmark:
    return cast("Benchmark", importlib.import_module(f"ketang_bench.{name}"))


if __name__ == "__main__":
    sys.exit(main())
