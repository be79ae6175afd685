"""Doing what the configuration says, and telling how that goes.

``Remote`` knows what applies; here it is carried out by the parts it concerns, and looked at from
outside: did the device come back, was it heard, do its collectors run.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ketang_agent.clock import Instant
from ketang_agent.head_counting import HeadCounting
from ketang_agent.hours import is_open
from ketang_agent.keeping import Keeper
from ketang_agent.remote.machine import Look, Phase, Works
from ketang_agent.remote.own_version import OwnVersion
from ketang_agent.remote.parts import Bringing
from ketang_agent.remote.permits import PermitSigns
from ketang_agent.remote.remote import Remote
from ketang_agent.sampling import Sampling
from ketang_agent.uplink.link import Link
from ketang_contract.config import Apply, Config, LogLevel, holds_at
from ketang_contract.permits import Yes
from ketang_contract.records import EventName, Stream, TimeQuality
from ketang_contract.state import ConfigReport, ConfigState

log = logging.getLogger("ketang.config")

DOOR_MS = 300_000
"""So long after its start even a device that rests outside hours can be told something."""
BUSY_S = 0.2
"""How soon a candidate that is being judged or tried is looked at again."""
_MEGABYTE = 1 << 20
_NEWS = {
    ConfigState.TRIAL: EventName.CONFIG_TRIED,
    ConfigState.COMMITTED: EventName.CONFIG_COMMITTED,
    ConfigState.ROLLED_BACK: EventName.CONFIG_ROLLED_BACK,
    ConfigState.REJECTED: EventName.CONFIG_REJECTED,
}


@dataclass(frozen=True, slots=True)
class Obeying:
    """The parts that a configuration concerns.

    ``say`` puts an event into the spool. ``rests``: a device of one child's, which outside hours
    does not even connect (PRIVACY rule 11).
    """

    keeper: Keeper
    sampling: Sampling
    heads: HeadCounting
    say: Callable[[EventName], None]
    own: OwnVersion
    bringing: Bringing
    rests: bool = False


class Following:
    """``begin`` once, then ``step`` in every round of the main loop. One thread."""

    def __init__(self, remote: Remote, parts: Obeying, log_level: str) -> None:
        self._remote, self._parts = remote, parts
        self._log_level = log_level
        self._applied: Config | None = None
        self._phase: Phase | None = None
        self._reported = ConfigReport()
        self._began_ms = 0
        self.changes = False
        """Whether the agent is to end, so that another release of it goes on."""

    @property
    def report(self) -> ConfigReport:
        """What the device says of its configuration."""
        return self._remote.report

    @property
    def busy(self) -> bool:
        """Whether a round is worth it every ``BUSY_S``."""
        return self._remote.busy

    def begin(self, now: Instant) -> None:
        """Take up what was in force, before anything is sampled or sent."""
        self._began_ms = now.boottime_ms
        self._remote.begin(now)
        self._reported = self._remote.report
        self._carry_out(now)

    def bring(self, payload: bytes, now: Instant) -> None:
        """Take what came down."""
        self._remote.bring(payload, now)

    def step(self, link: Link | None, now: Instant) -> bool:
        """Go on with what was brought; True when the centre should hear of it at once."""
        remote, own = self._remote, self._parts.own
        self._give_up_what_cannot_run()
        was_staged = remote.staged is not None
        remote.step(self._look(link, now), now)
        if not was_staged and remote.staged is not None:
            # Judged just now: only with this look is it known what it needs.
            remote.step(self._look(link, now), now)
        self._give_up_what_cannot_run()
        self.changes = own.step(remote.applied, remote.ask, remote.phase, now)
        if self.changes:
            return True  # another release carries it out
        if remote.applied != self._applied or self._is_new_phase():
            self._carry_out(now)
            if link is not None and remote.phase in {Phase.TRIAL, Phase.RETURNING}:
                link.begin_anew(now)  # only a connection made under it proves that there is one
        if link is not None:
            link.budget.set(remote.applied.upload_kbps)
        again, remote.told_again = remote.told_again, False
        return self._tell_of_news() or again

    def _give_up_what_cannot_run(self) -> None:
        """Before anything is judged: a trial must not pass under another release than it names."""
        remote = self._remote
        if remote.phase is Phase.TRIAL and (
            why := self._parts.own.wrong(remote.applied, remote.ask)
        ):
            remote.give_up(why)

    def hold_to_hours(self, now: Instant) -> None:
        """Count people only while the configuration and the school's hours allow it."""
        said = self._remote.applied
        wanted = bool(said.inference) and bool(said.occupancy_s) and is_open(said, now)
        self._parts.heads.allow(allowed=wanted and self._is_permitted(said))

    def permit_signs(self) -> PermitSigns:
        """What is amiss with the filing and the grant that this device needs."""
        live = self._parts.heads.is_live
        wanted = self._remote.applied.model if live else None
        return self._remote.permits.signs(wanted, camera=live)

    def _is_permitted(self, said: Config) -> bool:
        """Whether what happens now may be looked at: the model is filed, and the camera granted."""
        if not self._parts.heads.is_live:
            return True
        model, permits = said.model, self._remote.permits
        if model is None:
            return False
        filed = permits.model(model.name, model.version, model.sha256)
        return isinstance(filed, Yes) and isinstance(permits.camera(), Yes)

    def rests(self, now: Instant) -> bool:
        """Whether this device must not be connected now.

        There is always a door: a device that could never be told anything again would be lost. It
        connects where it does not know the time, where its hours are none at all, while it tries
        something, and for some minutes after its start.
        """
        said = self._remote.applied
        if not self._parts.rests or now.time is TimeQuality.BAD or not said.hours:
            return False
        if self._remote.phase in {Phase.TRIAL, Phase.RETURNING}:
            return False
        started_ms = now.boottime_ms - self._began_ms
        return started_ms >= DOOR_MS and not is_open(said, now)

    def end(self) -> None:
        """The agent is being stopped in order."""
        self._parts.bringing.end()
        self._remote.end()

    def _is_new_phase(self) -> bool:
        """Whether a trial began, or was gone back from."""
        before, self._phase = self._phase, self._remote.phase
        return before is not self._phase and self._phase in {Phase.TRIAL, Phase.RETURNING}

    def _tell_of_news(self) -> bool:
        before, self._reported = self._reported, self._remote.report
        if self._reported == before:
            return False
        named = _NEWS.get(self._reported.state)
        if named is not None and self._reported.state is not before.state:
            self._parts.say(named)
        if self._reported.state is ConfigState.COMMITTED:
            self._parts.bringing.committed(self._remote.in_force, self._remote.before)
        return True

    def _carry_out(self, now: Instant) -> None:
        said = self._applied = self._remote.applied
        self._phase = self._remote.phase
        parts = self._parts
        parts.sampling.apply(said, now)
        if said.spool_max_mb:
            parts.keeper.cap_bytes = said.spool_max_mb * _MEGABYTE
        parts.heads.use(said)
        logging.getLogger().setLevel((said.log_level or LogLevel(self._log_level)).upper())
        self.hold_to_hours(now)

    def _look(self, link: Link | None, now: Instant) -> Look:
        remote = self._remote
        here = self._parts.bringing.step(remote.staged, remote.in_force, now, remote.floor_s())
        if not self._remote.busy and self._remote.phase is None:
            return _NOTHING_ASKED  # where one is being judged, its trial may begin with this look
        sampling = self._parts.sampling
        return Look(
            connected=link is not None and link.connected,
            session=link.session if link else 0,
            acknowledged=self._is_acknowledged(),
            sampled=sampling.sampled,
            failing=sampling.failing,
            parts=here if remote.staged is not None else Works.PENDING,
            model=self._parts.heads.works if self._remote.changes_model else Works.NOT_ASKED,
            moment=self._is_moment(now),
        )

    def _is_acknowledged(self) -> bool:
        """Whether the centre has every event: among them the one that tells of the trial."""
        keeper = self._parts.keeper
        spool = keeper.spool
        return (
            spool is not None
            and not keeper.unsaved
            and not any(spool.pending(one) for one in spool.lanes() if one.stream is Stream.EVENT)
        )

    def _is_moment(self, now: Instant) -> bool:
        said = self._remote.waiting
        if said is None:
            return False
        sampling = self._parts.sampling
        if said.apply is Apply.BREAK and (sampling.untouched or not sampling.knows_use):
            return True
        if now.time is TimeQuality.BAD:
            return False
        if said.apply is Apply.BREAK and said.breaks and holds_at(said.breaks, now.wall_ms):
            return True
        after_hours = not (said.hours and is_open(said, now))
        return after_hours if said.apply is Apply.AFTER_HOURS else after_hours and bool(said.hours)


_NOTHING_ASKED = Look(
    connected=False, session=0, acknowledged=False, sampled=False, parts=Works.PENDING
)
