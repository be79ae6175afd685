"""The golden child: runs a model's networks on synthetic pictures before anyone relies on them.

``python -m ketang_agent.inference.golden FOLDER --parent PID``, confined as the worker is, without
a network. Exit status 0: every answer is what the model's maker saw (``ketang_models.golden``).
Else one line says why; there is no picture of anybody here that it could tell of.
"""

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ketang_agent.inference.child import environment
from ketang_agent.inference.confine import confine
from ketang_agent.inference.no_network import forgo_network
from ketang_agent.inference.protocol import Exit
from ketang_models.manifest import ModelRefused
from ketang_models.registry import Model, open_model

CHECK_S = 120.0
MOST_MEMORY_BYTES = 768 << 20
"""Of addresses. The shipped model, runtime and all, takes 230 MB of them (78 MB of memory); a
worker is held to 400 MB of memory, so what does not fit here could not count people either."""
_MOST_TEXT = 300


class CannotCheck(ModelRefused):
    """The model could not be tried here: parts are missing, or the child was ended."""


def check(folder: Path, timeout_s: float = CHECK_S) -> None:
    """Try the model in a folder, in a child process that is waited for.

    Raises:
        ModelRefused: it is not what its manifest says, or answers otherwise.
        CannotCheck: it could not be tried.
    """
    command = (sys.executable, "-B", "-m", __name__, str(folder.resolve()))
    try:
        done = subprocess.run(
            [*command, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            cwd="/",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise CannotCheck(f"the golden pictures could not be tried: {problem}") from None
    # The last line is ours: the runtime prints, too.
    told = done.stdout[-_MOST_TEXT:].decode("utf-8", "replace").strip().rpartition("\n")[2]
    if done.returncode == Exit.MODEL_REFUSED:
        raise ModelRefused(told)
    if done.returncode != Exit.DONE:
        raise CannotCheck(told or f"the golden child ended with {done.returncode}")


def try_out(model: Model) -> None:
    """Run every network on its golden pictures, here.

    Raises:
        ModelRefused: a network does not load, fails, or answers otherwise.
        ImportError: the parts that run models are not installed.
    """
    import numpy as np  # noqa: PLC0415  (after the process was confined)

    from ketang_agent.inference import backend  # noqa: PLC0415
    from ketang_models import golden  # noqa: PLC0415

    try:
        networks = backend.load(model)
    except ModelRefused:
        raise
    except Exception as problem:  # the runtime's own errors have no base in common
        kind = type(problem).__name__
        raise ModelRefused(f"{model.manifest.name}: not a network to load ({kind})") from problem
    answers = []
    for one in model.manifest.files:
        try:
            told = networks[one.role].run(golden.pictures(model.manifest, one))
        except Exception as problem:  # the same
            raise ModelRefused(f"{one.file}: fails on the golden pictures") from problem
        answers += [np.asarray(each, np.float32).ravel() for each in told]
    golden.check(model, np.concatenate(answers))


def main(arguments: Sequence[str]) -> Exit:
    """Try the model in the folder named."""
    parser = argparse.ArgumentParser(prog="python -m ketang_agent.inference.golden")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", required=True, type=int)
    asked = parser.parse_args(arguments)
    if not confine(asked.parent):
        return Exit.FAULT
    # Nobody watches what it takes, as the supervisor does with a worker, and the whole service has
    # one share of memory: a model that takes too much fails its own trial and nobody else's.
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    forgo_network()
    try:
        try_out(open_model(asked.folder))
    except ModelRefused as why:
        sys.stdout.write(f"{why}\n")
        return Exit.MODEL_REFUSED
    except ImportError as lack:
        sys.stdout.write(f"this installation lacks {lack.name}\n")
        return Exit.PARTS_MISSING
    return Exit.DONE


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # no library's farewell, which could hang
    os._exit(code)
