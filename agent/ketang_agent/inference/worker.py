"""The worker's door: a process of its own that counts heads and tells only aggregates.

Started by the supervisor as ``python -m ketang_agent.inference.worker``. Before any library is
loaded it gives up what it must not have (``confine``), and puts its pipe and its standard error out
of the libraries' reach: what they print could hold a picture's content, so it goes nowhere.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from ketang_agent.clock import Clock, SystemClock
from ketang_agent.inference.confine import confine, lock_memory
from ketang_agent.inference.no_network import forgo_network
from ketang_agent.inference.plan import CountingPlan, model_of, plan_of
from ketang_agent.inference.protocol import Exit, Phrase
from ketang_agent.inference.sources import SourceKind
from ketang_contract.config import COUNTED_EVERY_S
from ketang_contract.errors import BadInput
from ketang_models.manifest import ModelRefused

_STDOUT, _STDERR = 1, 2
_ENDS: tuple[tuple[type[Exception], Phrase, Exit], ...] = (
    (BadInput, Phrase.SOURCE_REFUSED, Exit.SOURCE_REFUSED),
    (ModelRefused, Phrase.MODEL_REFUSED, Exit.MODEL_REFUSED),
    (ImportError, Phrase.PARTS_MISSING, Exit.PARTS_MISSING),
    (Exception, Phrase.FAULT, Exit.FAULT),
)
"""What ends a worker, and all that is said of it; the first that fits."""


def main(
    arguments: Sequence[str],
    clock: Clock | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Exit:
    """Work until killed, or until nobody listens."""
    asked = _asked(arguments)
    if not confine(asked.parent):
        return Exit.DONE
    lines, words = _private(_STDOUT), _private(_STDERR)

    def say(phrase: Phrase) -> None:
        os.write(words, f"{phrase}\n".encode("ascii"))

    def tell(line: bytes) -> None:
        os.write(lines, line)  # under PIPE_BUF, so whole or not at all

    try:
        plan = plan_of(
            asked.source,
            asked.model,
            asked.scan_s,
            folder=asked.model_folder,
            least_pct=asked.least_pct,
            every_s=asked.every_s,
        )
        return _count(plan, clock, tell, say, pause)
    except BrokenPipeError:
        return Exit.DONE
    except Exception as problem:  # noqa: BLE001  (the process's edge: a traceback could quote a frame)
        phrase, code = next((p, c) for kind, p, c in _ENDS if isinstance(problem, kind))
        say(phrase)
        return code


def _count(
    plan: CountingPlan,
    clock: Clock | None,
    tell: Callable[[bytes], None],
    say: Callable[[Phrase], None],
    pause: Callable[[float], None],
) -> Exit:
    # a stream needs sockets; any other source gets none, whatever a library would like to report
    if plan.source.kind is not SourceKind.STREAM and not forgo_network():
        say(Phrase.NETWORK_OPEN)
    # heavy libraries only now: they find a process that can neither write nor print
    from ketang_agent.inference.capture import capture_of  # noqa: PLC0415
    from ketang_agent.inference.looking import Looking, ModelFailing  # noqa: PLC0415
    from ketang_agent.inference.pipeline import pipeline_of  # noqa: PLC0415

    looking = Looking(
        capture=capture_of(plan.source),
        pipeline=pipeline_of(model_of(plan.model, plan.folder), plan.least_pct / 100),
        scan_ms=plan.scan_s * 1000,
        every_s=plan.every_s,
        clock=clock or SystemClock(),
        tell=tell,
    )
    # after the model is in, so that its pages are locked too
    if not lock_memory():
        say(Phrase.MAY_SWAP)
    try:
        looking.go_on(pause)
    except ModelFailing:
        say(Phrase.MODEL_FAILING)
    return Exit.MODEL_FAILING


def _private(descriptor: int) -> int:
    """Move a standard stream out of the libraries' reach; what they write there is dropped."""
    ours = os.dup(descriptor)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return ours


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ketang_agent.inference.worker")
    parser.add_argument("--source", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--model-folder", default="")
    parser.add_argument("--least-pct", default=0, type=int)
    parser.add_argument("--scan-s", required=True, type=int)
    parser.add_argument("--every-s", default=COUNTED_EVERY_S[0], type=int)
    parser.add_argument("--parent", required=True, type=int)
    return parser.parse_args(arguments)


def _leave(code: Exit) -> NoReturn:
    # no library's farewell, which could write or hang
    os._exit(code)


if __name__ == "__main__":
    _leave(main(sys.argv[1:]))
