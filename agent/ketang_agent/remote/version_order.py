"""Which of two versions of the agent is older: three numbers, and what may stand behind them.

What is made before a release is older than it, what is made after it newer, in the order of
Python's own version numbers (PEP 440): 1.2.0.dev1, 1.2.0a1, 1.2.0b1, 1.2.0rc1, 1.2.0, 1.2.0.post1.
What is no version at all is older than every one: it must not end a device that reads it.
"""

import re

_VERSION = re.compile(
    r"v?(?P<numbers>\d{1,9}(\.\d{1,9}){0,3})"
    r"([-_.]?(?P<stage>dev|alpha|a|beta|b|preview|pre|rc|c|post|rev|r)[-_.]?(?P<stage_no>\d{0,9}))?"
    r"(?P<rest>[-+.].*)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_BEFORE = {
    "dev": -4,
    "a": -3,
    "alpha": -3,
    "b": -2,
    "beta": -2,
    "rc": -1,
    "c": -1,
    "pre": -1,
    "preview": -1,
    "post": 1,
    "rev": 1,
    "r": 1,
}
_NUMBERS = 4
_NONE = ((-1,) * _NUMBERS, 0, 0)


def is_older(ours: str, asked: str) -> bool:
    """Tell whether one version is older than another; never an error."""
    return _place_of(ours) < _place_of(asked)


def _place_of(version: str) -> tuple[tuple[int, ...], int, int]:
    """Say where a version stands in the order of all."""
    found = _VERSION.fullmatch(version.strip())
    if found is None:
        return _NONE
    numbers = [int(one) for one in found["numbers"].split(".")]
    padded = (*numbers, *[0] * (_NUMBERS - len(numbers)))
    stage = (found["stage"] or "").lower()
    return padded, _BEFORE.get(stage, 0), int(found["stage_no"] or 0)
