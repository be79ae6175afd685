"""A simulated device's configuration: judged and tried as a real one's, its collectors made up."""

import pytest
from tests.security.config_world import DEVICE, NOW_S, PRIVATE, TRUST, bundle, layer, placement

from ketang_agent.clock import Instant
from ketang_agent.uplink.pacing import Budget
from ketang_cli.simulated_config import SimulatedConfig
from ketang_contract import signatures
from ketang_contract.config import Config
from ketang_contract.records import EventName
from ketang_contract.state import ConfigState
from ketang_contract.trust import PAYLOAD_TYPE

SAYS = Config(upload_kbps=512)


class Link:
    """A connection that comes back when it is told to."""

    def __init__(self):
        self.connected, self.session, self.budget, self.anew = True, 1, Budget(), 0

    def begin_anew(self, _now):
        self.connected, self.anew = False, self.anew + 1

    def comes_back(self):
        self.connected, self.session = True, self.session + 1


class Desk:
    def __init__(self, folder):
        self.folder, self.link, self.told, self.boottime_ms = folder, Link(), [], 0
        trust = folder / "trust.json"
        trust.write_bytes(signatures.seal(TRUST.payload(), PAYLOAD_TYPE, [PRIVATE["root"]]))
        self.config = SimulatedConfig(DEVICE, "ops_pc", "0.1.0", folder, trust, self.told.append)
        self.config.begin(self.now)

    @property
    def now(self):
        return Instant(NOW_S * 1000 + self.boottime_ms, self.boottime_ms, "boot-1")

    def step(self, *, acknowledged=True, ms=500):
        self.boottime_ms += ms
        self.config.step(self.link, self.now, acknowledged=acknowledged)
        return self.config.report.state


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def good(**more):
    return bundle(placement("one"), layer("lan", SAYS, "one", "two"), **more)


def test_a_release_is_committed_once_a_connection_made_under_it_is_acknowledged(desk):
    desk.config.bring(good(), desk.now)
    assert desk.step() is ConfigState.TRIAL
    assert desk.link.anew == 1
    assert desk.step() is ConfigState.TRIAL, "it is away"
    desk.link.comes_back()
    assert desk.step(acknowledged=False) is ConfigState.TRIAL
    assert desk.step() is ConfigState.COMMITTED
    assert desk.told == [EventName.CONFIG_TRIED, EventName.CONFIG_COMMITTED]
    assert desk.link.budget._kbps == SAYS.upload_kbps, "what it can carry out, it does"
    assert not desk.config.busy


def test_what_a_stranger_signed_is_refused(desk):
    desk.config.bring(bundle(placement("one"), layer("lan", SAYS, "stranger")), desk.now)
    assert desk.step() is ConfigState.REJECTED
    assert desk.link.anew == 0
    assert desk.link.budget._kbps is None
    assert desk.told == [EventName.CONFIG_REJECTED]


def test_a_trial_in_which_it_does_not_come_back_is_not_committed(desk):
    desk.config.bring(good(), desk.now)
    desk.step()
    assert desk.step(ms=60_000) is ConfigState.INCONCLUSIVE


def test_what_was_committed_is_in_force_after_a_start_and_told_of_again_when_it_is_brought(desk):
    desk.config.bring(good(), desk.now)
    desk.step()
    desk.link.comes_back()
    desk.step()
    before = desk.config.report
    desk.config.end()
    again = Desk(desk.folder)
    assert again.config.report == before
    again.config.bring(good(), again.now)
    assert again.step() is ConfigState.COMMITTED
    assert again.link.anew == 0, "nothing is in it that could fail"
    assert again.config.told_again
    again.config.told_again = False
    again.config.bring(good(), again.now)
    assert again.config.told_again
    assert not again.config.busy
