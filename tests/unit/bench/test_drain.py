"""The harness behind drain and puback, at a small size: what it counts must be true."""

import pytest

from ketang_agent.clock import SystemClock
from ketang_agent.spool.store import Spool
from ketang_agent.uplink.sender import Sender
from ketang_bench import harness
from ketang_bench.device_process import TrustingSender
from ketang_bench.region import Region
from ketang_cli.local_broker import Kind


@pytest.fixture
def spool(tmp_path):
    path = tmp_path / "backlog.db"
    harness.make_backlog(path, 3_000)
    return path


@pytest.mark.mosquitto
@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False], ids=["ingest alone", "the whole centre"])
def test_every_record_arrives_once_and_live_ones_are_timed(tmp_path, spool, alone):
    done = harness.drain(Region(tmp_path / "region", Kind.MOSQUITTO), spool, alone=alone)
    assert done.lost == 0
    assert done.created == 3_000 + done.live
    assert done.live >= 1
    assert done.live_max_s > 0
    assert done.drain_s > 0


def test_the_variant_takes_the_brokers_word_and_the_product_does_not(tmp_path):
    """If it did not, its losses would mean nothing."""
    waiting = {}
    for kind in (Sender, TrustingSender):
        path = tmp_path / f"{kind.__name__}.db"
        harness.make_backlog(path, 30)
        with Spool(path) as spool:
            sender = kind(spool, "gateway", "center-1")
            while out := sender.next_frame(SystemClock().now()):
                sender.confirm(out.digest)
            waiting[kind] = sum(len(spool.pending(lane)) for lane in spool.lanes())
    assert waiting == {Sender: 30, TrustingSender: 0}
