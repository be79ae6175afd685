import socket
import threading

import pytest
from tests.unit.agent import trees
from tests.unit.agent.clocks import FakeClock
from tests.unit.agent.trees import plant, wired

from ketang_agent.collectors.background import Background
from ketang_agent.collectors.network import (
    BrokerLink,
    NetworkCollector,
    default_interface,
    link_kind,
    link_mbps,
    v6_probe,
    widest_ipv4,
    widest_ipv6,
)
from ketang_contract.records import Family, Ipv4Address, Ipv6Address, LinkKind, Probe

PATIENCE_S = 30


@pytest.fixture
def clock():
    return FakeClock()


def test_a_wired_panel_tells_its_link_and_throughput_but_no_address(tmp_path, clock):
    collector = NetworkCollector(lambda: BrokerLink(Family.V4, 12), root=wired(tmp_path))
    (first,) = collector.sample(clock.now())
    assert first.received_kbps is None
    statistics = "sys/class/net/enp1s0/statistics"
    plant(tmp_path, {f"{statistics}/rx_bytes": "1750000", f"{statistics}/tx_bytes": "575000"})
    (second,) = collector.sample(clock.passes(60))
    assert (second.link, second.link_mbps) == (LinkKind.ETHERNET, 1000)
    assert (second.received_kbps, second.sent_kbps) == (100, 10)
    assert (second.ipv4, second.ipv6) == (Ipv4Address.PRIVATE, Ipv6Address.UNIQUE_LOCAL)
    assert (second.mqtt_family, second.rtt_ms) == (Family.V4, 12)
    assert "192.168" not in repr(second)
    assert "enp1s0" not in repr(second)


def test_counters_that_went_back_make_no_throughput(tmp_path, clock):
    collector = NetworkCollector(root=wired(tmp_path))
    list(collector.sample(clock.now()))
    plant(tmp_path, {"sys/class/net/enp1s0/statistics/rx_bytes": "5"})
    (reading,) = collector.sample(clock.passes(60))
    assert reading.received_kbps is None


def test_a_machine_without_network_says_none(tmp_path, clock):
    (reading,) = NetworkCollector(root=tmp_path).sample(clock.now())
    assert reading.link is LinkKind.NONE
    assert (reading.ipv4, reading.ipv6) == (Ipv4Address.NONE, Ipv6Address.NONE)


def test_the_default_route_of_ipv6_serves_where_ipv4_has_none(tmp_path):
    plant(tmp_path, {"proc/net/ipv6_route": trees.ROUTE6})
    assert default_interface(tmp_path) == "wwan0"


def test_kinds_of_links_are_told_apart(tmp_path):
    wired(tmp_path)
    assert link_kind(tmp_path, "wlp2s0") is LinkKind.WIFI
    assert link_kind(tmp_path, "wwan0") is LinkKind.OTHER
    assert link_kind(tmp_path, "tun0") is LinkKind.OTHER


def test_a_speed_of_minus_one_is_unknown(tmp_path):
    plant(wired(tmp_path), {"sys/class/net/enp1s0/speed": "-1"})
    assert link_mbps(tmp_path, "enp1s0") is None
    assert link_mbps(tmp_path, None) is None


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", Ipv4Address.PRIVATE),
        ("100.64.0.9", Ipv4Address.PRIVATE),
        ("169.254.7.7", Ipv4Address.PRIVATE),
        ("1.2.3.4", Ipv4Address.PUBLIC),
    ],
)
def test_the_widest_ipv4_class_wins(tmp_path, address, expected):
    table = trees.FIB_TRIE.replace("192.168.0.17", address)
    plant(tmp_path, {"proc/net/fib_trie": table})
    assert widest_ipv4(tmp_path) is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (trees.LOOPBACK6, Ipv6Address.NONE),
        (trees.LINK_LOCAL6, Ipv6Address.LINK_LOCAL),
        (trees.GLOBAL6 + trees.UNIQUE6, Ipv6Address.GLOBAL),
        (trees.TENTATIVE6 + trees.UNIQUE6, Ipv6Address.UNIQUE_LOCAL),
    ],
)
def test_the_widest_usable_ipv6_class_wins(tmp_path, lines, expected):
    plant(tmp_path, {"proc/net/if_inet6": lines})
    assert widest_ipv6(tmp_path) is expected


def test_the_probe_connects_over_ipv6_only():
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        port = listener.getsockname()[1]
        probe = v6_probe("::1", port, 2.0)
        assert probe.latest is Probe.NOT_RUN
        probe.start()
        probe.wait(PATIENCE_S)
        assert probe.latest is Probe.OK
    probe.start()
    probe.wait(PATIENCE_S)
    assert probe.latest is Probe.FAILED
    over_v4 = v6_probe("127.0.0.1", port, 2.0)
    over_v4.start()
    over_v4.wait(PATIENCE_S)
    assert over_v4.latest is Probe.FAILED


def test_a_resolver_that_hangs_delays_no_sample_and_counts_as_failed(tmp_path, clock):
    released = threading.Event()

    def hangs():
        released.wait(PATIENCE_S)
        return Probe.OK

    probe = Background(hangs, Probe.NOT_RUN, "probe")
    collector = NetworkCollector(probe=probe, root=wired(tmp_path))
    (first,) = collector.sample(clock.now())
    (second,) = collector.sample(clock.passes(60))  # would never come if it waited
    assert (first.ipv6_probe, second.ipv6_probe) == (Probe.NOT_RUN, Probe.FAILED)
    released.set()
    probe.wait(PATIENCE_S)
    (third,) = collector.sample(clock.passes(60))
    assert third.ipv6_probe is Probe.OK
    probe.wait(PATIENCE_S)


def test_without_an_address_worth_trying_the_probe_does_not_run(tmp_path, clock):
    plant(wired(tmp_path), {"proc/net/if_inet6": trees.LINK_LOCAL6})
    asked = []
    probe = Background(lambda: asked.append(1) or Probe.OK, Probe.NOT_RUN, "probe")
    (reading,) = NetworkCollector(probe=probe, root=tmp_path).sample(clock.now())
    assert reading.ipv6_probe is Probe.NOT_RUN
    assert asked == []


def test_the_probe_asks_once_an_hour_whatever_the_interval(tmp_path, clock):
    asked = []
    probe = Background(lambda: asked.append(1) or Probe.OK, Probe.NOT_RUN, "probe")
    collector = NetworkCollector(probe=probe, root=wired(tmp_path))
    for _ in range(61):
        (reading,) = collector.sample(clock.passes(60))
        probe.wait(PATIENCE_S)
    assert len(asked) == 2
    assert reading.ipv6_probe is Probe.OK
