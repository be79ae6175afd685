"""A rollout over a fleet on paper, by the centre's own rules: who is sent to, and who breaks.

``roll_out(devices)`` walks a clock in steps; ``python -m tests.simulator_rollouts.fleet`` prints
what becomes of fleets of 1,000 and 50,000.
"""

import bisect
import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ketang_center.rollouts.order import spread
from ketang_center.rollouts.plan import Candidate, Rules, State, cohort_of, decide
from ketang_center.rollouts.tally import Tally
from ketang_center.rollouts.values import Member

STEP_MS = 1_000
KINDS = ("ops_pc", "ifp", "teacher_pc", "lab_pc", "class_board")
SHARES = (30, 25, 20, 15, 10)
"""Of each hundred devices, how many are of each kind."""
A_SCHOOL = 50


@dataclass(frozen=True, slots=True)
class Simulated:
    """One device: what it is, whether the release breaks it, when it comes on line."""

    id: str
    kind: str
    school: str
    breaks: bool = False
    on_ms: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of it. ``broken``: how many went back to what they had, or fell silent."""

    state: str
    reason: str
    counts: Counter
    broken: int
    sent: int
    took_ms: int
    most_unresolved: int


def fleet(
    count: int,
    poisoned: Callable[[Simulated, random.Random], bool] = lambda one, chance: False,
    seed: int = 1,
    on_ms: Callable[[Simulated, random.Random], int] = lambda one, chance: 0,
) -> list[Simulated]:
    """Make a fleet of schools of fifty, its kinds mixed as in a county."""
    chance = random.Random(seed)
    made = []
    for at in range(count):
        kind = chance.choices(KINDS, SHARES)[0]
        one = Simulated(f"d{at}", kind, f"s{at // A_SCHOOL}")
        one = replace(one, breaks=poisoned(one, chance))
        made.append(replace(one, on_ms=on_ms(one, chance)))
    return made


def uniform(one: Simulated, chance: random.Random) -> bool:
    """Three of ten, whichever."""
    return chance.random() < 0.3


def by_kind(one: Simulated, chance: random.Random) -> bool:
    """Every device of the kind that is three of ten."""
    return one.kind == KINDS[0]


def by_school(one: Simulated, chance: random.Random) -> bool:
    """Every device of three schools of ten."""
    return int(one.school[1:]) % 10 < 3


def roll_out(
    devices: Sequence[Simulated],
    rules: Rules | None = None,
    *,
    seed: int = 1,
    most_ms: int = 48 * 3_600_000,
    trial_ms: tuple[int, int] = (3_000, 20_000),
) -> Ended:
    """Send a release to a fleet, until it is done or stopped."""
    rules, chance = rules or Rules(), random.Random(seed)
    known = {one.id: one for one in devices}
    order = spread([Candidate(one.id, one.kind, one.school) for one in devices], str(seed))
    members = {
        one: Member(1, one, known[one].kind, known[one].school, at) for at, one in enumerate(order)
    }
    tally, pending = Tally(rules, members.values()), dict.fromkeys(order)
    due: list[tuple[int, str, State]] = []
    now_ms, most, broken, sent = 0, 0, 0, 0
    comes_ms = sorted({one.on_ms for one in devices})
    state, reason = "running", ""

    def put(after: Member) -> None:
        tally.change(members[after.device], after)
        members[after.device] = after

    while state == "running" and now_ms < most_ms:
        now_ms += STEP_MS
        if not any(known[one].on_ms <= now_ms for one in pending):  # nothing to do till then
            nexts = [*comes_ms[bisect.bisect(comes_ms, now_ms) :][:1], *(one[0] for one in due[:1])]
            now_ms = max(now_ms, min(nexts, default=most_ms))
        while due and due[0][0] <= now_ms:
            _, device, became = heapq.heappop(due)
            put(replace(members[device], state=became, updated_ms=now_ms))
        candidates = (
            Candidate(one, known[one].kind, known[one].school, cohort_of(0, known[one].on_ms))
            for one in pending
            if known[one].on_ms <= now_ms
        )
        decision = decide(rules, tally.standing(now_ms), candidates)
        if decision.stop:
            state, reason = "paused", decision.stop
        elif decision.finished and not any(known[one].on_ms < most_ms for one in pending):
            state = "finished"
        for device in decision.send:
            one = known[device]
            del pending[device]
            after = replace(members[device], cohort=cohort_of(0, one.on_ms))
            put(replace(after, state=State.SENT, group=decision.group, sent_ms=now_ms))
            became = State.FAILED if one.breaks else State.COMMITTED
            heapq.heappush(due, (now_ms + chance.randint(*trial_ms), device, became))
            sent, broken = sent + 1, broken + one.breaks
        unresolved = tally.standing(now_ms).all.unresolved
        most = max(most, unresolved)
    # Who had it in hand when it stopped finds out, too.
    for _, device, became in due:
        put(replace(members[device], state=became))
    counts = Counter(one.state for one in members.values())
    return Ended(state, reason, counts, broken, sent, now_ms, most)


def _three_hours_late(one: Simulated, chance: random.Random) -> int:
    return 3 * 3_600_000 if one.breaks else 0


def main() -> int:
    """Print what becomes of fleets of 1,000 and 50,000."""
    for count in (1_000, 50_000):
        healthy = roll_out(fleet(count))
        print(  # noqa: T201
            f"{count} healthy: {healthy.state}, {healthy.counts[State.COMMITTED]} committed"
            f" in {healthy.took_ms / 60_000:.1f} simulated minutes"
        )
        for poison in (uniform, by_kind, by_school):
            worst = max(
                (roll_out(fleet(count, poison, seed), seed=seed) for seed in range(20)),
                key=lambda one: one.broken,
            )
            print(  # noqa: T201
                f"{count}, 30 % broken {poison.__name__}: {worst.state} ({worst.reason}),"
                f" at most {worst.broken} broken in 20 runs"
            )
            late = roll_out(fleet(count, poison, on_ms=_three_hours_late))
            print(  # noqa: T201
                f"{count}, the same, three hours late: {late.state} ({late.reason}),"
                f" {late.broken} broken of {late.sent} sent to"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
