"""The countdown before a shutdown, whatever happens in whatever order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ketang_agent.remote.commands_countdown import LONGEST_GAP_MS, Countdown, Seen, Turn

FROM_MS = 5_000_000


class Room(RuleBasedStateMachine):
    """People come, cancel, leave; school begins; the device sleeps; the clock only runs on."""

    def __init__(self):
        super().__init__()
        self.seconds = 60
        self.now_ms = FROM_MS
        self.countdown = Countdown(FROM_MS, self.seconds)
        self.cancelled = self.used = self.in_hours = self.slept = False
        self.ended: Turn | None = None
        self.dues = 0

    def step(self, **what):
        said = {"cancelled": False, "in_use": False, "after_hours": True, **what}
        before = self.countdown.turn
        turn = self.countdown.step(Seen(now_ms=self.now_ms, **said))
        if before is Turn.COUNTING:
            self.cancelled |= said["cancelled"]
            self.used |= bool(said["in_use"])
            self.in_hours |= not said["after_hours"]
            self.dues += turn is Turn.DUE
            if turn is not Turn.COUNTING:
                self.ended = turn
        else:
            assert turn is before, "an end is an end"

    @rule(ms=st.integers(0, LONGEST_GAP_MS))
    def passes(self, ms):
        self.now_ms += ms
        self.step()

    @rule(ms=st.integers(0, LONGEST_GAP_MS), known=st.sampled_from([None, False]))
    def passes_unknown(self, ms, known):
        self.now_ms += ms
        self.step(in_use=known)

    @rule(ms=st.integers(LONGEST_GAP_MS + 1, 900_000))
    def sleeps(self, ms):
        self.now_ms += ms
        self.slept |= self.countdown.turn is Turn.COUNTING
        self.step()

    @rule()
    def somebody_cancels(self):
        self.step(cancelled=True)

    @rule()
    def somebody_touches_it(self):
        self.step(in_use=True)

    @rule()
    def school_begins(self):
        self.step(after_hours=False)

    @precondition(lambda self: self.ended is None)
    @rule()
    def runs_out(self):
        while self.countdown.turn is Turn.COUNTING:
            self.now_ms += 1000
            self.step()

    @invariant()
    def due_only_after_the_whole_time_watched_and_unopposed(self):
        if self.countdown.turn is Turn.DUE:
            assert self.now_ms - FROM_MS >= self.seconds * 1000
            opposed = self.cancelled or self.used or self.in_hours
            assert not opposed
            assert not self.slept
        assert self.dues <= 1

    @invariant()
    def what_is_left_is_what_people_read(self):
        left_s = self.countdown.left_s(self.now_ms)
        assert 0 <= left_s <= self.seconds
        assert (left_s == 0) == (self.now_ms - FROM_MS >= self.seconds * 1000)


TestCountdown = Room.TestCase
TestCountdown.settings = settings(max_examples=200, stateful_step_count=40)


def test_a_clock_that_would_run_backwards_interrupts():
    countdown = Countdown(FROM_MS, 60)
    seen = Seen(now_ms=FROM_MS - 1, cancelled=False, in_use=False, after_hours=True)
    assert countdown.step(seen) is Turn.INTERRUPTED
