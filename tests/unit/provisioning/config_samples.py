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


def either_off(least, most):
    return st.one_of(st.none(), st.just(0), st.integers(least, most))


def maybe(strategy):
    return st.one_of(st.none(), strategy)


configs = st.builds(
    Config,
    min_agent=maybe(st.sampled_from(["0.1.0", "12.3.4567"])),
    agent=maybe(st.builds(AgentChoice, version=st.just("1.2.3"), sha256=st.just("a" * 64))),
    apply=maybe(st.sampled_from(Apply)),
    usage_s=either_off(10, 60),
    host_s=either_off(5, 300),
    network_s=either_off(5, 300),
    environment_s=either_off(5, 300),
    inventory_s=either_off(300, 86_400),
    security_s=either_off(300, 86_400),
    occupancy_s=either_off(300, 3_600),
    categories=maybe(st.sets(st.sampled_from(Category)).map(lambda one: tuple(sorted(one)))),
    foreground=maybe(
        st.dictionaries(programs, st.sampled_from(Category), max_size=5).map(
            lambda one: tuple(sorted(one.items()))
        )
    ),
    hours=maybe(spans),
    breaks=maybe(spans),
    inference=maybe(st.booleans()),
    model=maybe(
        st.builds(
            ModelChoice,
            name=st.text("abc019-", min_size=1, max_size=36),
            version=st.text("aZ0._+-", min_size=1, max_size=32),
            sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
        )
    ),
    score_min_pct=maybe(st.integers(0, 100)),
    scan_s=maybe(st.integers(1, 300)),
    spool_max_mb=maybe(st.integers(8, 4096)),
    records_per_window=maybe(st.integers(1, 1000)),
    upload_kbps=maybe(st.integers(8, 1_000_000)),
    download_kbps=maybe(st.integers(8, 1_000_000)),
    log_level=maybe(st.sampled_from(LogLevel)),
)
