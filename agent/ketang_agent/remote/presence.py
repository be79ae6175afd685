"""What a configuration names that has to be fetched, and whether it is on this device."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ketang_agent import versions
from ketang_agent.clock import Instant
from ketang_contract.config import AgentChoice, Config, ModelChoice

Choice = ModelChoice | AgentChoice
_LOOK_MS = 60_000
_VERIFY_MS = 600_000
"""How often every file of a model that fails is read: what it costs is some tenths of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where things are. ``versions``: of the agent's releases; None without a watcher."""

    identity: Path
    data: Path
    versions: Path | None

    @property
    def models(self) -> Path:
        """Of models that were fetched."""
        return self.data / "models"


class Presence:
    """One thread, the main loop's: it looks seldom, and mostly at names only.

    Args:
        folders: where things are.
        installed: versions of the agent that need no fetching.
    """

    def __init__(self, folders: Folders, installed: frozenset[str]) -> None:
        self._folders, self._installed = folders, installed
        self._shipped: dict[ModelChoice, bool] = {}
        self._found: dict[Choice, bool] = {}
        self._look_ms = self._verify_ms = 0

    def named(self, said: Config) -> Iterator[Choice]:
        """Yield what a configuration names that did not come with the program."""
        if said.model is not None and not self._is_shipped(said.model):
            yield said.model
        if said.agent is not None and said.agent.version not in self._installed:
            yield said.agent

    def lost(self, in_force: Config, now: Instant, *, fails: bool) -> list[Choice]:
        """Return what is in force, and was deleted or damaged since it was brought.

        Args:
            in_force: what applies.
            now: this moment.
            fails: the model in force does not count: then its files are read, and not only named.
        """
        if now.boottime_ms >= self._look_ms:
            self._look_ms = now.boottime_ms + _LOOK_MS
            # What was found damaged stays so until it was brought again.
            self._found = {one: False for one, there in self._found.items() if not there}
        if fails and now.boottime_ms >= self._verify_ms:
            self._verify_ms = now.boottime_ms + _VERIFY_MS
            if in_force.model is not None and not self._is_shipped(in_force.model):
                self._found[in_force.model] = _is_whole(self._folders.models, in_force.model)
        return [one for one in self.named(in_force) if not self._is_there(one)]

    def came(self, choice: Choice) -> None:
        """Take in that it was brought."""
        self._found[choice] = True

    def is_laid(self, choice: AgentChoice) -> bool:
        """Tell whether a release lies there; without a watcher nothing is missing."""
        folder = self._folders.versions
        return folder is None or versions.is_laid(folder, choice.version, choice.sha256)

    def _is_there(self, choice: Choice) -> bool:
        if choice not in self._found:
            if isinstance(choice, ModelChoice):
                there = (self._folders.models / choice.name / choice.version).is_dir()
            else:
                there = self.is_laid(choice)
            self._found[choice] = there
        return self._found[choice]

    def _is_shipped(self, choice: ModelChoice) -> bool:
        """Tell whether a model came with the program."""
        if choice not in self._shipped:
            # Only a device that is told of a model pays for this.
            from ketang_agent.remote.model_store import Chosen, is_shipped  # noqa: PLC0415

            chosen = Chosen(choice.name, choice.version, choice.sha256)
            self._shipped[choice] = is_shipped(chosen)
        return self._shipped[choice]


def _is_whole(models: Path, choice: ModelChoice) -> bool:
    """Tell whether a model lies there with every byte."""
    from ketang_agent.remote.model_store import Chosen, found  # noqa: PLC0415  (as above)
    from ketang_models.manifest import ModelRefused  # noqa: PLC0415

    try:
        found(models, Chosen(choice.name, choice.version, choice.sha256))
    except (ModelRefused, OSError):
        return False
    return True
