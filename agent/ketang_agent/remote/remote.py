"""Remote configuration as the main loop sees it: hand it what comes down, and step it.

It has what comes down judged by a child, keeps the machine on disk before anybody acts on it, and
tells what applies now. Standard library only.
"""

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ketang_agent.clock import Instant
from ketang_agent.enrol.files import write_private
from ketang_agent.remote import hanging, signed_time, state_file, trial
from ketang_agent.remote.deaths import Deaths
from ketang_agent.remote.exchange import ASKED, JUDGED, RECEIVED
from ketang_agent.remote.machine import Look, Machine, Phase, Verdict, factory
from ketang_agent.remote.permits import PermitBook
from ketang_contract.config import Config
from ketang_contract.records import TimeQuality, to_json
from ketang_contract.state import ConfigReport

log = logging.getLogger("ketang.config")

PERMITS, DEATHS = "permits.json", "judging-deaths.json"
COMMAND = (sys.executable, "-m", "ketang_agent.remote.judging")


class Child(Protocol):
    """What is asked of the judging child; ``subprocess.Popen``."""

    returncode: int | None

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""

    def communicate(self) -> tuple[bytes, bytes]:
        """Wait until it ended; what it said."""
        ...

    def kill(self) -> None:
        """End it."""


Start = Callable[[Sequence[str]], Child]
_CHILD_MS = 60_000
_AGAIN_MS, _MOST_AGAIN_MS = trial.AGAIN_MS, 3_600_000
"""After a judge that said nothing, or a disk that took nothing; longer where judges keep dying."""
_KEEP_MS = 1_000
_REFUSED_MS, _MOST_REFUSED_MS = 5_000, 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Whose configuration it is, and where it is kept."""

    device: str
    agent_version: str
    folder: Path
    """Of this device's data; what is kept goes to ``remote`` in it."""
    identity: Path
    """Where the trust document is."""
    base: Config


@dataclass(slots=True)
class _Judging:
    process: Child
    until_ms: int
    raw_sum: str
    judged_by: tuple[Config, Mapping[str, Any]]
    """What was in force, and what was held, when it was asked."""


def start(words: Sequence[str]) -> Child:
    """Start the judging child.

    Raises:
        OSError: the system does not let us.
    """
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


class Remote:
    """One owner, one thread. ``begin`` once, then ``bring`` what comes and ``step`` often."""

    def __init__(self, who: Who, command: Sequence[str] = COMMAND, start: Start = start) -> None:
        self._who, self._command, self._start = who, tuple(command), start
        self._folder = who.folder / "remote"
        self._machine: Machine = factory(who.base)
        self._child: _Judging | None = None
        self._judged_sum = ""
        self._waiting = self._is_put_off = False
        self._not_before_ms = 0
        self._unkept = False
        self._keep_at_ms = self._write_at_ms = self._refused_at_ms = 0
        self._unwritten = b""
        self._refusals = 0
        self._deaths = Deaths(self._folder / DEATHS)
        self.permits = PermitBook(self._folder / PERMITS)
        """Filings and grants that were judged, until each one's end."""
        self.told_again = False
        """What was brought is known already: whoever brought it wants to hear of it once more."""

    def begin(self, now: Instant) -> None:
        """Take up where the last run of the agent left off."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            log.warning("config.no_folder why=%s", problem)
        self._machine = state_file.read(self._folder, self._who.base)
        self._let_time_pass(now)
        if not self._keep(trial.begin(self._machine, now)) and self.phase is Phase.TRIAL:
            self._machine = trial.give_up(self._machine, "disk_failing")
        self._deaths.resume(now.boot_id)
        with suppress(OSError):
            received = (self._folder / RECEIVED).read_bytes()
            self._waiting = True
            # The first may have been anybody's; a judge that takes us down with it waits longer.
            again_ms = self._wait_ms(_sum(received), but=1)
            self._is_put_off, self._not_before_ms = bool(again_ms), now.boottime_ms + again_ms
        self._mind_hanging()  # what hung may hang again before the first step

    def end(self) -> None:
        """The agent is being stopped in order."""
        hanging.ignore()
        if self._child is not None:
            self._child.process.kill()
            self._child.process.communicate()
            self._child = None
            self._deaths.end()
        self._keep(trial.end(self._machine))

    @property
    def applied(self) -> Config:
        """What the device does now."""
        return self._machine.applied

    @property
    def report(self) -> ConfigReport:
        """What the device says of its configuration."""
        return self._machine.report

    @property
    def phase(self) -> Phase | None:
        """Where a candidate stands, if there is one."""
        return self._machine.candidate.phase if self._machine.candidate else None

    def floor_s(self) -> int:
        """UTC seconds: no signed time this device has accepted was later."""
        return signed_time.floor_of(self._machine.held)

    @property
    def ask(self) -> str:
        """Name what applies: ``HASH/ATTEMPT`` on trial, else ``HASH``; empty for the profile."""
        one = self._machine.candidate
        if one is not None and one.phase is Phase.TRIAL:
            return f"{one.hash}/{one.attempt}"
        return self._machine.running or ""

    @property
    def in_force(self) -> Config:
        """What applies without a candidate."""
        return self._machine.in_force

    @property
    def before(self) -> Config | None:
        """What was in force before, while that may yet be gone back to."""
        return self._machine.before.in_force if self._machine.before else None

    def give_up(self, why: str) -> None:
        """End what is being tried."""
        self._keep(trial.give_up(self._machine, why))

    @property
    def changes_model(self) -> bool:
        """Whether what is being tried counts people by another model than before."""
        one = self._machine.candidate
        return one is not None and one.config.model != self._machine.in_force.model

    @property
    def candidate(self) -> Config | None:
        """What is not in force yet, waiting or being tried."""
        return self._machine.candidate.config if self._machine.candidate else None

    @property
    def staged(self) -> Config | None:
        """What waits for its moment, if anything does."""
        one = self._machine.candidate
        return one.config if one is not None and one.phase is Phase.STAGED else None

    @property
    def waiting(self) -> Config | None:
        """What may be tried in its moment: for the first time, or again."""
        one = self._machine.candidate
        waits = one is not None and one.phase in {Phase.STAGED, Phase.WAITING}
        return one.config if one is not None and waits else None

    @property
    def busy(self) -> bool:
        """Whether the next step is worth looking for soon."""
        judging = self._child is not None or (self._waiting and not self._is_put_off)
        return judging or self.phase in {Phase.TRIAL, Phase.RETURNING}

    def bring(self, raw: bytes, now: Instant) -> None:
        """Take what came down on ``dn/desired``; it is judged at the next step."""
        summed = _sum(raw)
        if summed == self._judged_sum or (self._child and summed == self._child.raw_sum):
            self.told_again = True
            return
        self._unwritten = raw
        self._write_received(now)

    def _write_received(self, now: Instant) -> None:
        """Keep what came; a disk that takes nothing now is asked again, for it comes only once."""
        raw, self._unwritten = self._unwritten, b""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._folder / RECEIVED, raw)
        except OSError as problem:
            log.warning("config.not_kept why=%s", problem)
            self._unwritten, self._write_at_ms = raw, now.boottime_ms + _AGAIN_MS
            return
        # Whoever sends what is refused again and again is judged more and more seldom.
        doubled_ms = _REFUSED_MS << min(self._refusals, 8) if self._refusals else 0
        wait_ms = min(doubled_ms, _MOST_REFUSED_MS)
        self._waiting, self._is_put_off = True, bool(wait_ms)
        self._not_before_ms = max(self._refused_at_ms + wait_ms, now.boottime_ms)
        self._keep(trial.received(self._machine))

    def step(self, look: Look, now: Instant) -> None:
        """Do what can be done now; never blocks."""
        self._let_time_pass(now)
        if self._unwritten and now.boottime_ms >= self._write_at_ms:
            self._write_received(now)
        if self._unkept and now.boottime_ms >= self._keep_at_ms:
            self._keep_at_ms = now.boottime_ms + _KEEP_MS
            self._keep(self._machine)
        if self._child is not None:
            self._watch(self._child, now)
        if self._child is None and self._waiting and now.boottime_ms >= self._not_before_ms:
            self._judge(now)
        before = self._machine
        if not self._keep(trial.step(before, look, now)) and self._begins_trial(before):
            self._machine = before  # a crash in it would be forgotten
        self._mind_hanging()
        if self._machine is not before:
            report = self._machine.report
            log.info(
                "config.%s hash=%.12s why=%s", report.state, report.desired, report.reason or "-"
            )

    # The judging child.

    def _judge(self, now: Instant) -> None:
        who = self._who
        asked = {
            "device": who.device,
            "agent_version": who.agent_version,
            "now_s": now.wall_ms // 1000,
            "synced": now.time is TimeQuality.SYNCED,
            "base": to_json(who.base),
            "in_force": to_json(self._machine.in_force),
            "held": self._machine.held,
        }
        try:
            raw = (self._folder / RECEIVED).read_bytes()
            write_private(self._folder / ASKED, json.dumps(asked).encode())
            (self._folder / JUDGED).unlink(missing_ok=True)
            self._deaths.begin(_sum(raw), now.boot_id)
            process = self._start([*self._command, str(self._folder), str(who.identity)])
        except OSError as problem:
            self._deaths.end()
            self._put_off(f"cannot begin: {problem}", now)
            return
        self._waiting = self._is_put_off = False
        self._child = _Judging(
            process,
            now.boottime_ms + _CHILD_MS,
            _sum(raw),
            (self._machine.in_force, self._machine.held),
        )

    def _watch(self, child: _Judging, now: Instant) -> None:
        process = child.process
        if process.poll() is None:
            if now.boottime_ms > child.until_ms:
                process.kill()
            return
        said, _ = process.communicate()
        self._child = None
        self._deaths.end(died=process.returncode != 0 and not said)
        if process.returncode != 0:
            why = said[:300].decode(errors="replace") or "ended without a word"
            self._put_off(why, now, self._wait_ms(child.raw_sum))
            return
        try:
            left = json.loads((self._folder / JUDGED).read_bytes())
            verdict = state_file.verdict_of(left)
            raw_sum = str(left["of"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            self._put_off(f"no verdict: {problem}", now)
            return
        if raw_sum != child.raw_sum and not self._waiting:
            self._put_off("a verdict on something else", now)  # an orphaned child's
            return
        if child.judged_by != (self._machine.in_force, self._machine.held):
            self._waiting, self._is_put_off, self._not_before_ms = True, False, now.boottime_ms
            return  # a trial has ended meanwhile: it is judged anew
        if raw_sum != child.raw_sum:
            return  # another bundle came before the child had read its own: that one is next
        self._settle(verdict, child.raw_sum, now)
        why = left.get("detail") or left.get("permits_dropped")
        if why:
            log.warning("config.judged hash=%.12s why=%s", verdict.hash, why)

    def _settle(self, verdict: Verdict, raw_sum: str, now: Instant) -> None:
        if verdict.reason:
            log.warning("config.refused hash=%.12s why=%s", verdict.hash, verdict.reason)
            self._refusals, self._refused_at_ms = self._refusals + 1, now.boottime_ms
        else:
            self._refusals = 0
            self._deaths.forget()
            self.permits.replace(verdict.permits)
        # What was refused for its time, or for a key's, may be right the next time it comes.
        self._judged_sum = "" if verdict.reason else raw_sum
        self.told_again = True
        if self._keep(trial.take(self._machine, verdict)) and not self._waiting:
            with suppress(OSError):  # then it is judged once more, at the next start
                (self._folder / RECEIVED).unlink(missing_ok=True)

    def _put_off(self, why: str, now: Instant, wait_ms: int = 0) -> None:
        """Nobody could judge: that says nothing of what came, so it is judged later."""
        log.warning("config.not_judged why=%s", why)
        self._waiting = self._is_put_off = True
        self._not_before_ms = now.boottime_ms + max(_AGAIN_MS, wait_ms)

    def _wait_ms(self, raw_sum: str, but: int = 0) -> int:
        """Say how long a bundle has to wait over which judges have died, some deaths apart."""
        died = self._deaths.of(raw_sum) - but
        return min(_AGAIN_MS << min(died - 1, 8), _MOST_AGAIN_MS) if died > 0 else 0

    # The machine.

    def _keep(self, machine: Machine) -> bool:
        """Keep the machine on disk, then go by it.

        A disk that takes nothing must not hold a trial in force: then the machine goes on in memory
        and is written as soon as it can be.
        """
        if machine is self._machine and not self._unkept:
            return True
        self._machine = machine
        try:
            state_file.write(self._folder, machine)
        except OSError as problem:
            if not self._unkept:
                log.warning("config.not_kept why=%s", problem)
            self._unkept = True
            return False
        self._unkept = False
        return True

    def _let_time_pass(self, now: Instant) -> None:
        """What was permitted ends by the clock, off line too; one that is far off is no clock."""
        if now.time is TimeQuality.SYNCED:
            known = trial.know_time(self._machine, now.wall_ms // 1000)
            if known is not self._machine:
                self._keep(known)
        self.permits.tick(
            0 if now.time is TimeQuality.BAD else now.wall_ms / 1000,
            now.boottime_ms / 1000,
            floor_s=self.floor_s(),
            synced=now.time is TimeQuality.SYNCED,
        )

    def _begins_trial(self, before: Machine) -> bool:
        was = before.candidate.phase if before.candidate else None
        return self.phase is Phase.TRIAL and was is not Phase.TRIAL

    def _mind_hanging(self) -> None:
        """In a trial, end a process whose main loop hangs."""
        if self.phase is Phase.TRIAL:
            hanging.mind()
        else:
            hanging.ignore()


def _sum(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
