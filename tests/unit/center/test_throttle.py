"""Lock-outs and rates hold for as long as they say, whatever becomes of the clock."""

from ketang_center.access.throttle import Bucket, Throttle

YEAR_S = 365 * 86_400.0


def locked(now_s):
    throttle = Throttle(most=2, within_s=600, lock_s=900)
    for _ in range(3):
        throttle.failed("x", now_s)
    return throttle


def test_a_lock_out_lasts_as_long_as_it_says():
    throttle = locked(1000.0)
    assert throttle.locked_s("x", 1000.0) == 900
    assert throttle.locked_s("x", 1899.0) == 1
    assert throttle.locked_s("x", 1900.0) == 0
    assert throttle.locked_s("y", 1000.0) == 0


def test_a_clock_that_goes_back_locks_nobody_for_longer():
    throttle = locked(YEAR_S)
    assert throttle.locked_s("x", 10.0) == 900
    assert throttle.locked_s("x", 910.0) == 0


def test_failures_counted_by_a_clock_that_was_ahead_are_forgotten():
    throttle = Throttle(most=1, within_s=600, lock_s=900)
    assert not throttle.failed("x", YEAR_S)
    assert not throttle.failed("x", 10.0)
    assert throttle.failed("x", 11.0)


def test_a_bucket_goes_on_when_the_clock_goes_back():
    bucket = Bucket(per_s=20, burst=20)
    assert all(bucket.take(YEAR_S) == 0 for _ in range(20))
    assert bucket.take(YEAR_S) > 0
    assert 0 < bucket.take(5.0) <= 0.05, "it waits for one token, not for a year"
    assert bucket.take(5.1) == 0
