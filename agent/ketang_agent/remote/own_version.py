"""Which release of itself the agent ought to be: what the configuration says, and what runs.

The agent changes nothing of itself. It leaves a wish and ends with ``versions.UPDATE``; the watcher
does the rest, and comes back to the old release where the new one does not come up. Standard
library only.

In a trial the agent ends right after the trial was written down. The new release finds it, goes on
with it, and says that it is healthy once the configuration has committed. Where it gives the
configuration up, the old release is what applies again, and the agent wishes itself back. Where it
does not even start, the watcher brings the old release back, which finds that here (``wrong``).
"""

import logging
import os
from pathlib import Path

from ketang_agent import versions
from ketang_agent.clock import Instant
from ketang_agent.remote.machine import Phase
from ketang_agent.versions import INSTALLED, Standing, Wish
from ketang_contract.config import AgentChoice, Config

log = logging.getLogger("ketang.config")

PROVEN_MS = 30_000
"""So long it has to run to be healthy where no trial of a configuration tells."""


def watched_folder(environment: "os._Environ[str] | dict[str, str]" = os.environ) -> Path | None:
    """Return the folder of releases, where a watcher has started this agent."""
    said = environment.get(versions.FOLDER_VARIABLE)
    return Path(said) if said else None


class OwnVersion:
    """``step`` in each round of the main loop. One thread.

    Args:
        folder: of the releases; None without a watcher, and then nothing can change.
        running: this program's own version.
    """

    def __init__(self, folder: Path | None, running: str) -> None:
        self._folder, self._running = folder, running
        self._standing = Standing(installed=running)
        if folder is not None:
            # The watcher changes nothing of it while this process runs, but to end a trial.
            self._standing = versions.standing(folder, versions.installed(folder))
        self._began_ms: int | None = None
        self._told_healthy = False
        self._told = ""
        self._unwished: str | None = None
        """What could not be wished for: its trial must not pass under this release."""

    @property
    def here(self) -> frozenset[str]:
        """Versions that need no fetching: the one that runs, and the one that is installed."""
        return frozenset({self._running, self._standing.installed})

    def wrong(self, applied: Config, ask: str) -> str:
        """Say why what a configuration on trial names cannot run here; empty where it may.

        Args:
            applied: the configuration.
            ask: its name, ``HASH/ATTEMPT``.
        """
        wanted = self._wanted(applied.agent)
        if wanted == self._standing.current:
            return "agent_version_reused" if self._is_another(applied.agent) else ""
        if self._folder is None:
            return "agent_not_watched"
        if reason := self._standing.reason(wanted, ask):
            return f"agent_{reason}"
        if ask == self._unwished:
            return "disk_failing"
        return "" if self._is_here(applied.agent, wanted) else "agent_missing"

    def step(self, applied: Config, ask: str, phase: Phase | None, now: Instant) -> bool:
        """Tell whether the agent is to end with ``versions.UPDATE``; the wish is written then.

        Args:
            applied: what the device does now.
            ask: which configuration that is: ``HASH/ATTEMPT`` on trial, else ``HASH``.
            phase: of the candidate, if there is one.
            now: this moment.
        """
        if self._began_ms is None:
            self._began_ms = now.boottime_ms
        wanted = self._wanted(applied.agent)
        if self._folder is None:
            return False
        if wanted == self._standing.current:
            self._tell_health(self._folder, ask, phase, now)
            return False
        why = self.wrong(applied, ask)
        if why and why != "disk_failing":
            if why != self._told:
                log.warning("agent.not_changed version=%s why=%s", wanted or "installed", why)
            self._told = why
            return False
        wished = self._wish(self._folder, Wish(version=wanted, ask=ask))
        self._unwished = None if wished else ask
        return wished

    def _wanted(self, choice: AgentChoice | None) -> str:
        if choice is None or choice.version == self._standing.installed:
            return INSTALLED
        return choice.version

    def _is_another(self, choice: AgentChoice | None) -> bool:
        """Whether the release that runs has this version, and is made of something else.

        What the system's packages installed has no hash to hold it against: whoever installed it
        vouches for it.
        """
        if self._folder is None or choice is None or self._standing.current == INSTALLED:
            return False
        runs = versions.sum_of(self._folder, self._standing.current)
        return runs is not None and runs != choice.sha256

    def _is_here(self, choice: AgentChoice | None, wanted: str) -> bool:
        if wanted == INSTALLED or choice is None or self._folder is None:
            return True
        return versions.is_laid(self._folder, wanted, choice.sha256)

    def _tell_health(self, folder: Path, ask: str, phase: Phase | None, now: Instant) -> None:
        if self._told_healthy or phase in {Phase.TRIAL, Phase.RETURNING}:
            return
        # What asked for this release has committed, if the configuration in force is that one.
        committed = self._standing.ask.startswith(f"{ask}/")
        if committed or now.boottime_ms - (self._began_ms or 0) >= PROVEN_MS:
            current = self._standing.current
            self._told_healthy = self._wish(folder, Wish(version=current, ask=ask, healthy=current))

    def _wish(self, folder: Path, wish: Wish) -> bool:
        try:
            versions.keep_wish(folder, wish)
        except OSError as problem:
            if self._told != "disk":
                log.warning("agent.not_wished why=%s", problem)
            self._told = "disk"
            return False
        log.info("agent.wishes version=%s healthy=%s", wish.version or "installed", wish.healthy)
        return True
