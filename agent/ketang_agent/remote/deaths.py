"""How often work was ended by the death of the child that did it; kept on disk, over restarts.

A child that takes the whole agent down with it, as one that used up the memory may, leaves nobody
who could say so. So it is written down before it starts what it works on, and taken out when it has
ended. What is still written there at the next start, in the same boot, died; where the machine was
switched off meanwhile, nobody is to blame. Standard library only.
"""

import json
import logging
from collections.abc import Collection
from pathlib import Path

from ketang_agent.enrol.files import write_private

log = logging.getLogger("ketang.config")

_MOST_REMEMBERED = 32


class Deaths:
    """``begin`` and ``end`` around each child. One thread; a disk that takes nothing is borne."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._died: dict[str, int] = {}
        self._at_work: tuple[str, str] | None = None
        self._told = ""

    def resume(self, boot_id: str) -> None:
        """Take in that the agent starts: whoever was at work in this boot has died."""
        at_work = None
        try:
            said = json.loads(self._file.read_bytes())
            self._died = {str(what): int(times) for what, times in said["died"].items()}
            at_work = said["at_work"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            log.warning("config.deaths_unreadable why=%s", problem)
        if isinstance(at_work, list) and at_work[1:] == [boot_id]:
            log.warning("config.child_died what=%s", at_work[0])
            self._count(str(at_work[0]))
        if at_work is not None:
            self._save()

    def of(self, what: str) -> int:
        """Return how often it died over this, as far as it was not forgotten."""
        return self._died.get(what, 0)

    def begin(self, what: str, boot_id: str) -> None:
        """Say what the next child works on."""
        self._at_work = (what, boot_id)
        self._save()

    def end(self, *, died: bool = False) -> None:
        """Say that it has ended: by itself, or by our hand, unless it ``died``."""
        if self._at_work is None:
            return
        what, self._at_work = self._at_work[0], None
        if died:
            self._count(what)
        self._save()

    def forget(self, but: Collection[str] = ()) -> None:
        """Forget all but these."""
        kept = {what: times for what, times in self._died.items() if what in but}
        if kept != self._died:
            self._died = kept
            self._save()

    def _count(self, what: str) -> None:
        times = self._died.pop(what, 0) + 1
        self._died[what] = times
        while len(self._died) > _MOST_REMEMBERED:
            del self._died[next(iter(self._died))]

    def _save(self) -> None:
        said = {"died": self._died, "at_work": list(self._at_work) if self._at_work else None}
        problem = ""
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._file, json.dumps(said).encode())
        except OSError as why:
            problem = str(why)
        if problem and problem != self._told:
            log.warning("config.deaths_not_kept why=%s", problem)
        self._told = problem
