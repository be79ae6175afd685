"""Brings what a candidate names, a model or a release of the agent, before it is tried.

Each is fetched by a child (``remote.fetching``), a release is laid out by another one
(``remote.agent_store``); this process only starts them, one at a time, and asks how they ended.
What is in use stays until the candidate has committed. Standard library only.

A centre that cannot be reached, or a repository that is not believed, says nothing against the
candidate: it is tried again, each device at a moment of its own. Only what the signed list says of
the target, or the target itself, does.
"""

import json
import logging
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ketang_agent import versions
from ketang_agent.clock import Instant
from ketang_agent.remote.machine import Works
from ketang_agent.remote.remote import Child, Start, start
from ketang_contract import agent_release, updates
from ketang_contract.config import AgentChoice, Config, ModelChoice

log = logging.getLogger("ketang.parts")

_FETCH_MS = 6 * 3_600_000
"""A slow line may need longer: the next child goes on from what came."""
_LAY_MS, _TIDY_MS = 900_000, 300_000
_FIRST_WAIT_MS, _MOST_WAIT_MS = 20_000, 900_000
_MOST_TRIES = 5
"""Of what failed for a reason of this device's own, as a full disk."""
_AGAINST = frozenset(
    {
        "bad_target",
        "wrong_content",
        "too_large",
        "agent_too_old",
        "model_refused",
        "bad_release",
        "does_not_fit",
        "does_not_run",
        "version_reused",
        "other_model",
        "not_watched",
    }
)
"""What speaks against the candidate, and is final."""
_OF_THE_DEVICE = frozenset({"failed", "not_checked"})


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


@dataclass(frozen=True, slots=True)
class Commands:
    """How the children are started."""

    fetch: tuple[str, ...] = (sys.executable, "-m", "ketang_agent.remote.fetching")
    lay: tuple[str, ...] = (sys.executable, "-m", "ketang_agent.remote.agent_store")
    tidy: tuple[str, ...] = (sys.executable, "-m", "ketang_agent.remote.tidying")


Choice = ModelChoice | AgentChoice


@dataclass(slots=True)
class _Running:
    """A child, until when it may run, what it brings, and whether it lays out or else fetches."""

    process: Child
    until_ms: int
    choice: Choice | None
    """None: it tidies up."""
    lays: bool = False


class Bringing:
    """``step`` in each round of the main loop. One thread.

    Args:
        folders: where things are.
        installed: versions of the agent that need no fetching: the one that runs, and the one that
            the system's packages installed.
        jitter: from 0 to 1.
        commands: tests bring their own.
        start: starts a child.
    """

    def __init__(
        self,
        folders: Folders,
        installed: frozenset[str],
        jitter: Callable[[], float] = random.random,
        commands: Commands = Commands(),
        start: Start = start,
    ) -> None:
        self._folders, self._installed = folders, installed
        self._jitter, self._commands, self._start = jitter, commands, start
        self._child: _Running | None = None
        self._shipped: dict[ModelChoice, bool] = {}
        self._seen: set[Choice] = set()
        self._brought: set[Choice] = set()
        self._refused: dict[Choice, str] = {}
        self._fetched: dict[Choice, str] = {}
        self._tries = self._own_failures = 0
        self._not_before_ms = 0
        self._wanted: Choice | None = None
        self._kept: tuple[Config, ...] | None = None
        self.why = ""
        """The last that stood in the way; for people."""

    @property
    def busy(self) -> bool:
        """Whether a child is at work."""
        return self._child is not None

    def step(
        self, candidate: Config | None, in_force: Config, now: Instant, floor_s: int = 0
    ) -> Works:
        """Go on with bringing; say how it stands with what the candidate names. Never blocks.

        Args:
            candidate: what is to be tried next, if anything is.
            in_force: what applies meanwhile; what it names and has been lost is brought again.
            now: this moment.
            floor_s: UTC seconds: no signed time this device has seen was later.
        """
        asked = [] if candidate is None else list(self._named(candidate))
        if candidate is None:
            # Whoever asks again may have mended it in the meantime.
            self._refused = {
                one: why for one, why in self._refused.items() if one in self._named(in_force)
            }
        refused = [one for one in asked if one in self._refused]
        missing = [one for one in asked if one not in self._brought]
        # A candidate's model is asked for even where a folder by its name is there: that may hold
        # another. What is in force has been tried, so that its folder is there is enough.
        lost = [one for one in self._named(in_force) if not self._is_there(one)]
        wanted = [] if refused else missing or [one for one in lost if one not in self._refused]
        self._go_on(wanted[0] if wanted else None, in_force, now, floor_s)
        if any(one in self._refused for one in asked):
            return Works.NO
        if not asked:
            return Works.NOT_ASKED
        return Works.YES if all(one in self._brought for one in asked) else Works.PENDING

    def committed(self, in_force: Config, before: Config | None) -> None:
        """A configuration has committed: let go of all but what it names, and the one before it."""
        self._kept = tuple(one for one in (in_force, before) if one is not None)

    def end(self) -> None:
        """The agent is being stopped; what came is kept."""
        child, self._child = self._child, None
        if child is not None:
            child.process.kill()
            child.process.communicate()

    # What is named, and whether it is here.

    def _named(self, said: Config) -> Iterator[Choice]:
        if said.model is not None and not self._is_shipped(said.model):
            yield said.model
        if said.agent is not None and said.agent.version not in self._installed:
            yield said.agent

    def _is_shipped(self, choice: ModelChoice) -> bool:
        """Tell whether a model came with the program."""
        if choice not in self._shipped:
            self._shipped[choice] = _is_shipped(choice)
        return self._shipped[choice]

    def _is_there(self, choice: Choice) -> bool:
        """Tell whether it is here; once seen, it is not looked for again."""
        if choice not in self._seen and self._lies_there(choice):
            self._seen.add(choice)
        return choice in self._seen

    def _lies_there(self, choice: Choice) -> bool:
        if choice in self._brought:
            return True
        if isinstance(choice, ModelChoice):
            return (self._folders.models / choice.name / choice.version).is_dir()
        folder = self._folders.versions
        # Without a watcher nothing can be lost that could be used.
        return folder is None or versions.is_laid(folder, choice.version, choice.sha256)

    # One child at a time.

    def _go_on(self, wanted: Choice | None, in_force: Config, now: Instant, floor_s: int) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._tries = self._own_failures = self._not_before_ms = 0
        child = self._child
        if child is not None:
            if child.choice not in {None, wanted}:
                child.until_ms = 0  # nobody wants it any more; what came is kept
            self._watch(child, now)
        elif self._kept is not None:
            self._tidy(self._kept, now)
        elif wanted is not None and now.boottime_ms >= self._not_before_ms:
            self._begin(wanted, in_force, now, floor_s)

    def _begin(self, choice: Choice, in_force: Config, now: Instant, floor_s: int) -> None:
        if isinstance(choice, AgentChoice):
            folder = self._folders.versions
            if folder is None:
                self._refuse(choice, "not_watched", "no watcher started this agent")
                return
            if versions.is_laid(folder, choice.version, choice.sha256):
                self._have(choice)
                return
            if choice in self._fetched:
                words = [str(folder), self._fetched[choice], choice.version, choice.sha256]
                self._run((*self._commands.lay, *words), now, _LAY_MS, choice, lays=True)
                return
        try:
            target = _target(choice)
        except ValueError as problem:
            self._refuse(choice, "bad_target", str(problem))
            return
        words = [str(self._folders.identity), target, "--data", str(self._folders.data)]
        if floor_s:
            words += ["--not-before", str(floor_s)]
        if in_force.download_kbps is not None:
            words += ["--kbps", str(in_force.download_kbps)]
        self._run((*self._commands.fetch, *words), now, _FETCH_MS, choice)

    def _tidy(self, kept: tuple[Config, ...], now: Instant) -> None:
        self._kept = None
        # What is let go of is not here any more, even where it was brought by this process.
        self._brought &= {choice for one in kept for choice in self._named(one)}
        self._seen &= self._brought
        self._fetched.clear()
        said = {
            "models": str(self._folders.models),
            "versions": str(self._folders.versions or ""),
            "kept_models": [
                [one.model.name, one.model.version, one.model.sha256] for one in kept if one.model
            ],
            "kept_versions": [one.agent.version for one in kept if one.agent],
        }
        self._run((*self._commands.tidy, json.dumps(said)), now, _TIDY_MS, None)

    def _run(
        self,
        words: tuple[str, ...],
        now: Instant,
        most_ms: int,
        choice: Choice | None,
        *,
        lays: bool = False,
    ) -> None:
        try:
            process = self._start(words)
        except OSError as problem:
            self._put_off("failed", f"cannot begin: {problem}", now)
            return
        self._child = _Running(process, now.boottime_ms + most_ms, choice, lays)

    def _watch(self, child: _Running, now: Instant) -> None:
        process = child.process
        if process.poll() is None:
            if now.boottime_ms >= child.until_ms:
                process.kill()
            return
        said = _said(process.communicate()[0])
        self._child = None
        choice = child.choice
        if choice is None or choice != self._wanted:
            return
        if process.returncode != 0:
            self._failed(choice, said, now, laid=child.lays)
        elif isinstance(choice, ModelChoice):
            if said.get("digest") == choice.sha256:
                self._have(choice)
            else:
                self._refuse(choice, "other_model", f"it is {said.get('digest')}")
        elif child.lays:
            self._have(choice)
        else:
            self._fetched[choice] = str(said.get("fetched"))

    # How it ended.

    def _have(self, choice: Choice) -> None:
        self._brought.add(choice)
        self._fetched.pop(choice, None)
        self.why = ""
        log.info("parts.here %s", _name(choice))

    def _failed(
        self, choice: Choice, said: Mapping[str, object], now: Instant, *, laid: bool
    ) -> None:
        word, what = str(said.get("why", "failed")), str(said.get("what", "ended without a word"))
        if laid:
            # Its file may have been taken away meanwhile, to make room: fetched again, it costs
            # nothing where it was not.
            self._fetched.pop(choice, None)
        self._own_failures += word in _OF_THE_DEVICE
        if word in _AGAINST or self._own_failures >= _MOST_TRIES:
            self._refuse(choice, word, what)
        else:
            self._put_off(word, what, now)

    def _refuse(self, choice: Choice, word: str, what: str) -> None:
        self._refused[choice] = self.why = word
        log.warning("parts.refused %s why=%s what=%s", _name(choice), word, what)

    def _put_off(self, word: str, what: str, now: Instant) -> None:
        """Try again at a moment of this device's own: a whole school is told at one time."""
        most_ms = min(_FIRST_WAIT_MS * 2**self._tries, _MOST_WAIT_MS)
        self._tries += 1
        self._not_before_ms = now.boottime_ms + round(most_ms * self._jitter())
        if word != self.why:
            log.warning("parts.not_here why=%s what=%s", word, what)
        self.why = word


def _is_shipped(choice: ModelChoice) -> bool:
    # Only a device that is told of a model pays for this.
    from ketang_agent.remote.model_store import Chosen, is_shipped  # noqa: PLC0415

    return is_shipped(Chosen(choice.name, choice.version, choice.sha256))


def _target(choice: Choice) -> str:
    if isinstance(choice, ModelChoice):
        return updates.model(choice.name, choice.version).path
    return agent_release.target(choice.version).path


def _name(choice: Choice) -> str:
    name = choice.name if isinstance(choice, ModelChoice) else "agent"
    return f"what={name} version={choice.version}"


def _said(line: bytes) -> Mapping[str, object]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
