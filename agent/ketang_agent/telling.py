"""Telling the centre at once what changed: live faults and camera, and the device's own account."""

from ketang_agent.clock import Instant
from ketang_agent.status import Status
from ketang_agent.uplink.link import Link
from ketang_contract.batch import Sent
from ketang_contract.records import Fault
from ketang_contract.state import Camera, ConfigReport, Live, Loss, Reported

LIVE_GAP_MS = 10_000
REPORTED_GAP_MS = 60_000
_MOST = 32
_Account = tuple[str, str, Camera, str, tuple[Fault, ...], tuple[Loss, ...]]


class Teller:
    """Says what changed, and everything anew in a new session; never more often than its gaps."""

    def __init__(self) -> None:
        self._live: tuple[tuple[Fault, ...], Camera] = ((), Camera.OFF)
        self._live_ms: int | None = None
        self._account: _Account | None = None
        self._account_ms: int | None = None
        self._session: int | None = None
        self._config: ConfigReport | None = None

    def tell(self, link: Link, status: Status, now: Instant, *, again: bool = False) -> None:
        """Tell what the centre does not know yet and may be told now.

        What became of a configuration is told at once, and all of it ``again`` when it asks.
        """
        live = status.faults, status.camera
        if live != self._live and _is_due(self._live_ms, LIVE_GAP_MS, now):
            # said while there is no connection, it is the link that says it at the next one
            link.say_live(Live(session=link.session, faults=live[0], camera=live[1]))
            self._live, self._live_ms = live, now.boottime_ms
        account, config = _account(status), status.config
        is_new = again or link.session != self._session or config != self._config
        if is_new or (account != self._account and _is_due(self._account_ms, REPORTED_GAP_MS, now)):
            told = link.say_reported(_reported(account, config, link.session, now))
            if told:
                self._session, self._account, self._config = link.session, account, config
                self._account_ms = now.boottime_ms


def _is_due(last_ms: int | None, gap_ms: int, now: Instant) -> bool:
    return last_ms is None or now.boottime_ms - last_ms >= gap_ms


def _account(status: Status) -> _Account:
    return (
        status.agent_version,
        status.profile,
        status.camera,
        status.model,
        status.faults,
        status.spool.losses[:_MOST],
    )


def _reported(account: _Account, config: ConfigReport, session: int, now: Instant) -> Reported:
    version, profile, camera, model, faults, losses = account
    return Reported(
        session=session,
        sent=Sent(wall_ms=now.wall_ms, boot_id=now.boot_id, boottime_ms=now.boottime_ms),
        agent_version=version,
        profile=profile,
        camera=camera,
        model=model,
        faults=faults,
        losses=losses,
        config=config,
    )
