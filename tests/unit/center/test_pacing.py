"""Who has to wait: guesses by their source, floods by their key, everybody by the rate."""

from ketang_center.enrolment.pacing import Pace
from ketang_center.enrolment.values import Reason


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


def test_a_key_that_asks_without_end_uses_up_its_own_turns():
    clock = Clock()
    pace = Pace(20, clock)
    waits = [pace.wait_s("enrol", "noisy") for _ in range(50)]
    assert waits[:5] == [0.0] * 5
    assert all(one > 1 for one in waits[5:])
    clock.now_s += 1
    assert [pace.wait_s("enrol", f"k{no}") for no in range(20)] == [0.0] * 20


def test_enrolments_do_not_wait_for_renewals():
    pace = Pace(5, Clock())
    assert [pace.wait_s("renew", f"k{no}") > 0 for no in range(7)] == [False] * 5 + [True] * 2
    assert pace.wait_s("enrol", "another") == 0.0


def test_the_audit_log_hears_of_a_refusal_once_a_day():
    clock = Clock()
    pace = Pace(5, clock)
    assert [pace.is_news("code", Reason.CODE_EXPIRED) for _ in range(3)] == [True, False, False]
    assert pace.is_news("code", Reason.CODE_USED_UP)
    clock.now_s += 86_401
    assert pace.is_news("code", Reason.CODE_EXPIRED)


def test_wrong_codes_lock_their_source_for_a_while():
    clock = Clock()
    pace = Pace(5, clock)
    assert not any(pace.failed("here") for _ in range(10))
    assert pace.failed("here")
    assert pace.locked_s("here") > 600
    assert pace.locked_s("elsewhere") == 0
    clock.now_s += 901
    assert pace.locked_s("here") == 0
