"""Who is sent a release next, and when nobody is any more. Pure: counts in, a decision out.

The rules, and what each is for:
1. Groups: the first 20, 200, then percentages of the rest. One opens when enough of the one before
   has committed. A group is made of those it was sent to, so devices that are off block nothing.
2. At most 20 are unresolved until 200 have committed, then a tenth of those that have.
3. Strangers, whose kind or whose school nobody has committed of yet, are at most 20 at a time,
   however many have committed elsewhere: what breaks one kind is met by few of that kind first.
4. So are those who came on line after it began, quarter by quarter of an hour: until 200 of a
   quarter have committed, its devices are strangers. What nobody met who was there is met by few.
5. Failures stop everything: of a group, of one kind, of one school, of one quarter.
6. What speaks for nothing (inconclusive, an agent too old) counts neither way, and fills no group.

So of a release that breaks three of ten devices, at most what is unresolved at once and the three
failures that stop it are broken, be the three of ten spread evenly, of one kind or of one school,
and be they there when it begins or come on line hours later.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """How far one device has come with one release."""

    PENDING = "pending"
    """Its turn has not come, or it is not connected."""
    SENT = "sent"
    TRIAL = "trial"
    STAGED = "staged"
    """It waits for its moment: a break, the end of hours, a start."""
    COMMITTED = "committed"
    FAILED = "failed"
    """It went back to what it had."""
    REJECTED = "rejected"
    TOO_OLD = "too_old"
    """Its agent does not know what the release asks for; that is no fault of the release."""
    INCONCLUSIVE = "inconclusive"
    TIMED_OUT = "timed_out"
    WAITING = "waiting"
    """It told nothing for so long that nobody waits for it; what it tells later still counts."""


COHORT_MS = 900_000
"""A quarter of an hour: those who came on line in it are a cohort."""
UNRESOLVED = frozenset({State.SENT, State.TRIAL, State.STAGED, State.INCONCLUSIVE})
FAILURES = frozenset({State.FAILED, State.REJECTED, State.TIMED_OUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How careful a rollout is. ``_pct`` are percentages, ``_s`` seconds.

    Attributes:
        groups: sizes of the first groups.
        percents: how much of the rest has it when each of the later groups is full.
        unresolved: how many may be unresolved at once, and strangers at any time.
        proven: from so many committed on, ``share_pct`` of them may be unresolved.
        per_minute: how many are sent to in a minute.
        success_pct: of the resolved ones of a group, for the next to open.
        failures_least: so many failures stop, when they are more than ``failures_pct`` of the
            resolved of their group, ``kind_pct`` of their kind, ``school_pct`` of their school, or
            ``cohort_pct`` of those who came on line in the same quarter of an hour.
        failures_most: so many stop in any case; None: no such number.
        silence_s: after so long without a word a device has timed out.
        alone_s: after so long an inconclusive one is no longer waited for.
        staged_s: the same for one that waits for its moment.
    """

    groups: tuple[int, ...] = (20, 200)
    percents: tuple[int, ...] = (10, 25, 50, 100)
    unresolved: int = 20
    proven: int = 200
    share_pct: int = 10
    per_minute: int = 1200
    success_pct: int = 95
    failures_least: int = 3
    failures_pct: int = 5
    kind_pct: int = 30
    school_pct: int = 50
    cohort_pct: int = 10
    failures_most: int | None = None
    silence_s: int = 300
    alone_s: int = 1800
    staged_s: int = 259_200


BACK = Rules(
    groups=(),
    percents=(100,),
    unresolved=1_000_000,
    success_pct=0,
    failures_pct=100,
    kind_pct=100,
    school_pct=100,
    cohort_pct=100,
)
"""Of an undo: nobody waits for anybody, for it brings back what was proven."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending device that is connected and free."""

    device: str
    kind: str
    school: str
    cohort: int = 0
    """When it came on line: ``cohort_of``."""


@dataclass(frozen=True, slots=True)
class Count:
    """Of a group, a kind or a school; what counts neither way is in none of the three."""

    committed: int = 0
    failures: int = 0
    unresolved: int = 0

    @property
    def resolved(self) -> int:
        """How many have told how it went."""
        return self.committed + self.failures

    @property
    def sent(self) -> int:
        """How many were sent to, of those that count."""
        return self.resolved + self.unresolved


NONE = Count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a rollout stands. ``groups`` by number from 1, ``strangers`` among the unresolved."""

    total: int
    groups: Mapping[int, Count] = field(default_factory=dict)
    kinds: Mapping[str, Count] = field(default_factory=dict)
    schools: Mapping[str, Count] = field(default_factory=dict)
    cohorts: Mapping[int, Count] = field(default_factory=dict)
    reached: int = 0
    """Whose turn has come, whether they count or not."""
    strangers: int = 0
    waiting: int = 0
    sent_lately: int = 0
    """Within the last minute."""

    @property
    def all(self) -> Count:
        """The groups together."""
        return Count(
            sum(one.committed for one in self.groups.values()),
            sum(one.failures for one in self.groups.values()),
            sum(one.unresolved for one in self.groups.values()),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whom to send to now, and of which group they are; or why to stop; or that all is done."""

    send: tuple[str, ...] = ()
    group: int = 0
    stop: str = ""
    finished: bool = False


def bounds(rules: Rules, total: int) -> tuple[int, ...]:
    """Return how many have it in all when each group is full; the last is ``total``."""
    found, at = list[int](), 0
    for size in rules.groups:
        at = min(total, at + size)
        found.append(at)
    rest = total - at
    found += [at + -(-rest * pct // 100) for pct in rules.percents]
    kept = [one for nth, one in enumerate(found) if nth == 0 or one > found[nth - 1]]
    return tuple(kept) if kept and kept[-1] == total else (*kept, total)


def decide(rules: Rules, standing: Standing, candidates: Iterable[Candidate]) -> Decision:
    """Say what happens now.

    Args:
        rules: of this rollout.
        standing: as the device reports have it.
        candidates: in the rollout's order.
    """
    stop = reason_to_stop(rules, standing)
    if stop:
        return Decision(stop=stop)
    all_of_them, limits = standing.all, bounds(rules, standing.total)
    group = _group(limits, all_of_them.sent)
    if not all(_passed(rules, standing.groups.get(one, NONE)) for one in range(1, group)):
        return Decision()
    room = min(
        _may_be_unresolved(rules, all_of_them.committed) - all_of_them.unresolved,
        rules.per_minute - standing.sent_lately,
        limits[group - 1] - all_of_them.sent,
    )
    chosen = _choose(rules, standing, candidates, room)
    told = standing.reached > 0 and not all_of_them.unresolved
    nobody_left = not chosen and (room > 0 or all_of_them.sent >= standing.total)
    passed = _passed(rules, standing.groups.get(group))
    return Decision(chosen, group, finished=told and nobody_left and passed)


def reason_to_stop(rules: Rules, standing: Standing) -> str:
    """Say why nothing more may be sent, for a person; empty when there is no reason."""
    if rules.failures_most is not None and standing.all.failures >= rules.failures_most:
        return f"{standing.all.failures} failures"
    named: tuple[tuple[str, Mapping[int, Count] | Mapping[str, Count], int], ...] = (
        ("cohort", {at: one for at, one in standing.cohorts.items() if at}, rules.cohort_pct),
        ("group", standing.groups, rules.failures_pct),
        ("kind", standing.kinds, rules.kind_pct),
        ("school", standing.schools, rules.school_pct),
    )
    for what, counts, pct in named:
        for name, one in counts.items():
            many = one.failures >= rules.failures_least
            if many and one.failures * 100 > pct * one.resolved:
                return f"{what} {name}: {one.failures} of {one.resolved} failed"
    limits = bounds(rules, standing.total)
    for number, one in standing.groups.items():
        full = standing.all.sent >= limits[min(number, len(limits)) - 1]
        if full and not one.unresolved and not _passed(rules, one):
            return f"group {number}: {one.committed} of {one.resolved} committed"
    if standing.waiting > max(rules.unresolved, standing.all.committed):
        return f"{standing.waiting} tell nothing"
    return ""


def cohort_of(began_ms: int, since_ms: int) -> int:
    """Return in which quarter of an hour after the beginning a device came on line; 0: before."""
    return max(0, -(-(since_ms - began_ms) // COHORT_MS))


def is_stranger(rules: Rules, standing: Standing, kind: str, school: str, cohort: int) -> bool:
    """Tell whether too few like it have committed yet for a device to be one of many.

    Those are: one of its kind, one of its school, and of a cohort that came later so many as prove
    a release.
    """
    return not (
        standing.kinds.get(kind, NONE).committed and standing.schools.get(school, NONE).committed
    ) or (cohort > 0 and standing.cohorts.get(cohort, NONE).committed < rules.proven)


def _group(limits: Sequence[int], sent: int) -> int:
    return next((at for at, limit in enumerate(limits, 1) if sent < limit), len(limits))


def _passed(rules: Rules, one: Count | None) -> bool:
    """Tell whether a group speaks for the release; those who are unresolved do not, yet."""
    return one is None or one.committed * 100 >= rules.success_pct * one.sent


def _may_be_unresolved(rules: Rules, committed: int) -> int:
    if committed < rules.proven:
        return rules.unresolved
    return max(rules.unresolved, committed * rules.share_pct // 100)


def _choose(
    rules: Rules, standing: Standing, candidates: Iterable[Candidate], room: int
) -> tuple[str, ...]:
    chosen, strange = list[str](), rules.unresolved - standing.strangers
    if room <= 0:
        return ()
    for one in candidates:
        if is_stranger(rules, standing, one.kind, one.school, one.cohort):
            if strange <= 0:
                continue
            strange -= 1
        chosen.append(one.device)
        if len(chosen) >= room:
            break
    return tuple(chosen)
