"""Thrown out: refused by ingest at once, cut off at the broker, and not let in again."""

import json
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from tests.regions import KETANG, Region, enroll, now_ms

from ketang_center.enrolment.book import Book
from ketang_cli.local_broker import Kind, find_broker

BROKERS = (pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS)
PATIENCE_S = 60


def wait_for(condition, patience_s=PATIENCE_S):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience_s, "it never came"
        time.sleep(0.05)
    return time.monotonic() - began


def ask(file, query, *values):
    if not file.exists():
        return []
    with closing(sqlite3.connect(file, timeout=10)) as db:
        try:
            return db.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            return []


def connected(region, device):
    rows = ask(
        region.data_dir / "control.db", "SELECT connected FROM presence WHERE device = ?", device
    )
    return rows == [(1,)]


def stored(region, device):
    rows = ask(
        region.data_dir / "control.db", "SELECT stored FROM account WHERE device = ?", device
    )
    return sum(last - first + 1 for (text,) in rows for first, last in json.loads(text))


def read(file):
    return file.read_text("utf-8")


def works(region, device):
    return connected(region, device) and stored(region, device)


def counted(region, what):
    rows = ask(region.data_dir / "security.db", "SELECT count FROM total WHERE what = ?", what)
    return rows[0][0] if rows else 0


def agent(folder):
    with (folder / "agent.log").open("ab") as log:
        return subprocess.Popen(
            [*KETANG, "agent", "run", "--settings", str(folder / "agent.toml")], stderr=log
        )


@pytest.mark.parametrize("kind", BROKERS)
def test_a_device_that_is_thrown_out_is_cut_off_within_seconds_and_stays_out(tmp_path, kind):
    region = Region(tmp_path)
    lost, kept = region.register(2)
    kit = region.kit(tmp_path / "kit", region.code())
    folders = {one.device: region.device_folder(tmp_path / one.device) for one in (lost, kept)}
    with region.broker(find_broker(kind)) as broker, region.center():
        agents = []
        for one in (lost, kept):
            made = enroll(folders[one.device], "--kit", str(kit), "--serial", one.serial)
            assert made.returncode == 0, made.stderr
            agents.append(agent(folders[one.device]))
        try:
            for one in (lost, kept):
                wait_for(
                    lambda one=one: connected(region, one.device) and stored(region, one.device)
                )
            settings = str(region.center_folder / "center-test.toml")
            words = ["revoke", lost.device, "--why", "stolen", "--settings", settings]
            done = subprocess.run(
                [*KETANG, "provision", *words], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            log = folders[lost.device] / "agent.log"
            took_s = wait_for(lambda: "broker.lost" in log.read_text())
            assert took_s < 15
            wait_for(lambda: counted(region, "evicted"))
            before = stored(region, lost.device)
            # It tries again and again, and is refused at the door by now.
            connects = log.read_text().count("broker.connected")
            time.sleep(6)
            assert log.read_text().count("broker.connected") <= connects + 1
            assert stored(region, lost.device) == before
            assert connected(region, kept.device), "nobody else is touched"
            # and the broker's refusals are counted, however long the agent waits between its tries
            wait_for(lambda: broker.refusals.exists() and "certificate" in read(broker.refusals))
            wait_for(lambda: any(_broker_counts(region)))
        finally:
            for one in agents:
                one.terminate()
            for one in agents:
                one.wait(30)
        assert "Traceback" not in region.log()
    assert (folders[lost.device] / "data").exists(), "what it holds is still there"


def test_whoever_was_barred_while_the_centre_was_away_is_cut_off_when_it_is_back(tmp_path):
    """It stayed connected, since no broker drops who is within, and it may say nothing."""
    region = Region(tmp_path)
    (lost,) = region.register(1)
    kit = region.kit(tmp_path / "kit", region.code())
    folder = region.device_folder(tmp_path / "device")
    log = folder / "agent.log"
    with region.broker():
        with region.center():
            assert enroll(folder, "--kit", str(kit), "--serial", lost.serial).returncode == 0
            running = agent(folder)
            wait_for(lambda: works(region, lost.device))
        try:
            with Book(region.data_dir / "enrolment.db") as book:
                two_days = 2 * 86_400_000
                book.revoke(lost.device, at_ms=now_ms() - two_days, why="stolen", by="test")
            assert running.poll() is None
            with region.center():
                wait_for(lambda: "broker.lost" in log.read_text())
                wait_for(lambda: counted(region, "evicted"))
        finally:
            running.terminate()
            running.wait(30)


def _broker_counts(region):
    return ask(
        region.data_dir / "security.db", "SELECT what FROM total WHERE what LIKE 'broker_%cert%'"
    )
