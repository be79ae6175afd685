"""The devices of a rollout as a table for a spreadsheet."""

import csv
import io
from pathlib import Path

from ketang_center.access.scope import Scope
from ketang_center.registry.database import Registry
from ketang_center.registry.tree import Tree
from ketang_center.rollout_views import RolloutViews, Row
from ketang_center.rollouts.book import Rollout, RolloutBook
from ketang_center.rollouts.office import BOOK
from ketang_center.rollouts.plan import State
from ketang_center.web import rollout_words, shape
from ketang_center.web.text import Words

MOST_ROWS = 1_000_000
_COLUMNS = ("device", "school", "room", "kind", "group", "state", "reason", "attempt", "sent", "at")


def written(
    folder: Path, scope: Scope, found: Rollout, state: State | None, t: Words, now_ms: int
) -> str:
    """Write every device of a rollout in a viewer's part, one state's or all.

    With connections of its own: not for the event loop's thread.
    """
    made = io.StringIO()
    write = csv.writer(made).writerow
    write(t(f"rollout.column_{one}") for one in _COLUMNS)
    with Registry(folder / "registry.db") as registry, RolloutBook(folder / BOOK) as book:
        tree, views = registry.tree(), RolloutViews(book, registry, scope, now_ms)
        for row in views.rows(found, None, state, MOST_ROWS):
            write(map(_cell, _row(row, t, tree)))
    return made.getvalue()


def _row(row: Row, t: Words, tree: Tree) -> list[str]:
    one = row.member

    def named(unit: str) -> str:
        return tree[unit].name(t.lang) if unit in tree else unit

    return [
        one.device,
        named(row.school),
        named(row.room),
        t.by_key.get(f"kind.{one.kind}", one.kind),
        str(one.group or ""),
        t(f"member_state.{one.state.value}"),
        rollout_words.reason(one.reason, t),
        str(one.attempt + 1) if one.sent_ms else "",
        "" if row.personal or not one.sent_ms else shape.stamp(one.sent_ms),
        "" if row.personal or not one.updated_ms else shape.stamp(one.updated_ms),
    ]


def _cell(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
