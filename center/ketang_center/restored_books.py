"""What would go on by itself after a restore stops, for a person to look at first (ADR 7).

The books of rollouts and commands came back as they were when the backup was made. A release may
have been taken back since, and a command carried out: nothing of it is sent again unasked.
"""

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from ketang_center.access.audit import Audit
from ketang_center.command_jobs import Jobs, JobState
from ketang_center.commanding import FILE as COMMANDS
from ketang_center.registry.database import Registry
from ketang_center.rollouts.book import CENTER, RolloutBook
from ketang_center.rollouts.documents import RESTORED
from ketang_center.rollouts.filing_recheck import close_withdrawn_in
from ketang_center.rollouts.office import BOOK
from ketang_center.rollouts.values import SENDING, RolloutState

_WHY = "restored"


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was stopped.

    Attributes:
        rollouts: numbers of those that are paused now; until each was resumed, cancelled or taken
            back, nothing is sent to any device (``DocumentBook.is_held``).
        commands: how many were cancelled.
        permits: how many filings and camera grants were closed: withdrawn since the backup.
    """

    rollouts: tuple[int, ...] = ()
    commands: int = 0
    permits: int = 0

    def __str__(self) -> str:
        return (
            f"rollouts paused: {_numbers(self.rollouts)}; commands cancelled: {self.commands};"
            f" filings and camera grants closed: {self.permits}"
        )


def stop(folder: Path, now_ms: int) -> Stopped:
    """Stop it in the files of a centre's folder. Twice, it stops what was begun in between, too.

    Args:
        folder: the centre's data.
        now_ms: UTC.
    """
    with closing(Audit(folder / "audit.db")) as audit:
        stopped = Stopped(
            rollouts=_pause(folder, audit, now_ms),
            commands=_cancel(folder, audit, now_ms),
            permits=close_withdrawn_in(folder, lambda: now_ms),
        )
        audit.note(now_ms, CENTER, "center_restored", str(stopped))
    return stopped


def _pause(folder: Path, audit: Audit, now_ms: int) -> tuple[int, ...]:
    if not (folder / BOOK).exists():
        return ()
    with Registry(folder / "registry.db") as registry, RolloutBook(folder / BOOK) as book:
        tree = registry.tree()
        with book.transaction():
            chosen = [one for one in book.rollouts() if one.state in SENDING]
            why = f"{RESTORED} of {_minute(book.last_ms())}: look, then resume"
            for one in chosen:
                unit = one.target if one.target in tree else ""
                subject = f"{one.no} {one.release} {why}"
                audit.note(now_ms, CENTER, "rollout_paused", subject, unit)
                book.set_state(one.no, RolloutState.PAUSED, why, now_ms)
                book.note(now_ms, one.no, CENTER, "paused", why)
            book.act()
    return tuple(sorted(one.no for one in chosen))


def _cancel(folder: Path, audit: Audit, now_ms: int) -> int:
    if not (folder / COMMANDS).exists():
        return 0
    cancelled = JobState.CANCELLED
    with Jobs(folder / COMMANDS) as jobs, jobs.transaction():
        chosen = jobs.open_jobs()
        subjects = [
            (f"{job.device} {job.what} {job.job} {cancelled} {_WHY}", job.unit) for job in chosen
        ]
        audit.note_all(now_ms, CENTER, "command_ended", subjects)
        for job in chosen:
            jobs.put(replace(job, state=cancelled, reason=_WHY, changed_ms=now_ms))
    return len(chosen)


def _minute(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_ms // 1000))


def _numbers(those: Iterable[int]) -> str:
    return ", ".join(map(str, those)) or "0"
