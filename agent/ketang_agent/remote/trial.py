"""How far a configuration has come on this device. Pure: what is seen in, what holds out.

    brought → judged → (staged) → trial → committed
                 ↓                  ↓ ↘
              rejected      rolled back, or inconclusive → trial again

Invariants:
1. What is in force needs no network and no judge to be gone back to.
2. What was accepted narrows what is in force at once, and no failure takes that back.
3. A trial ends: by its deadline on the boot clock, or by a start too many.
4. What failed is not tried again by itself, unless the network was to blame. That is judged by
   going back: where the device cannot connect without the candidate either, nobody is blamed, and
   where it can, the candidate gets one more chance before it is.
5. Every function returns the next machine; whoever calls keeps it on disk before he acts on it.
"""

from dataclasses import replace

from ketang_agent.clock import Instant
from ketang_agent.remote import signed_time
from ketang_agent.remote.machine import (
    COLLECTS_NOTHING,
    Before,
    Candidate,
    Failed,
    Look,
    Machine,
    Phase,
    Verdict,
    Works,
)
from ketang_contract.config import Apply, narrowed
from ketang_contract.state import ConfigState

TRIAL_MS = 40_000
RETURN_MS = 60_000
AGAIN_MS = 60_000
"""After a trial that nobody is blamed for; the next one waits for a connection, too."""
STEADY_MS = 600_000
"""So long after its commit, a configuration is still given up when the agent keeps crashing."""
MOST_STARTS = 2
"""Starts of the agent in one trial, the first that it began in not counted; one more ends it."""
MOST_CRASHES = 3
MOST_ATTEMPTS = 5
NETWORK_TRIALS = 2
_REMEMBERED = 16


def received(machine: Machine) -> Machine:
    """Something came down and is being judged; a trial at hand goes on meanwhile."""
    if machine.candidate is not None:
        return machine
    return replace(machine, state=ConfigState.RECEIVED)


def take(machine: Machine, verdict: Verdict) -> Machine:
    """Take in a verdict."""
    known = replace(
        machine,
        desired=verdict.hash or machine.desired,
        attempt=verdict.attempt,
        trust_version=verdict.trust_version or machine.trust_version,
    )
    if verdict.reason:
        return _refuse(known, verdict)
    narrower = machine.unproved or verdict.fallback != machine.in_force
    accepted = replace(known, in_force=verdict.fallback, held=verdict.held, unproved=narrower)
    one = machine.candidate
    if one is not None and one.hash == verdict.hash:
        # Asked for once more while it is being tried: that begins nothing anew.
        if verdict.attempt > one.attempt:
            one = replace(one, attempt=verdict.attempt)
        return replace(accepted, candidate=one, state=_state_of(one))
    before = next((one for one in reversed(machine.failed) if one.hash == verdict.hash), None)
    if before is not None and not before.attempt < verdict.attempt < MOST_ATTEMPTS:
        failed = (*(one for one in machine.failed if one != before), before)
        return replace(accepted, candidate=None, failed=failed, state=ConfigState.ROLLED_BACK)
    if verdict.hash == machine.running or verdict.config == machine.in_force:
        return _commit(accepted, _candidate(verdict))  # nothing is in it that could fail
    return replace(accepted, candidate=_candidate(verdict), state=ConfigState.VERIFIED)


def know_time(machine: Machine, now_s: int) -> Machine:
    """Take in that a disciplined clock says ``now_s``: what was signed in the future moves nothing.

    The same machine where it does not change anything.
    """
    held, one = signed_time.confirmed(machine.held, now_s), machine.candidate
    if one is not None:
        tried = signed_time.confirmed(one.held, now_s)
        one = one if tried is one.held else replace(one, held=tried)
    if held is machine.held and one is machine.candidate:
        return machine
    return replace(machine, held=held, candidate=one)


def begin(machine: Machine, now: Instant) -> Machine:
    """Take in that the agent starts; the one it follows may have crashed."""
    crashed = not machine.ended
    machine = replace(machine, ended=False)
    one = machine.candidate
    if crashed and (one is None or one.phase is not Phase.TRIAL):
        machine = _count_crash(machine, now)
        one = machine.candidate
    if one is None:
        return machine
    if one.phase is Phase.TRIAL and _is_over(one, now, crashed=crashed):
        return _dread(_fail(machine, one, "crashed"), now)
    if crashed or one.phase is Phase.STAGED:
        one = replace(one, starts=one.starts + 1)
    if one.boot_id != now.boot_id:
        one = replace(one, boot_id=now.boot_id, since_ms=now.boottime_ms)
    return replace(machine, candidate=one)


def _is_over(one: Candidate, now: Instant, *, crashed: bool) -> bool:
    """Whether an agent that starts in a trial began it too often, or crashed past its deadline.

    One crash is forgiven at any time: it may be anybody's.
    """
    if one.starts >= MOST_STARTS:
        return True
    late = one.boot_id == now.boot_id and now.boottime_ms - one.since_ms >= TRIAL_MS
    return crashed and late and one.starts > 0


def give_up(machine: Machine, why: str) -> Machine:
    """End what is being tried, for a reason of the caller's."""
    return machine if machine.candidate is None else _fail(machine, machine.candidate, why)


def end(machine: Machine) -> Machine:
    """Take in that the agent is being stopped in order."""
    return replace(machine, ended=True)


def step(machine: Machine, look: Look, now: Instant) -> Machine:
    """Go on as far as what is seen allows; the same machine where nothing changes."""
    if machine.unproved:
        machine = _dread(machine, now) if machine.before is None else machine
        machine = replace(machine, unproved=False)
    one = machine.candidate
    if one is None:
        return _forget_before(machine, now)
    judges = {
        Phase.STAGED: _judge_moment,
        Phase.TRIAL: _judge_trial,
        Phase.RETURNING: _judge_return,
        Phase.WAITING: _judge_wait,
    }
    return judges[one.phase](machine, one, look, now)


def _judge_moment(machine: Machine, one: Candidate, look: Look, now: Instant) -> Machine:
    if look.parts is Works.NO:
        return _fail(machine, one, "parts_refused")
    ready = look.parts is not Works.PENDING
    started = one.config.apply is Apply.BOOT and one.starts > 0
    if ready and (one.config.apply in {None, Apply.NOW} or started or look.moment):
        return _try(machine, one, now, look.session, tuple(sorted(look.failing)))
    if machine.state in {ConfigState.STAGED, ConfigState.REJECTED}:
        return machine  # a refusal is told until there is other news
    return replace(machine, state=ConfigState.STAGED)


def _judge_wait(machine: Machine, one: Candidate, look: Look, now: Instant) -> Machine:
    at_once = one.config.apply in {None, Apply.NOW, Apply.BOOT}
    due = look.connected and now.boottime_ms - one.since_ms >= AGAIN_MS
    if due and (at_once or look.moment):
        return _try(machine, one, now, look.session, one.failing)
    return machine


def _judge_trial(machine: Machine, one: Candidate, look: Look, now: Instant) -> Machine:
    took_ms = now.boottime_ms - one.since_ms
    wrong = _wrong(one, look)
    if wrong and wrong != _AT_ONCE and took_ms < TRIAL_MS:
        return machine
    machine = replace(machine, trial_ms=took_ms)
    if not wrong:
        return _commit(machine, one, now)
    if wrong in _OF_THE_NETWORK:
        back = replace(
            one,
            phase=Phase.RETURNING,
            since_ms=now.boottime_ms,
            session=look.session,
            why=wrong,
        )
        return _inconclusive(machine, back)
    return _fail(machine, one, wrong)


_AT_ONCE = "model_failing"
_OF_THE_NETWORK = frozenset({"not_connected", "not_acknowledged"})


def _wrong(one: Candidate, look: Look) -> str:
    """Name the first thing that speaks against the candidate so far; empty when nothing does."""
    if look.model is Works.NO:
        return _AT_ONCE
    if not look.connected or look.session <= one.session:
        return "not_connected"
    if not look.acknowledged:
        return "not_acknowledged"
    if look.failing - set(one.failing):
        return "collector_failing"
    if not look.sampled:
        return "not_sampled"
    return "model_slow" if look.model is Works.PENDING else ""


def _judge_return(machine: Machine, one: Candidate, look: Look, now: Instant) -> Machine:
    suspicions = one.suspicions
    if look.connected and look.session > one.session and look.acknowledged:
        suspicions += 1
        if suspicions >= NETWORK_TRIALS:
            return _fail(machine, one, one.why)
    elif now.boottime_ms - one.since_ms < RETURN_MS:
        return machine
    waiting = replace(
        one, phase=Phase.WAITING, since_ms=now.boottime_ms, suspicions=suspicions, starts=0
    )
    return _inconclusive(machine, waiting)


def _inconclusive(machine: Machine, one: Candidate) -> Machine:
    return replace(
        machine,
        candidate=one,
        desired=one.hash,
        attempt=one.attempt,
        state=ConfigState.INCONCLUSIVE,
    )


def _try(
    machine: Machine, one: Candidate, now: Instant, session: int, failing: tuple[str, ...]
) -> Machine:
    tried = replace(
        one,
        phase=Phase.TRIAL,
        since_ms=now.boottime_ms,
        boot_id=now.boot_id,
        session=session,
        failing=failing,
        starts=0,
    )
    return replace(
        machine, candidate=tried, desired=one.hash, attempt=one.attempt, state=ConfigState.TRIAL
    )


def _commit(machine: Machine, one: Candidate, now: Instant | None = None) -> Machine:
    """Make the candidate what is in force; with a time where it had a trial."""
    before = machine.before
    if now is not None:
        before = Before(
            machine.running, machine.layers, machine.in_force, now.boottime_ms, now.boot_id
        )
    return replace(
        machine,
        in_force=one.config,
        running=one.hash,
        layers=one.layers,
        held=one.held,
        desired=one.hash,
        attempt=one.attempt,
        candidate=None,
        state=ConfigState.COMMITTED,
        failed=tuple(said for said in machine.failed if said.hash != one.hash),
        before=before,
    )


def _fail(machine: Machine, one: Candidate, why: str) -> Machine:
    return replace(
        machine,
        candidate=None,
        desired=one.hash,
        attempt=one.attempt,
        state=ConfigState.ROLLED_BACK,
        failed=(*machine.failed, Failed(one.hash, one.attempt, why))[-_REMEMBERED:],
    )


def _dread(machine: Machine, now: Instant) -> Machine:
    """Let nothing at all be gone back to next: what is in force, narrowed, may be to blame too."""
    nothing = narrowed(machine.in_force, COLLECTS_NOTHING)
    if nothing == machine.in_force:
        return replace(machine, before=None)
    return replace(machine, before=Before(None, (), nothing, now.boottime_ms, now.boot_id))


def _refuse(machine: Machine, verdict: Verdict) -> Machine:
    """Refuse what was brought. What is at hand goes on; nothing that is held changes."""
    refused = Failed(verdict.hash, verdict.attempt, verdict.reason)
    return replace(machine, state=ConfigState.REJECTED, refused=refused)


def _candidate(verdict: Verdict) -> Candidate:
    return Candidate(
        hash=verdict.hash,
        attempt=verdict.attempt,
        layers=verdict.layers,
        config=verdict.config,
        held=verdict.held_committed,
    )


def _state_of(one: Candidate) -> ConfigState:
    match one.phase:
        case Phase.STAGED:
            return ConfigState.STAGED
        case Phase.TRIAL:
            return ConfigState.TRIAL
        case _:
            return ConfigState.INCONCLUSIVE


def _count_crash(machine: Machine, now: Instant) -> Machine:
    """Count a crash under what is in force; after too many, give it up for what was before."""
    before = machine.before
    if before is None or before.boot_id != now.boot_id:
        return machine
    before = replace(before, crashes=before.crashes + 1)
    if before.crashes < MOST_CRASHES:
        return replace(machine, before=before)
    blamed = machine.candidate or machine
    name = machine.candidate.hash if machine.candidate else machine.running
    gone = Failed(name or "", blamed.attempt, "crashed_later")
    back = replace(
        machine,
        in_force=narrowed(before.in_force, machine.in_force),
        running=before.hash,
        layers=before.layers,
        candidate=None,
        state=ConfigState.ROLLED_BACK,
        failed=(*machine.failed, gone)[-_REMEMBERED:],
    )
    return _dread(back, now)


def _forget_before(machine: Machine, now: Instant) -> Machine:
    before = machine.before
    if before is None:
        return machine
    steady = now.boottime_ms - before.committed_ms >= STEADY_MS
    return replace(machine, before=None) if steady or before.boot_id != now.boot_id else machine
