"""What pages show of commands: whom one could ask, and what became of what was asked.

Invariants (PRIVACY rules 6 and 7):
- A personal device is not among those to choose from: whether it goes off is its user's alone.
- Whether a device is used is the school's own, and of a personal one nobody's: to others a shutdown
  that people in the room stopped is one thing; whether they said so or were at work is not told.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from ketang_center import views
from ketang_center.access.policy import Action, Actor, may
from ketang_center.access.scope import Scope
from ketang_center.command_jobs import Job, Jobs, JobState
from ketang_center.commanding import TELL_OF_USE, result_of
from ketang_center.metrics.windows import State
from ketang_center.registry.calendars import day_of
from ketang_center.registry.database import Registry
from ketang_center.registry.tree import Tree
from ketang_center.registry.values import Device, Level
from ketang_center.states import Connection
from ketang_center.view_values import Context, Filters, Row
from ketang_contract.commands import What

IN_ROOM = "in_room"
"""In place of the reasons that tell whether a device was used."""
_RESTS = frozenset({State.IDLE, State.LOCKED})


class Barrier(StrEnum):
    """Why a device cannot be asked now."""

    NOT_CONNECTED = "not_connected"
    ASKED = "asked"
    """For the same, and it is not over yet."""
    THROWN_OUT = "thrown_out"


@dataclass(frozen=True, slots=True)
class Choice:
    """A device that may be asked to switch off, or why it cannot."""

    row: Row
    barrier: Barrier | None

    @property
    def rests(self) -> bool:
        """Whether nobody used it in its last window; False too where that may not be told."""
        return self.barrier is None and self.row.use is not None and self.row.use.state in _RESTS


class Standing(NamedTuple):
    """What became of one device's part.

    ``until_ms``: the end of a countdown, about; else 0. ``desktop``: whether the desktop shows or
    showed the countdown, besides the page on the device; None where there was none.
    """

    job: Job
    device: Device | None
    room: str
    """Rooms are the school's own; empty above it."""
    until_ms: int
    desktop: bool | None


@dataclass(frozen=True, slots=True)
class Eyes:
    """Whose look it is: what he sees is what his office and his own roles both allow."""

    scope: Scope
    actor: Actor
    tree: Tree

    def may_ask(self, unit: str) -> bool:
        """Tell whether devices of a unit may be asked for something, and answers be read."""
        return self.tree.holds(self.scope.root, unit) and may(
            self.actor, Action.CONFIGURE, self.tree, unit
        )

    def schools(self) -> list[str]:
        """Return every school whose devices may be asked."""
        return [
            one.id
            for one in self.tree.walk(self.scope.root)
            if one.level is Level.SCHOOL and self.may_ask(one.id)
        ]


def choices(context: Context, eyes: Eyes, jobs: Jobs, filters: Filters) -> list[Choice]:
    """Return the shared devices that pass the filters today, those that can be asked first.

    Raises:
        OutOfScope: the unit is not the viewer's.
    """
    now_ms = context.clock()
    rows = [
        one
        for one in views.devices(context, eyes.scope, day_of(now_ms), filters)
        if not one.posted.device.personal and eyes.may_ask(one.posted.school)
    ]
    asked = {
        one.device
        for one in jobs.open_jobs()
        if one.what is What.SHUT_DOWN and one.stands_in_the_way(now_ms)
    }
    out = _out(context)
    found = [Choice(row, _barrier(row, asked, out)) for row in rows]
    return sorted(found, key=lambda one: one.barrier is not None)


def mine(eyes: Eyes, jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs of devices that the viewer may ask, as they are; pages show ``standings``."""
    return [one for one in jobs if eyes.may_ask(one.unit)]


def standings(context: Context, eyes: Eyes, jobs: Iterable[Job]) -> list[Standing]:
    """Say what became of jobs, as far as the viewer may know; those elsewhere are left out."""
    now_ms, found = context.clock(), []
    for job in mine(eyes, jobs):
        device = context.registry.device(job.device)
        open_use = device is not None and eyes.scope.sees_use_of(device)
        found.append(
            Standing(
                job if open_use else _without_use(job),
                device,
                _room(context.registry, job, now_ms) if eyes.scope.at_school else "",
                _until_ms(job),
                _desktop(job),
            )
        )
    return found


def _room(registry: Registry, job: Job, now_ms: int) -> str:
    """Return where a device stands now; empty where that is no longer in the school it was in."""
    if registry.school_of(job.device, now_ms) != job.unit:
        return ""
    rooms = [
        one.room
        for one in registry.placements(job.device)
        if one.from_ms <= now_ms and (one.until_ms is None or now_ms < one.until_ms)
    ]
    return rooms[-1] if rooms else ""


def _without_use(job: Job) -> Job:
    if job.what is What.SHUT_DOWN and job.reason in TELL_OF_USE:
        return replace(job, reason=IN_ROOM)
    return job


def _until_ms(job: Job) -> int:
    if job.what is not What.SHUT_DOWN or job.state is not JobState.RUNNING:
        return 0
    seconds = result_of(job).get("seconds", job.countdown_s)
    return job.changed_ms + (seconds if isinstance(seconds, int) else 0) * 1000


def _desktop(job: Job) -> bool | None:
    said = result_of(job)
    return bool(said.get("desktop")) if said.get("kind") == "countdown" else None


def _barrier(row: Row, asked: Collection[str], out: Collection[str]) -> Barrier | None:
    if row.posted.device.id in out:
        return Barrier.THROWN_OUT
    if row.connection is not Connection.CONNECTED:
        return Barrier.NOT_CONNECTED
    return Barrier.ASKED if row.posted.device.id in asked else None


def _out(context: Context) -> frozenset[str]:
    if context.book is None:
        return frozenset()
    return frozenset(one.device for one in context.book.revocations())
