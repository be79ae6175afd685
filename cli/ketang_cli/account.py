"""The demo's outside account: what the devices' own files say against what the centre's files hold.

Read after everything has stopped, from both ends' files and by nobody's word: numbers given out on
the devices, rows at the centre, and for each number what became of it.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_center.store.control import Control
from ketang_center.store.partitions import Key
from ketang_cli.stage_release import Progress
from ketang_contract.ranges import RangeSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Records of all devices. ``lost`` should be nothing, and so should ``twice``."""

    created: int
    stored: int
    waiting: int
    """On the device's disk, not at the centre yet."""
    dropped: int
    """Given up by a device whose disk was full, and told so."""
    twice: int
    strange: int
    """Rows at the centre that no device made."""

    @property
    def lost(self) -> int:
        """Made, and neither stored, waiting nor told as given up."""
        return self.created - self.stored - self.waiting - self.dropped

    @property
    def holds(self) -> bool:
        """Whether every record made is stored exactly once."""
        return self.created == self.stored and not (self.twice or self.strange)


def balance(spools: Iterable[Path], center: Path) -> Balance:
    """Compare the devices' spool files (named by their folder) with the centre's folder."""
    rows = _rows(center)
    created = stored = waiting = dropped = 0
    with closing(Control(center / "control.db")) as control:
        for device, lane, head, pending in _lanes(spools):
            held = rows.get((device, lane.store_id, lane.stream), Counter())
            numbers = RangeSet.of_numbers(held) & RangeSet.span(1, head)
            ledger = control.ledger(Key(device, lane.store_id, lane.stream))
            created += head
            stored += len(numbers)
            waiting += len(pending - numbers)
            dropped += len(ledger.dropped - numbers)
    return Balance(
        created=created,
        stored=stored,
        waiting=waiting,
        dropped=dropped,
        twice=sum(held.total() - len(held) for held in rows.values()),
        strange=sum(len(held) for held in rows.values()) - stored,
    )


def _lanes(spools: Iterable[Path]) -> Iterator[tuple[str, Lane, int, RangeSet]]:
    for path in spools:
        with Spool(path) as spool:
            for lane in spool.lanes():
                yield path.parent.name, lane, spool.head(lane), spool.pending(lane)


def _rows(center: Path) -> dict[tuple[str, str, str], Counter[int]]:
    """Count the centre's rows by number, for each device, store and stream, over all day files."""
    found: dict[tuple[str, str, str], Counter[int]] = {}
    for path in sorted(center.glob("rows-*.db")):
        with closing(sqlite3.connect(path)) as db:
            for device, store, stream, seq in db.execute(
                "SELECT device, store, stream, seq FROM row"
            ):
                found.setdefault((device, store, stream), Counter())[seq] += 1
    return found


def as_json(
    one: Balance, duplicates_absorbed: int, first_publish_s: float | None, release: Progress
) -> str:
    """Write the balance as the demo prints it, and how far its first release came."""
    return json.dumps(
        {
            "created": one.created,
            "stored": one.stored,
            "duplicates_absorbed": duplicates_absorbed,
            "lost": one.lost,
            "waiting": one.waiting,
            "dropped": one.dropped,
            "twice": one.twice,
            "first_publish_s": first_publish_s,
            "release_on_this_machine": release.own,
            "release_committed": release.committed,
        }
    )
