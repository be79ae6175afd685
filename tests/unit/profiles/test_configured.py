import pytest

from ketang_contract.config import COLLECTORS, Config, filled
from ketang_contract.records import to_json
from ketang_profiles import profile
from ketang_profiles.configured import agents, as_config


@pytest.mark.parametrize("kind", profile.kinds())
def test_every_shipped_profile_is_a_configuration_that_a_layer_could_say(kind):
    from pydantic import TypeAdapter

    made = as_config(profile.shipped(kind))
    assert TypeAdapter(Config).validate_python(made) == made
    assert TypeAdapter(Config).validate_python(to_json(made) | {"schema": 1}, strict=False) == made


def test_a_collector_that_a_profile_does_not_name_is_off_and_stays_off():
    base = as_config(profile.shipped("class_board"))
    assert base.occupancy_s == 0
    assert filled(base, Config(occupancy_s=300)).occupancy_s == 0
    assert filled(base, Config(usage_s=30)).usage_s == 30


def test_profiles_and_configurations_know_the_same_collectors():
    assert set(profile.COLLECTORS) == set(COLLECTORS)


def test_only_kinds_that_an_agent_runs_on_ever_hold_a_layer():
    made = agents()
    assert as_config(profile.shipped("ops_pc")) in made
    assert as_config(profile.shipped("ap_switch")) not in made
