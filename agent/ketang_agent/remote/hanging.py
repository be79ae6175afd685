"""Ends a process whose main loop hangs, whatever lock it holds: the next start counts it."""

import faulthandler
import functools
import os
import sys
from pathlib import Path
from typing import TextIO

HANGS_S = 20.0
"""A main loop that does nothing for so long in a trial is ended."""


def mind() -> None:
    """From now on the process is ended unless this, or ``ignore``, is called within ``HANGS_S``."""
    # A service of Windows has no standard error, and ``faulthandler`` then refuses to do anything.
    last_words = sys.stderr if sys.stderr is not None else _nowhere()
    faulthandler.dump_traceback_later(HANGS_S, exit=True, file=last_words)


def ignore() -> None:
    """Let it hang."""
    faulthandler.cancel_dump_traceback_later()


@functools.cache
def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="ascii")
