"""Parts of the agent made from its settings and its kind; ``service`` puts them to work."""

import ipaddress
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ketang_agent.collectors.base import Collector, CollectorSettings
from ketang_agent.collectors.network import BrokerLink
from ketang_agent.collectors.registry import collectors_of
from ketang_agent.platforms.linux import desktop
from ketang_agent.remote.remote import Who
from ketang_agent.sampling import Hands, Sampling
from ketang_agent.settings import Settings
from ketang_profiles.configured import as_config
from ketang_profiles.profile import Profile


def who_of(settings: Settings, kind: Profile, version: str) -> Who:
    """Say whose configuration it is; heads are counted where this device's settings say so."""
    base = as_config(kind)
    return Who(
        device=settings.device,
        agent_version=version,
        folder=settings.data_dir,
        identity=settings.broker.certificate_file.parent,
        base=replace(base, inference=True) if settings.occupancy else base,
    )


def sampling_of(
    settings: Settings,
    kind: Profile,
    version: str,
    hands: Hands,
    broker_link: Callable[[], BrokerLink],
) -> Sampling:
    """Make what runs the collectors; they themselves are made when it first applies a config."""

    def collectors() -> tuple[Collector, ...]:
        collecting = CollectorSettings(
            intervals_s=kind.intervals_s,
            categories=sampling.categories,
            data_dir=settings.data_dir,
            agent_version=version,
            probe_host=_probed(settings.broker.host),
            probe_port=settings.broker.port,
        )
        return collectors_of(collecting, desktop(os.environ), broker_link)

    sampling = Sampling(hands, collectors, kind.foreground)
    return sampling


def _probed(broker_host: str) -> str | None:
    """Where IPv6 is tried: the broker, unless it was given as an IPv4 address."""
    with suppress(ValueError):
        if ipaddress.ip_address(broker_host).version == 4:  # noqa: PLR2004  (the protocol's name)
            return None
    return broker_host
