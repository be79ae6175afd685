"""How soon a pushed configuration is in force and reported, over a thousand devices."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_agent.remote import exchange
from ketang_bench.region import DidNotHappen, python, running, wait_until
from ketang_bench.report import Result
from ketang_bench.rollout_region import RELEASE, RolloutRegion, device_name
from ketang_center import settings as center_settings
from ketang_center.rollouts.office import Office, open_office
from ketang_center.rollouts.plan import Rules, State
from ketang_center.rollouts.values import RolloutState
from ketang_center.service import center_id
from ketang_center.store.reading import StoreReader
from ketang_cli.local_broker import Kind, find_broker
from ketang_contract.config import Config

if TYPE_CHECKING:
    from subprocess import Popen

ABOUT = "p95 seconds from a configuration sent to it reported in force, its trial apart (threads)"
TARGET = LIMIT = 5.0
DEVICES, QUICK_DEVICES = 1000, 200
_WORKERS = 10
"""paho waits by select(2), which knows 1,024 files in a process: some 140 devices."""
_LOOK_S = 1.0
_PATIENCE_S = 400.0
_CHILDREN = 5
_CONTENT = Config(host_s=120, network_s=120)

_HOW = (
    "one centre (ketang center serve), mosquitto, one release of the region signed by two holders;"
    " the devices are threads of ten processes with a folder, a certificate, a spool and"
    " connections each, and run the agent's uplink and remote configuration. Per device, by the"
    " centre's own book: from dn/desired published to COMMITTED heard, less what the device says"
    " its trial took, plus what a real judging child takes on this machine alone (the devices judge"
    " in their own process). The centre, the broker and all devices share its cores"
)


def run(folder: Path, *, quick: bool) -> Result:
    """Roll one release out, and read from the centre's book when each device had it."""
    count = QUICK_DEVICES if quick else DEVICES
    region = RolloutRegion(folder, find_broker(Kind.MOSQUITTO), count)
    file = region.prepare()
    said = center_settings.read(file)
    region.prepare_rollout(center_id(said))
    with region.broker, _center(region, file), _devices(region), open_office(said) as office:
        wait_until("all are connected", lambda: _connected(region) == count, _PATIENCE_S, _LOOK_S)
        began_s = time.monotonic()
        number = _begin(office, region)
        wait_until("it is rolled out", lambda: _is_over(office, number), _PATIENCE_S, _LOOK_S)
        took_s = time.monotonic() - began_s
        members = office.look.members(number, limit=count)
        trials_ms = {one.device: _trial_ms(office, one.device) for one in members}
        counts = {str(state): many for state, many in office.look.status(number).counts.items()}
    came = [one for one in members if one.state is State.COMMITTED]
    child_s = _child_s(region)
    waits_s = sorted(
        max(0, one.updated_ms - one.sent_ms - trials_ms[one.device]) / 1000 + child_s
        for one in came
    )
    if not waits_s:
        raise DidNotHappen(f"a device that has it: {counts}")
    value = _quantile(waits_s, 0.95)
    return Result(
        name="rollout",
        value=round(value, 2),
        unit="s",
        target=TARGET,
        limit=LIMIT,
        ratio=None,
        holds=value <= LIMIT and len(came) == count,
        detail={
            "devices": count,
            "converged": len(came),
            "states": counts,
            "p50_s": round(_quantile(waits_s, 0.5), 2),
            "most_s": round(waits_s[-1], 2),
            "trial_p50_s": round(_quantile(sorted(trials_ms.values()), 0.5) / 1000, 2),
            "trial_p95_s": round(_quantile(sorted(trials_ms.values()), 0.95) / 1000, 2),
            "judging_child_s": round(child_s, 3),
            "all_of_them_s": round(took_s, 1),
            "how": _HOW,
        },
    )


@contextmanager
def _center(region: RolloutRegion, settings: Path) -> Iterator[None]:
    command = [*python("ketang_cli.main"), "center", "serve", "--settings", str(settings)]
    log = region.folder / "center.log"
    with running(command, log) as center:
        wait_until("the centre serves", lambda: _is_open(center, log))
        yield


def _is_open(center: "Popen[bytes]", log: Path) -> bool:
    if center.poll() is not None:
        raise DidNotHappen(f"the centre ended; see {log}")
    return b"enrolment.serving" in log.read_bytes()


@contextmanager
def _devices(region: RolloutRegion) -> Iterator[None]:
    share = -(-region.devices // _WORKERS)
    with ExitStack() as stack:
        for first in range(0, region.devices, share):
            words = (region.device_folders, first, min(share, region.devices - first))
            command = [*python("ketang_bench.rollout_devices"), *map(str, words)]
            stack.enter_context(running(command, region.folder / "devices.log"))
        yield


def _connected(region: RolloutRegion) -> int:
    names = [device_name(number) for number in range(region.devices)]
    with StoreReader(region.data_dir) as reading:
        return sum(one.connected for one in reading.presence(names))


def _begin(office: Office, region: RolloutRegion) -> int:
    taken = office.take_placements(region.placements(), "publisher")
    if taken.refused:
        raise DidNotHappen(f"placements that pass: {taken.refused[:3]}")
    office.admit(region.release(_CONTENT), "publisher")
    number = office.begin(RELEASE, "publisher", Rules())
    if office.look.status(number).rollout.state is RolloutState.AWAITING:
        office.approve(number, "approver")
    return number


def _is_over(office: Office, number: int) -> bool:
    state = office.look.status(number).rollout.state
    if state is RolloutState.PAUSED:
        raise DidNotHappen(f"a rollout that goes on: {office.look.status(number).rollout.reason}")
    return state is RolloutState.FINISHED


def _trial_ms(office: Office, device: str) -> int:
    said = office.look.console_state(device)
    return said.trial_ms if said is not None else 0


def _child_s(region: RolloutRegion) -> float:
    """Take the time of a real judging child over a bundle that a device received, alone."""
    device = region.device_folders / device_name(0)
    folder = device / "data" / "remote"
    bundle = _received(region)
    took = []
    for _ in range(_CHILDREN):
        (folder / exchange.RECEIVED).write_bytes(bundle)
        began_s = time.monotonic()
        words = [sys.executable, "-m", "ketang_agent.remote.judging", str(folder), str(device)]
        done = subprocess.run(words, check=False, capture_output=True)
        took.append(time.monotonic() - began_s)
        if done.returncode != 0:
            raise DidNotHappen(f"a child that judges: {done.stdout!r}")
    if json.loads((folder / exchange.JUDGED).read_bytes())["reason"]:
        raise DidNotHappen("a bundle that passes twice")
    return statistics.median(took)


def _received(region: RolloutRegion) -> bytes:
    from ketang_contract.layers import Desired, write_desired
    from ketang_contract.releases import read

    release = read(region.release(_CONTENT))
    return write_desired(Desired(placement=region.placements()[0], layers=(release.layer,)))


def _quantile(values: Sequence[Any], share: float) -> float:
    return float(values[min(len(values) - 1, int(len(values) * share))])
