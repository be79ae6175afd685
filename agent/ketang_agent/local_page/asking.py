"""What a command asks of the people in the room: to let a shutdown pass, to agree to diagnostics.

Plain HTML without a script: while a shutdown counts down the page comes anew by itself, with the
button to cancel in focus each time, so that Enter alone is enough.
"""

import time
from dataclasses import asdict
from html import escape
from typing import Any

from ketang_agent import diagnostics
from ketang_agent.local_page.words import WORDS
from ketang_agent.remote.commands_room import Asking, Leaving

RELOAD_S = 5


def countdown(leaving: Leaving | None, lang: str, token: str, now_ms: int) -> str:
    """Return the banner of a shutdown that counts down; empty where there is none.

    Args:
        leaving: what is shown.
        lang: ``zh`` or ``en``.
        token: of this start's page.
        now_ms: wall time.
    """
    if leaving is None:
        return ""
    minutes, seconds = divmod(max(0, leaving.at_ms - now_ms + 999) // 1000, 60)
    at = time.strftime("%H:%M:%S", time.localtime(leaving.at_ms / 1000))
    left = _say(lang, "leaving_in", minutes=minutes, seconds=seconds, who=leaving.who)
    return (
        f'<section class="alarm" role="alert"><h2>{_say(lang, "leaving", at=at)}</h2><p>{left}</p>'
        f"{_button('/cancel', 'leaving_cancel', lang, token, leaving.job, focus=True)}</section>"
    )


def announcement(leaving: Leaving | None, token: str) -> dict[str, Any]:
    """Return the countdown for the notices of desktop sessions (``session_notice``), for JSON.

    The token stands in the page as well: another site may read neither.
    """
    return {"leaving": None if leaving is None else asdict(leaving), "token": token}


def invitation(asking: Asking | None, lang: str) -> str:
    """Return the notice that diagnostics are asked for; empty where they are not."""
    if asking is None:
        return ""
    return (
        f'<section class="alarm"><h2>{_say(lang, "asking")}</h2><p>{_lead(asking, lang)}</p>'
        f'<p><a href="/diagnostics?lang={lang}">{_say(lang, "asking_look")}</a></p></section>'
    )


def archive(asking: Asking, lang: str, token: str) -> str:
    """Return all of an archive, letter for letter, and the two buttons."""
    back = f'<p><a href="/?lang={lang}">{_say(lang, "back")}</a></p>'
    try:
        files = diagnostics.read(asking.archive)
    except OSError:
        return f"{back}<p>{_say(lang, 'asking_unreadable')}</p>"
    shown = "".join(
        f'<h3>{escape(name)}</h3><pre tabindex="0">{escape(text)}</pre>'
        for name, text in files.items()
    )
    buttons = "".join(
        _button(path, key, lang, token, asking.job, sha256=asking.sha256, kind=kind)
        for path, key, kind in (
            ("/agree", "asking_agree", "main"),
            ("/decline", "asking_decline", "plain"),
        )
    )
    return (
        f"{back}<section><h2>{_say(lang, 'asking')}</h2><p>{_lead(asking, lang)}</p>"
        f"<p>{_say(lang, 'asking_whole')}</p>{shown}{buttons}</section>"
    )


def _lead(asking: Asking, lang: str) -> str:
    until = time.strftime("%H:%M:%S", time.localtime(asking.until_ms / 1000))
    return _say(lang, "asking_lead", who=asking.who, until=until)


def _say(lang: str, key: str, **values: object) -> str:
    text = WORDS[lang][key]
    return escape(text.format(**values) if values else text)


def _button(
    path: str,
    key: str,
    lang: str,
    token: str,
    job: str,
    *,
    sha256: str = "",
    kind: str = "main",
    focus: bool = False,
) -> str:
    hidden = {"token": token, "job": job, **({"sha256": sha256} if sha256 else {})}
    fields = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in hidden.items()
    )
    return (
        f'<form method="post" action="{path}?lang={lang}">{fields}'
        f'<button class="{kind}"{" autofocus" if focus else ""}>{_say(lang, key)}</button></form>'
    )
