"""From a code to a figure: enrol by kit over HTTPS, connect with what was given, be counted."""

import json
import sqlite3
import stat
import subprocess
import time
from contextlib import closing

import pytest
from tests.regions import KETANG, Region, enroll

from ketang_cli.local_broker import Kind, find_broker

BROKERS = (pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS)


def stored(region, device):
    """Sum of all numbers the centre's ledgers hold of a device."""
    file = region.data_dir / "control.db"
    if not file.exists():
        return 0
    with closing(sqlite3.connect(file)) as db:
        try:
            rows = db.execute("SELECT stored FROM account WHERE device = ?", (device,)).fetchall()
        except sqlite3.OperationalError:
            return 0
    return sum(last - first + 1 for (text,) in rows for first, last in json.loads(text))


def wait_for(condition, patience_s=60):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


@pytest.mark.parametrize("kind", BROKERS)
def test_a_device_enrols_by_kit_and_is_counted(tmp_path, kind):
    region = Region(tmp_path)
    (asset,) = region.register(1)
    kit = region.kit(tmp_path / "kit", region.code())
    folder = region.device_folder(tmp_path / "device")
    with region.broker(find_broker(kind)), region.center():
        first = enroll(folder, "--kit", str(kit), "--serial", asset.serial)
        assert first.returncode == 0, first.stderr + region.log()
        assert asset.device in first.stdout
        again = enroll(folder, "--kit", str(kit), "--serial", asset.serial)
        assert again.returncode == 0, "asked twice, it is the same device"
        agent = subprocess.Popen(
            [*KETANG, "agent", "run", "--settings", str(folder / "agent.toml")],
            stderr=subprocess.PIPE,
        )
        try:
            wait_for(lambda: stored(region, asset.device) > 0)
        finally:
            agent.terminate()
            agent.communicate(timeout=30)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "identity.pem").stat().st_mode) == 0o600
    assert not (folder / "asking.key").exists()
    with closing(sqlite3.connect(region.data_dir / "enrolment.db")) as db:
        assert db.execute("SELECT count(*) FROM certificate").fetchone() == (1,)
        assert db.execute("SELECT used FROM code").fetchone() == (1,)
