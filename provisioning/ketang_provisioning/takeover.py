"""Throwing out a client that is connected: by coming in under its id.

No broker drops who is connected when a certificate is revoked. But of two clients with one id MQTT
keeps the later (3.1.4-2), and both brokers do: the earlier is cut off, its session discarded, and
what is sent to the id comes to us. That is not believed but shown: a message sent there must reach
us.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ketang_contract import topics
from ketang_provisioning.broker_probe import Address, Probe
from ketang_provisioning.ca import Identity

PATIENCE_S = 10.0
_TRY_S = 2.0


def evict(
    address: Address,
    ca_file: Path,
    identity: Identity,
    device: str,
    probe: Callable[[], None],
    patience_s: float = PATIENCE_S,
) -> bool:
    """Cut a device's connection and prove by delivery that its id was ours.

    The old certificate must be refused by then, or its holder comes straight back: this is done
    after the revocation list has reached the broker, and tried again where it returns false.

    Args:
        address: of the broker.
        ca_file: authorities of servers.
        identity: a fresh certificate with the device's id for a name, good for minutes.
        device: its id.
        probe: sends, as the centre, any message to the device's ``dn/``, not retained.
        patience_s: how long to try.

    Returns:
        Whether a message sent to the device reached us.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with Probe(
            address, ca_file, identity, device, filters=(topics.of(device, "dn/#"),)
        ) as ours:
            if ours.entered and ours.granted:
                probe()
                # what was retained for the device comes to whoever subscribes
                if ours.wait(partial(_came, ours), _TRY_S):
                    return True
        time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
    return False


def _came(ours: Probe) -> bool:
    return any(not one.retain for one in ours.got)
