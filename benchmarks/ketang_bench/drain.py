"""How fast a backlog leaves a spool and stands, durable and acknowledged, in the centre's store."""

import json
import subprocess
from pathlib import Path

from ketang_bench import harness
from ketang_bench.harness import Drained
from ketang_bench.region import Region, python
from ketang_bench.report import Result
from ketang_cli.local_broker import Kind

ABOUT = "records a second from a full spool to durable, acknowledged rows (mosquitto, mTLS)"
TARGET, LIMIT = 50_000, 20_000
LIVE_LIMIT_S = 5.0
_FULL, _QUICK = 1_000_000, 150_000


def run(folder: Path, *, quick: bool) -> Result:
    """Fill a spool, drain it over a real broker, and insert the same rows raw for comparison."""
    count = _QUICK if quick else _FULL
    spool = folder / "backlog.db"
    harness.make_backlog(spool, count)
    region = Region(folder / "region", Kind.MOSQUITTO)
    done = harness.drain(region, spool, rollups_patience_s=15.0 if quick else 300.0)
    alone = harness.drain(Region(folder / "alone", Kind.MOSQUITTO), spool, alone=True)
    raw = _raw(region.center_folder, folder / "raw")
    rate = count / done.drain_s
    return Result(
        name="drain",
        value=round(rate),
        unit="records/s",
        target=TARGET,
        limit=LIMIT,
        ratio=round(rate / raw, 3),
        holds=rate >= LIMIT and done.lost == 0 and done.live_max_s <= LIVE_LIMIT_S,
        detail={
            **_detail(count, done),
            "raw_insert_records_s": round(raw),
            "ingest_alone_records_s": round(count / alone.drain_s),
        },
    )


def _detail(count: int, done: Drained) -> dict[str, object]:
    return {
        "backlog_records": count,
        "drain_s": round(done.drain_s, 2),
        "lost": done.lost,
        "live_records": done.live,
        "live_p100_s": done.live_max_s,
        "live_limit_s": LIVE_LIMIT_S,
        "device_cpu_s": done.device_cpu_s,
        "center_cpu_s": done.center_cpu_s,
        "broker_cpu_s": done.broker_cpu_s,
        "cores_busy_with_other_work": done.others_cores,
        "rollups_done_after_s": done.rollups_s,
        "device_peak_growth_mb": done.peak_growth_mb,
        "how": "device, broker and `ketang center serve`, with its rollups and console, are"
        " processes of their own on this machine, a live record a second meanwhile; counted from"
        " the connection to the mark of the backlog's last record; the raw limit is one process"
        " that inserts the same rows into the same tables, 32,000 a transaction, synchronous=FULL",
    }


def _raw(center: Path, folder: Path) -> float:
    """Records a second of a bare process that inserts the same rows."""
    command = [*python("ketang_bench.raw_insert"), str(center), str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return float(json.loads(said.stdout)["records_s"])
