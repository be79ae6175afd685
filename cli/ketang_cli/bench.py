"""``ketang bench``: run a benchmark as a program of its own, which drives all from outside."""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from ketang_contract.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's name and how to run it."""
    parser.add_argument(
        "name", nargs="?", default="list", metavar="NAME", help="a benchmark, 'all', or 'list'"
    )
    parser.add_argument("--quick", action="store_true", help="at most 50 seconds each")
    parser.add_argument("--json", action="store_true", help="print one JSON object each")
    parser.add_argument("--save", action="store_true", help="keep it under benchmarks/results/")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to write meanwhile (default: temporary)"
    )


def run(options: argparse.Namespace) -> int:
    """Run it in a process of its own: 0, or 1 when a figure misses its limit, 2 without figures.

    Raises:
        BadInput: the benchmarks are not part of this installation.
    """
    if importlib.util.find_spec("ketang_bench") is None:
        raise BadInput("the benchmarks are not installed here")
    words = [options.name]
    words += [f"--{one}" for one in ("quick", "json", "save") if getattr(options, one)]
    words += ["--folder", str(options.folder)] if options.folder else []
    return subprocess.run([sys.executable, "-m", "ketang_bench", *words], check=False).returncode
