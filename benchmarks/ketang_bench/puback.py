"""What it costs to take the broker's word (PUBACK) for the centre's, when a broker is killed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ketang_bench import harness
from ketang_bench.harness import Drained
from ketang_bench.region import Region
from ketang_bench.report import Result
from ketang_cli.local_broker import Kind, LocalBroker

ABOUT = "records lost when the broker is killed: with the centre's ack, and with PUBACK alone"
RATE = 400
_FULL_S, _QUICK_S = 60.0, 10.0
_BETWEEN_S = 2.5
"""Between two kills: long enough for both sides to come back and for records to flow."""


def run(folder: Path, *, quick: bool) -> Result:
    """Send live records through a broker that is killed: with the real ack, and with PUBACK."""
    lasts_s = _QUICK_S if quick else _FULL_S
    with ThreadPoolExecutor(2) as both:
        trusting, real = both.map(
            lambda trusts: _stream(folder / f"trusting-{trusts}", lasts_s, trusting=trusts),
            (True, False),
        )
    return Result(
        name="puback",
        value=real.lost,
        unit="records lost",
        target=0,
        limit=0,
        ratio=None,
        holds=real.lost == 0 and trusting.lost > 0,
        detail={
            "broker_kills": int(lasts_s / _BETWEEN_S) - 1,
            "records_s": RATE,
            "made": real.created,
            "lost": real.lost,
            "made_with_puback": trusting.created,
            "lost_with_puback": trusting.lost,
            "longest_wait_s": real.live_max_s,
            "how": "mosquitto with its shipped configuration gets SIGKILL while records pass and is"
            " started again at once; lost = made on the device less rows at the centre, once the"
            " device believes that nothing waits. Both ways run side by side, each with a broker,"
            " a device and a centre of its own",
        },
    )


def _stream(folder: Path, lasts_s: float, *, trusting: bool) -> Drained:
    region = Region(folder, Kind.MOSQUITTO)
    spool = folder / "empty.db"
    harness.make_backlog(spool, 0)
    live = ("--rate", str(RATE), "--seconds", str(lasts_s))
    killer = _Killer(region.broker, lasts_s)
    return harness.drain(region, spool, trusting=trusting, live=live, watch=killer)


class _Killer:
    """Kills the broker every few seconds, and starts it again."""

    def __init__(self, broker: LocalBroker, lasts_s: float) -> None:
        self._broker = broker
        self._due_s = _BETWEEN_S
        self._lasts_s = lasts_s

    def __call__(self, said: dict[str, Any]) -> None:
        if self._due_s <= min(said["connected_s"], self._lasts_s - _BETWEEN_S):
            self._due_s += _BETWEEN_S
            self._broker.kill()
            self._broker.start()
