"""How long a school takes that enrols two hundred devices at once with one kit."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_bench import bare_handshakes, harness
from ketang_bench.enroll_region import HOST, EnrollRegion
from ketang_bench.region import DidNotHappen, python, running, wait_until
from ketang_bench.report import Result
from ketang_center.enrolment.book import Book
from ketang_center.security import SecurityLog
from ketang_cli.local_broker import Kind, find_broker

if TYPE_CHECKING:
    from subprocess import Popen

ABOUT = (
    "seconds for 200 devices with one kit: enrolled, connected, acknowledged (threads, not agents)"
)
TARGET = LIMIT = 60.0
DEVICES, PER_S, UNLIMITED_PER_S = 200, 20, 1000
_WORKERS = 4
_BARE_S = 1.5
_HANDSHAKES, _SIGNATURES = 3, 5
"""Of one device that is taken in at once: nonce, application and broker; the certificate request,
the certificate, the client's proof at the broker, and what the kit and the trust document bear."""

_HOW = (
    "one centre (ketang center serve), mosquitto, one kit; the devices are threads"
    " of four processes with a folder, a key, a spool and connections each, and run the"
    " code of ketang enroll and the agent's uplink. From the common start to the centre's"
    " last acknowledgement of a batch. The ratio is that of unlimited_s, the same with the"
    " rate limit out of the way, to the bare TLS handshakes and P-256 signatures of as many"
    " devices on all cores"
)


def run(folder: Path, *, quick: bool) -> Result:
    """Let them all come at once, at the rate a centre allows as it is delivered; then unbounded."""
    del quick  # it is short as it is
    region, came, began_s = _school(folder / "limited", PER_S)
    free, at_once, free_began_s = _school(folder / "unlimited", UNLIMITED_PER_S)
    identity = free.server_identity()
    bare = bare_handshakes.measure(
        identity.certificate_file, identity.key_file, HOST, lasts_s=_BARE_S
    )
    bare_s = DEVICES * (_HANDSHAKES * bare.handshake_s + _SIGNATURES * bare.signature_s)
    bare_s /= os.cpu_count() or 1
    at_once_s = _took_s(at_once, free_began_s)
    failures = [one["why"] for one in (*came, *at_once) if one["why"]]
    took_s, kept = _took_s(came, began_s), _kept(region)
    whole = kept["certificates"] == kept["uses_of_the_code"] == DEVICES == len(came)
    return Result(
        name="enroll",
        value=round(took_s, 2),
        unit="s",
        target=TARGET,
        limit=LIMIT,
        ratio=round(at_once_s / bare_s, 1),
        holds=took_s < LIMIT and not failures and whole and kept["rows"] >= 2 * DEVICES,
        detail={
            "devices": DEVICES,
            "failures": len(failures),
            "why": sorted(set(failures))[:5],
            **kept,
            **_pace(came, began_s),
            "allowed_per_s": region.per_s,
            "least_s_at_that_rate": (DEVICES - region.per_s) / region.per_s,
            "unlimited_s": round(at_once_s, 2),
            "bare_crypto_s": round(bare_s, 3),
            "handshakes_per_core_s": round(1 / bare.handshake_s),
            "signatures_per_core_s": round(1 / bare.signature_s),
            "how": _HOW,
        },
    )


def _school(folder: Path, per_s: int) -> tuple[EnrollRegion, list[dict[str, Any]], float]:
    folder.mkdir(parents=True)
    region = EnrollRegion(folder, find_broker(Kind.MOSQUITTO), DEVICES, per_s)
    settings = region.prepare()
    with region.broker, _center(region, settings):
        return region, *_come(region, folder)


@contextmanager
def _center(region: EnrollRegion, settings: Path) -> Iterator[None]:
    command = [*python("ketang_cli.main"), "center", "serve", "--settings", str(settings)]
    log = region.folder / "center.log"
    with running(command, log) as center:
        wait_until("the centre enrols", lambda: _is_open(center, log))
        yield


def _is_open(center: "Popen[bytes]", log: Path) -> bool:
    if center.poll() is not None:
        raise DidNotHappen(f"the centre ended; see {log}")
    return b"enrolment.serving" in log.read_bytes()


def _come(region: EnrollRegion, folder: Path) -> tuple[list[dict[str, Any]], float]:
    """Start the devices at one moment; how each came in, and when that moment was."""
    share = DEVICES // _WORKERS
    root = region.folder / "installer" / "root.fingerprint"
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                running(
                    [
                        *python("ketang_bench.enroll_devices"),
                        *map(str, (folder, region.kit, root, first, share)),
                    ],
                    folder / "devices.log",
                )
            )
            for first in range(0, DEVICES, share)
        ]
        for worker in workers:
            _line(worker, folder)
        began_s = time.monotonic()
        for worker in workers:
            if worker.stdin:
                worker.stdin.write(b"go\n")
                worker.stdin.flush()
        return [one for worker in workers for one in json.loads(_line(worker, folder))], began_s


def _line(worker: "Popen[bytes]", folder: Path) -> bytes:
    said = worker.stdout.readline() if worker.stdout else b""
    if not said:
        raise DidNotHappen(f"devices that say how they came in; see {folder / 'devices.log'}")
    return said


def _took_s(came: list[dict[str, Any]], began_s: float) -> float:
    return max(float(one["acknowledged_s"]) for one in came) - began_s


def _kept(region: EnrollRegion) -> dict[str, Any]:
    """Read what the centre holds of it afterwards."""
    with Book(region.data_dir / "enrolment.db") as book:
        claimed = [one for one in book.assets() if book.certificates_of(one.device)]
        used = sum(one.used for one in book.codes())
    log = SecurityLog(region.data_dir / "security.db")
    turned_back = log.count("enrol_too_many")
    log.close()
    return {
        "certificates": len(claimed),
        "uses_of_the_code": used,
        "rows": harness.count_rows(region.data_dir),
        "turned_back": turned_back,
    }


def _pace(came: list[dict[str, Any]], began_s: float) -> dict[str, Any]:
    waits_s = [one["acknowledged_s"] - one["enrolled_s"] for one in came]
    return {
        "most_enrolled_in_one_s": _peak([one["enrolled_s"] for one in came]),
        "all_enrolled_s": round(max(one["enrolled_s"] for one in came) - began_s, 2),
        "slowest_from_enrolled_to_acknowledged_s": round(max(waits_s), 2),
    }


def _peak(moments_s: list[float]) -> int:
    """Return how many fell into the fullest second."""
    done = sorted(one for one in moments_s if one)
    return max((sum(1 for two in done if one <= two < one + 1) for one in done), default=0)
