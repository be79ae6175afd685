"""Passwords: what is accepted, and argon2id with the library's parameters (RFC 9106).

The rule is NIST SP 800-63B's: length and a list of what everybody tries, no rule of composition.
A check is slow on purpose (64 MiB, about 0.1 s), so it never runs on the event loop's thread, and
never more than two at once.
"""

import asyncio
import secrets
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ketang_contract.errors import KetangError

LEAST = 12
MOST = 256
"""Characters; a longer text costs work and guards nothing."""
_LEAST_DIFFERENT = 5
_AT_ONCE = 2
_MOST_WAITING = 40
_COMMON_TEXT = """
    administrator adminadmin12 adminadminadmin admin1234567 admin12345678 admin123456789
    passwordpassword password1234 password12345 password123456 passw0rd1234 p@ssw0rd1234
    123456789012 1234567890123 12345678901234 123456789abc 123123123123 112233445566
    abcdefghijkl abcdefghijklm abcd12345678 abc123456789 abcdef123456 a123456789012
    qwertyuiop12 qwertyuiop123 qwertyuiop1234 qwertyuiopasdf qwerty123456 qwerty1234567
    1qaz2wsx3edc 1q2w3e4r5t6y 1q2w3e4r5t6y7u qazwsxedcrfv zxcvbnm12345 asdfghjkl123
    iloveyou1234 iloveyouiloveyou letmein12345 welcome12345 welcome123456 changeme1234
    woaini123456 woaini1314520 woaini5201314 5201314521131 woaiwojia123 zhongguo1234
    beijing20082008 xuexiao12345 jiaoyuju1234 mimamima1234 mima12345678 ketangketang
    ketang123456 ketang12345678 classroom1234 school123456 teacher12345 student12345
"""
_COMMONEST = frozenset(_COMMON_TEXT.split())


class Busy(KetangError):
    """Too many passwords are being checked. Caller: ask the visitor to try again in a moment."""


def fault_of(password: str, name: str) -> str | None:
    """Say what is wrong with a new password: ``short``, ``long``, ``name`` or ``common``."""
    text = _normal(password)
    if len(text) < LEAST:
        return "short"
    if len(text) > MOST:
        return "long"
    folded = text.casefold()
    if name.casefold() in folded:
        return "name"
    if folded in _COMMONEST or len(set(folded)) < _LEAST_DIFFERENT:
        return "common"
    return None


def temporary() -> str:
    """Make a password for a first log-in: 20 characters, about 98 bits, nothing look-alike."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))


def hashed(password: str) -> str:
    """Return the argon2id hash of a password. Slow."""
    return _hasher().hash(_normal(password))


def matches(kept: str, password: str) -> bool:
    """Compare a password with a kept hash. Slow, and as slow when nothing is kept."""
    try:
        return _hasher().verify(kept or _dummy(), _normal(password)[:MOST]) and bool(kept)
    except (VerificationError, InvalidHashError):
        return False


def outdated(kept: str) -> bool:
    """Tell whether a hash was made with other parameters than today's."""
    return _hasher().check_needs_rehash(kept)


class Desk:
    """Checks and makes hashes off the event loop, two at once; bounded in what waits."""

    def __init__(self) -> None:
        _dummy()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def matches(self, kept: str, password: str) -> bool:
        """Compare a password with a kept hash; equal work when ``kept`` is empty.

        Raises:
            Busy: too many wait already.
        """
        self._enter()
        try:
            async with self._turn:
                return await asyncio.to_thread(matches, kept, password)
        finally:
            self._waiting -= 1

    async def hashed(self, password: str) -> str:
        """Hash a new password.

        Raises:
            Busy: too many wait already.
        """
        self._enter()
        try:
            async with self._turn:
                return await asyncio.to_thread(hashed, password)
        finally:
            self._waiting -= 1

    def _enter(self) -> None:
        if self._waiting >= _MOST_WAITING:
            raise Busy("too many passwords are being checked")
        self._waiting += 1


def _normal(password: str) -> str:
    # The same characters typed on another system may come composed otherwise.
    return unicodedata.normalize("NFKC", password)


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _dummy() -> str:
    """A hash no password fits, so that an unknown name costs as much as a known one."""
    return _hasher().hash(secrets.token_urlsafe())
