"""Any configuration there can be, for hypothesis."""

import string

from hypothesis import strategies as st

from ketang_contract.config import (
    DAY_MINUTES,
    AgentChoice,
    Apply,
    Config,
    LogLevel,
    ModelChoice,
    tidy_spans,
)
from ketang_contract.records import Category

spans = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, DAY_MINUTES), st.integers(0, DAY_MINUTES)),
    max_size=12,
).map(tidy_spans)
programs = st.text(
    st.characters(
        exclude_categories=("Cs",), exclude_characters="/\\\x7f" + string.ascii_uppercase
    ).filter(lambda one: one >= " "),
    min_size=1,
    max_size=64,
)


def off_or(least, most):
    return st.one_of(st.just(0), st.integers(least, most))


FIELDS = {
    "min_agent": st.sampled_from(["0.1.0", "12.3.4567"]),
    "agent": st.builds(AgentChoice, version=st.just("1.2.3"), sha256=st.just("a" * 64)),
    "apply": st.sampled_from(Apply),
    "usage_s": off_or(10, 60),
    "host_s": off_or(5, 300),
    "network_s": off_or(5, 300),
    "environment_s": off_or(5, 300),
    "inventory_s": off_or(300, 86_400),
    "security_s": off_or(300, 86_400),
    "occupancy_s": off_or(300, 3_600),
    "categories": st.sets(st.sampled_from(Category)).map(lambda one: tuple(sorted(one))),
    "foreground": st.dictionaries(programs, st.sampled_from(Category), max_size=5).map(
        lambda one: tuple(sorted(one.items()))
    ),
    "hours": spans,
    "breaks": spans,
    "inference": st.booleans(),
    "model": st.builds(
        ModelChoice,
        name=st.text("abc019-", min_size=1, max_size=36),
        version=st.text("aZ0._+-", min_size=1, max_size=32),
        sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    ),
    "score_min_pct": st.integers(0, 100),
    "scan_s": st.integers(1, 300),
    "spool_max_mb": st.integers(8, 4096),
    "upload_kbps": st.integers(8, 1_000_000),
    "download_kbps": st.integers(8, 1_000_000),
    "log_level": st.sampled_from(LogLevel),
}
"""What each field may say, where it says something."""
configs = st.builds(Config, **{name: st.none() | one for name, one in FIELDS.items()})
