"""The book of rollouts: documents as they were signed, who is to have what, and what became of it.

Invariants:
- What a device is to have is written before it is sent: a crash loses no turn and repeats none.
- A signed document's bytes never change, and one place in a line of versions has one content.
- A device's attempt grows only by a person's act.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ketang_center.rollouts.documents import CHANGES, DocumentBook
from ketang_center.rollouts.plan import Rules, State
from ketang_center.rollouts.values import Event, Had, Member, RolloutState, What
from ketang_contract import validate
from ketang_contract.records import to_line
from ketang_contract.state import Reported

CENTER = "center"
"""Who did it, where no person did."""
ACTS = "acts"
"""A number that grows with every act of a person: the engine looks again then."""
_AT_WORK_MS = "at_work_ms"
_MEMBER = (
    "rollout, device, kind, school, position, grp, state, reason, attempt, sent_ms, updated_ms,"
    " excused, hash, cohort"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One release, or its undo, on its way to the devices of its target."""

    no: int
    release: str
    layer: str
    target: str
    what: What
    state: RolloutState
    reason: str
    rules: Rules
    began_by: str
    began_ms: int
    approved_by: str
    approved_ms: int
    updated_ms: int


class RolloutBook(DocumentBook):
    """``with RolloutBook(path) as book``. Any thread; several processes."""

    # Rollouts.

    def begin(self, one: Rollout) -> int:
        """Write a new rollout, whatever its number says, and return its number."""
        return self.rows.run(
            "INSERT INTO rollout (release, layer, target, what, state, reason, rules, began_by,"
            " began_ms, approved_by, approved_ms, updated_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            one.release,
            one.layer,
            one.target,
            one.what.value,
            one.state.value,
            one.reason,
            json.dumps(asdict(one.rules)),
            one.began_by,
            one.began_ms,
            one.approved_by,
            one.approved_ms,
            one.updated_ms,
        )

    def rollout(self, no: int) -> Rollout | None:
        """Return one rollout."""
        return next(iter(self._rollouts("WHERE no = ?", no)), None)

    def rollouts(self) -> list[Rollout]:
        """Return all of them, the newest first."""
        return self._rollouts("ORDER BY no DESC")

    def newest(self, target: str) -> Rollout | None:
        """Return a target's newest rollout."""
        return next(iter(self._rollouts("WHERE target = ? ORDER BY no DESC LIMIT 1", target)), None)

    def _rollouts(self, rest: str, *values: str | int) -> list[Rollout]:
        return [
            Rollout(
                no=row[0],
                release=row[1],
                layer=row[2],
                target=row[3],
                what=What(row[4]),
                state=RolloutState(row[5]),
                reason=row[6],
                rules=_rules(json.loads(row[7])),
                began_by=row[8],
                began_ms=row[9],
                approved_by=row[10],
                approved_ms=row[11],
                updated_ms=row[12],
            )
            for row in self.rows.table(f"SELECT * FROM rollout {rest}", *values)  # nosec B608  # noqa: S608  (text of ours)
        ]

    def set_state(self, no: int, state: RolloutState, reason: str, at_ms: int) -> None:
        """Write where a rollout is."""
        self.rows.run(
            "UPDATE rollout SET state = ?, reason = ?, updated_ms = ? WHERE no = ?",
            state.value,
            reason,
            at_ms,
            no,
        )

    def set_approved(self, no: int, by: str, at_ms: int) -> None:
        """Write who approved a rollout."""
        self.rows.run(
            "UPDATE rollout SET approved_by = ?, approved_ms = ? WHERE no = ?", by, at_ms, no
        )

    # Who is where in a rollout.

    def put_members(self, members: Iterable[Member]) -> None:
        """Write members over those of the same rollout and device."""
        marks = ", ".join("?" * 14)
        self.rows.run_many(
            f"INSERT OR REPLACE INTO member ({_MEMBER}) VALUES ({marks})",  # nosec B608  # noqa: S608  (text of ours)
            map(_row, members),
        )

    def drop_members(self, no: int, devices: Iterable[str]) -> None:
        """Forget pending members that are not below the target any more."""
        self.rows.run_many(
            "DELETE FROM member WHERE rollout = ? AND device = ? AND state = 'pending'",
            [(no, device) for device in devices],
        )

    def members(self, no: int, rest: str = "", *values: str | int) -> list[Member]:
        """Return a rollout's members; ``rest`` goes on after the WHERE, text of ours."""
        found = self.rows.table(
            f"SELECT {_MEMBER} FROM member WHERE rollout = ? {rest}",  # nosec B608  # noqa: S608  (text of ours)
            no,
            *values,
        )
        return [member_of(row) for row in found]

    def memberships(self, device: str) -> list[Member]:
        """Return a device's place in every rollout it is in, the newest first."""
        found = self.rows.table(
            f"SELECT {_MEMBER} FROM member WHERE device = ? ORDER BY rollout DESC",  # nosec B608  # noqa: S608  (text of ours)
            device,
        )
        return [member_of(row) for row in found]

    # What each device is to have, and has.

    def give(self, devices: Iterable[str], target: str, digest: str) -> None:
        """Note that some devices' turn has come to have a layer."""
        self.rows.run_many(
            "INSERT OR REPLACE INTO turn VALUES (?, ?, ?)",
            [(device, target, digest) for device in devices],
        )

    def give_for_good(self, devices: Iterable[str], target: str, digest: str) -> None:
        """The same outside a rollout: whoever is not connected gets it when he is back."""
        self.rows.raise_mark(CHANGES)
        self.give(devices, target, digest)

    def turns(self, device: str) -> dict[str, str]:
        """Return the layers a device is to have, by target: digests."""
        return dict(self.rows.table("SELECT target, layer FROM turn WHERE device = ?", device))

    def given(self, target: str) -> set[str]:
        """Return the layers of a target that any device is to have: digests."""
        found = self.rows.table("SELECT DISTINCT layer FROM turn WHERE target = ?", target)
        return {row[0] for row in found} | {
            digest for known, digest in self.grounds().items() if known == target
        }

    def who_was_given(self, target: str, digest: str) -> list[str]:
        """Return the devices that are to have a layer."""
        found = self.rows.table(
            "SELECT device FROM turn WHERE target = ? AND layer = ? ORDER BY device", target, digest
        )
        return [row[0] for row in found]

    def stuck(self) -> dict[str, set[str]]:
        """Return who failed a layer that they are still to have, by target, of ended rollouts."""
        found = self.rows.table(
            "SELECT r.target, m.device FROM rollout r JOIN member m ON m.rollout = r.no"
            " JOIN turn t ON t.device = m.device AND t.target = r.target AND t.layer = r.layer"
            " WHERE r.state NOT IN ('running', 'paused', 'finished')"
            " AND m.state IN ('failed', 'rejected', 'timed_out')"
        )
        stuck: dict[str, set[str]] = {}
        for target, device in found:
            stuck.setdefault(target, set()).add(device)
        return stuck

    def grounds(self) -> dict[str, str]:
        """Return the layer of each target that a device has whose turn has not come: digests."""
        return dict(self.rows.table("SELECT target, layer FROM ground"))

    def set_ground(self, target: str, digest: str) -> None:
        """Set the layer of a target that a device has whose turn has not come."""
        self.rows.raise_mark(CHANGES)
        self.rows.run("INSERT OR REPLACE INTO ground VALUES (?, ?)", target, digest)

    def put_had(self, those: Iterable[Had]) -> None:
        """Note what devices are sent, before they are."""
        self.rows.run_many(
            "INSERT OR REPLACE INTO had VALUES (?, ?, ?, ?, ?, ?, 0)",
            [
                (one.device, one.hash, one.stamp, one.attempt, one.sent_ms, one.trust_version)
                for one in those
            ],
        )

    def set_out(self, those: Iterable[Had]) -> None:
        """Note what the broker has taken over, as far as it is still the last that was sent."""
        self.rows.run_many(
            "UPDATE had SET out = 1 WHERE device = ? AND stamp = ? AND sent_ms = ?",
            [(one.device, one.stamp, one.sent_ms) for one in those],
        )

    def all_had(self) -> dict[str, Had]:
        """Return what every device was sent last."""
        return {row[0]: _had(row) for row in self.rows.table("SELECT * FROM had")}

    def had(self, device: str) -> Had | None:
        """Return what a device was sent last."""
        found = self.rows.table("SELECT * FROM had WHERE device = ?", device)
        return _had(found[0]) if found else None

    def put_reports(self, those: Mapping[str, tuple[Reported, int]]) -> None:
        """Keep what devices said of themselves last, and when: ``{device: (report, UTC ms)}``."""
        self.rows.run_many(
            "INSERT OR REPLACE INTO report VALUES (?, ?, ?)",
            [(device, to_line(one).decode(), at_ms) for device, (one, at_ms) in those.items()],
        )

    def report(self, device: str) -> tuple[Reported, int] | None:
        """Return what a device said of itself last, and when."""
        found = self.rows.table("SELECT body, at_ms FROM report WHERE device = ?", device)
        if not found:
            return None
        body, at_ms = found[0]
        return validate.document(Reported, body.encode()), at_ms

    def all_told(self) -> list[tuple[str, int, str, int]]:
        """Return of every device: its last report's session, desired hash and trust version."""
        return self.rows.table(
            "SELECT device, body ->> '$.session', coalesce(body ->> '$.config.desired', ''),"
            " coalesce(body ->> '$.config.trust_version', 0) FROM report"
        )

    # History.

    def note(self, at_ms: int, no: int, who: str, what: str, detail: str = "") -> None:
        """Add a line to the history."""
        self.rows.run(
            "INSERT INTO event (at_ms, rollout, who, what, detail) VALUES (?, ?, ?, ?, ?)",
            at_ms,
            no,
            who,
            what,
            detail,
        )

    def history(self, no: int | None = None, limit: int = 200) -> list[Event]:
        """Return the history of one rollout, or of all, the newest first."""
        where, values = ("WHERE rollout = ? ", (no,)) if no is not None else ("", ())
        found = self.rows.table(
            f"SELECT at_ms, rollout, who, what, detail FROM event {where}ORDER BY no DESC LIMIT ?",  # nosec B608  # noqa: S608  (text of ours)
            *values,
            limit,
        )
        return [Event(*row) for row in found]

    def acted(self) -> int:
        """Return a number that grows with every act of a person."""
        return self.rows.mark(ACTS)

    def act(self) -> None:
        """Say that a person has changed something, in the transaction of the change."""
        self.rows.raise_mark(ACTS)

    def seen_at_work(self, at_ms: int) -> None:
        """Note that the engine has done all that was due, UTC ms."""
        self.rows.set_mark(_AT_WORK_MS, at_ms)

    def engine_seen(self) -> int | None:
        """Return when the engine had last done all that was due, UTC ms; None: never."""
        return self.rows.mark(_AT_WORK_MS) or None

    def changes(self) -> int:
        """Return a number that grows with every change of what bundles are made of."""
        return self.rows.mark(CHANGES)


def member_of(row: Sequence[Any]) -> Member:
    """Read a row of members."""
    return Member(
        rollout=row[0],
        device=row[1],
        kind=row[2],
        school=row[3],
        position=row[4],
        group=row[5],
        state=State(row[6]),
        reason=row[7],
        attempt=row[8],
        sent_ms=row[9],
        updated_ms=row[10],
        excused=bool(row[11]),
        hash=row[12],
        cohort=row[13],
    )


def _row(one: Member) -> tuple[str | int, ...]:
    return (
        one.rollout,
        one.device,
        one.kind,
        one.school,
        one.position,
        one.group,
        one.state.value,
        one.reason,
        one.attempt,
        one.sent_ms,
        one.updated_ms,
        int(one.excused),
        one.hash,
        one.cohort,
    )


def _rules(said: Mapping[str, Any]) -> Rules:
    lists = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
    return Rules(**{**said, **lists})


def _had(row: Sequence[Any]) -> Had:
    return Had(
        device=row[0],
        hash=row[1],
        stamp=row[2],
        attempt=row[3],
        sent_ms=row[4],
        trust_version=row[5],
        out=bool(row[6]),
    )
