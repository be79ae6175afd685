"""What may be sent in the mean."""

from hypothesis import given
from hypothesis import strategies as st

from ketang_agent.clock import Instant
from ketang_agent.uplink.pacing import Budget

BURST_S = 10


def at(ms):
    return Instant(1_790_000_000_000 + ms, ms, "boot-1")


def send_all(budget, sizes, now_ms=0):
    """Send as the link does: each as soon as it may be; when each went."""
    went = []
    for size in sizes:
        if not budget.allows(at(now_ms)):
            now_ms = max(now_ms, budget.allows_at_ms)
        assert budget.allows(at(now_ms))
        went.append(now_ms)
        budget.spend(size)
    return went


def test_without_a_limit_everything_may_go_at_once():
    budget = Budget()
    assert send_all(budget, [1 << 20] * 9) == [0] * 9
    assert budget.allows_at_ms == 0


def test_a_first_message_goes_at_once_and_what_follows_waits_its_time():
    went = send_all(Budget(8), [20_000, 1_000, 1_000])
    assert went[0] == 0
    assert went[1] == 20_000 * 8 // 8 - BURST_S * 1000
    assert went[2] == went[1] + 1_000


def test_what_was_not_spent_is_kept_for_ten_seconds_and_no_longer():
    budget = Budget(8)
    send_all(budget, [50_000])
    long_after_ms = 3_600_000
    went = send_all(budget, [1_000] * 20, long_after_ms)
    at_once = went.count(long_after_ms)
    assert at_once == BURST_S + 1, "ten seconds' worth, and the one that passes it"


def test_another_rate_forgets_what_was_spent_and_the_same_does_not():
    budget = Budget(8)
    send_all(budget, [1_000_000])
    budget.set(8)
    assert not budget.allows(at(0))
    budget.set(9)
    assert budget.allows(at(0))
    send_all(budget, [1_000_000])
    budget.set(None)
    assert budget.allows(at(0))
    budget.spend(1 << 30)
    budget.set(8)
    assert budget.allows(at(0)), "what went without a limit is not held against it"


@given(
    kbps=st.integers(8, 1000),
    sizes=st.lists(st.integers(1, 1 << 16), min_size=1, max_size=60),
    begins_ms=st.integers(0, 10**9),
)
def test_over_any_time_no_more_goes_than_the_rate_a_burst_and_one_message(kbps, sizes, begins_ms):
    budget = Budget(kbps)
    went = send_all(budget, sizes, begins_ms)
    for first in range(len(sizes)):
        for last in range(first, len(sizes)):
            lasted_ms = went[last] - went[first]
            before_last_bits = 8 * sum(sizes[first:last])
            rounding_bits = kbps * (last - first)
            assert before_last_bits <= kbps * (lasted_ms + BURST_S * 1000) + rounding_bits
