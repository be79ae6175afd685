"""Which boots of a device were heard when, and what that proves: two machines under one id.

The kernel makes a boot id at every boot, and it never comes back. So a device whose boot A is still
alive after its boot B was heard runs on two machines at once. Session numbers and store ids prove
nothing: a frozen disk (a restore card) begins from the same ones each morning.

A message proves little by itself, since it may be old: brokers hold messages back and deliver them
again, and a retained birth is as old as its connection. What can be trusted is the boot clock's
*line*: a boot began at (time of receipt) less (boot clock), the same moment in each of its messages
that came at once, and later in any that was held back. Hence:

1. A boot is *steady* once two of its messages, ``SPREAD_MS`` apart on its own clock, agree on when
   it began within ``SLACK_MS``. Messages held back and let go together do not agree: they were sent
   apart and came as one.
2. Only a message on a steady boot's line is evidence of life, and only for the moment its line
   names. A late one, and a machine brought back from a snapshot with its memory, which is behind
   its line for ever, are none.
3. A case: steady boot A, heard before B, lives more than ``TOLERANCE_MS`` after B was first heard,
   and B is steady too. B may be an old boot that was never heard before.

A clock of this centre that is set back breaks every line, which must become steady anew; one set
forward puts them behind theirs until the next boot. Either costs time, not truth. What would still
mislead: two messages of a boot, and none earlier, held back equally long, while the next boot's
overtake them. Not seen at all: two machines in turn that never run at the same time (no evidence
sets them apart from a frozen disk), and two that share one kernel.
"""

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from ketang_contract.batch import Sent

SLACK_MS = 3_000
"""How far messages of one boot may differ in when it began: the network's haste and delay."""
SPREAD_MS = 6_000
"""Over ``SLACK_MS``, so that messages that came in one bunch cannot agree; well under a minute."""
TOLERANCE_MS = 5_000
DRIFT = 2_000
"""A boot clock is off by less than one part in so many (500 ppm) against the centre's."""
MOST_BOOTS = 64
_WORTH_WRITING_MS = 30_000
_MOST_CACHED = 10_000
SCHEMA = """
CREATE TABLE IF NOT EXISTS boot (
  device TEXT, boot TEXT, no INTEGER NOT NULL, first_ms INTEGER NOT NULL, start_ms INTEGER NOT NULL,
  line_ms INTEGER NOT NULL, anchor_ms INTEGER NOT NULL, steady INTEGER NOT NULL,
  last_ms INTEGER NOT NULL, session INTEGER NOT NULL, version TEXT NOT NULL,
  PRIMARY KEY (device, boot)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clone (
  no INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, since_ms INTEGER NOT NULL,
  found_ms INTEGER NOT NULL, older TEXT NOT NULL, newer TEXT NOT NULL,
  decided_ms INTEGER, future TEXT, admitted TEXT NOT NULL, barred TEXT NOT NULL,
  decided_by TEXT NOT NULL, restate INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS clone_by_device ON clone (device);
CREATE UNIQUE INDEX IF NOT EXISTS clone_open ON clone (device) WHERE decided_ms IS NULL;
CREATE INDEX IF NOT EXISTS clone_to_restate ON clone (no) WHERE restate;
"""


class Future(StrEnum):
    """What becomes of the id once a person has told two machines apart."""

    SAME = "same"
    """One machine goes on under it: boots first heard after the decision count."""
    REVOKE = "revoke"
    """Nobody does: both machines enrol anew."""


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of a device, as far as it was heard. Moments are UTC ms by this machine's clock."""

    boot_id: str
    no: int
    """In the order in which a device's boots were first heard."""
    first_ms: int
    start_ms: int
    """When it began, by the messages that came soonest."""
    line_ms: int
    """Boot clock of the message that first said so."""
    anchor_ms: int
    """Boot clock of the newest message that agreed."""
    steady: bool
    last_ms: int
    """The latest moment at which it is known to have been alive."""
    session: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A case of two machines under one id, open or decided. Moments are UTC ms.

    Attributes:
        since_ms: when the second boot was first heard; what was received before is not in doubt.
        admitted: boots a person said count.
        barred: boots known at the decision and not admitted: they never count.
    """

    no: int
    device: str
    since_ms: int
    found_ms: int
    older: str
    newer: str
    decided_ms: int | None = None
    future: Future | None = None
    admitted: frozenset[str] = frozenset()
    barred: frozenset[str] = frozenset()
    decided_by: str = ""


def first_heard(no: int, sent: Sent, received_ms: int) -> Boot:
    """Begin a boot's line with its first message. Pure."""
    began_ms, at_ms = received_ms - sent.boottime_ms, sent.boottime_ms
    return Boot(
        boot_id=sent.boot_id,
        no=no,
        first_ms=received_ms,
        start_ms=began_ms,
        line_ms=at_ms,
        anchor_ms=at_ms,
        steady=False,
        last_ms=received_ms,
    )


def heard(boot: Boot, boottime_ms: int, received_ms: int) -> tuple[Boot, int | None]:
    """Take one more message in: the boot as known now, and a moment it was surely alive. Pure.

    Returns:
        The moment is None where the message proves none: it came late, or nothing agrees with it.
    """
    began_ms = received_ms - boottime_ms
    drift_ms = max(0, boottime_ms - boot.anchor_ms) // DRIFT
    if began_ms < boot.start_ms - SLACK_MS - drift_ms:
        # Nothing can come before it was sent: all that was heard till now had come late.
        return replace(
            boot,
            start_ms=began_ms,
            line_ms=boottime_ms,
            anchor_ms=boottime_ms,
            steady=False,
            last_ms=received_ms,
        ), None
    if began_ms > boot.start_ms + SLACK_MS + drift_ms:
        return boot, None
    alive_ms = min(began_ms, boot.start_ms) + boottime_ms - drift_ms
    now = replace(
        boot,
        start_ms=min(began_ms, boot.start_ms + drift_ms),
        anchor_ms=max(boot.anchor_ms, boottime_ms),
        steady=boot.steady or abs(boottime_ms - boot.line_ms) >= SPREAD_MS,
        last_ms=max(boot.last_ms, alive_ms),
    )
    return now, alive_ms if now.steady else None


def beside(boot: Boot, alive_ms: int, others: Iterable[Boot]) -> list[Boot]:
    """Return the boots that began before a moment at which an older one still lived. Pure."""
    return [
        one
        for one in others
        if one.no > boot.no and one.steady and alive_ms > one.first_ms + TOLERANCE_MS
    ]


def in_doubt(rulings: Iterable[Ruling], older: str, newer: str) -> bool:
    """Tell whether two boots side by side are news: nobody has ruled on them. Pure."""
    return not any(
        one.decided_ms is None
        or one.future is Future.REVOKE
        or not one.barred.isdisjoint((older, newer))
        or one.admitted >= {older, newer}
        for one in rulings
    )


def counts(rulings: Iterable[Ruling], boot_id: str, received_ms: int) -> bool:
    """Tell whether a record made in a boot and received at a moment is in the figures. Pure."""
    for one in rulings:
        if received_ms < one.since_ms:
            continue
        if one.decided_ms is None:
            return False
        later = received_ms > one.decided_ms and one.future is Future.SAME
        if boot_id not in one.admitted and (not later or boot_id in one.barred):
            return False
    return True


@dataclass(frozen=True, slots=True)
class _Known:
    """A device's boots by id, as heard and as last written."""

    boots: dict[str, Boot]
    written: dict[str, Boot]


class Sightings:
    """The boots and cases in the control database; ingest's side. Inside its transactions only.

    Boots are kept in memory: an ordinary message costs one look-up.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._fresh: list[Ruling] = []
        self._found: list[Ruling] = []

    def hear(
        self, device: str, sent: Sent, received_ms: int, session: int = 0, version: str = ""
    ) -> bool:
        """Take in the clocks of a message; True when they open a case.

        Args:
            device: who spoke.
            sent: its clocks when it made the message.
            received_ms: UTC, this machine's clock.
            session: of a birth, which tells the agent's ``version`` too.
            version: of the agent.
        """
        known = self._known(device)
        boot, alive_ms = known.boots.get(sent.boot_id), None
        if boot is None:
            last = max((one.no for one in known.boots.values()), default=0)
            boot = first_heard(last + 1, sent, received_ms)
        else:
            boot, alive_ms = heard(boot, sent.boottime_ms, received_ms)
        if session > boot.session:
            boot = replace(boot, session=session, version=version)
        known.boots[boot.boot_id] = boot
        if _is_news(known.written.get(boot.boot_id), boot):
            self._write(device, known, boot)
        if alive_ms is None:
            return False
        others = beside(boot, alive_ms, known.boots.values())
        return bool(others) and self._open(device, boot, others, received_ms)

    def settle(self) -> None:
        """The transaction is durable: what it found may be told."""
        self._found += self._fresh
        self._fresh.clear()

    def forget(self) -> None:
        """Another may have written, or a transaction came to nothing: read anew."""
        self._cache.clear()
        self._fresh.clear()

    def take_found(self) -> list[Ruling]:
        """Return the cases opened since the last call, durable already."""
        found, self._found = self._found, []
        return found

    def _known(self, device: str) -> _Known:
        known = self._cache.get(device)
        if known is None:
            boots = {one.boot_id: one for one in read_boots(self._db, device)}
            known = self._cache[device] = _Known(boots, dict(boots))
            if len(self._cache) > _MOST_CACHED:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(device)
        return known

    def _write(self, device: str, known: _Known, boot: Boot) -> None:
        known.written[boot.boot_id] = boot
        self._db.execute(
            "INSERT OR REPLACE INTO boot VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                device,
                boot.boot_id,
                boot.no,
                boot.first_ms,
                boot.start_ms,
                boot.line_ms,
                boot.anchor_ms,
                boot.steady,
                boot.last_ms,
                boot.session,
                boot.version,
            ),
        )
        if len(known.boots) > MOST_BOOTS:
            others = (one for one in known.boots.values() if one is not boot)
            oldest = min(others, key=lambda one: (one.last_ms, one.no)).boot_id
            del known.boots[oldest], known.written[oldest]
            self._db.execute("DELETE FROM boot WHERE device = ? AND boot = ?", (device, oldest))

    def _open(self, device: str, older: Boot, others: list[Boot], now_ms: int) -> bool:
        rulings = read_rulings(self._db, device)
        news = [one for one in others if in_doubt(rulings, older.boot_id, one.boot_id)]
        if not news:
            return False
        newer = min(news, key=lambda one: one.no)
        made = self._db.execute(
            "INSERT INTO clone (device, since_ms, found_ms, older, newer, admitted, barred,"
            " decided_by, restate) VALUES (?, ?, ?, ?, ?, '[]', '[]', '', 1)",
            (device, newer.first_ms, now_ms, older.boot_id, newer.boot_id),
        )
        no = int(made.lastrowid or 0)
        self._fresh.append(Ruling(no, device, newer.first_ms, now_ms, older.boot_id, newer.boot_id))
        return True


def _is_news(written: Boot | None, boot: Boot) -> bool:
    """Tell whether a boot is worth a write: its last moment alone may lag a little."""
    return written is None or (
        (boot.steady, boot.line_ms, boot.session)
        != (written.steady, written.line_ms, written.session)
        or boot.last_ms - written.last_ms > _WORTH_WRITING_MS
    )


def read_boots(db: sqlite3.Connection, device: str) -> list[Boot]:
    """Return a device's boots in the order in which they were first heard."""
    return [
        Boot(*(*row[:6], bool(row[6]), *row[7:]))
        for row in db.execute(
            "SELECT boot, no, first_ms, start_ms, line_ms, anchor_ms, steady, last_ms, session,"
            " version FROM boot WHERE device = ? ORDER BY no",
            (device,),
        )
    ]


_RULINGS = (
    "SELECT no, device, since_ms, found_ms, older, newer, decided_ms, future, admitted, barred,"
    " decided_by FROM clone"
)


def read_rulings(db: sqlite3.Connection, device: str | None = None) -> list[Ruling]:
    """Return the cases of a device, or of all, oldest first."""
    where, named = ("", ()) if device is None else (" WHERE device = ?", (device,))
    return [
        Ruling(
            no=no,
            device=name,
            since_ms=since_ms,
            found_ms=found_ms,
            older=older,
            newer=newer,
            decided_ms=decided_ms,
            future=Future(future) if future else None,
            admitted=frozenset(json.loads(admitted)),
            barred=frozenset(json.loads(barred)),
            decided_by=by,
        )
        for (
            no,
            name,
            since_ms,
            found_ms,
            older,
            newer,
            decided_ms,
            future,
            admitted,
            barred,
            by,
        ) in db.execute(f"{_RULINGS}{where} ORDER BY no", named)
    ]
