"""The last lines of the agent's own log, kept in memory in a form that may leave the device.

A line is redacted when it is made: of a message, only the program's own words are kept, and of its
values only those of fields named here, where they have the form of a number or of one of our own
words. Whatever else a value holds, a path, a name, an address, never gets in.
"""

import logging
import os
import re
import time
from collections import deque
from functools import cache

_MOST_LINES = 400
_OWN = "ketang"
_HEAD = re.compile(r"[a-z_]{1,30}\.(?:[a-z_]{1,30}|%s)|%s")
_FIELD = re.compile(r"([a-z_]{1,30})=(%[-+ #0-9.*]*[a-zA-Z]|[a-z_]{1,30})?")
_PLACE = re.compile(r"%[-+ #0-9.*]*[a-zA-Z]")
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,6})?")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,40}")
_NUMBERS = frozenset(
    {"session", "times", "dropped", "records", "bound", "waiting", "kept", "lost", "code", "port"}
)
_WORDS = frozenset({"fault", "grip", "before", "view", "reason", "state", "what"})
AREAS = frozenset(
    {
        "agent",
        "broker",
        "camera",
        "collector",
        "command",
        "config",
        "identity",
        "job",
        "local_page",
        "model",
        "occupancy",
        "parts",
        "permits",
        "power",
        "release",
        "spool",
        "switch",
        "updates",
        "worker",
    }
)
"""What the agent's messages begin with, before the dot."""
_OUR_WORDS = frozenset({"memory_full", "switch"})
"""Values that the program itself writes into a message's form."""
HIDDEN = "[-]"
_ERRORS = (
    *sorted({os.strerror(number) for number in range(1, 134)}, key=len, reverse=True),
    "timed out",
    "certificate verify failed",
    "database is locked",
    "disk I/O error",
)
"""What systems say of a failure: the only free text whose words are known beforehand."""

REASONS = frozenset(
    {
        "bad_envelope",
        "bad_document",
        "forged",
        "expired",
        "too_early",
        "wrong_device",
        "wrong_job",
        "used",
        "no_trust",
        "busy",
        "not_judged",
        "retained",
    }
)
"""Why a command is refused."""


class LogTail(logging.Handler):
    """Add it to the logger ``ketang``; it keeps what passes it."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        try:
            self._lines.append(redacted(record))
        except Exception:  # noqa: BLE001  (a value that cannot be written must not end its writer)
            self.handleError(record)

    def lines(self) -> list[str]:
        """Return what is kept, oldest first; from any thread."""
        self.acquire()
        try:
            return list(self._lines)
        finally:
            self.release()


def redacted(record: logging.LogRecord) -> str:
    """Write a line that may leave the device: time (UTC), level, logger, message, exception."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
    name = record.name if re.fullmatch(r"ketang(?:\.[a-z_]{1,30})?", record.name) else HIDDEN
    said = _message(record) if name != HIDDEN else HIDDEN
    kind = record.exc_info[0] if record.exc_info else None
    failed = f" exception={kind.__name__}" if kind is not None else ""
    return f"{moment} {record.levelname} {name} {said}{failed}"


def phrase(text: str) -> str:
    """Return what the system said of a failure, without what it said it of; empty if nothing."""
    return next((one for one in _ERRORS if one in text), "")


def _message(record: logging.LogRecord) -> str:
    """Rebuild a message from its form, which is the program's, and the values that may stay."""
    form, args = record.msg, record.args
    if not isinstance(form, str) or not isinstance(args, tuple):
        return HIDDEN
    values = list(args)
    made: list[str] = []
    for at, part in enumerate(form.split(" ")):
        field = _FIELD.fullmatch(part)
        if at == 0 and _HEAD.fullmatch(part):
            made.append(_head(part, values))
        elif field is None:
            made.append(HIDDEN)
            del values[: len(_PLACE.findall(part))]
        else:
            made.append(f"{field[1]}={_shown(field[1], field[2] or '', values)}")
    return " ".join(made)


def _head(part: str, values: list[object]) -> str:
    """Return what a message is about: ``area.event``, or one of the contract's words."""
    area, dot, event = part.rpartition(".")
    if event == "%s":
        said = str(values.pop(0)) if values else ""
        event = said if said in _known_words() else HIDDEN
    return f"{area}{dot}{event}" if area in AREAS or not dot else HIDDEN


def _shown(name: str, form: str, values: list[object]) -> str:
    if not form.startswith("%"):
        return form if form in _OUR_WORDS else HIDDEN
    if not values:
        return HIDDEN
    value = str(values.pop(0))
    if name in _NUMBERS and _NUMBER.fullmatch(value):
        return value
    if name in _WORDS and _WORD.fullmatch(value) and value in _known_words():
        return value
    return f"[{phrase(value)}]" if name == "why" and phrase(value) else HIDDEN


@cache
def _known_words() -> frozenset[str]:
    """Return the contract's own closed words."""
    from ketang_agent.spool.guard import Grip  # noqa: PLC0415
    from ketang_contract import commands, records, state  # noqa: PLC0415

    kinds = (
        Grip,
        commands.What,
        commands.State,
        records.Fault,
        records.EventName,
        records.View,
        state.ConfigState,
        state.Camera,
    )
    return frozenset(one.value for kind in kinds for one in kind) | REASONS
