"""How a place's layers become one configuration, and which of two is the narrower."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.provisioning.config_samples import FIELDS, configs, spans

from ketang_contract import config
from ketang_contract.config import (
    COLLECTORS,
    COUNTED_EVERY_S,
    DIRECTIONS,
    Alone,
    Apply,
    Config,
    Level,
    LogLevel,
    ModelChoice,
    Narrows,
    Said,
    changed,
    counted_every_s,
    filled,
    from_json,
    holds_at,
    hours_are_empty,
    merge,
    misplaced,
    narrowed,
    tidy_spans,
    widened,
)
from ketang_contract.records import Category, to_json
from ketang_profiles.configured import as_config
from ketang_profiles.profile import kinds, shipped

NARROWS = [name for name, one in DIRECTIONS.items() if isinstance(one, Narrows)]
ALONE = [name for name, one in DIRECTIONS.items() if isinstance(one, Alone) and name != "schema"]
BASES = st.sampled_from([as_config(shipped(kind)) for kind in kinds()])
BASE = as_config(shipped("ops_pc"))
MODEL = ModelChoice(name="mtcnn", version="1", sha256="a" * 64)
MONDAY_EIGHT_MS = 1_757_289_600_000
"""2025-09-08 08:00 in Shanghai."""
MINUTE_MS = 60_000


def below(content: Config) -> Config:
    """What a layer under the region's may say of it."""
    return replace(content, **dict.fromkeys(ALONE))


lower = configs.map(below)


def said(*contents: Config) -> list[Said]:
    return [
        Said(level.value, level, content) for level, content in zip(Level, contents, strict=False)
    ]


def test_every_field_has_a_direction():
    assert set(DIRECTIONS) == set(Config.__dataclass_fields__)
    assert set(COLLECTORS) == {
        *("usage", "host", "network", "environment", "inventory", "security", "occupancy")
    }


@pytest.mark.parametrize("name", NARROWS)
@given(data=st.data())
def test_of_two_values_the_meet_is_the_widest_no_wider_than_either(name, data):
    meet = DIRECTIONS[name].meet
    one, other, third = (data.draw(FIELDS[name]) for _ in range(3))
    both = meet(one, other)
    assert meet(one, one) == one
    assert both == meet(other, one)
    assert meet(both, third) == meet(one, meet(other, third))
    assert meet(both, one) == both
    assert meet(both, other) == both
    if meet(third, one) == third == meet(third, other):
        assert meet(third, both) == third


def test_the_narrower_of_two_is_what_a_person_would_call_it():
    for name, one, other, narrower in (
        ("usage_s", 10, 60, 60),
        ("usage_s", 10, 0, 0),
        ("inference", True, False, False),
        ("score_min_pct", 60, 80, 80),
        ("scan_s", 10, 20, 20),
        ("spool_max_mb", 8, 64, 8),
        ("log_level", LogLevel.DEBUG, LogLevel.ERROR, LogLevel.ERROR),
        ("apply", Apply.NOW, Apply.BOOT, Apply.BOOT),
        (
            "categories",
            (Category.MEDIA, Category.OFFICE),
            (Category.OFFICE, Category.SYSTEM),
            (Category.OFFICE,),
        ),
        ("hours", ((0, 480, 600), (1, 0, 60)), ((0, 540, 660),), ((0, 540, 600),)),
        ("breaks", ((0, 480, 600),), ((0, 600, 660),), ()),
    ):
        assert DIRECTIONS[name].meet(one, other) == narrower, name


@given(BASES, configs, st.lists(lower, max_size=5))
def test_a_merge_is_wider_than_none_of_its_layers(base, region, contents):
    made = merge(base, said(region, *contents)).config
    for limit in (filled(base, region), *contents):
        assert set(widened(limit, made)) <= set(ALONE)
    assert widened(filled(base, region), made) == ()


@given(BASES, configs, st.lists(lower, max_size=5))
def test_a_collector_that_the_profile_does_not_name_stays_off(base, region, contents):
    made = merge(base, said(region, *contents)).config
    for name in COLLECTORS:
        if getattr(base, f"{name}_s") == 0:
            assert getattr(made, f"{name}_s") == 0


@given(BASES, configs, st.lists(lower, max_size=5))
def test_a_merge_tells_whose_each_value_is(base, region, contents):
    layers = said(region, *contents)
    made = merge(base, layers)
    by_target = {one.target: one.content for one in layers}
    for name in DIRECTIONS:
        if name not in made.by:
            assert getattr(made.config, name) == getattr(base, name)
        else:
            assert getattr(by_target[made.by[name]], name) is not None


def test_no_layers_leave_the_profile():
    assert merge(BASE, []) == config.Merged(BASE, {})


def test_the_region_may_widen_what_the_profile_says_and_nobody_below():
    made = merge(BASE, said(Config(usage_s=10), Config(usage_s=30), Config(usage_s=20)))
    assert made.config.usage_s == 30
    assert made.by["usage_s"] == "city"


@pytest.mark.parametrize("name", ALONE)
def test_what_has_no_direction_is_the_regions_alone(name):
    content = Config(
        min_agent="1.0.0",
        agent=config.AgentChoice(version="1.2.3", sha256="a" * 64),
        foreground=(("wps", Category.OFFICE),),
        model=MODEL,
    )
    only = Config(**{name: getattr(content, name)})
    assert misplaced(only) == (name,)
    assert getattr(merge(BASE, said(only)).config, name) == getattr(only, name)
    with pytest.raises(ValueError, match=name):
        merge(BASE, said(Config(), only))


@given(configs, configs)
def test_narrowed_widens_neither_and_leaves_what_does_not_collect(one, by):
    made = narrowed(one, by)
    assert widened(one, made) == ()
    assert set(widened(by, made)) <= set(ALONE)
    assert narrowed(made, by) == made
    assert all(DIRECTIONS[name].collects for name in changed(one, made))


@given(configs)
def test_nothing_is_wider_than_itself(one):
    assert widened(one, one) == ()
    assert narrowed(one, one) == one
    assert narrowed(one, Config()) == one


@given(configs, configs, configs)
def test_what_is_wider_than_none_is_wider_than_nothing_between(one, two, three):
    """No chain of steps that widen nothing ends wider than it began."""
    two = narrowed(one, two)
    assert widened(one, narrowed(two, three)) == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Config(usage_s=60), Config(usage_s=10)),
        (Config(usage_s=0), Config(usage_s=60)),
        (Config(usage_s=0), Config()),
        (Config(hours=()), Config(hours=((0, 0, 1),))),
        (Config(hours=()), Config()),
        (Config(categories=()), Config(categories=(Category.OFFICE,))),
        (Config(categories=()), Config()),
        (Config(inference=False), Config(inference=True)),
        (Config(inference=False), Config()),
        (Config(score_min_pct=50), Config(score_min_pct=49)),
        (Config(scan_s=10), Config(scan_s=9)),
        (Config(), Config(model=MODEL)),
        (Config(model=MODEL), Config(model=replace(MODEL, version="2"))),
        (Config(), Config(foreground=(("wps", Category.OFFICE),))),
    ],
)
def test_each_of_these_widens_and_its_other_way_round_may_not(before, after):
    assert len(widened(before, after)) == 1
    if not misplaced(before) and not misplaced(after):
        assert widened(after, before) == ()


def test_what_does_not_collect_widens_nothing():
    before = Config(spool_max_mb=8, upload_kbps=8, log_level=LogLevel.ERROR, breaks=())
    assert widened(before, Config()) == ()
    assert widened(Config(model=MODEL), Config()) == ()


@given(configs)
def test_what_is_written_is_read_back(one):
    assert from_json(to_json(one)) == one


def test_a_field_of_a_later_release_is_passed_over():
    assert from_json({"widen": True, "host_s": 30}) == Config(host_s=30)


loose = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 1440), st.integers(0, 1440)), max_size=20
)


@given(loose, st.integers(0, 7 * 1440 - 1))
def test_tidy_spans_hold_at_the_same_minutes(untidy, minute):
    tidy = tidy_spans(untidy)
    day, of_day = divmod(minute, 1440)
    in_one = any(on == day and begins <= of_day < ends for on, begins, ends in untidy)
    assert holds_at(tidy, MONDAY_EIGHT_MS + (minute - 480) * MINUTE_MS) is in_one
    assert tidy_spans(tidy) == tidy
    assert Config(hours=tidy).hours == tidy


@given(spans, spans, st.integers(0, 7 * 1440 - 1))
def test_the_narrower_of_two_times_is_when_both_hold(one, other, minute):
    both = DIRECTIONS["hours"].meet(one, other)
    moment_ms = MONDAY_EIGHT_MS + minute * MINUTE_MS
    assert holds_at(both, moment_ms) is (holds_at(one, moment_ms) and holds_at(other, moment_ms))


def test_spans_are_of_the_regions_clocks_and_end_before_their_end():
    eight = ((0, 480, 481),)
    assert holds_at(eight, MONDAY_EIGHT_MS)
    assert holds_at(eight, MONDAY_EIGHT_MS + MINUTE_MS - 1)
    assert not holds_at(eight, MONDAY_EIGHT_MS + MINUTE_MS)
    assert not holds_at(eight, MONDAY_EIGHT_MS - 1)
    assert holds_at(((6, 1439, 1440),), MONDAY_EIGHT_MS - 481 * MINUTE_MS)


@pytest.mark.parametrize(
    "content",
    [
        {"hours": ((0, 600, 480),)},
        {"hours": ((0, 0, 60), (0, 60, 120))},
        {"hours": ((1, 0, 60), (0, 0, 60))},
        {"breaks": ((0, 0, 60), (0, 30, 90))},
        {"categories": (Category.OFFICE, Category.MEDIA)},
        {"categories": (Category.MEDIA, Category.MEDIA)},
        {"foreground": (("b", Category.MEDIA), ("a", Category.MEDIA))},
        {"foreground": (("a", Category.MEDIA), ("a", Category.OFFICE))},
    ],
)
def test_a_list_that_is_not_in_its_one_form_is_refused(content):
    with pytest.raises(ValueError, match="order"):
        Config(**content)


@pytest.mark.parametrize(
    ("school", "room", "expected"),
    [
        (None, None, False),
        (((0, 480, 600),), ((0, 540, 660),), False),
        (((0, 480, 600),), ((0, 600, 660),), True),
        (((0, 480, 600),), ((1, 480, 600),), True),
        ((), None, True),
    ],
)
def test_hours_of_two_layers_may_leave_no_moment_in_a_week(school, room, expected):
    layers = said(Config(), Config(), Config(), Config(hours=school), Config(hours=room))
    assert hours_are_empty(merge(BASE, layers).config) is expected


@pytest.mark.parametrize(
    ("asked_s", "every_s"),
    [(0, 300), (300, 300), (301, 600), (1200, 1200), (1201, 1800), (2700, 3600), (3600, 3600)],
)
def test_people_are_counted_at_the_interval_asked_or_the_next_longer_that_divides_an_hour(
    asked_s, every_s
):
    assert counted_every_s(asked_s) == every_s
    assert all(3600 % one == one % 300 == 0 for one in COUNTED_EVERY_S)
