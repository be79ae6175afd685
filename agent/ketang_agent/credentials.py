"""Which pair the next connection shows, and when a new one is fetched. Standard library only.

A renewed pair is on trial until a connection stood on it; the old one is kept until then, and tried
in turn, so that a certificate nobody takes cannot cut a device off. One that was refused again and
again, while the old one was taken, is given up, and another is asked for later.
"""

import hashlib
import json
import logging
import random
import ssl
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from ketang_agent.enrol.files import Place, read_facts
from ketang_agent.uplink.client import Broker, tls_context

log = logging.getLogger("ketang.credentials")

_SPREAD = 0.05
"""Of its life, by which devices of one day's enrolment are drawn apart when they renew."""
_RETRY_S = 6 * 3600
_RETRY_EXPIRED_S = 3600
_CHILD_S = 120
_TRIAL_AGAIN_S = 600
"""After a trial that failed; twice that after the second."""
_TRIALS = 3
_VAIN_TRIALS = 20
"""Trials with no connection at all in between before a pair is given up whose old one expired."""


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
        self._stands = self._tried = False
        self._refusals = self._vain = 0
        self._now_s = self._try_at_s = 0.0
        self._context: ssl.SSLContext | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._child_until_s = 0.0
        self._not_before_s = 0.0
        self._told = ""

    def context(self) -> ssl.SSLContext:
        """Make the TLS context of the next connection: the pair on trial and the old one in turn.

        The first call tells whether the old one can be used, and tries no other. Once it could be
        made, a file that cannot be read any more leaves the last one in use.

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

    def connected(self) -> None:
        """A connection stands: a pair on trial has passed, and the old one goes."""
        self._vain, self._stands = 0, True
        if self._on_trial:
            self._on_trial = self._tried = False
            self._swap()
        elif self._tried:
            self._tried = False
            self._refused()

    def _swap(self) -> None:
        try:
            self._place.next.replace(self._place.identity)
        except OSError as problem:
            log.warning("identity.not_swapped why=%s", problem)
            self._try_at_s = self._now_s + _TRIAL_AGAIN_S
            return
        self._refusals, self._not_before_s = 0, 0.0
        log.info("identity.renewed")

    def _refused(self) -> None:
        """The old pair was taken where the new one was not: wait, and in the end give it up."""
        self._refusals += 1
        self._try_at_s = self._now_s + _TRIAL_AGAIN_S * self._refusals
        log.warning("identity.next_refused times=%d", self._refusals)
        if self._refusals >= _TRIALS:
            self._forget_next("the broker refuses the renewed certificate")

    def _forget_next(self, why: str) -> None:
        self._place.next.unlink(missing_ok=True)
        self._refusals, self._vain, self._try_at_s = 0, 0, 0.0
        self._put_off(self._now_s, why)

    @property
    def untried(self) -> bool:
        """Whether a renewed pair is to be tried at a connection of its own, and not this one."""
        return not self._on_trial and self._now_s >= self._try_at_s and self._place.next.exists()

    def step(self, now_s: float) -> None:
        """Renew when it is time; never blocks. ``now_s``: UTC seconds."""
        self._now_s = now_s
        if self._vain >= _VAIN_TRIALS and self._is_expired(now_s):
            self._forget_next("no connection with the renewed certificate")
        if self._child is not None:
            self._watch(self._child, now_s)
        elif now_s >= self._not_before_s and self._is_due(now_s):
            self._begin(now_s)

    def _is_due(self, now_s: float) -> bool:
        facts = read_facts(self._place)
        if facts is None or self._place.next.exists():
            return False
        life_s = facts.until_s - facts.from_s
        drawn = int.from_bytes(hashlib.sha256(facts.device.encode()).digest()[:4], "big") / 2**32
        return now_s >= facts.from_s + life_s * (2 / 3 + _SPREAD * drawn)

    def _is_expired(self, now_s: float) -> bool:
        facts = read_facts(self._place)
        return facts is not None and now_s >= facts.until_s

    def _begin(self, now_s: float) -> None:
        try:
            self._child = subprocess.Popen(
                [*self._command, str(self._place.folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as problem:
            self._put_off(now_s, f"cannot begin: {problem}")
            return
        self._child_until_s = now_s + _CHILD_S

    def _watch(self, child: "subprocess.Popen[bytes]", now_s: float) -> None:
        if child.poll() is None:
            if now_s > self._child_until_s:
                child.kill()
            return
        said = child.stdout.read(4096) if child.stdout else b""
        child.communicate()
        self._child = None
        if child.returncode == 0:
            self._told, self._not_before_s = "", now_s + _CHILD_S
        else:
            self._put_off(now_s, _why(said))

    def _put_off(self, now_s: float, why: str) -> None:
        wait_s = _RETRY_EXPIRED_S if self._is_expired(now_s) else _RETRY_S
        self._not_before_s = now_s + wait_s * (0.5 + self._jitter())
        if why != self._told:
            log.warning("identity.not_renewed why=%s", why)
        self._told = why


def _why(said: bytes) -> str:
    try:
        told = json.loads(said)
        return f"{told['why']} {told.get('what', '')}".strip()[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the child ended without a word"
