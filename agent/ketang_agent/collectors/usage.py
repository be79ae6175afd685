"""How the session is used: idle time, lock, the category in front. Never titles or content."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import TEACHING, NotApplicable, UsageReading
from ketang_agent.platforms.base import Desktop
from ketang_agent.platforms.linux_proc import executable_of
from ketang_contract.records import Category, IdleSource

_COMM_LENGTH = 15
"""The kernel cuts a process's short name here."""
_TOUCHED_S = 180
"""With input since then, a reason to stay awake without input makes no difference."""


class UsageCollector:
    """Asks the desktop's probes; where none can tell, the reading says unknown and why."""

    name: ClassVar[str] = "usage"

    def __init__(
        self, desktop: Desktop, categories: Mapping[str, Category], root: Path = Path("/")
    ) -> None:
        self._desktop = desktop
        self._categories = categories
        self._root = root

    def sample(self, now: Instant) -> Iterator[UsageReading]:  # noqa: ARG002  (Protocol's shape)
        """Yield one reading.

        Raises:
            NotApplicable: no probe can tell; an unknown reading came first.
            OSError: the probe that should tell failed; an unknown reading came first.
        """
        try:
            locked = self._locked()
        except OSError as problem:
            yield UsageReading(idle_s=None, note=_why(problem))
            raise
        lacking = "no desktop session"
        for probe in self._desktop.idle:
            try:
                idle_s = probe.idle_s()
            except NotApplicable as lack:
                lacking = f"no desktop session that tells: {lack}"
                continue
            except OSError as problem:
                # a weaker source must not speak for one that failed
                note = _why(problem)
                yield UsageReading(idle_s=None, idle_source=probe.source, locked=locked, note=note)
                raise
            yield self._seen(idle_s, probe.source, locked=locked)
            return
        yield UsageReading(idle_s=None, locked=locked, note=lacking)
        raise NotApplicable(lacking)

    def _seen(self, idle_s: float, source: IdleSource, *, locked: bool) -> UsageReading:
        category = self._category()
        untouched = idle_s >= _TOUCHED_S and not locked
        return UsageReading(
            idle_s=idle_s,
            idle_source=source,
            locked=locked,
            category=category,
            presenting=untouched and (category in TEACHING or self._held_awake()),
        )

    def _locked(self) -> bool:
        """Tell whether the screen is locked; where nothing keeps sessions, nothing locks them."""
        if self._desktop.lock is None:
            return False
        try:
            return self._desktop.lock.locked()
        except NotApplicable:
            return False

    def _category(self) -> Category:
        """Look the program in front up in the allow-list; all others are OTHER."""
        if self._desktop.foreground is None:
            return Category.OTHER
        try:
            pid = self._desktop.foreground.foreground_pid()
        except OSError:
            return Category.OTHER
        name = executable_of(pid, self._root) if pid else ""
        return category_of(name, self._categories)

    def _held_awake(self) -> bool:
        """Tell whether any probe knows a reason; one that cannot say is no reason."""
        for probe in self._desktop.awake:
            try:
                if probe.held_awake():
                    return True
            except (NotApplicable, OSError):
                continue
        return False


def category_of(name: str, categories: Mapping[str, Category]) -> Category:
    """Look up an executable's base name, be it whole or cut by the kernel."""
    if name in categories:
        return categories[name]
    if len(name) == _COMM_LENGTH:
        cut = (kind for known, kind in categories.items() if known[:_COMM_LENGTH] == name)
        return next(cut, Category.OTHER)
    return Category.OTHER


def _why(problem: OSError) -> str:
    return str(problem) or type(problem).__name__
