"""The birth: what a device says of itself at every connect."""

from ketang_agent.clock import Instant
from ketang_agent.spool.store import Spool
from ketang_agent.spool.values import Lane
from ketang_contract.batch import OLDEST_SCHEMA, SCHEMA, Sent
from ketang_contract.state import Birth, ConfigReport, StoreState, StreamState

_MOST_STORES = 64


def birth_of(
    spool: Spool,
    session: int,
    now: Instant,
    agent_version: str,
    config: ConfigReport = ConfigReport(),  # noqa: B008  (a frozen value)
) -> Birth:
    """Describe every store that gave out numbers, the newest 64 at most."""
    stores: dict[str, list[Lane]] = {}
    for lane in spool.lanes():
        stores.setdefault(lane.store_id, []).append(lane)
    return Birth(
        session=session,
        agent_version=agent_version,
        schema_oldest=OLDEST_SCHEMA,
        schema_newest=SCHEMA,
        sent=Sent(wall_ms=now.wall_ms, boot_id=now.boot_id, boottime_ms=now.boottime_ms),
        config_running=config.running,
        config_desired=config.desired,
        stores=tuple(
            StoreState(
                store_id=store_id,
                parent=spool.parent(store_id),
                current=store_id == spool.current_store,
                streams=tuple(_state(spool, lane) for lane in lanes),
            )
            for store_id, lanes in list(stores.items())[-_MOST_STORES:]
        ),
    )


def _state(spool: Spool, lane: Lane) -> StreamState:
    head = spool.head(lane)
    return StreamState(stream=lane.stream, head=head, acked=head - len(spool.pending(lane)))
