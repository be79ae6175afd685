"""Two machines under one device id: what a person sees of them, and what a person decides.

Ingest finds the cases (``store.sightings``). While one is open, and for boots that were not
admitted when it was decided, what the device sent stays stored, accounted for, and out of every
figure.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ketang_center.store.reading import RowOf, StoreReader
from ketang_center.store.sightings import Boot, Future, Ruling
from ketang_contract import validate
from ketang_contract.errors import BadInput
from ketang_contract.records import Inventory

_INVENTORY = b'"inventory"'


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSeen:
    """One boot of a device in a case. Times are UTC ms; 0 or empty: nobody told.

    Attributes:
        first_ms: when it was first heard; of a boot never heard itself, when a record of it came.
        last_ms: the latest moment at which it is known to have been alive, or a record came.
        records: made in it, received since the case began and still kept.
        session: the last number of a connection.
        version: of the agent.
        model: vendor and model by its last inventory record.
        counts: what was decided; None while the case is open.
    """

    boot_id: str
    first_ms: int
    last_ms: int
    records: int
    session: int = 0
    version: str = ""
    model: str = ""
    counts: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One device that turned out to be two machines. Times are UTC ms.

    Attributes:
        since_ms: when the second machine was first heard.
        decided_ms: None while it is open.
        verdict: what became of the id.
        older: the boot that was heard first and went on living beside ``newer``.
        boots: those that spoke, or whose records came, since the case began.
    """

    device: str
    since_ms: int
    found_ms: int
    decided_ms: int | None
    verdict: Future | None
    by: str
    older: str
    newer: str
    boots: tuple[BootSeen, ...]


def cases(
    reading: StoreReader, devices: Collection[str] | None = None, *, only_open: bool = False
) -> list[Case]:
    """Return the cases of these devices, or all, the latest first.

    Reads every row kept of their devices: slow.
    """
    rulings = [
        one
        for one in reading.rulings()
        if (not only_open or one.decided_ms is None) and (devices is None or one.device in devices)
    ]
    told = {device: _Told(reading.rows_of(device)) for device in {one.device for one in rulings}}
    return [
        _case(one, reading.boots(one.device), told[one.device])
        for one in sorted(rulings, key=lambda one: -one.no)
    ]


def undecided(reading: StoreReader, device: str, admitted: Collection[str]) -> Case:
    """Return the open case of a device, which has these boots.

    Raises:
        BadInput: there is no open case of the device, or it has no such boot.
    """
    open_case = next(iter(cases(reading, [device], only_open=True)), None)
    if open_case is None:
        raise BadInput(f"device {device!r}: no case waits for a decision")
    strange = sorted(set(admitted) - _known(reading, open_case))
    if strange:
        listed = ", ".join(one.boot_id for one in open_case.boots)
        raise BadInput(f"device {device!r} has no boot {strange[0]!r}: it has {listed}")
    return open_case


def _known(reading: StoreReader, case: Case) -> set[str]:
    heard = {one.boot_id for one in reading.boots(case.device)}
    return heard | {one.boot_id for one in case.boots}


def decide(
    reading: StoreReader,
    device: str,
    admitted: Collection[str],
    future: Future,
    *,
    by: str,
    now_ms: int,
) -> Case:
    """Say which boots of an open case count: theirs do from now on, the others' never.

    The buckets they touch are computed anew. Of the id itself this decides only whether boots not
    heard yet will count; to revoke its certificates is the caller's.

    Returns:
        The case as decided.

    Raises:
        BadInput: there is no open case of the device, or it has no such boot.
    """
    known = _known(reading, undecided(reading, device, admitted))
    control = reading.control
    with control.transaction():
        done = control.db.execute(
            "UPDATE clone SET decided_ms = ?, future = ?, admitted = ?, barred = ?,"
            " decided_by = ?, restate = 1 WHERE device = ? AND decided_ms IS NULL",
            (
                now_ms,
                future,
                json.dumps(sorted(admitted)),
                json.dumps(sorted(known - set(admitted))),
                by,
                device,
            ),
        )
        if not done.rowcount:
            raise BadInput(f"device {device!r}: another person decided meanwhile")
        control.note_change(device, "clone", now_ms)
    return cases(reading, [device])[0]


class _Told:
    """What a device's rows say of its boots."""

    def __init__(self, rows: Iterable[RowOf]) -> None:
        self.rows: list[tuple[str, int]] = []
        self.models: dict[str, tuple[int, str]] = {}
        for row in rows:
            boot_id = str(json.loads(row.line)["boot_id"])
            self.rows.append((boot_id, row.received_ms))
            if _INVENTORY in row.line:
                self._note_model(boot_id, row)

    def _note_model(self, boot_id: str, row: RowOf) -> None:
        body = validate.record(row.line).body
        if isinstance(body, Inventory) and row.true_ms >= self.models.get(boot_id, (0, ""))[0]:
            self.models[boot_id] = row.true_ms, f"{body.vendor} {body.model}".strip()


def _case(ruling: Ruling, boots: Iterable[Boot], told: _Told) -> Case:
    came = [(boot_id, at_ms) for boot_id, at_ms in told.rows if at_ms >= ruling.since_ms]
    records = Counter(boot_id for boot_id, _ in came)
    heard = {one.boot_id: one for one in boots if one.last_ms >= ruling.since_ms}
    spans: dict[str, tuple[int, int]] = {}
    for boot_id, at_ms in came:
        first_ms, last_ms = spans.get(boot_id, (at_ms, at_ms))
        spans[boot_id] = min(first_ms, at_ms), max(last_ms, at_ms)
    for one in heard.values():
        spans[one.boot_id] = one.first_ms, one.last_ms
    if ruling.decided_ms is not None:  # what came later is no part of it
        judged = ruling.admitted | ruling.barred
        spans = {boot_id: span for boot_id, span in spans.items() if boot_id in judged}
    return Case(
        device=ruling.device,
        since_ms=ruling.since_ms,
        found_ms=ruling.found_ms,
        decided_ms=ruling.decided_ms,
        verdict=ruling.future,
        by=ruling.decided_by,
        older=ruling.older,
        newer=ruling.newer,
        boots=tuple(
            BootSeen(
                boot_id=boot_id,
                first_ms=first_ms,
                last_ms=last_ms,
                records=records[boot_id],
                session=heard[boot_id].session if boot_id in heard else 0,
                version=heard[boot_id].version if boot_id in heard else "",
                model=told.models.get(boot_id, (0, ""))[1],
                counts=None if ruling.decided_ms is None else boot_id in ruling.admitted,
            )
            for boot_id, (first_ms, last_ms) in sorted(spans.items(), key=lambda one: one[1])
        ),
    )
