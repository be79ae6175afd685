"""Anything may happen to a rollout in any order; what must hold holds at each step."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.regions import Region
from tests.rollouts import Scene

from ketang_center.rollouts.plan import UNRESOLVED, Rules
from ketang_contract.errors import BadInput
from ketang_contract.state import ConfigState

COUNT = 16
RULES = Rules(groups=(4, 6), unresolved=5, failures_least=2)
ANSWERS = [
    ConfigState.COMMITTED,
    ConfigState.ROLLED_BACK,
    ConfigState.REJECTED,
    ConfigState.INCONCLUSIVE,
    ConfigState.TRIAL,
    ConfigState.STAGED,
    None,
]
ACTS = st.one_of(
    st.tuples(st.just("answer"), st.integers(0, COUNT - 1), st.sampled_from(ANSWERS)),
    st.tuples(st.just("leave"), st.integers(0, COUNT - 1), st.booleans()),
    st.tuples(st.just("come"), st.integers(0, COUNT - 1), st.none()),
    st.tuples(st.just("go on"), st.integers(1, 8), st.sampled_from([500, 20_000, 400_000])),
    st.tuples(
        st.sampled_from(["kill", "kill before the publish", "deaf", "pause", "resume", "retry"]),
        st.just(0),
        st.none(),
    ),
)


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    return Region(tmp_path_factory.mktemp("region"))


class Story:
    """One rollout to which things happen."""

    def __init__(self, scene):
        self.scene, self.tries = scene, 0
        scene.place()
        self.no = scene.push(rules=RULES)

    def do(self, act, which, how):
        scene, device = self.scene, f"d{which}"
        match act:
            case "answer":
                scene.devices[device].answer = how
            case "leave":
                scene.leave(device, orderly=how)
            case "come":
                scene.come_back(device)
            case "go on":
                self.steps(which, how)
            case "kill":
                scene.start()
            case "kill before the publish":
                self._die()
            case "deaf":
                scene.hearing_ms = None
                scene.steps(2, 100_000)
                scene.hearing_ms = scene.now_ms
            case _:
                self._person(act)

    def _die(self):
        self.scene.failing = True
        try:
            self.scene.steps(1)
        except OSError:
            self.scene.start()
        self.scene.failing = False

    def _person(self, act):
        office = self.scene.office
        try:
            if act == "pause":
                office.pause(self.no, "operator")
            elif act == "resume":
                office.resume(self.no, "operator")
            else:
                self.tries += bool(office.retry_failed(self.no, "operator"))
        except BadInput:
            return

    def check(self):
        scene = self.scene
        members = scene.book.members(self.no)
        for device in scene.devices.values():
            assert set(device.tried.values()) <= {1}, "it tried twice"
            assert all(attempt <= self.tries for _, attempt in device.tried)
        had = scene.book.all_had()
        assert {one.device for one in members if one.sent_ms} <= had.keys()

    def steps(self, count, every_ms):
        """Let time pass; whenever somebody is sent to, no more have it at hand than may."""
        for _ in range(count):
            self.scene.steps(1, every_ms)
            members = self.scene.book.members(self.no)
            if any(one.sent_ms == self.scene.now_ms for one in members):
                assert sum(one.state in UNRESOLVED for one in members) <= RULES.unresolved

    def calm_down(self):
        scene = self.scene
        for name, one in scene.devices.items():
            one.answer = ConfigState.COMMITTED
            if one.report.state is not ConfigState.COMMITTED:
                one.report = replace(one.report, desired=None)
                one.tried.clear()
            scene.come_back(name)
        for _ in range(6):
            scene.start()
            scene.hearing_ms = scene.now_ms
            for act in ("retry", "resume"):
                self._person(act)
            self.steps(30, 30_000)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTS, max_size=25))
def test_whatever_happens_nobody_is_skipped_and_nobody_tries_by_itself(
    region, tmp_path_factory, acts
):
    scene = Scene(region, tmp_path_factory.mktemp("story"), COUNT)
    try:
        story = Story(scene)
        for act in acts:
            story.do(*act)
            story.check()
        story.calm_down()
        assert scene.counts(story.no) == {"committed": COUNT}
        assert scene.state(story.no) == "finished"
        scene.check_truth()
    finally:
        scene.close()
