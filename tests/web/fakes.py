"""A reading side in memory, which keeps the words of ``store.base.Reading``."""

from collections.abc import Iterable, Sequence

from ketang_center.store.base import Account, Change, Dirty, Presence, StoredRow
from ketang_contract.records import Body, Record, TimeQuality

BOOT = "boot-1"


def row(device, at_ms, body: Body, *, booted_ms=None, suspect=False, subject=None) -> StoredRow:
    booted_ms = at_ms - 3_600_000 if booted_ms is None else booted_ms
    record = Record(
        subject=subject or device,
        wall_ms=at_ms,
        boot_id=BOOT,
        boottime_ms=at_ms - booted_ms,
        time=TimeQuality.SYNCED,
        body=body,
    )
    return StoredRow(record, at_ms, at_ms + 1000, suspect)


class FakeReading:
    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, int], list[StoredRow]] = {}
        self.marks: dict[tuple[str, str, int], int] = {}
        self.mark = 0
        self.present: dict[str, Presence] = {}
        self.feed: list[Change] = []
        self.listening = 0
        self.cloned: set[str] = set()
        self.ledgers: list[Account] = []

    def copy(self) -> "FakeReading":
        """Give another one with the same rows, which are values."""
        made = FakeReading()
        made.rows = {key: list(rows) for key, rows in self.rows.items()}
        made.marks, made.mark = dict(self.marks), self.mark
        made.present, made.feed = dict(self.present), list(self.feed)
        made.listening, made.cloned = self.listening, set(self.cloned)
        made.ledgers = list(self.ledgers)
        return made

    def add(self, device: str, *rows: StoredRow) -> None:
        for one in rows:
            key = (device, one.record.subject, one.true_ms // 3_600_000)
            self.rows.setdefault(key, []).append(one)
            self.mark += 1
            self.marks[key] = self.mark

    def set_presence(self, presence: Presence, what: str = "connection") -> None:
        self.present[presence.device] = presence
        self.feed.append(Change(len(self.feed) + 1, presence.device, what, presence.since_ms))

    def take_dirty(self, limit: int) -> list[Dirty]:
        waiting = sorted(self.marks.items(), key=lambda one: one[1])[:limit]
        return [Dirty(*key, mark) for key, mark in waiting]

    def clear_dirty(self, done: Iterable[Dirty]) -> None:
        for one in done:
            key = (one.device, one.subject, one.hour)
            if self.marks.get(key) == one.mark:
                del self.marks[key]

    def bucket(self, device: str, subject: str, hour: int) -> list[StoredRow]:
        return sorted(self.rows.get((device, subject, hour), []), key=lambda one: one.true_ms)

    def presence(self, devices: Sequence[str] | None = None) -> list[Presence]:
        return [one for key, one in self.present.items() if devices is None or key in devices]

    def doubted(self) -> frozenset[str]:
        return frozenset(self.cloned)

    def listening_ms(self) -> int:
        return self.listening

    def changes(self, after: int, limit: int = 500) -> list[Change]:
        return [one for one in self.feed if one.no > after][:limit]

    def accounts(self, devices: Sequence[str] | None = None) -> list[Account]:
        return [one for one in self.ledgers if devices is None or one.device in devices]
