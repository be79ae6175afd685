"""What a window's readings add up to: pure functions from readings to contract bodies."""

from collections.abc import Iterable, Mapping, Sequence

from ketang_agent.collectors.base import HostReading, NetworkReading
from ketang_agent.session import State
from ketang_agent.windows import apportion
from ketang_contract.records import Categories, Category, Host, IdleSource, Network, Usage

_MOST_COUNT = 2**31 - 1
_MOST_RTT_MS = 600_000
_MOST_MBPS = 1_000_000


def usage_of(
    states_ms: Mapping[State, int],
    categories_ms: Mapping[Category, int],
    source: IdleSource,
    window_s: int,
) -> Usage:
    """Turn milliseconds in each state and category into a body whose sums hold."""
    seconds = dict(
        zip(State, apportion([states_ms.get(one, 0) for one in State], window_s), strict=True)
    )
    used_s = seconds[State.ACTIVE] + seconds[State.PRESENTING]
    by_category = dict(
        zip(
            (one.value for one in Category),
            apportion([categories_ms.get(one, 0) for one in Category], used_s, exact=True),
            strict=True,
        )
    )
    return Usage(
        window_s=window_s,
        active_s=seconds[State.ACTIVE],
        presenting_s=seconds[State.PRESENTING],
        idle_s=seconds[State.IDLE],
        locked_s=seconds[State.LOCKED],
        asleep_s=seconds[State.ASLEEP],
        unknown_s=seconds[State.UNKNOWN],
        idle_source=source,
        categories=Categories(**by_category),
    )


def host_of(readings: Sequence[HostReading], window_s: int) -> Host:
    """Means and maxima as the body's names say; of what changes slowly, the last word."""
    last = readings[-1]
    cpu = [one.cpu_pct for one in readings if one.cpu_pct is not None]
    memory = [one.memory_used_pct for one in readings if one.memory_used_pct is not None]
    heat = [one.temperature_c for one in readings if one.temperature_c is not None]
    return Host(
        window_s=window_s,
        cpu_mean_pct=_bounded(_mean(cpu), 0, 100),
        cpu_max_pct=_bounded(max(cpu, default=None), 0, 100),
        memory_used_pct=_bounded(_mean(memory), 0, 100),
        disk_free_pct=_bounded(last.disk_free_pct, 0, 100),
        disk_free_mb=_bounded(last.disk_free_mb, 0, _MOST_COUNT),
        temperature_max_c=_bounded(max(heat, default=None), -60, 200),
        battery_pct=_bounded(last.battery_pct, 0, 100),
        battery_health_pct=_bounded(last.battery_health_pct, 0, 100),
        on_mains=last.on_mains,
        uptime_s=_bounded(last.uptime_s, 0, _MOST_COUNT),
    )


def network_of(readings: Sequence[NetworkReading], window_s: int) -> Network:
    """Mean throughput, middle round trip, and the last word on the rest."""
    last = readings[-1]
    trips = sorted(one.rtt_ms for one in readings if one.rtt_ms is not None)
    return Network(
        window_s=window_s,
        link=last.link,
        link_mbps=_bounded(last.link_mbps, 0, _MOST_MBPS),
        ipv4=last.ipv4,
        ipv6=last.ipv6,
        ipv6_probe=last.ipv6_probe,
        mqtt_family=last.mqtt_family,
        rtt_ms=_bounded(trips[len(trips) // 2] if trips else None, 0, _MOST_RTT_MS),
        received_kbps=_bounded(
            _mean(_known(one.received_kbps for one in readings)), 0, _MOST_COUNT
        ),
        sent_kbps=_bounded(_mean(_known(one.sent_kbps for one in readings)), 0, _MOST_COUNT),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [one for one in values if one is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _bounded(value: float | None, least: int, most: int) -> int | None:
    """Round to the contract's whole numbers; a source that errs must not make a refused record."""
    return None if value is None else min(most, max(least, round(value)))
