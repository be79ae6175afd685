"""The network probe that a command asks for: name, then one TCP connection, closed at once.

Where to is the agent's own setting; a command cannot name a host.
"""

import socket
import time
from collections.abc import Callable

from ketang_agent.collectors.background import Background
from ketang_agent.collectors.network import BrokerLink
from ketang_contract.commands import Probed

_TIMEOUT_S = 10.0


def prober(
    host: str,
    port: int,
    link: Callable[[], BrokerLink],
    monotonic: Callable[[], float] = time.monotonic,
) -> Background[Probed | None]:
    """Make the probe of a broker; ``link`` tells of the connection in use.

    Where the name is not found, both times are missing; where nobody answers, the second.
    """

    def ask() -> Probed:
        dns_ms = connect_ms = None
        began_s = monotonic()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            dns_ms = _ms(monotonic() - began_s)
            family, kind, protocol, _, address = found[0]
            began_s = monotonic()
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(_TIMEOUT_S)
                connection.connect(address)
                connect_ms = _ms(monotonic() - began_s)
        except OSError:
            pass  # what is missing in the answer says how far it came
        now = link()
        return Probed(family=now.family, rtt_ms=now.rtt_ms, dns_ms=dns_ms, connect_ms=connect_ms)

    return Background(ask, None, "ketang-command-probe")


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
