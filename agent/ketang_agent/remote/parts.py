"""Brings what a candidate names, a model or a release of the agent, before it is tried.

Each is fetched by a child (``remote.fetching``), a release is laid out by another one
(``remote.agent_store``); this process only starts them, one at a time, and asks how they ended.
What is in use stays until the candidate has committed. Standard library only.

A centre that cannot be reached, or a repository that is not believed, says nothing against the
candidate: it is tried again, each device at a moment of its own. Only what the signed list says of
the target, or the target itself, does. Nothing is final for what is in force: where that was
deleted or damaged, it is brought again, at most once an hour.
"""

import json
import logging
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ketang_agent.clock import Instant
from ketang_agent.remote.deaths import Deaths
from ketang_agent.remote.machine import Works
from ketang_agent.remote.presence import Choice, Folders, Presence
from ketang_agent.remote.remote import Child, Start, start
from ketang_contract import agent_release, updates
from ketang_contract.config import AgentChoice, Config, ModelChoice

log = logging.getLogger("ketang.parts")

_FETCH_MS = 6 * 3_600_000
"""A slow line may need longer: the next child goes on from what came."""
_LAY_MS, _TIDY_MS = 900_000, 300_000
_FIRST_WAIT_MS, _MOST_WAIT_MS = 20_000, 900_000
_LOST_AGAIN_MS = 3_600_000
_MOST_TRIES = 5
"""Of what failed for a reason of this device's own, as a full disk, over restarts too."""
DEATHS = "bringing-deaths.json"
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


@dataclass(frozen=True, slots=True)
class Commands:
    """How the children are started."""

    fetch: tuple[str, ...] = (sys.executable, "-m", "ketang_agent.remote.fetching")
    lay: tuple[str, ...] = (sys.executable, "-m", "ketang_agent.remote.agent_store")
    tidy: tuple[str, ...] = (sys.executable, "-m", "ketang_agent.remote.tidying")


@dataclass(frozen=True, slots=True)
class Users:
    """Those who use what is brought; asked and told in the main loop's thread.

    Attributes:
        at_hand: what is not in force yet, in any phase: what it names is kept.
        model_fails: the model in force counts nobody.
        model_is_back: the model in force was lost, and has been brought again.
    """

    at_hand: Callable[[], Config | None] = lambda: None
    model_fails: Callable[[], bool] = lambda: False
    model_is_back: Callable[[], None] = lambda: None


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
        users: who uses what is brought.
    """

    def __init__(
        self,
        folders: Folders,
        installed: frozenset[str],
        jitter: Callable[[], float] = random.random,
        commands: Commands = Commands(),
        start: Start = start,
        users: Users = Users(),
    ) -> None:
        self._folders, self._users = folders, users
        self._jitter, self._commands, self._start = jitter, commands, start
        self._presence = Presence(folders, installed)
        self._deaths = Deaths(folders.data / DEATHS)
        self._began = False
        self._child: _Running | None = None
        self._brought: set[Choice] = set()
        self._refused: set[Choice] = set()
        self._fetched: dict[Choice, str] = {}
        self._lost: list[Choice] = []
        self._lost_again_ms: dict[Choice, int] = {}
        self._tries = self._not_before_ms = 0
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
        if not self._began:
            self._began = True
            self._deaths.resume(now.boot_id)
        asked = [] if candidate is None else list(self._presence.named(candidate))
        self._look_for_lost(in_force, now)
        if candidate is None:
            # Whoever asks again may have mended it in the meantime.
            self._refused.clear()
            self._deaths.forget({_name(one) for one in self._lost})
        # A candidate's model is asked for even where a folder by its name is there: that may hold
        # another. What is in force has been tried, so that it is there is enough.
        known = self._brought.union(self._presence.named(in_force)).difference(self._lost)
        missing = [one for one in asked if one not in known]
        due = [one for one in self._lost if now.boottime_ms >= self._lost_again_ms.get(one, 0)]
        wanted = [] if self._refused.intersection(asked) else missing or due
        self._go_on(wanted[0] if wanted else None, _slower(in_force, candidate), now, floor_s)
        if self._refused.intersection(asked):
            return Works.NO
        if not asked:
            return Works.NOT_ASKED
        return Works.YES if known.union(self._brought).issuperset(asked) else Works.PENDING

    def committed(self, in_force: Config, before: Config | None) -> None:
        """A configuration has committed: let go of all but what it names, and the one before it."""
        self._kept = tuple(one for one in (in_force, before) if one is not None)

    def end(self) -> None:
        """The agent is being stopped; what came is kept."""
        child, self._child = self._child, None
        if child is not None:
            child.process.kill()
            child.process.communicate()
            self._deaths.end()

    def _look_for_lost(self, in_force: Config, now: Instant) -> None:
        fails = self._users.at_hand() is None and self._users.model_fails()
        lost = self._presence.lost(in_force, now, fails=fails)
        for one in lost:
            if one not in self._lost:
                log.warning("parts.lost %s", _told(one))
        self._lost = lost
        self._brought.difference_update(lost)

    # One child at a time.

    def _go_on(self, wanted: Choice | None, kbps: int | None, now: Instant, floor_s: int) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._tries = self._not_before_ms = 0
            died = 0 if wanted is None else self._deaths.of(_name(wanted))
            if died > 1:  # the first may have been anybody's
                self._tries = died - 1
                self._wait(now)
        child = self._child
        if child is not None:
            if child.choice not in {None, wanted}:
                child.until_ms = 0  # nobody wants it any more; what came is kept
            self._watch(child, now)
        elif self._kept is not None:
            self._tidy(self._kept, now)
        elif wanted is not None and now.boottime_ms >= self._not_before_ms:
            self._begin(wanted, kbps, now, floor_s)

    def _begin(self, choice: Choice, kbps: int | None, now: Instant, floor_s: int) -> None:
        if self._deaths.of(_name(choice)) >= _MOST_TRIES:
            self._refuse(choice, "failed", "children died over it, or the agent with them", now)
            return
        if isinstance(choice, AgentChoice):
            folder = self._folders.versions
            if folder is None:
                self._refuse(choice, "not_watched", "no watcher started this agent", now)
                return
            if self._presence.is_laid(choice):
                self._have(choice, now)
                return
            if choice in self._fetched:
                words = [str(folder), self._fetched[choice], choice.version, choice.sha256]
                self._run((*self._commands.lay, *words), now, _LAY_MS, choice, lays=True)
                return
        try:
            target = _target(choice)
        except ValueError as problem:
            self._refuse(choice, "bad_target", str(problem), now)
            return
        words = [str(self._folders.identity), target, "--data", str(self._folders.data)]
        if floor_s:
            words += ["--not-before", str(floor_s)]
        if kbps is not None:
            words += ["--kbps", str(kbps)]
        self._run((*self._commands.fetch, *words), now, _FETCH_MS, choice)

    def _tidy(self, kept: tuple[Config, ...], now: Instant) -> None:
        self._kept = None
        at_hand = self._users.at_hand()
        kept = kept if at_hand is None else (*kept, at_hand)
        # What is let go of is not here any more, even where it was brought by this process.
        self._brought &= {choice for one in kept for choice in self._presence.named(one)}
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
        if choice is not None:
            self._deaths.begin(_name(choice), now.boot_id)
        try:
            process = self._start(words)
        except OSError as problem:
            self._deaths.end()
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
        choice, failed = child.choice, process.returncode != 0
        if choice is None or choice != self._wanted:
            self._deaths.end()
            return
        word = str(said.get("why", "failed"))
        self._deaths.end(died=failed and word in _OF_THE_DEVICE)
        if failed:
            self._failed(choice, word, str(said.get("what", "ended without a word")), now)
        elif isinstance(choice, ModelChoice):
            if said.get("digest") == choice.sha256:
                self._have(choice, now)
            else:
                self._refuse(choice, "other_model", f"it is {said.get('digest')}", now)
        elif child.lays:
            self._have(choice, now)
        else:
            self._fetched[choice] = str(said.get("fetched"))

    # How it ended.

    def _have(self, choice: Choice, now: Instant) -> None:
        self._brought.add(choice)
        self._presence.came(choice)
        self._fetched.pop(choice, None)
        self._deaths.forget()
        self.why = ""
        log.info("parts.here %s", _told(choice))
        if choice in self._lost:
            self._lost_again_ms[choice] = now.boottime_ms + _LOST_AGAIN_MS
            if isinstance(choice, ModelChoice) and self._users.at_hand() is None:
                self._users.model_is_back()

    def _failed(self, choice: Choice, word: str, what: str, now: Instant) -> None:
        # A release that was fetched may have been taken away before it was laid out, to make room:
        # fetched again, it costs nothing where it was not.
        self._fetched.pop(choice, None)
        if word in _AGAINST or self._deaths.of(_name(choice)) >= _MOST_TRIES:
            self._refuse(choice, word, what, now)
        else:
            self._put_off(word, what, now)

    def _refuse(self, choice: Choice, word: str, what: str, now: Instant) -> None:
        self._refused.add(choice)
        self.why = word
        log.warning("parts.refused %s why=%s what=%s", _told(choice), word, what)
        if choice in self._lost:
            self._lost_again_ms[choice] = now.boottime_ms + _LOST_AGAIN_MS
            self._deaths.forget()

    def _put_off(self, word: str, what: str, now: Instant) -> None:
        """Try again at a moment of this device's own: a whole school is told at one time."""
        self._wait(now)
        self._tries += 1
        if word != self.why:
            log.warning("parts.not_here why=%s what=%s", word, what)
        self.why = word

    def _wait(self, now: Instant) -> None:
        most_ms = min(_FIRST_WAIT_MS << min(self._tries, 16), _MOST_WAIT_MS)
        self._not_before_ms = now.boottime_ms + round(most_ms * self._jitter())


def _slower(in_force: Config, candidate: Config | None) -> int | None:
    """Return the lower of the two rates: neither the one that is left nor the next is exceeded."""
    said = [one.download_kbps for one in (in_force, candidate) if one is not None]
    return min((one for one in said if one is not None), default=None)


def _target(choice: Choice) -> str:
    if isinstance(choice, ModelChoice):
        return updates.model(choice.name, choice.version).path
    return agent_release.target(choice.version).path


def _name(choice: Choice) -> str:
    """Name it where deaths are counted: another content is another thing."""
    name = choice.name if isinstance(choice, ModelChoice) else "agent"
    return f"{name}/{choice.version}/{choice.sha256[:16]}"


def _told(choice: Choice) -> str:
    name = choice.name if isinstance(choice, ModelChoice) else "agent"
    return f"what={name} version={choice.version}"


def _said(line: bytes) -> Mapping[str, object]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
