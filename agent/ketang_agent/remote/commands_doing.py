"""How each kind of command is carried out: one small machine a job. Standard library only.

Each is stepped by the main loop, never blocks for long, and gives an answer when something changed.
What touches the machine is injected (``Doers``).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import NotApplicable
from ketang_agent.enrol.files import remove, write_private
from ketang_agent.remote.commands_countdown import Countdown, Seen, Turn
from ketang_agent.remote.commands_room import Asking, Leaving, Room, Said, Word
from ketang_contract.commands import (
    MAX_ARCHIVE_BYTES,
    Answer,
    Archive,
    Command,
    InventoryRead,
    Probed,
    State,
    What,
)
from ketang_contract.commands import Countdown as CountdownSaid

_PROBE_MS = 30_000
_BUILD_MS = 60_000
_RESTART_MS = 5_000
_NOTICE_MS = 15_000
"""How often the desktop's notice is brought up to date."""


class Question(Protocol):
    """Something slow, asked on a thread of its own; ``collectors.background.Background`` is one."""

    latest: Any

    @property
    def asking(self) -> bool:
        """Tell whether it is still open."""
        ...

    def start(self) -> None:
        """Ask."""


class Notice(Protocol):
    """The desktop's own way of telling the person at it."""

    def show(self, who: str, seconds: int) -> bool:
        """Show or bring up to date; False where there is no desktop to show it."""
        ...

    def cancelled(self) -> bool:
        """Tell whether somebody pressed Cancel in it."""
        ...

    def close(self) -> None:
        """Take it away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doers:
    """What the machine does for a command. None of them takes anything from the command.

    Attributes:
        read_inventory: reads the description anew and records it; False where it could not.
        probe: one look at how the broker is reached.
        bundle: makes the diagnostics archive at a path, on a thread; its answer is an error's word,
            empty where all is well.
        restart: ends the agent in order, so that it is started again.
        power_off: switches the machine off. Raises OSError or NotApplicable.
        why_not_after_hours: a word where this is no time after the hours of the configuration in
            force, empty where it is one.
        in_use: somebody uses the device, or did within minutes; None: it cannot tell.
        notice: on the desktop.
    """

    read_inventory: Callable[[Instant], bool]
    probe: Question
    bundle: Callable[[Path], Question]
    restart: Callable[[], None]
    power_off: Callable[[], None]
    why_not_after_hours: Callable[[Instant], str]
    in_use: Callable[[Instant], bool | None]
    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An accepted command, with what it needs. ``until_ms``: its expiry, by the boot clock."""

    command: Command
    until_ms: int
    doers: Doers
    room: Room
    folder: Path

    def answer(self, state: State, reason: str = "", result: Any = None) -> Answer:
        """Say how far it has come."""
        return Answer(job=self.command.job, state=state, reason=reason, result=result)


class Doing(Protocol):
    """One job at work. ``archive`` goes with its last answer."""

    archive: bytes

    def step(self, now: Instant, said: Sequence[Said]) -> Answer | None:
        """Go on; return what is to be answered, if anything changed."""
        ...


class Reading:
    """Reads the inventory, at once."""

    archive = b""

    def __init__(self, task: Task) -> None:
        self._task = task

    def step(self, now: Instant, said: Sequence[Said]) -> Answer:
        """Read and end."""
        del said
        if self._task.doers.read_inventory(now):
            return self._task.answer(State.DONE, result=InventoryRead(recorded=True))
        return self._task.answer(State.FAILED, "not_read")


class Probing:
    """Looks at the network in the background."""

    archive = b""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._until_ms: int | None = None

    def step(self, now: Instant, said: Sequence[Said]) -> Answer | None:
        """Begin, and end when there is a result or patience is over."""
        del said
        probe = self._task.doers.probe
        if self._until_ms is None:
            self._until_ms = now.boottime_ms + _PROBE_MS
            probe.start()
            return self._task.answer(State.RUNNING)
        if not probe.asking:
            found = probe.latest
            if isinstance(found, Probed):
                return self._task.answer(State.DONE, result=found)
            return self._task.answer(State.FAILED, "no_result")
        if now.boottime_ms > self._until_ms:
            return self._task.answer(State.FAILED, "too_slow")
        return None


class Restarting:
    """Ends the agent; that it was started again is answered by the next one (``come_back``)."""

    archive = b""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._at_ms: int | None = None

    def step(self, now: Instant, said: Sequence[Said]) -> Answer | None:
        """Say so, leave a note for the next start, and end."""
        del said
        if self._at_ms is None:
            self._at_ms = now.boottime_ms + _RESTART_MS
            try:
                write_private(_note(self._task.folder), self._task.command.job.encode())
            except OSError:
                return self._task.answer(State.FAILED, "disk")
            return self._task.answer(State.RUNNING)
        if now.boottime_ms >= self._at_ms:
            self._task.doers.restart()
            self._at_ms = now.boottime_ms + _RESTART_MS
        return None


def come_back(folder: Path) -> Answer | None:
    """Return the answer to the command that this start was asked for by, once."""
    note = _note(folder)
    try:
        job = note.read_text("ascii")
        remove(note)
    except (OSError, UnicodeDecodeError):
        return None
    return Answer(job=job, state=State.DONE)


def _note(folder: Path) -> Path:
    return folder / "restarting"


class Diagnosing:
    """Makes the archive, shows it, and sends it only where a person agrees to these very bytes.

    It is made before anybody is asked, so that what is shown is what is sent. It stays on the
    device, to be looked at later.
    """

    def __init__(self, task: Task) -> None:
        self.archive = b""
        self._task = task
        self._path = task.folder / f"diagnostics-{task.command.job}.zip"
        self._question: Question | None = None
        self._until_ms = 0
        self._asking: Asking | None = None

    def step(self, now: Instant, said: Sequence[Said]) -> Answer | None:
        """Build, then wait for a person."""
        if self._question is None:
            self._question = self._task.doers.bundle(self._path)
            self._until_ms = now.boottime_ms + _BUILD_MS
            self._question.start()
            return None
        if self._asking is None:
            return self._built(self._question, now)
        return self._consent(self._asking, now, said)

    def _built(self, question: Question, now: Instant) -> Answer | None:
        if question.asking and now.boottime_ms <= self._until_ms:
            return None
        if question.asking or question.latest:
            return self._task.answer(State.FAILED, "not_built")
        try:
            archive = self._path.read_bytes()
        except OSError:
            return self._task.answer(State.FAILED, "disk")
        if not 0 < len(archive) <= MAX_ARCHIVE_BYTES:
            return self._task.answer(State.FAILED, "too_large")
        command, left_ms = self._task.command, self._task.until_ms - now.boottime_ms
        self._asking = Asking(
            job=command.job,
            who=command.who,
            archive=self._path,
            sha256=hashlib.sha256(archive).hexdigest(),
            until_ms=now.wall_ms + left_ms,
        )
        self._task.room.asking = self._asking
        return self._task.answer(State.WAITING_CONSENT)

    def _consent(self, asking: Asking, now: Instant, said: Sequence[Said]) -> Answer | None:
        about = [one.word for one in said if one.job == asking.job and one.sha256 == asking.sha256]
        if Word.DECLINE in about:
            return self._close(State.CANCELLED, "declined")
        if now.boottime_ms >= self._task.until_ms:
            return self._close(State.EXPIRED, "nobody_agreed")
        if Word.AGREE not in about:
            return None
        try:
            archive = asking.archive.read_bytes()
        except OSError:
            return self._close(State.FAILED, "disk")
        if hashlib.sha256(archive).hexdigest() != asking.sha256:
            return self._close(State.FAILED, "changed")
        self.archive = archive
        result = Archive(bytes=len(archive), sha256=asking.sha256)
        return self._close(State.DONE, "", result)

    def _close(self, state: State, reason: str, result: Any = None) -> Answer:
        self._task.room.asking = None
        return self._task.answer(state, reason, result)


class ShuttingDown:
    """Counts down where everybody can see it, and switches the machine off if nobody minds.

    The agent counts, and asks logind to power off at the end, rather than have logind count
    (ScheduleShutdown): if the agent dies, nobody is left to cancel, and nothing must happen.

    Where the agent's account has no desktop of its own, each session's notice asks the page
    (``session_notice``) and says that it shows the countdown; who asked then hears of it.
    """

    archive = b""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._countdown: Countdown | None = None
        self._shown_ms = 0
        self._own_notice = self._desktop = False

    def step(self, now: Instant, said: Sequence[Said]) -> Answer | None:
        """Begin outside hours only; then count, listen, and end."""
        if self._countdown is None:
            return self._begin(now)
        doers, job = self._task.doers, self._task.command.job
        words = {one.word for one in said if one.job == job}
        cancelled = Word.CANCEL in words
        turn = self._countdown.step(
            Seen(
                now_ms=now.boottime_ms,
                cancelled=cancelled or doers.notice.cancelled(),
                in_use=doers.in_use(now),
                after_hours=not doers.why_not_after_hours(now),
            )
        )
        seen_before, self._desktop = self._desktop, self._desktop or Word.SHOWN in words
        if turn is Turn.COUNTING:
            self._show(self._countdown, now)
            return self._counts(now) if self._desktop and not seen_before else None
        self._task.room.leaving = None
        doers.notice.close()
        if turn is not Turn.DUE:
            result = CountdownSaid(seconds=0, desktop=self._desktop)
            return self._task.answer(State.CANCELLED, turn.value, result)
        return self._switch_off()

    def _begin(self, now: Instant) -> Answer:
        seconds, doers = self._task.command.countdown_s, self._task.doers
        why_not = doers.why_not_after_hours(now)
        if seconds is None or why_not:
            return self._task.answer(State.REFUSED, why_not)
        if doers.in_use(now):
            return self._task.answer(State.CANCELLED, Turn.IN_USE.value)
        self._countdown = Countdown(now.boottime_ms, seconds)
        self._show(self._countdown, now, first=True)
        return self._counts(now)

    def _counts(self, now: Instant) -> Answer:
        left_s = self._countdown.left_s(now.boottime_ms) if self._countdown else 0
        result = CountdownSaid(seconds=left_s, desktop=self._desktop)
        return self._task.answer(State.RUNNING, result=result)

    def _show(self, countdown: Countdown, now: Instant, *, first: bool = False) -> None:
        command, left_s = self._task.command, countdown.left_s(now.boottime_ms)
        ends_ms = now.wall_ms + left_s * 1000
        if first or now.boottime_ms - self._shown_ms >= _NOTICE_MS:
            self._shown_ms = now.boottime_ms
            self._own_notice = self._task.doers.notice.show(command.who, left_s)
            self._desktop |= self._own_notice
        self._task.room.leaving = Leaving(command.job, command.who, ends_ms, self._own_notice)

    def _switch_off(self) -> Answer:
        result = CountdownSaid(seconds=0, desktop=self._desktop)
        try:
            self._task.doers.power_off()
        except NotApplicable:
            return self._task.answer(State.FAILED, "no_logind", result)
        except PermissionError:
            return self._task.answer(State.FAILED, "not_permitted", result)
        except OSError:
            return self._task.answer(State.FAILED, "power_off", result)
        return self._task.answer(State.DONE, result=result)


def begin(task: Task) -> Doing:
    """Make the machine that carries a command out."""
    makers: dict[What, Callable[[Task], Doing]] = {
        What.READ_INVENTORY: Reading,
        What.NETWORK_PROBE: Probing,
        What.RESTART_AGENT: Restarting,
        What.DIAGNOSTICS: Diagnosing,
        What.SHUT_DOWN: ShuttingDown,
    }
    return makers[task.command.what](task)
