"""A countdown in somebody's own desktop session: ``ketang agent notice``, started with the session.

The agent runs under an account of its own, and a session's bus lets no other account in. So this
small program, one in each session and with the session's own rights, asks the agent's page on this
machine whether a shutdown counts down, shows the desktop's notice with Cancel, and takes the word
back to the page, as a person does who opens it. It knows nothing else and writes nothing.

Where the agent already shows its notice on a desktop (it then runs under a person's account), this
one keeps still.
"""

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Protocol
from urllib.parse import urlencode

from ketang_contract.commands import COUNTDOWN_MOST_S

LOOK_S, CLOSE_LOOK_S = 10.0, 1.0
"""Between two looks at the page: while nothing counts down, and while something does."""
_AGAIN_S = 15.0
_ANSWER_S = 5.0
_MOST_BYTES = 4096


class Notice(Protocol):
    """``remote.commands_desktop.DesktopNotice``."""

    def show(self, who: str, seconds: int) -> bool:
        """Show it, or bring it up to date; False where there is no desktop to show it."""
        ...

    def cancelled(self) -> bool:
        """Tell whether somebody pressed Cancel since it was shown."""
        ...

    def close(self) -> None:
        """Take it away."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A shutdown that counts down, as the page tells it; ``token`` goes with every word to it."""

    job: str
    who: str
    at_ms: int
    desktop: bool
    token: str


class Page:
    """The agent's page on this machine."""

    def __init__(self, port: int) -> None:
        self._netloc = f"127.0.0.1:{port}"

    def announced(self) -> Announced | None:
        """Return what counts down; None where nothing does, or nobody answers."""
        try:
            said = json.loads(self._ask("GET", "/leaving.json"))
            leaving = said["leaving"]
            if leaving is None:
                return None
            return Announced(
                job=str(leaving["job"]),
                who=str(leaving["who"])[:64],
                at_ms=int(leaving["at_ms"]),
                desktop=bool(leaving["desktop"]),
                token=str(said["token"]),
            )
        except (OSError, HTTPException, ValueError, LookupError, TypeError):
            return None

    def say(self, word: str, about: Announced) -> bool:
        """Bring a word to the page; False where it was not taken."""
        form = urlencode({"token": about.token, "job": about.job})
        try:
            self._ask("POST", f"/{word}", form)
        except (OSError, HTTPException):
            return False
        return True

    def _ask(self, method: str, path: str, form: str | None = None) -> bytes:
        with closing(HTTPConnection(self._netloc, timeout=_ANSWER_S)) as connection:
            headers = {"Origin": f"http://{self._netloc}"} if form is not None else {}
            connection.request(method, path, form, headers)
            answer = connection.getresponse()
            if answer.status >= 400:  # noqa: PLR2004  (HTTP's own)
                raise OSError(answer.status)
            return answer.read(_MOST_BYTES)


class Announcer:
    """``step`` it again and again; it says how long to wait."""

    def __init__(self, page: Page, notice: Notice, wall_ms: Callable[[], int]) -> None:
        self._page, self._notice, self._wall_ms = page, notice, wall_ms
        self._about: Announced | None = None
        self._shown_ms: int | None = None
        self._told = self._cancelled = False

    def step(self) -> float:
        """Look at the page and the notice; return the seconds until the next look."""
        found = self._page.announced()
        if found is None or found.desktop:
            self._end()
            return LOOK_S
        if self._about is None or self._about.job != found.job:
            self._end()
            self._about = found
        if not self._cancelled and self._notice.cancelled():
            self._cancelled = self._page.say("cancel", found)
        self._show(found)
        return CLOSE_LOOK_S

    def close(self) -> None:
        """Leave no notice behind."""
        self._end()

    def _show(self, found: Announced) -> None:
        now_ms = self._wall_ms()
        if self._cancelled or (
            self._shown_ms is not None and 0 <= now_ms - self._shown_ms < _AGAIN_S * 1000
        ):
            return
        self._shown_ms = now_ms
        left_s = min(max(0, -(-(found.at_ms - now_ms) // 1000)), COUNTDOWN_MOST_S)
        if self._notice.show(found.who, left_s) and not self._told:
            self._told = self._page.say("shown", found)

    def _end(self) -> None:
        if self._about is not None:
            self._notice.close()
        self._about, self._shown_ms = None, None
        self._told = self._cancelled = False


def run(
    port: int,
    notice: Notice,
    sleep: Callable[[float], Any] = time.sleep,
) -> None:
    """Look for ever; whoever ends the session ends it."""
    announcer = Announcer(Page(port), notice, lambda: time.time_ns() // 10**6)
    try:
        while True:
            sleep(announcer.step())
    finally:
        announcer.close()
