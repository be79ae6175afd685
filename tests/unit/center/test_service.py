"""The centre's parts, each on its own."""

import logging
import sqlite3

from ketang_center.ingest.subscriber import Ear
from ketang_center.metrics.rollup import Rollup
from ketang_center.service import Center
from ketang_center.settings import Settings
from ketang_provisioning.ca import ThrowawayAuthority


def test_rollups_that_cannot_write_say_so_once_and_go_on_by_themselves(
    tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    identity = ThrowawayAuthority(tmp_path / "keys").client("center_ingest")
    ear = Ear("127.0.0.1", 1, identity.ca_file, identity.certificate_file, identity.key_file)
    center = Center(Settings(data_dir=tmp_path, ear=ear, web_host="127.0.0.1", web_port=0))
    turns = iter([sqlite3.OperationalError("disk is full")] * 3)

    def step(_, limit):
        problem = next(turns, None)
        if problem:
            raise problem
        center.stop()
        return 0

    monkeypatch.setattr("ketang_center.service._REST_S", 0.01)
    monkeypatch.setattr(Rollup, "step", step)
    center._roll_up()
    assert caplog.messages == ["rollup.waiting why=disk is full", "rollup.goes_on"]
