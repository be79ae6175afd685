"""Nothing lost, nothing twice: devices, broker and centre are killed at random, again and again.

An outside ledger, written by the devices beside their spools, is compared with the centre's rows.
"""

import json
import logging
import os
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from ketang_agent.spool.store import Spool
from ketang_center.store.reading import StoreReader
from ketang_cli.local_broker import Kind, find_broker
from tests.faults.device import SPOOL, Told, ledger, nonce_of, read_ledger
from tests.faults.scene import Scene, Storm

log = logging.getLogger(__name__)

KILLS = int(os.environ.get("KETANG_KILLS", "10"))
"""Of every device, of the broker, and of the centre."""
SOAK_KILLS = 200
CONTROL_KILLS = 3
SEED = int(os.environ.get("KETANG_SEED", "1"))
DEVICES = ("panel-a", "panel-b")
RATE = 100
DRAIN_S = 120
BROKERS = (pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS)


def rage(folder, kind, kills, **options):
    """Let a storm pass over a whole scene, and wait for the calm; return what was killed."""
    scene = Scene(folder, find_broker(kind), DEVICES, RATE, **options)
    storm = Storm(scene, kills, SEED)
    try:
        scene.start()
        storm.run()
        statuses = scene.drain(DRAIN_S)
    finally:
        scene.stop()
    assert storm.troubles == []
    assert statuses == dict.fromkeys(DEVICES, 0), "a device did not come to rest"
    ended = {one: child.unasked for one, child in scene.devices.items()}
    assert not any(ended.values()), f"a device ended by itself: {ended}"
    assert not scene.center.unasked, f"the centre ended by itself: {scene.center.unasked}"
    return storm.count


def rows_of(folder, devices=DEVICES):
    """Every row of every day file: ``{device: Counter of nonces}``, read with sqlite alone."""
    held = {name: Counter() for name in devices}
    for file in sorted((folder / "center").glob("rows-*.db")):
        with closing(sqlite3.connect(file)) as db:
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'row'").fetchone():
                continue  # it is being made at this moment
            for device, line in db.execute("SELECT device, line FROM row"):
                held[device][nonce_of(json.loads(line)["body"])] += 1
    return held


def compare_with_the_ledger(folder, held):
    """Entered is in stored, stored is in tried, and nothing is there twice."""
    sizes = Counter()
    for name in held:
        told = read_ledger(folder / name)
        entered, tried, stored = Told.numbers(told.entered), Told.numbers(told.tried), held[name]
        twice = {nonce for nonce, times in stored.items() if times > 1}
        assert not twice, f"{name}: stored twice: {sorted(twice)[:20]}"
        assert not entered - stored.keys(), f"{name}: lost: {sorted(entered - stored.keys())[:20]}"
        assert not stored.keys() - tried, f"{name}: from nowhere: {sorted(stored.keys() - tried)}"
        sizes += Counter(entered=len(entered), tried=len(tried), stored=stored.total())
    return sizes


def compare_with_the_spools(folder):
    """At rest every ledger of the centre balances, and its head is the device's."""
    with StoreReader(folder / "center") as reading:
        ledgers = {(one.device, one.store_id, one.stream): one.ledger for one in reading.accounts()}
    for name in DEVICES:
        with Spool(folder / name / SPOOL) as spool:
            for lane in spool.lanes():
                ledger = ledgers.pop((name, lane.store_id, lane.stream))
                assert ledger.head == spool.head(lane) == len(ledger.stored)
                assert ledger.balanced
                assert (len(ledger.dropped), len(ledger.refused), ledger.quarantined) == (0, 0, 0)
    assert not ledgers, "the centre keeps an account of a store no device has"


def run(folder, kind, kills):
    count = rage(folder, kind, kills)
    sizes = compare_with_the_ledger(folder, rows_of(folder))
    compare_with_the_spools(folder)
    assert (count["broker"], count["center"]) == (kills, kills)
    assert count["agent"] == kills * len(DEVICES)
    assert (count["outage"], count["wiped store"]) == (1, 1)
    log.info("kills.passed broker=%s seed=%d %s %s", kind, SEED, dict(count), dict(sizes))


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKERS)
def test_nothing_is_lost_and_nothing_is_there_twice_whoever_is_killed(tmp_path, kind):
    run(tmp_path, kind, KILLS)


@pytest.mark.soak
@pytest.mark.parametrize("kind", BROKERS)
def test_nothing_is_lost_and_nothing_is_there_twice_in_a_long_run(tmp_path, kind):
    run(tmp_path, kind, SOAK_KILLS)


@pytest.mark.slow
def test_a_device_that_trusts_the_brokers_confirmation_is_found_out(tmp_path):
    rage(tmp_path, Kind.NATS, CONTROL_KILLS, trusting=True)
    with pytest.raises(AssertionError, match="lost"):
        compare_with_the_ledger(tmp_path, rows_of(tmp_path))


@pytest.mark.parametrize(
    ("stored", "says"),
    [([1, 2, 2, 3], "twice"), ([1, 2], "lost"), ([1, 2, 3, 5], "from nowhere")],
)
def test_the_comparison_sees_what_it_is_for(tmp_path, stored, says):
    for name in DEVICES:
        (tmp_path / name).mkdir()
        with ledger(tmp_path / name) as told:
            told.say("tried", 1, 3)
            told.say("entered", 1, 3)
            told.say("tried", 4, 4)
    held = {name: Counter([1, 2, 3, 4]) for name in DEVICES}
    compare_with_the_ledger(tmp_path, held)
    with pytest.raises(AssertionError, match=says):
        compare_with_the_ledger(tmp_path, held | {DEVICES[1]: Counter(stored)})
