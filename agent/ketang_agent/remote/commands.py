"""Commands as the supervisor sees them: take what came down, step, tell. Standard library only.

An envelope is judged by a child that ends when it is done (``commands_judging``), one at a time; it
marks the job as used on the disk before it says yes. What passes is carried out here, a few jobs
side by side and one of a kind (``commands_doing``).

An answer is kept until the connection has taken it, and the last one of each job is said again in a
new session, and when the same command comes again, until its time is over: who asked hears what
became of it, and nothing is done twice.
"""

import json
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ketang_agent.clock import Instant
from ketang_agent.remote import commands_doing
from ketang_agent.remote.commands_doing import Doers, Doing, Task
from ketang_agent.remote.commands_room import Room, Said
from ketang_contract.commands import (
    ENDS,
    LASTS_MOST_S,
    MAX_COMMAND_BYTES,
    Answer,
    Command,
    State,
    What,
    write_answer,
)
from ketang_contract.errors import KetangError
from ketang_contract.ids import is_identifier

log = logging.getLogger("ketang.commands")

USED = "used-commands.json"
_CHILD_MS = 60_000
_MOST_WAITING = 8
"""Envelopes that wait to be judged; more at a time is nobody's honest wish."""
_SETBACK_MS = 10_000
"""After an envelope that nobody of ours signed: each costs a child, and strangers may send many."""
_STRANGERS = frozenset({"forged", "bad_envelope", "bad_document"})
_GAP_MS = 500
"""Between two looks at a job: the main loop may come round hundreds of times a second."""
_MOST_REMEMBERED = 64
_REMEMBERED_MS = 2 * LASTS_MOST_S * 1000
"""As long as the longest job: asked in its last second, and counted down in full."""


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What came down, judged by nobody yet."""

    job: str
    raw: bytes


@dataclass(slots=True)
class _Child:
    """What judges, which envelope, and until when."""

    process: "subprocess.Popen[bytes]"
    job: str
    until_ms: int


@dataclass(slots=True)
class _Job:
    """One job at work."""

    command: Command
    doing: Doing
    next_ms: int = 0


@dataclass(slots=True)
class _Last:
    """The latest word on a job; ``untold``: the connection has not taken it yet."""

    payload: bytes
    until_ms: int
    untold: bool = True


class Commands:
    """The supervisor's; one thread.

    Args:
        device: whose commands these are.
        folder: for what is kept, the agent's own; made by the caller.
        identity: the folder with the trust document.
        doers: what the machine does.
        room: what people are shown, and what they say.
        floor_s: the latest signed time that is known elsewhere, UTC seconds.
        words: starts the judging child; its two folders follow.
    """

    def __init__(
        self,
        device: str,
        folder: Path,
        identity: Path,
        doers: Doers,
        room: Room,
        *,
        floor_s: Callable[[], int] = lambda: 0,
        words: Sequence[str] = (sys.executable, "-m", "ketang_agent.remote.commands_judging"),
    ) -> None:
        self._device, self._folder = device, folder
        self._words = (*words, str(folder / USED), str(identity))
        self._doers, self._room, self._floor_s = doers, room, floor_s
        self._waiting: deque[_Envelope] = deque()
        self._child: _Child | None = None
        self._jobs: dict[str, _Job] = {}
        self._last: dict[str, _Last] = {}
        self._started = False
        self._not_before_ms = 0

    # What came down, and what goes up.

    def take(self, job: str, raw: bytes, retained: bool, now: Instant) -> None:  # noqa: FBT001
        """Take what came on ``dn/cmd/{job}``.

        Args:
            job: from the topic.
            raw: the envelope.
            retained: the broker had kept it. It is no command then: those are for now.
            now: this moment.
        """
        if not is_identifier(job):
            return
        if retained:
            self._refuse(job, "retained", now)
        elif job in self._last:
            self._last[job].untold = True  # it is asked again because nobody heard us
        elif job in self._jobs or any(one.job == job for one in self._judged()):
            return
        elif len(raw) > MAX_COMMAND_BYTES:
            self._refuse(job, "bad_envelope", now)
        elif len(self._waiting) >= _MOST_WAITING:
            log.warning("command.too_many")
        else:
            self._waiting.append(_Envelope(job, raw))

    def began_session(self) -> None:
        """A connection stands: what was said on an earlier one may not have arrived."""
        for one in self._last.values():
            one.untold = True

    def tell(self, say: Callable[[str, bytes], bool]) -> None:
        """Say what has not been said: ``say(job, payload)`` publishes, False where it cannot."""
        for job, one in self._last.items():
            if one.untold and not say(job, one.payload):
                return
            one.untold = False

    def close(self) -> None:
        """Leave no child behind; what it marked as used stays so."""
        if self._child is not None:
            self._child.process.kill()
            self._child.process.wait()
            if self._child.process.stdout:
                self._child.process.stdout.close()
            self._child = None

    @property
    def busy(self) -> bool:
        """Whether something waits to be judged, done or told: worth a look every second."""
        untold = any(one.untold for one in self._last.values())
        return bool(self._waiting or self._child or self._jobs or untold)

    # What is done.

    def step(self, now: Instant) -> None:
        """Go on with everything; never blocks for long."""
        if not self._started:
            self._started = True
            back = commands_doing.come_back(self._folder)
            if back is not None and is_identifier(back.job):
                self._answer(back, b"", now)
        if self._child is not None:
            self._watch(self._child, now)
        elif self._waiting and now.boottime_ms >= self._not_before_ms:
            self._begin(self._waiting.popleft(), now)
        said = self._room.heard()
        for job, one in list(self._jobs.items()):
            if said or now.boottime_ms >= one.next_ms:
                one.next_ms = now.boottime_ms + _GAP_MS
                self._go_on(job, one, said, now)
        self._forget(now)

    def _go_on(self, job: str, one: _Job, said: Sequence[Said], now: Instant) -> None:
        try:
            answer = one.doing.step(now, said)
        except (OSError, KetangError) as problem:
            log.warning("command.failed job=%s why=%s", job, problem)
            answer = Answer(job=job, state=State.FAILED, reason="failed")
        if answer is None:
            return
        if answer.state in ENDS:
            del self._jobs[job]
        self._answer(answer, one.doing.archive, now)

    def _begin(self, envelope: _Envelope, now: Instant) -> None:
        """Start the child; what it reads fits a pipe, so that nothing waits for it.

        One that ends before it has read is seen to end, as any other: it let nothing pass.
        """
        asked = {
            "device": self._device,
            "job": envelope.job,
            "now_s": now.wall_ms // 1000,
            "floor_s": self._floor_s(),
        }
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as problem:
            log.warning("command.not_judged why=%s", problem)
            self._refuse(envelope.job, "not_judged", now)
            return
        with suppress(BrokenPipeError), process.stdin or nullcontext() as pipe:
            if pipe is not None:
                pipe.write(json.dumps(asked).encode() + b"\n" + envelope.raw)
        self._child = _Child(process, envelope.job, now.boottime_ms + _CHILD_MS)

    def _watch(self, child: _Child, now: Instant) -> None:
        process = child.process
        if process.poll() is None:
            if now.boottime_ms > child.until_ms:
                process.kill()
            return
        raw = process.stdout.read(1 << 16) if process.stdout else b""
        if process.stdout:
            process.stdout.close()
        self._child = None
        said = _said(raw)
        command = _command(said)
        if process.returncode != 0 or command is None or command.job != child.job:
            reason = str(said.get("reason") or "not_judged")
            if reason in _STRANGERS:
                self._not_before_ms = now.boottime_ms + _SETBACK_MS
            self._refuse(child.job, reason, now)
        else:
            self._accept(command, now)

    def _accept(self, command: Command, now: Instant) -> None:
        log.warning("command.accepted what=%s job=%s", command.what, command.job)
        if any(one.command.what == command.what for one in self._jobs.values()):
            self._refuse(command.job, "busy", now)
            return
        left_ms = max(0, min(command.expires_s * 1000 - now.wall_ms, LASTS_MOST_S * 1000))
        task = Task(
            command=command,
            until_ms=now.boottime_ms + left_ms,
            doers=self._doers,
            room=self._room,
            folder=self._folder,
        )
        self._jobs[command.job] = _Job(command, commands_doing.begin(task))
        self._answer(Answer(job=command.job, state=State.RECEIVED), b"", now)

    def _refuse(self, job: str, reason: str, now: Instant) -> None:
        log.warning("command.refused job=%s reason=%s", job, reason)
        if job in self._jobs or job in self._last:
            return  # what was said of the real one stands
        self._answer(Answer(job=job, state=State.REFUSED, reason=reason), b"", now)

    def _answer(self, answer: Answer, archive: bytes, now: Instant) -> None:
        if answer.job not in self._last and len(self._last) >= _MOST_REMEMBERED:
            # Of what is over, the oldest goes: strangers' refusals must not push out real jobs.
            del self._last[next(job for job in self._last if job not in self._jobs)]
        payload = write_answer(answer, archive)
        self._last[answer.job] = _Last(payload, now.boottime_ms + _REMEMBERED_MS)

    def _forget(self, now: Instant) -> None:
        over = [
            job
            for job, one in self._last.items()
            if job not in self._jobs and now.boottime_ms > one.until_ms
        ]
        for job in over:
            del self._last[job]

    def _judged(self) -> list[_Envelope]:
        at_hand = [_Envelope(self._child.job, b"")] if self._child else []
        return [*at_hand, *self._waiting]


def _said(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _command(said: dict[str, Any]) -> Command | None:
    """Return the command that the child let pass; it was read strictly there."""
    told = said.get("command")
    if said.get("reason") != "" or not isinstance(told, dict):
        return None
    try:
        return Command(**{**told, "what": What(told["what"])})
    except (TypeError, KeyError, ValueError):
        return None
