"""What the signing tool makes passes on the devices it says it passes on, and on no other."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.provisioning.config_samples import configs
from tests.unit.provisioning.publishers import NOW_S, ONE, TRUST, TWO

from ketang_agent.remote.acceptance import ConfigRefused, Held, Situation, judge
from ketang_contract import signatures, validate
from ketang_contract.config import DIRECTIONS, Alone, Config, Level, merge
from ketang_contract.layers import Desired
from ketang_contract.records import Category
from ketang_profiles.configured import as_config
from ketang_profiles.profile import shipped
from ketang_provisioning import placing, signing, standings
from ketang_provisioning.signing import Before

BASE = as_config(shipped("ops_pc"))
PATH = ["lan", "lan-shi", "lan-xian", "s1"]
LINE = (
    '{"device": "s1-pc-1", "path": [["region", "lan"], ["city", "lan-shi"],'
    ' ["county", "lan-xian"], ["school", "s1"]]}'
)
LISTED = tuple(placing.listed([LINE], TRUST, now_s=NOW_S))
(PLACED,) = placing.sign_placements(LISTED, [ONE], TRUST, NOW_S)
FATES = ("missed", "failed", "committed")


@dataclass
class Device:
    """One that hears of some releases, and on which trials pass or fail."""

    held: Held = field(default_factory=Held)
    in_force: Config = BASE

    def hear(self, envelope, fate="committed"):
        """Judge one layer; the reason why not, or nothing."""
        now = Situation(
            device="s1-pc-1",
            agent_version="9999.0.0",
            base=BASE,
            in_force=self.in_force,
            trust=TRUST,
            now_s=NOW_S,
            signers=signatures.signed_by,
            payload=signatures.unverified,
            read=validate.signed,
        )
        try:
            found = judge(Desired(placement=PLACED.envelope, layers=(envelope,)), self.held, now)
        except ConfigRefused as problem:
            return problem.reason
        committed = fate == "committed"
        self.held = found.held_committed if committed else found.held
        self.in_force = found.config if committed else found.fallback
        return None


def for_level(content, level):
    if level is Level.REGION:
        return content
    alone = [name for name, one in DIRECTIONS.items() if isinstance(one, Alone)]
    return replace(content, **{name: None for name in alone if name != "schema"})


near = st.builds(
    Config,
    usage_s=st.sampled_from([None, 0, 30]),
    network_s=st.sampled_from([None, 0]),
    foreground=st.sampled_from([None, None, (("vlc", Category.MEDIA),)]),
)
"""So few, and so near to one another, that one holder is often enough."""


def steps(contents, least):
    two, undone = st.sampled_from([False, False, True]), st.sampled_from([False, False, True])
    fates = st.lists(st.sampled_from(FATES), min_size=2, max_size=2)
    return st.lists(st.tuples(contents, two, undone, fates), min_size=least, max_size=5)


class Story:
    """A line of releases, a device that follows all of it, and some that do not."""

    def __init__(self, level):
        self.at = signing.place(PATH[:1] if level is Level.REGION else PATH)
        self.stood, self.releases = Before(), []
        self.follower, self.others = Device(), [Device(), Device()]

    def standing(self, release):
        return standings.standing(release, self.at, self.stood, [BASE], TRUST, NOW_S)

    def publish(self, content, keys, fates):
        content = for_level(content, self.at.level)
        pair = signing.compose(content, self.at, self.stood, TRUST, now_s=NOW_S)
        release = signing.sign_layer(pair, keys, self.at, TRUST, NOW_S)
        found = self.standing(release)
        if not found.passes:
            assert self.follower.hear(release.layer) == "one_holder"
            release = signing.add_signature(release, TWO, self.at, TRUST, NOW_S)
            found = self.standing(release)
            assert found.complete
        assert self.follower.hear(release.layer) is None
        for device, fate in zip(self.others, fates, strict=False):
            if fate != "missed":
                reason = device.hear(release.layer, fate)
                assert reason is None or (reason == "one_holder" and not found.complete)
        self.releases.append(release)
        self.stood = signing.before(self.releases, self.at, TRUST)

    def take_back(self, fates):
        release, stood = self.releases[-1], self.stood
        self.stood = signing.before(self.releases[:-1], self.at, TRUST)
        if not self.standing(release).complete:
            signed = signing.add_signature(release, TWO, self.at, TRUST, NOW_S)
            self.releases[-1] = release = signed
        self.stood = stood
        assert self.follower.hear(release.undo) is None
        for device, fate in zip(self.others, fates, strict=False):
            if fate != "missed":
                assert device.hear(release.undo, fate) is None
        self.stood = signing.before(self.releases, self.at, TRUST, after_undo=True)


@given(
    level=st.sampled_from([Level.REGION, Level.SCHOOL]),
    told=st.one_of(steps(near, 3), steps(configs, 1)),
)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_the_tool_calls_complete_passes_everywhere_and_a_draft_nowhere(level, told):
    story = Story(level)
    for content, two, undone, fates in told:
        story.publish(content, (ONE, TWO) if two else (ONE,), fates)
        if undone:
            story.take_back(fates[::-1])


def test_one_holder_narrows_at_once_and_the_second_makes_it_pass_on_a_new_device():
    story = Story(Level.REGION)
    story.publish(Config(usage_s=30, inference=True), (ONE, TWO), ["missed"] * 2)
    pair = signing.compose(
        Config(usage_s=30, inference=False), story.at, story.stood, TRUST, now_s=NOW_S
    )
    release = signing.sign_layer(pair, [ONE], story.at, TRUST, NOW_S)
    assert story.follower.hear(release.layer) is None
    assert story.follower.in_force.inference is False
    assert Device().hear(release.layer) == "one_holder"
    both = signing.add_signature(release, TWO, story.at, TRUST, NOW_S)
    assert Device().hear(both.layer) is None
    assert story.follower.hear(both.layer) is None  # the same document, signed once more


@pytest.mark.parametrize("content", [Config(foreground=(("vlc", Category.MEDIA),))])
def test_an_undo_that_brings_programs_back_passes_when_two_have_signed(content):
    story = Story(Level.REGION)
    story.publish(content, (ONE, TWO), [])
    story.publish(Config(), (ONE,), [])
    assert story.follower.hear(story.releases[-1].undo) == "one_holder"
    story.take_back([])
    assert story.follower.in_force.foreground == content.foreground
    assert merge(BASE, []).config == BASE


def test_an_undo_that_is_wider_than_a_profile_passes_on_a_new_device_when_two_have_signed():
    story = Story(Level.REGION)
    story.publish(Config(usage_s=30), (ONE, TWO), [])
    before = story.stood
    story.publish(Config(usage_s=60), (ONE,), [])
    release = story.releases[-1]
    found = standings.standing(release, story.at, before, [BASE], TRUST, NOW_S)
    assert (found.passes, found.complete, found.older_widens) == (True, False, ("usage_s",))
    assert Device().hear(release.undo) == "one_holder"
    story.take_back([])
    assert Device().hear(story.releases[-1].undo) is None
