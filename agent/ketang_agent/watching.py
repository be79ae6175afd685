"""Which release of the agent runs, and when the old one comes back. Pure: what happened in.

    asked → on trial → stays, once it said that it is well
                 ↓
            given up → the one before it, or the installed one

Invariants:
1. A trial ends: by a word of the new release, by its deadline, or by a death too many; a start of
   the watcher counts as one, so no chain of power cuts keeps a bad release.
2. What was given up is not tried again for the same asking.
3. The way back needs nobody: neither the agent nor the network nor the centre.
4. Every function returns the next standing; whoever calls keeps it on disk before he acts on it.
"""

from dataclasses import dataclass, replace

from ketang_agent.versions import INSTALLED, GivenUp, Standing, Trial, Wish

TRIAL_MS = 90_000
"""Above the 40 s of a configuration's own trial and a slow start; below two minutes with what it
takes to end the new release and to start the old one."""
MOST_DEATHS = 3
MOST_DEATHS_IN_A_ROW = 8
"""Of a release that was not on trial: then it has been damaged, or what it stands on has."""
_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: milliseconds since the boot ``boot_id`` that the machine was awake.

    A lid that was closed is no fault of the release on trial, so sleep does not count.
    """

    ms: int
    boot_id: str


def resume(now: Standing, at: Moment, trial_ms: int = TRIAL_MS) -> Standing:
    """Take in that the watcher starts; where there was a trial, what ran in it is gone."""
    trial = now.trial
    if trial is None:
        return now
    if trial.boot_id != at.boot_id:
        trial = Trial(at.ms + trial_ms, at.boot_id, trial.deaths)
    return die(replace(now, trial=trial))


def ask(now: Standing, wish: Wish, at: Moment, *, trial_ms: int = TRIAL_MS) -> Standing:
    """Take in that the agent ended with a wish; the same standing where it is not granted.

    Going back to where the release on trial came from takes no trial: the agent judged, and blames
    nobody.
    """
    if wish.version == now.current:
        return now
    if now.trial is not None and wish.version == now.before:
        return replace(now, current=now.before, ask=wish.ask, trial=None)
    if now.reason(wish.version, wish.ask):
        return now
    return replace(
        now,
        current=wish.version,
        ask=wish.ask,
        before=now.before if now.trial is not None else now.current,
        trial=Trial(at.ms + trial_ms, at.boot_id),
    )


def die(now: Standing) -> Standing:
    """Take in that the agent ended, and nobody asked it to."""
    trial = now.trial
    if trial is None:
        return now
    if trial.deaths >= MOST_DEATHS:
        return _give_up(now, "crashed")
    return replace(now, trial=replace(trial, deaths=trial.deaths + 1))


def look(now: Standing, wish: Wish, at: Moment) -> Standing:
    """Go by what the release on trial said, and by the time."""
    if now.trial is None:
        return now
    if wish.healthy == now.current:
        return replace(now, trial=None)
    return _give_up(now, "silent") if at.ms >= now.trial.until_ms else now


def lose(now: Standing) -> Standing:
    """Take in that a release that is not on trial dies again and again."""
    return now if now.current == INSTALLED else _give_up(now, "crashed")


def _give_up(now: Standing, reason: str) -> Standing:
    gone = GivenUp(now.current, now.ask, reason)
    back = now.before if now.before != now.current else INSTALLED
    return replace(
        now,
        current=back,
        ask="",
        before=INSTALLED,
        trial=None,
        given_up=(*now.given_up, gone)[-_REMEMBERED:],
    )
