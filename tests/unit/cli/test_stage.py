"""What the demo's stage knows of the devices on it."""

import shutil
from datetime import UTC, datetime

import pytest

from ketang_cli import fiction, stage_release
from ketang_cli.local_broker import find_broker
from ketang_cli.stage import Stage, point_at_broker
from ketang_cli.stage_region import StageRegion


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path, program=find_broker(), days=1, web_port=0)


def test_an_agent_that_ended_before_it_made_its_spool_has_none(stage, tmp_path):
    own = tmp_path / "agent" / fiction.OWN
    assert stage.spools() == []
    own.mkdir(parents=True)
    assert stage.spools() == []
    (own / "spool.db").touch()
    assert stage.spools() == [own / "spool.db"]


def test_an_agent_that_enrolled_in_an_earlier_run_is_told_the_brokers_port_of_this_one(tmp_path):
    settings = tmp_path / "agent.toml"
    settings.write_text('broker_host = "127.0.0.1"\nbroker_port = 20001\nlocal_port = 0\n')
    point_at_broker(settings, 20002)
    assert settings.read_text().splitlines() == [
        'broker_host = "127.0.0.1"',
        "broker_port = 20002",
        "local_port = 0",
    ]


def test_a_region_is_kept_and_one_without_a_first_release_is_made_anew_with_all_that_hangs_on_it(
    tmp_path,
):
    center, held = tmp_path / "center", tmp_path / "devices" / "liuwan-pc-1" / "remote"
    center.mkdir()
    region, now = StageRegion(tmp_path / "region", center), datetime.now(UTC)
    assert region.prepare(now)
    held.mkdir(parents=True)
    (center / "rollouts.db").touch()
    assert not region.prepare(now)
    assert held.exists()
    assert (center / "rollouts.db").exists()
    shutil.rmtree(region.folder / stage_release.FOLDER)
    assert region.prepare(now)
    assert stage_release.is_signed(region.folder)
    assert not held.exists(), "what a device holds was signed by keys that are no more"
    assert not (center / "rollouts.db").exists()
