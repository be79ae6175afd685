"""Two histories of one enrolment book become one: by what their lines say, never by their numbers.

A book that was put back from a backup may have gone on before anybody noticed, and has given the
numbers of the lost lines to others. So each line is merged: a bar, a revocation and a withdrawal
stand for ever, a code was used as often as either says, a certificate that was given out is known.
Only an asset has a later and an earlier state, and there the order of the lines counts.
"""

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ketang_center.enrolment.rows import Line, Rows
from ketang_center.enrolment.values import Asset, Certificate, Code, Revocation, Withdrawal

log = logging.getLogger("ketang.enrolment")

PUT_BACK = "put_back"
"""Mark: lines came back, and what belongs to that (``settle``, a new epoch) is not done yet."""
CAME, STOPPED = 1, 2
"""Its values: just so, or what would have gone on by itself has been stopped meanwhile."""

_CHANGES = {
    Revocation: "NOTHING",
    Withdrawal: "NOTHING",
    Code: "UPDATE SET used = max(used, excluded.used),"
    " withdrawn = max(withdrawn, excluded.withdrawn)",
    Certificate: "UPDATE SET revoked_ms = coalesce(revoked_ms, excluded.revoked_ms)",
    Asset: "UPDATE SET device = excluded.device, room = excluded.room, kind = excluded.kind,"
    " serial = excluded.serial, claimed_ms = excluded.claimed_ms",
}


def is_bar(line: Line) -> bool:
    """Tell whether a line takes back what was allowed: a device, a filing, a camera grant.

    Raises:
        BadInput: it is none of ours.
    """
    return isinstance(Rows.value_of(line[1]), Revocation | Withdrawal)


def take_in(rows: Rows, lines: Sequence[Line]) -> None:
    """Merge lines that the book does not know, in their order; all of them or none.

    Raises:
        BadInput: a line is none of ours.
    """
    if not lines:
        return
    with rows.transaction():
        rows.set_mark(PUT_BACK, CAME)
        for one in lines:
            _merge(rows, Rows.value_of(one[1]))
            rows.keep_line(one)


def settle(rows: Rows, ours: Iterable[int]) -> None:
    """Finish a merge: what we wrote ourselves is the later history, and a bar revokes everything.

    Args:
        rows: the book.
        ours: numbers of our own lines that the other history lacks.
    """
    with rows.transaction():
        for no in ours:
            body = rows.line(no)
            if body is not None:
                _merge(rows, Rows.value_of(body))
        barred = {one.device: one.at_ms for one in rows.read(Revocation, "")}
        where = "WHERE revoked_ms IS NULL AND device IN (SELECT device FROM barred)"
        for made in rows.read(Certificate, where):
            rows.put(replace(made, revoked_ms=barred[made.device]))


def _merge(rows: Rows, value: object) -> None:
    if isinstance(value, Asset):
        held = rows.read(Asset, "WHERE school = ? AND asset = ?", value.school, value.asset)
        if held:
            value = _later(rows, held[0], value)
    try:
        rows.merge(value, _CHANGES[type(value)])
    except sqlite3.IntegrityError:
        # Two assets under one device id: nobody can tell which; a person sees it in the list.
        log.error("restore.taken value=%s", value)  # noqa: TRY400


def _later(rows: Rows, held: Asset, found: Asset) -> Asset:
    """Choose of two states of an asset; ``found`` comes later, as far as the order tells."""
    if held.device == found.device:
        return replace(
            found, claimed_ms=held.claimed_ms if found.claimed_ms is None else found.claimed_ms
        )
    return held if _is_barred(rows, found) and not _is_barred(rows, held) else found


def _is_barred(rows: Rows, asset: Asset) -> bool:
    return bool(rows.number("SELECT count(*) FROM barred WHERE device = ?", asset.device))
