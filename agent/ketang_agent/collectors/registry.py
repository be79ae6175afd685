"""The collectors of this device: a plain tuple, made from the profile's intervals.

A new fact is one collector file and one line here.
"""

from collections.abc import Callable
from pathlib import Path

import ketang_agent
from ketang_agent.collectors.background import Background
from ketang_agent.collectors.base import Collector, CollectorSettings
from ketang_agent.collectors.host import HostCollector
from ketang_agent.collectors.integrity import check
from ketang_agent.collectors.inventory import InventoryCollector
from ketang_agent.collectors.network import BrokerLink, NetworkCollector, v6_probe
from ketang_agent.collectors.security import SecurityCollector
from ketang_agent.collectors.usage import UsageCollector
from ketang_agent.platforms.base import Desktop
from ketang_contract.records import Integrity


def collectors_of(
    settings: CollectorSettings,
    desktop: Desktop,
    broker: Callable[[], BrokerLink] = BrokerLink,
) -> tuple[Collector, ...]:
    """Return the collectors that have an interval, in the order they should run."""
    root = settings.root
    package = Path(ketang_agent.__file__).parent
    probe = None
    if settings.probe_host is not None:
        probe = v6_probe(settings.probe_host, settings.probe_port, settings.probe_timeout_s)
    everything: tuple[Collector, ...] = (
        UsageCollector(desktop, settings.categories, root),
        HostCollector(settings.data_dir, root),
        NetworkCollector(broker, probe, root),
        InventoryCollector(settings.agent_version, root),
        SecurityCollector(
            Background(lambda: check(package), Integrity.UNKNOWN, "ketang-integrity"), root
        ),
    )
    return tuple(one for one in everything if one.name in settings.intervals_s)
