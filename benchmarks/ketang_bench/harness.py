"""A device with a backlog, a broker and a centre, end to end over mutual TLS; what came of it."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from ketang_agent.clock import SystemClock
from ketang_bench import backlog, process
from ketang_bench.region import (
    DEVICE,
    PATIENCE_S,
    PROBE,
    DidNotHappen,
    Region,
    python,
    running,
    wait_until,
    wire_words,
)
from ketang_center.store.reading import StoreReader
from ketang_center.store.sqlite import Store
from ketang_contract import topics
from ketang_contract.batch import OLDEST_SCHEMA, SCHEMA, Sent
from ketang_contract.records import to_line
from ketang_contract.state import Birth


@dataclass(frozen=True, slots=True)
class Drained:
    """How a drain went. ``rows`` is what stands in the centre's day files afterwards."""

    drain_s: float
    created: int
    rows: int
    live: int
    live_max_s: float
    device_cpu_s: float
    center_cpu_s: float
    broker_cpu_s: float
    peak_growth_mb: float
    others_cores: float
    """Cores that other programs kept busy meanwhile: what the figures did not have."""
    rollups_s: float | None
    """How long after the drain the last rollup was done; None: not waited for, or not in time."""

    @property
    def lost(self) -> int:
        """Records made and not stored, though the device believes they are."""
        return self.created - self.rows


def make_backlog(path: Path, count: int) -> None:
    """Make a spool that holds ``count`` waiting records."""
    backlog.fill(path, count, DEVICE, SystemClock().now())


def drain(
    region: Region,
    spool: Path,
    *,
    trusting: bool = False,
    alone: bool = False,
    live: tuple[str, ...] = (),
    rollups_patience_s: float = 0.0,
    watch: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Drained:
    """Drain a copy of ``spool``; ``watch`` sees each of the device's lines as it comes.

    ``alone``: into the centre's ingest without its rollups and console. ``live``: words that tell
    the device how many live records to make; without them it is one a second.

    Raises:
        DidNotHappen: the device ended without its last line.
    """
    own = region.folder / "spool.db"
    shutil.copy(spool, own)
    words = [*wire_words(region.broker, region.device), str(own), DEVICE, region.center_id]
    command = [*python("ketang_bench.device_process"), *words, *live]
    command += ["--puback"] if trusting else []
    region.broker.start()
    try:
        _probe(region)
        with region.center_process(alone=alone) as center:
            wait_until("the centre listens", lambda: _listens(region))
            with running(command, region.folder / "device.log") as device:
                began_s, busy_s = time.monotonic(), process.busy_s()
                started_s = process.cpu_s(center.pid)
                last, cpu = _follow(device, watch, center.pid, region)
                lasted_s = time.monotonic() - began_s
                others_s = process.busy_s() - busy_s - sum(cpu) + started_s
            rollups_s = _wait_for_rollups(region, rollups_patience_s)
    finally:
        region.broker.stop()
    return Drained(
        drain_s=last["drain_s"],
        created=last["created"],
        rows=count_rows(region.center_folder),
        live=last["live"],
        live_max_s=last["live_max_s"],
        device_cpu_s=cpu[0],
        center_cpu_s=round(cpu[1] - started_s, 2),
        broker_cpu_s=cpu[2],
        peak_growth_mb=last["peak_growth_mb"],
        others_cores=round(max(0.0, others_s / lasted_s), 2),
        rollups_s=rollups_s,
    )


def _probe(region: Region) -> None:
    """Leave a retained birth at the broker: the centre learns of it when it has subscribed."""
    identity = region.probe
    client = Client(CallbackAPIVersion.VERSION2, client_id=PROBE)
    client.tls_set(str(identity.ca_file), str(identity.certificate_file), str(identity.key_file))
    client.connect(region.broker.host, region.broker.port)
    client.loop_start()
    birth = Birth(
        session=1,
        agent_version="bench",
        schema_oldest=OLDEST_SCHEMA,
        schema_newest=SCHEMA,
        sent=Sent(wall_ms=0, boot_id="bench", boottime_ms=0),
        stores=(),
    )
    topic = topics.of(PROBE, topics.BIRTH)
    client.publish(topic, to_line(birth), qos=1, retain=True).wait_for_publish(PATIENCE_S)
    client.disconnect()
    client.loop_stop()


def _listens(region: Region) -> bool:
    """Tell whether the centre has subscribed: it knows the probe by then."""
    with StoreReader(region.center_folder) as reading:
        return any(one.device == PROBE for one in reading.presence())


def _wait_for_rollups(region: Region, patience_s: float) -> float | None:
    """Wait until no bucket is left to recompute; say how long that took."""
    began_s = time.monotonic()
    with StoreReader(region.center_folder) as reading:
        while time.monotonic() - began_s < patience_s:
            if not reading.take_dirty(1):
                return round(time.monotonic() - began_s, 2)
            time.sleep(0.2)
    return None


def count_rows(folder: Path) -> int:
    """Count the rows of every day file."""
    with Store(folder) as store:
        return sum(
            int(store.partitions.connection(day).execute("SELECT count(*) FROM row").fetchone()[0])
            for day in store.partitions.days()
        )


def _follow(
    device: Popen[bytes],
    watch: Callable[[dict[str, Any]], None],
    center_pid: int,
    region: Region,
) -> tuple[dict[str, Any], tuple[float, float, float]]:
    if device.stdout is None:
        raise DidNotHappen("the device has no output")
    cpu = (0.0, 0.0, 0.0)
    for line in device.stdout:
        said: dict[str, Any] = json.loads(line)
        if said["final"]:
            return said, cpu
        broker_s = process.cpu_s(region.broker.pid) if region.broker.pid else 0.0
        cpu = process.cpu_s(device.pid), process.cpu_s(center_pid), broker_s
        watch(said)
    raise DidNotHappen(f"the device's last line; see {region.folder / 'device.log'}")
