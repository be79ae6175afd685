"""Which pair the next connection shows, and when a new one is fetched. Standard library only.

A renewed pair is on trial until a connection stood on it; the old one is kept until then, and tried
in turn, so that a certificate nobody takes cannot cut a device off. One that was refused again and
again, while the old one was taken, is given up, and another is asked for later.

Whether a certificate is due or over is a matter of wall time. When something is tried again is not:
those moments are of the boot clock, which nobody sets.
"""

import hashlib
import json
import logging
import random
import ssl
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ketang_agent.enrol.files import Place, read_facts
from ketang_agent.uplink.client import UNREACHABLE, Broker, Connected, Lost, tls_context

log = logging.getLogger("ketang.credentials")

_DAY_S, _HOUR_S = 86_400, 3600
_SPREAD = 0.05
"""Of its life, by which devices of one day's enrolment are drawn apart when they renew."""
_AHEAD_S = _DAY_S
"""Before its begin a certificate is due as well: somebody's clock was ahead when it was made."""
_FIRST_S, _FIRST_EXPIRED_S = 300, 60
"""Within which the first try comes after a start: a school switches on at one time."""
_RETRY_S = 6 * _HOUR_S
_RETRY_EXPIRED_S = _HOUR_S
_RETRY_SOON_S = 600
"""Where the centre said that it is busy, and was so for all of the child's patience."""
_CHILD_S = 480
"""Above the child's own patience with a busy centre, and its last answers."""
_AFTER_S = 120
_FIRST_LOOK_S = _HOUR_S
_LOOK_S = _DAY_S
_FAILURES = 3
"""Connections in a row that met no broker that is believed, before whom to believe is asked."""
_FAILED_LOOK_S = _HOUR_S
_FAILED_LOOK_SPREAD_S = 300
_TRIAL_AGAIN_S = 600
"""After a trial that failed; twice that after the second."""
_TRIALS = 3
_VAIN_TRIALS = 20
"""Trials with no connection at all in between before a pair is given up whose old one expired."""


@dataclass(slots=True)
class _Child:
    """What runs, until when, and what for."""

    process: "subprocess.Popen[bytes]"
    until_s: float
    looks: bool
    ahead: bool = False


class Credentials:
    """The supervisor's; one thread. Without ``identity.json`` beside it, a pair never renews."""

    def __init__(
        self,
        broker: Broker,
        jitter: Callable[[], float] = random.random,
        command: Sequence[str] = (sys.executable, "-m", "ketang_agent.enrol.renewing"),
    ) -> None:
        self._broker = broker
        self._place = Place(broker.certificate_file.parent)
        self._jitter, self._command = jitter, command
        self._on_trial = False
        self._shown = b""
        self._stands = self._tried = False
        self._refusals = self._vain = self._failures = 0
        self._context: ssl.SSLContext | None = None
        self._child: _Child | None = None
        self._told = ""
        self._now_s = 0.0
        # All of the boot clock, seconds.
        self._boot_s = self._try_at_s = self._not_before_s = self._ahead_not_before_s = 0.0
        self._look_at_s: float | None = None
        self._looked_s = -float(_FAILED_LOOK_S)

    # What is shown.

    def context(self) -> ssl.SSLContext:
        """Make the TLS context of the next connection: the pair on trial and the old one in turn.

        Every file is read anew. The first call tells whether the old one can be used, and tries no
        other. Once it could be made, a file that cannot be read any more leaves the last one in
        use.

        Raises:
            OSError: a file is missing or not readable, from the start.
            ssl.SSLError: a file is not what it should be, from the start.
        """
        self._on_trial = self._context is not None and self.untried
        stood, self._stands = self._stands, False
        one = self._place.next
        if self._on_trial:
            # A refusal counts only where the old pair was taken right before: the broker was there.
            self._tried = stood
            self._vain += 1
            try:
                self._shown = one.read_bytes()
                return tls_context(replace(self._broker, certificate_file=one, key_file=one))
            except (OSError, ssl.SSLError) as problem:
                log.warning("identity.next_unusable why=%s", problem)
                self._on_trial = False
        try:
            self._context = tls_context(self._broker)
        except (OSError, ssl.SSLError) as problem:
            if self._context is None:
                raise
            log.warning("identity.unusable why=%s", problem)
        return self._context

    def heard(self, happening: Connected | Lost) -> None:
        """Take in what became of the connection that the last context was made for."""
        if isinstance(happening, Connected):
            self.connected()
            return
        self._stands = False
        if happening.reason == UNREACHABLE:
            self._failures += 1
        else:
            self._failures = 0
        if self._failures >= _FAILURES and self._look_at_s is not None:
            # The authorities may have been replaced while this device slept.
            self._failures = 0
            soonest_s = max(self._boot_s, self._looked_s + _FAILED_LOOK_S)
            look_at_s = soonest_s + _FAILED_LOOK_SPREAD_S * self._jitter()
            self._look_at_s = min(self._look_at_s, look_at_s)

    def connected(self) -> None:
        """A connection stands: a pair on trial has passed, and the old one goes."""
        self._vain, self._failures, self._stands = 0, 0, True
        if self._on_trial:
            self._on_trial = self._tried = False
            self._swap()
        elif self._tried:
            self._tried = False
            self._refused()

    def _swap(self) -> None:
        try:
            if self._place.next.read_bytes() != self._shown:
                return  # another one by now: it is tried by itself
            self._place.next.replace(self._place.identity)
        except OSError as problem:
            log.warning("identity.not_swapped why=%s", problem)
            self._try_at_s = self._boot_s + _TRIAL_AGAIN_S
            return
        self._refusals, self._not_before_s = 0, 0.0
        if self._look_at_s is not None:
            self._look_at_s = self._boot_s  # the child puts the facts right
        log.info("identity.renewed")

    def _refused(self) -> None:
        """The old pair was taken where the new one was not: wait, and in the end give it up."""
        self._refusals += 1
        self._try_at_s = self._boot_s + _TRIAL_AGAIN_S * self._refusals
        log.warning("identity.next_refused times=%d", self._refusals)
        if self._refusals >= _TRIALS:
            self._forget_next("the broker refuses the renewed certificate")

    def _forget_next(self, why: str) -> None:
        self._place.next.unlink(missing_ok=True)
        self._refusals, self._vain, self._try_at_s = 0, 0, 0.0
        self._put_off(why)

    @property
    def untried(self) -> bool:
        """Whether a renewed pair is to be tried at a connection of its own, and not this one."""
        return not self._on_trial and self._boot_s >= self._try_at_s and self._place.next.exists()

    # What is fetched.

    def step(self, now_s: float, boot_s: float) -> None:
        """Renew when it is time, and look for a newer trust document; never blocks.

        Args:
            now_s: UTC seconds.
            boot_s: seconds of a clock that runs on evenly and nobody sets.
        """
        self._now_s, self._boot_s = now_s, boot_s
        if self._look_at_s is None:
            first_s = _FIRST_EXPIRED_S if self._is_expired(now_s) else _FIRST_S
            self._not_before_s = boot_s + first_s * self._jitter()
            self._look_at_s = boot_s + _FIRST_S + _FIRST_LOOK_S * self._jitter()
        if self._vain >= _VAIN_TRIALS and self._is_expired(now_s):
            self._forget_next("no connection with the renewed certificate")
        if self._child is not None:
            self._watch(self._child)
        elif boot_s >= self._not_before_s and self._is_due(now_s):
            self._begin(looks=False)
        elif boot_s >= self._look_at_s and read_facts(self._place) is not None:
            self._begin(looks=True)

    def _is_due(self, now_s: float) -> bool:
        facts = read_facts(self._place)
        if facts is None or self._place.next.exists():
            return False
        life_s = facts.until_s - facts.from_s
        drawn = int.from_bytes(hashlib.sha256(facts.device.encode()).digest()[:4], "big") / 2**32
        if now_s >= facts.from_s + life_s * (2 / 3 + _SPREAD * drawn):
            return True
        return self._is_ahead(now_s)

    def _is_ahead(self, now_s: float) -> bool:
        """Tell whether the certificate begins in days to come, and renewing it may mend that."""
        facts = read_facts(self._place)
        ahead = facts is not None and now_s < facts.from_s - _AHEAD_S
        return ahead and self._boot_s >= self._ahead_not_before_s

    def _is_expired(self, now_s: float) -> bool:
        facts = read_facts(self._place)
        return facts is not None and now_s >= facts.until_s

    def _begin(self, *, looks: bool) -> None:
        words = [*self._command, str(self._place.folder), *(["look"] if looks else [])]
        self._looked_s = self._boot_s
        self._look_at_s = self._boot_s + _LOOK_S * (0.75 + 0.5 * self._jitter())
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as problem:
            if not looks:
                self._put_off(f"cannot begin: {problem}")
            return
        ahead = not looks and self._is_ahead(self._now_s)
        self._child = _Child(process, self._boot_s + _CHILD_S, looks, ahead)

    def _watch(self, child: _Child) -> None:
        process = child.process
        if process.poll() is None:
            if self._boot_s > child.until_s:
                process.kill()
            return
        said = _said(process.stdout.read(4096) if process.stdout else b"")
        process.communicate()
        self._child = None
        if child.looks:
            self._looked(said, failed=process.returncode != 0)
        elif process.returncode == 0:
            self._told, self._not_before_s = "", self._boot_s + _AFTER_S
            if child.ahead:  # it may as well be this device's clock that is behind: not for ever
                self._ahead_not_before_s = self._boot_s + _DAY_S
        else:
            self._put_off(_why(said), busy_s=_busy_s(said))

    def _looked(self, said: dict[str, object], *, failed: bool) -> None:
        if failed:
            self._look_at_s = self._boot_s + _RETRY_S * (0.5 + self._jitter())
            log.info("identity.not_looked why=%s", _why(said))
        elif said.get("changed"):
            log.info("identity.trust_changed")

    def _put_off(self, why: str, *, busy_s: int = 0) -> None:
        wait_s = _RETRY_EXPIRED_S if self._is_expired(self._now_s) else _RETRY_S
        if busy_s:
            wait_s = max(_RETRY_SOON_S, busy_s)
        self._not_before_s = self._boot_s + wait_s * (0.5 + self._jitter())
        if why != self._told:
            log.warning("identity.not_renewed why=%s", why)
        self._told = why


def _said(line: bytes) -> dict[str, object]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _busy_s(said: dict[str, object]) -> int:
    told = said.get("busy_s")
    return told if isinstance(told, int) else 0


def _why(said: dict[str, object]) -> str:
    if "why" not in said:
        return "the child ended without a word"
    return f"{said['why']} {said.get('what', '')}".strip()[:300]
