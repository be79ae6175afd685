"""The page itself: a status and a visitor in, HTML out. Pure; every text from outside is escaped.

Loaded only when somebody asks, so that a device nobody looks at pays nothing for it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ketang_agent.judged import NOTHING, Judged
from ketang_agent.local_page import asking
from ketang_agent.local_page.ledger import SentLine
from ketang_agent.local_page.purposes import EVERY, FIELDS, TITLES, WHY, Both
from ketang_agent.local_page.visitor import Visitor
from ketang_agent.local_page.words import DROPPED, FAULTS, HTML_LANG, WORDS
from ketang_agent.remote.commands_room import Asking, Leaving
from ketang_agent.status import CollectorStatus, Status
from ketang_contract.records import Stream
from ketang_contract.state import Camera, ConfigState

PAGE_LINES = 200
FIRST_LINES = 20
_MINUTE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one page is made of. ``lines`` None: they may not be seen, or cannot be read now."""

    status: Status
    visitor: Visitor
    lang: str
    token: str
    stopped: bool
    lines: Sequence[SentLine] | None
    readable: bool = True
    skip: int = 0
    leaving: Leaving | None = None
    asking: Asking | None = None
    judged: Judged = NOTHING

    def say(self, key: str, **values: object) -> str:
        """One of the page's own texts, escaped, with escaped values in it."""
        text = WORDS[self.lang][key]
        return escape(text.format(**values) if values else text)

    def pick(self, both: Both) -> str:
        """One of the texts about fields."""
        return escape(both.zh if self.lang == "zh" else both.en)


def front(view: View) -> str:
    """Return the first page."""
    parts = (
        asking.countdown(view.leaving, view.lang, view.token, view.status.now_ms),
        asking.invitation(view.asking, view.lang),
        f'<p class="lead">{view.say("lead")}</p>',
        _now(view),
        _people(view),
        _sent(view),
        _totals(view),
        _collected(view),
        _contact(view),
    )
    reload_s = asking.RELOAD_S if view.leaving else 0
    return frame(view.lang, "".join(parts), path="/", reload_s=reload_s)


def records(view: View) -> str:
    """Return the page of the records themselves, newest first."""
    turn = []
    if view.skip:
        turn.append(_turn(view, "newer", max(0, view.skip - PAGE_LINES)))
    if view.lines is not None and len(view.lines) == PAGE_LINES:
        turn.append(_turn(view, "older", view.skip + PAGE_LINES))
    body = (
        f'<p><a href="/?lang={view.lang}">{view.say("back")}</a></p>'
        f"<section><h2>{view.say('sent')}</h2><p>{_whose(view)}</p>{_lines(view)}"
        f'<p class="turn">{" ".join(turn)}</p></section>'
    )
    return frame(view.lang, body, path="/sent")


def diagnostics(asked: Asking | None, lang: str, token: str) -> str:
    """Return the page that shows all that would be sent; empty where nothing is asked for."""
    body = asking.archive(asked, lang, token) if asked else ""
    return frame(lang, body, path="/diagnostics") if body else ""


def notice(lang: str, key: str) -> str:
    """Return a page of one sentence."""
    words = WORDS[lang]
    back = f'<p><a href="/?lang={lang}">{escape(words["back"])}</a></p>'
    return frame(lang, f'<p class="lead">{escape(words[key])}</p>{back}', path="/")


def frame(lang: str, body: str, *, path: str, reload_s: int = 0) -> str:
    """Put a page around its content; ``reload_s`` above 0: it comes anew by itself, so often."""
    words = WORDS[lang]
    reload = f'<meta http-equiv="refresh" content="{reload_s}">' if reload_s else ""
    other = "en" if lang == "zh" else "zh"
    return (
        f'<!doctype html><html lang="{HTML_LANG[lang]}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{reload}<title>{escape(words['title'])}</title>"
        '<link rel="stylesheet" href="/page.css"><link rel="icon" href="data:,"></head><body>'
        f'<a class="skip" href="#content">{escape(words["skip"])}</a>'
        f"<header><h1>{escape(words['title'])}</h1>"
        f'<nav><a href="{path}?lang={other}" lang="{HTML_LANG[other]}" hreflang="{other}">'
        f"{escape(words['other'])}</a></nav></header>"
        f'<main id="content" tabindex="-1">{body}</main></body></html>'
    )


def _now(view: View) -> str:
    status, uplink, say = view.status, view.status.uplink, view.say
    if uplink.connected:
        kind, line = "good", say("connected", broker=uplink.broker, since=_at(uplink.since_ms))
    elif uplink.since_ms is None:
        kind, line = "bad", say("never_connected", broker=uplink.broker)
    else:
        since = _at(uplink.since_ms)
        kind, line = "bad", say("not_connected", broker=uplink.broker, since=since)
    acked = _at(uplink.acked_at_ms) if uplink.acked_at_ms else say("acked_none")
    waiting = say("records", n=status.waiting) if status.waiting else say("waiting_none")
    closes_ms = status.now_ms + status.window_ends_in_s * 1000
    facts = (
        ("waiting", waiting),
        ("window", say("window_says", at=_clock(closes_ms + 1000))),
        ("acked", acked),
        ("faults", _faults(view)),
        ("hours", say(f"hours_{status.hours}")),
        ("brought", _brought(view)),
        (
            "buffer",
            say(
                "buffer_says",
                used=_size(status.spool.used_bytes),
                cap=_size(status.spool.cap_bytes),
            ),
        ),
        ("clock", say(f"clock_{_clock_word(status)}")),
        ("device", f'<span class="id">{escape(status.device)}</span>'),
        ("running", f"{_at(status.started_ms)} · {say('version')} {escape(status.agent_version)}"),
    )
    rows = "".join(f"<div><dt>{say(key)}</dt><dd>{text}</dd></div>" for key, text in facts)
    return (
        f'<section><h2>{say("now")}</h2><p class="state {kind}">{line}</p><dl>{rows}</dl>'
        f'<p class="quiet">{say("as_of", at=_clock(status.now_ms, seconds=True))}</p></section>'
    )


def _clock_word(status: Status) -> str:
    return status.time.value if status.time.value in {"free", "bad"} else "synced"


def _faults(view: View) -> str:
    if not view.status.faults:
        return view.say("faults_none")
    at = 0 if view.lang == "zh" else 1
    lines = (f"<li>{escape(FAULTS[one][at])}</li>" for one in view.status.faults)
    return f'<ul class="bad">{"".join(lines)}</ul>'


def _brought(view: View) -> str:
    """Say what became of what the centre brought, with what no report tells it."""
    config, say = view.status.config, view.say
    text = say(f"brought_{config.state}")
    if config.reason and config.state in {ConfigState.REJECTED, ConfigState.ROLLED_BACK}:
        text += f" <code>{escape(config.reason)}</code>"
    if view.judged.detail:
        text += f'<p class="quiet">{escape(view.judged.detail)}</p>'
    lines = "".join(
        f"<li><code>{escape(digest[:12])}</code> {_dropped(view, reason)}</li>"
        for digest, reason in view.judged.dropped
    )
    return text + (f'<p>{say("dropped")}</p><ul class="bad">{lines}</ul>' if lines else "")


def _dropped(view: View, reason: str) -> str:
    both = DROPPED.get(reason)
    return escape(both[0 if view.lang == "zh" else 1] if both else reason)


def _people(view: View) -> str:
    say = view.say
    switch = say("switch_off")
    in_use = view.status.camera is not Camera.OFF
    if not view.stopped:
        switch = say("switch_on" if in_use else "switch_unused")
        act = _button(view, "/stop", "stop", "main" if in_use else "plain")
        act += f'<p class="quiet">{say("stop_note")}</p>'
    elif view.visitor.administrator:
        act = _button(view, "/allow", "start", "plain")
    else:
        act = f'<p class="quiet">{say("start_no")}</p>'
    camera = "" if view.stopped else f"<p>{say(f'camera_{view.status.camera}')}</p>"
    return f"<section><h2>{say('people')}</h2>{camera}<p>{switch}</p>{act}</section>"


def _button(view: View, action: str, key: str, kind: str) -> str:
    return (
        f'<form method="post" action="{action}?lang={view.lang}">'
        f'<input type="hidden" name="token" value="{escape(view.token)}">'
        f'<button class="{kind}">{view.say(key)}</button></form>'
    )


def _sent(view: View) -> str:
    more = ""
    if view.lines:
        more = f'<p><a href="/sent?lang={view.lang}">{view.say("sent_all")}</a></p>'
    return (
        f"<section><h2>{view.say('sent')}</h2><p>{_whose(view)}</p>{_lines(view)}{more}</section>"
    )


def _whose(view: View) -> str:
    if view.visitor.administrator:
        return view.say("sent_admin")
    if view.visitor.since_ms is None:
        return view.say("sent_nobody")
    return view.say("sent_own", since=_at(view.visitor.since_ms))


def _lines(view: View) -> str:
    if not view.readable:
        return f"<p>{view.say('unreadable')}</p>"
    if view.lines is None:
        return ""
    if not view.lines:
        return f"<p>{view.say('sent_none')}</p>"
    rows = "".join(
        f"<tr><td>{_at(one.acked_ms)}</td><td>{_title(view, one.line)}</td>"
        f"<td><code>{escape(one.line)}</code></td></tr>"
        for one in view.lines
    )
    heads = "".join(
        f'<th scope="col">{view.say(key)}</th>' for key in ("sent_at", "sent_what", "sent_line")
    )
    return (
        f"<p>{view.say('sent_some', n=len(view.lines))}</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{view.say("sent_line")}">'
        f'<table class="lines"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _title(view: View, line: str) -> str:
    """Say in words what kind of record a line is; what is not ours says nothing."""
    try:
        return view.pick(TITLES[json.loads(line)["body"]["kind"]])
    except (ValueError, LookupError, TypeError):
        return "?"


def _turn(view: View, key: str, skip: int) -> str:
    return f'<a href="/sent?lang={view.lang}&amp;skip={skip}">{view.say(key)}</a>'


def _totals(view: View) -> str:
    lost = dict.fromkeys(Stream, 0)
    for loss in view.status.spool.losses:
        lost[loss.stream] += loss.records
    rows = []
    for stream in Stream:
        lanes = [lane for lane in view.status.spool.lanes if lane.stream == stream]
        made = sum(lane.head for lane in lanes)
        acked, waiting = sum(lane.acked for lane in lanes), sum(lane.pending for lane in lanes)
        numbers = "".join(
            f'<td class="num">{n:,}</td>' for n in (made, acked, waiting, lost[stream])
        )
        rows.append(f'<tr><th scope="row">{view.say(f"s_{stream}")}</th>{numbers}</tr>')
    heads = "".join(
        f'<th scope="col" class="num">{view.say(key)}</th>'
        for key in ("t_made", "t_acked", "t_waiting", "t_lost")
    )
    why = "".join(
        f"<li>{view.say(f's_{one.stream}')}: {view.say(f'l_{one.reason}')} ({one.records:,})</li>"
        for one in view.status.spool.losses
    )
    reasons = f"<h3>{view.say('losses')}</h3><ul>{why}</ul>" if why else ""
    return (
        f'<section><h2>{view.say("totals")}</h2><div class="scroll"><table><thead><tr>'
        f'<th scope="col">{view.say("totals_of")}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{reasons}</section>"
    )


def _collected(view: View) -> str:
    by_name = {one.name: one for one in view.status.collectors}
    kinds = "".join(_kind(view, kind, by_name.get(kind)) for kind in FIELDS)
    every = _fields(view, EVERY)
    return (
        f"<section><h2>{view.say('collected')}</h2><p>{view.say('collected_lead')}</p>"
        f"{kinds}<details><summary>{view.say('every')}</summary>{every}</details></section>"
    )


def _kind(view: View, kind: str, collector: CollectorStatus | None) -> str:
    return (
        f"<details><summary><b>{view.pick(TITLES[kind])}</b> "
        f'<span class="quiet">{_how_often(view, kind, collector)}</span></summary>'
        f"<p>{view.pick(WHY[kind])}</p>{_fields(view, FIELDS[kind])}</details>"
    )


def _how_often(view: View, kind: str, collector: CollectorStatus | None) -> str:
    if kind == "event":
        return ""
    if collector is None:
        return view.say("not_here")
    seconds = collector.interval_s
    if seconds < 2 * _MINUTE_S:
        often = view.say("every_s", n=seconds)
    else:
        often = view.say("every_min", n=seconds // _MINUTE_S)
    return f"{often} · {view.say(f'r_{collector.result}')}"


def _fields(view: View, fields: Mapping[str, Both]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><code>{name}</code></th><td>{view.pick(both)}</td></tr>'
        for name, both in fields.items()
    )
    heads = "".join(f'<th scope="col">{view.say(key)}</th>' for key in ("field", "purpose"))
    return f'<table class="fields"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _contact(view: View) -> str:
    who = view.status.contact
    text = view.say("contact_is", who=who) if who else view.say("contact_none")
    return f"<section><h2>{view.say('contact')}</h2><p>{text}</p></section>"


def _at(wall_ms: int | None) -> str:
    if wall_ms is None:
        return "–"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(wall_ms / 1000))


def _clock(wall_ms: int, *, seconds: bool = False) -> str:
    return time.strftime("%H:%M:%S" if seconds else "%H:%M", time.localtime(wall_ms / 1000))


def _size(size_bytes: int) -> str:
    if size_bytes < 1 << 20:
        return f"{size_bytes / (1 << 10):.0f} KB"
    return f"{size_bytes / (1 << 20):.0f} MB"


__all__ = [
    "FIRST_LINES",
    "PAGE_LINES",
    "View",
    "diagnostics",
    "frame",
    "front",
    "notice",
    "records",
]
