"""What the demo's stage knows of the devices on it."""

import pytest

from ketang_cli import fiction
from ketang_cli.local_broker import find_broker
from ketang_cli.stage import Stage


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
