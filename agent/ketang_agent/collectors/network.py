"""The way out: link, address families, whether IPv6 works, throughput. No address ever leaves."""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ketang_agent.clock import Instant
from ketang_agent.collectors.background import Background
from ketang_agent.collectors.base import NetworkReading
from ketang_agent.collectors.kernel_files import number_of, text_of
from ketang_contract.records import Family, Ipv4Address, Ipv6Address, LinkKind, Probe

PROBE_EVERY_MS = 3_600_000
_ARPHRD_ETHER = 1
_RTF_UP = 0x1
_RTF_REJECT = 0x200
_IFA_UNUSABLE = 0x08 | 0x40
"""Failed or not yet finished duplicate address detection (if_addr.h)."""
_V4_ROUTE_FIELDS = 8
_V6_ROUTE_FIELDS = 10
_V6_ADDRESS_FIELDS = 6
_IPV4 = (Ipv4Address.NONE, Ipv4Address.PRIVATE, Ipv4Address.PUBLIC)
_IPV6 = (
    Ipv6Address.NONE,
    Ipv6Address.LINK_LOCAL,
    Ipv6Address.UNIQUE_LOCAL,
    Ipv6Address.GLOBAL,
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_UNIQUE_LOCAL = ipaddress.IPv6Network("fc00::/7")


@dataclass(frozen=True, slots=True)
class BrokerLink:
    """What the uplink knows of its connection."""

    family: Family = Family.NONE
    rtt_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Counters:
    interface: str
    at_ms: int
    received: int
    sent: int


class NetworkCollector:
    """Reads /proc/net and /sys/class/net; the hourly probe answers in the background."""

    name: ClassVar[str] = "network"

    def __init__(
        self,
        broker: Callable[[], BrokerLink] = BrokerLink,
        probe: Background[Probe] | None = None,
        root: Path = Path("/"),
    ) -> None:
        self._broker = broker
        self._probe = probe
        self._root = root
        self._counters: _Counters | None = None
        self._probe_at_ms = 0

    def sample(self, now: Instant) -> Iterator[NetworkReading]:
        """Yield one reading, and set the next probe going."""
        interface = default_interface(self._root)
        ipv6 = widest_ipv6(self._root)
        broker = self._broker()
        received_kbps, sent_kbps = self._throughput(interface, now.boottime_ms)
        yield NetworkReading(
            link=link_kind(self._root, interface),
            link_mbps=link_mbps(self._root, interface),
            ipv4=widest_ipv4(self._root),
            ipv6=ipv6,
            ipv6_probe=self._probed(ipv6, now.boottime_ms),
            mqtt_family=broker.family,
            rtt_ms=broker.rtt_ms,
            received_kbps=received_kbps,
            sent_kbps=sent_kbps,
        )

    def _probed(self, ipv6: Ipv6Address, now_ms: int) -> Probe:
        """Give the last answer, and ask again once an hour.

        Without an address worth trying there is none. Every minute would be thousands of empty
        connections a second at a region's broker.
        """
        if self._probe is None or ipv6 in (Ipv6Address.NONE, Ipv6Address.LINK_LOCAL):
            return Probe.NOT_RUN
        if self._probe.asking:
            # still asking a whole interval later: a resolver that hangs has failed
            return Probe.FAILED
        said = self._probe.latest
        if now_ms >= self._probe_at_ms:
            self._probe_at_ms = now_ms + PROBE_EVERY_MS
            self._probe.start()
        return said

    def _throughput(self, interface: str | None, at_ms: int) -> tuple[float | None, float | None]:
        """Kilobits per second both ways since the last call on the same interface."""
        before, self._counters = self._counters, _counters(self._root, interface, at_ms)
        after = self._counters
        if before is None or after is None or before.interface != after.interface:
            return None, None
        passed_ms = after.at_ms - before.at_ms
        received, sent = after.received - before.received, after.sent - before.sent
        if passed_ms <= 0 or received < 0 or sent < 0:  # the interface was reset
            return None, None
        return received * 8 / passed_ms, sent * 8 / passed_ms


def v6_probe(host: str, port: int, timeout_s: float) -> Background[Probe]:
    """Make the probe: a TCP connection over IPv6 and nothing else, which is closed at once."""

    def ask() -> Probe:
        try:
            found = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM)
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout_s)
                connection.connect(found[0][4])
        except OSError:
            return Probe.FAILED
        return Probe.OK

    return Background(ask, Probe.NOT_RUN, "ketang-probe")


def default_interface(root: Path) -> str | None:
    """Name of the interface the default route goes through, IPv4's first; never sent."""
    found = _default_v4(root) or _default_v6(root)
    return min(found)[1] if found else None


def _default_v4(root: Path) -> list[tuple[int, str]]:
    routes = [line.split() for line in _lines(root / "proc/net/route")[1:]]
    return [
        (int(one[6]), one[0])
        for one in routes
        if len(one) >= _V4_ROUTE_FIELDS
        and one[1] == one[7] == "00000000"
        and int(one[3], 16) & _RTF_UP
    ]


def _default_v6(root: Path) -> list[tuple[int, str]]:
    routes = [line.split() for line in _lines(root / "proc/net/ipv6_route")]
    return [
        (int(one[5], 16), one[9])
        for one in routes
        if len(one) == _V6_ROUTE_FIELDS
        and one[0] == "0" * 32
        and one[1] == "00"
        and int(one[8], 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP
        and one[9] != "lo"
    ]


def link_kind(root: Path, interface: str | None) -> LinkKind:
    """Tell what kind of link an interface is."""
    if interface is None:
        return LinkKind.NONE
    link = root / "sys/class/net" / interface
    if (link / "wireless").exists() or (link / "phy80211").exists():
        return LinkKind.WIFI
    uevent = text_of(link / "uevent") or ""
    if number_of(link / "type") == _ARPHRD_ETHER and "DEVTYPE=wwan" not in uevent:
        return LinkKind.ETHERNET
    return LinkKind.OTHER


def link_mbps(root: Path, interface: str | None) -> int | None:
    """Negotiated speed; unknown for wireless and virtual links, which say -1 or nothing."""
    said = number_of(root / "sys/class/net" / interface / "speed") if interface else None
    return said if said is not None and said > 0 else None


def widest_ipv4(root: Path) -> Ipv4Address:
    """Widest class among the addresses the kernel calls local, loopback aside."""
    widest, last = 0, ""
    for line in _lines(root / "proc/net/fib_trie"):
        text = line.strip()
        if text.startswith("|--"):
            last = text[3:].strip()
        elif text.startswith("/32 host LOCAL") and last:
            address = ipaddress.IPv4Address(last)
            if not address.is_loopback:
                widest = max(widest, 2 if address.is_global else 1)
    return _IPV4[widest]


def widest_ipv6(root: Path) -> Ipv6Address:
    """Widest class among the usable addresses, loopback aside."""
    widest = 0
    for line in _lines(root / "proc/net/if_inet6"):
        one = line.split()
        if len(one) != _V6_ADDRESS_FIELDS or int(one[4], 16) & _IFA_UNUSABLE:
            continue
        address = ipaddress.IPv6Address(int(one[0], 16))
        if address in _GLOBAL_UNICAST:
            widest = max(widest, 3)
        elif address in _UNIQUE_LOCAL:
            widest = max(widest, 2)
        elif address.is_link_local:
            widest = max(widest, 1)
    return _IPV6[widest]


def _counters(root: Path, interface: str | None, at_ms: int) -> _Counters | None:
    if interface is None:
        return None
    folder = root / "sys/class/net" / interface / "statistics"
    received, sent = number_of(folder / "rx_bytes"), number_of(folder / "tx_bytes")
    if received is None or sent is None:
        return None
    return _Counters(interface, at_ms, received, sent)


def _lines(path: Path) -> list[str]:
    return (text_of(path) or "").splitlines()
