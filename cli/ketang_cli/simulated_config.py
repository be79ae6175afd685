"""What a simulated device is told to do: judged and tried as a real one does it.

Signatures, versions and expiry are checked by the agent's own judge, the trial is the agent's own,
and the connection made under it is a real one. Made up are the collectors, which cannot fail; what
is carried out of a configuration is the speed of sending.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from ketang_agent.clock import Instant
from ketang_agent.remote import state_file, trial
from ketang_agent.remote.machine import Look, Machine, Phase
from ketang_agent.uplink.link import Link
from ketang_contract.records import EventName, to_json
from ketang_contract.state import ConfigReport, ConfigState
from ketang_profiles.configured import as_config
from ketang_profiles.profile import shipped

log = logging.getLogger("ketang.simulate")

_NEWS = {
    ConfigState.TRIAL: EventName.CONFIG_TRIED,
    ConfigState.COMMITTED: EventName.CONFIG_COMMITTED,
    ConfigState.ROLLED_BACK: EventName.CONFIG_ROLLED_BACK,
    ConfigState.REJECTED: EventName.CONFIG_REJECTED,
}


class SimulatedConfig:
    """``begin`` once, then ``bring`` what comes down and ``step`` often. One thread.

    ``trust`` is the file with the document in force; ``say`` puts an event into the spool.
    """

    def __init__(
        self,
        device: str,
        profile: str,
        version: str,
        folder: Path,
        trust: Path,
        say: Callable[[EventName], None],
    ) -> None:
        self._device, self._version, self._trust, self._say = device, version, trust, say
        self._folder = folder / "remote"
        self._base = as_config(shipped(profile))
        self._machine = state_file.read(self._folder, self._base)
        self._waiting: bytes | None = None
        self._judged_sum = ""
        self.told_again = False
        """What was brought is known already, and whoever brought it is to hear of it once more."""

    @property
    def report(self) -> ConfigReport:
        """What the device says of its configuration."""
        return self._machine.report

    @property
    def busy(self) -> bool:
        """Whether something is being judged or tried."""
        return self._waiting is not None or self._machine.candidate is not None

    def begin(self, now: Instant) -> None:
        """Take up where the last run left off."""
        self._keep(trial.begin(self._machine, now))

    def bring(self, raw: bytes, _now: Instant) -> None:
        """Take what came down; it is judged at the next step."""
        if hashlib.sha256(raw).hexdigest() == self._judged_sum:
            self.told_again = True
        else:
            self._waiting = raw

    def step(self, link: Link, now: Instant, *, acknowledged: bool) -> None:
        """Go on with what was brought.

        Args:
            link: this device's.
            now: the device's own moment.
            acknowledged: whether the centre has every event.
        """
        if self._waiting is not None:
            self._judge(self._waiting, now)
        look = Look(
            connected=link.connected,
            session=link.session,
            acknowledged=acknowledged,
            sampled=True,
            moment=True,  # nobody sits in front of it
        )
        before = self._phase
        self._keep(trial.step(self._machine, look, now))
        link.budget.set(self._machine.applied.upload_kbps)
        if self._phase is not before and self._phase in {Phase.TRIAL, Phase.RETURNING}:
            link.begin_anew(now)  # only a connection made under it proves that there is one

    def end(self) -> None:
        """The simulation is being stopped in order."""
        self._keep(trial.end(self._machine))

    @property
    def _phase(self) -> Phase | None:
        return self._machine.candidate.phase if self._machine.candidate else None

    def _judge(self, raw: bytes, now: Instant) -> None:
        # Imported here: a simulation that is never told anything needs no cryptography for it.
        from ketang_agent.remote.judging import Asked, verdict
        from ketang_contract import trust

        self._waiting = None
        try:
            believed = trust.read_accepted(self._trust.read_bytes())
        except (OSError, ValueError) as problem:
            log.warning("config.not_judged device=%s why=%s", self._device, problem)
            return
        asked = Asked(
            device=self._device,
            agent_version=self._version,
            now_s=now.wall_ms // 1000,
            base=to_json(self._base),
            in_force=to_json(self._machine.in_force),
            held=dict(self._machine.held),
        )
        said = verdict(raw, asked, believed) | {"trust_version": believed.version}
        self._judged_sum = "" if said["reason"] else hashlib.sha256(raw).hexdigest()
        self.told_again = True
        self._keep(trial.take(self._machine, state_file.verdict_of(said)))

    def _keep(self, machine: Machine) -> None:
        """Keep the machine on disk before anybody acts on it, and tell what became of it."""
        if machine is self._machine:
            return
        before, self._machine = self._machine.state, machine
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_file.write(self._folder, machine)
        if machine.state is not before and machine.state in _NEWS:
            self._say(_NEWS[machine.state])
