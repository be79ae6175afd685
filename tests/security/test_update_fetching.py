"""Fetching over a line that breaks, at a capped rate, in a child that is killed; what is served.

The service is the real one over HTTPS; the fetching child is started as the supervisor starts it.
"""

import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from ketang_agent.enrol import believing
from ketang_agent.enrol.files import Facts, Place, write_facts
from ketang_agent.enrol.talking import Unreachable
from ketang_agent.remote.updates import NoRoom
from ketang_agent.remote.updates_https import Pace, Timing
from ketang_center.updates import duty
from ketang_contract.errors import BadInput
from ketang_contract.updates import model
from ketang_models import archive, registry
from ketang_provisioning import updates
from tests.regions import Region
from tests.security.depots import CONTENT, QUICK, TARGET, Depot, lying, serving

MODEL = registry.shipped("mtcnn")


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    made = Region(tmp_path_factory.mktemp("fetching"))
    with serving(made):
        yield made


@pytest.fixture
def depot(region, tmp_path):
    return Depot(region, tmp_path, datetime.now(UTC))


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.now_s = 100.0

    def sleep(self, for_s):
        self.now_s += for_s


# A line that breaks


def test_a_fetch_goes_on_where_the_line_broke_and_asks_for_nothing_twice(depot, region):
    served = []

    def break_off(handler, content):
        asked = handler.headers["Range"]
        if asked is None:
            handler.whole(content)
            return
        begin, end = map(int, asked.removeprefix("bytes=").split("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        handler.send_header("Content-Length", str(end - begin + 1))
        handler.end_headers()
        piece = content[begin : min(begin + 30_000, end + 1)]
        served.append((begin, len(piece)))
        handler.wfile.write(piece)

    with lying(region, break_off) as url:
        assert depot.fetch(url=url).path.read_bytes() == CONTENT
    assert len(served) == -(-len(CONTENT) // 30_000)
    assert [begin for begin, _ in served] == [30_000 * at for at in range(len(served))]


def test_a_part_longer_than_its_target_is_begun_anew(depot):
    found = depot.fetch().path
    part = found.with_name(f"{found.name}.part")
    found.rename(part)
    part.write_bytes(CONTENT + b"more")
    assert depot.fetch().path.read_bytes() == CONTENT


def test_a_damaged_part_is_found_out_at_the_end_and_the_next_try_mends_it(depot):
    found = depot.fetch().path
    part = found.with_name(f"{found.name}.part")
    found.rename(part)
    part.write_bytes(b"x" * 1000)
    with pytest.raises(Exception, match="wrong_content"):
        depot.fetch()
    assert depot.fetch().path.read_bytes() == CONTENT


def test_a_centre_that_is_not_there_is_unreachable(depot):
    with pytest.raises(Unreachable):
        depot.fetch(url="https://127.0.0.1:1")


def test_a_handshake_that_drips_ends_as_well(depot, region):
    """Each byte comes well within what one read may take; all of them never would."""
    with socket.create_server((region.host, 0)) as server:

        def drip():
            link, _ = server.accept()
            with link, suppress(OSError):
                link.recv(4096)
                link.sendall(b"\x16\x03\x03\x3f\xff")
                for _ in range(2400):
                    link.sendall(b"\0")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began_s = time.monotonic()
        url = f"https://{region.host}:{server.getsockname()[1]}"
        with pytest.raises(Unreachable):
            depot.fetch(url=url, timing=Timing(request_s=0.5, timeout_s=100))
        assert time.monotonic() - began_s < 40
        thread.join(60)
        assert not thread.is_alive(), "the connection was ended, and not only left"


def test_a_connection_that_comes_too_late_is_none(depot, region, monkeypatch):
    connect = socket.create_connection

    def late(*args):
        time.sleep(1)
        return connect(*args)

    monkeypatch.setattr(socket, "create_connection", late)
    with pytest.raises(Unreachable, match="in time"):
        depot.fetch(timing=Timing(request_s=0.1))


def test_parts_of_what_nobody_asks_for_any_more_do_not_pile_up(depot):
    folder = depot.device / "targets"
    folder.mkdir(parents=True)
    for no in range(9):
        (folder / f"{no}.part").write_bytes(b"x")
    depot.fetch()
    assert len(list(folder.iterdir())) == 3


def test_a_disk_without_room_is_left_to_the_records(depot, monkeypatch):
    usage = shutil.disk_usage(depot.folder)._replace(free=256 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoRoom):
        depot.fetch()
    assert not list((depot.device / "targets").iterdir())


# The rate


def test_the_mean_rate_stays_under_its_cap(depot):
    clock = Clock()
    timing = Timing(monotonic=lambda: clock.now_s, sleep=clock.sleep)
    began_s = clock.now_s
    depot.fetch(kbps=80, timing=timing)
    took_s = clock.now_s - began_s
    assert len(CONTENT) * 8 / took_s / 1000 <= 80
    assert took_s < len(CONTENT) * 8 / 80_000 * 1.1


def test_a_pause_earns_no_burst_later():
    clock = Clock()
    pace = Pace(80, Timing(monotonic=lambda: clock.now_s, sleep=clock.sleep))
    clock.now_s += 3600
    began_s = clock.now_s
    for _ in range(10):
        pace.take(1000)
    assert clock.now_s - began_s == pytest.approx(1.0)


@pytest.mark.parametrize(("kbps", "seconds"), [(8, 20), (80, 20), (100_000, 20)])
def test_a_part_at_the_capped_rate_is_there_long_before_the_centre_hangs_up(kbps, seconds):
    pace = Pace(kbps, QUICK)
    assert pace.part_bytes / (kbps * 125) <= seconds


# What is served


def ask(region, path, **headers):
    context = ssl.create_default_context(cafile=str(region.center_folder / "servers-ca.pem"))
    link = http.client.HTTPSConnection(region.host, region.enrol_port, timeout=10, context=context)
    try:
        link.putrequest("GET", path, skip_accept_encoding=True)
        for name, value in headers.items():
            link.putheader(name.replace("_", "-"), value)
        link.endheaders()
        answer = link.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        link.close()


@pytest.fixture
def target(depot):
    (path,) = depot.center.glob("targets/model/mtcnn/*.zip")
    return f"/updates/{path.relative_to(depot.center)}"


@pytest.mark.parametrize(
    ("asked", "status", "begin", "end"),
    [
        ("bytes=0-99", 206, 0, 100),
        ("bytes=100-", 206, 100, len(CONTENT)),
        ("bytes=-7", 206, len(CONTENT) - 7, len(CONTENT)),
        ("bytes=0-99999999", 206, 0, len(CONTENT)),
        ("bytes=0-0,5-9", 200, 0, len(CONTENT)),
    ],
)
def test_a_part_is_what_was_asked_for(region, target, asked, status, begin, end):
    found, body, headers = ask(region, target, Range=asked)
    assert (found, body) == (status, CONTENT[begin:end])
    if status == 206:
        assert headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize(
    "asked", ["bytes=99999999-", "bytes=9-2", "lines=1-2", "bytes=" + "1-2," * 99]
)
def test_a_part_that_cannot_be_is_refused(region, target, asked):
    assert ask(region, target, Range=asked)[0] in {400, 416}


def test_a_changed_file_is_sent_whole_by_its_mark(region, target):
    _, _, headers = ask(region, target)
    mark = headers["ETag"]
    assert mark.strip('"') in target
    assert ask(region, target, Range="bytes=5-9", If_Range=mark)[0] == 206
    assert ask(region, target, Range="bytes=5-9", If_Range='"other"')[1] == CONTENT


def test_what_never_changes_may_be_kept_and_the_timestamp_may_not(region, target, depot):
    assert "immutable" in ask(region, target)[2]["Cache-Control"]
    timestamp = ask(region, "/updates/metadata/timestamp.json")
    assert timestamp[2]["Cache-Control"] == "no-store"
    assert timestamp[1] == depot.metadata("timestamp.json").read_bytes()
    for name, said in (("X-Content-Type-Options", "nosniff"), ("ETag", '"')):
        assert said in timestamp[2][name]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "metadata",
        "metadata/",
        "targets/model/mtcnn/",
        "metadata/../../trust.json",
        "metadata/..%2f..%2fregistry.db",
        "%2e%2e/enrolment.db",
        "..%5cenrolment.db",
        "metadata//1.root.json",
        "/etc/passwd",
        "metadata/1.root.json%00",
        "metadata/.1.root.json.partial",
        "metadata/01.root.json",
        "metadata/link.json",
        "metadata/7.root.json",
        "targets/model/mtcnn/1.0.0.zip",
        "targets/model/../agent/" + "a" * 64 + ".x",
    ],
)
def test_nothing_else_is_served(region, depot, path):
    secret = depot.center.parent / "secret.json"
    secret.write_text("{}")
    for name in ("link.json", "7.root.json"):
        (depot.center / "metadata" / name).symlink_to(secret)
    assert ask(region, f"/updates/{path}")[0] == 404


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "HEAD"])
def test_nothing_is_taken(region, depot, verb):
    context = ssl.create_default_context(cafile=str(region.center_folder / "servers-ca.pem"))
    link = http.client.HTTPSConnection(region.host, region.enrol_port, timeout=10, context=context)
    link.request(verb, "/updates/metadata/1.root.json")
    assert link.getresponse().status == 405
    link.close()


# The warden's round


def test_the_warden_signs_anew_before_a_day_is_over_and_does_nothing_where_nothing_is(
    depot, region, tmp_path
):
    keep = duty(depot.center, region.center_folder).do
    before = depot.metadata("timestamp.json").read_bytes()
    keep(int(depot.now.timestamp() * 1000))
    assert depot.metadata("timestamp.json").read_bytes() == before
    keep(int(depot.now.timestamp() * 1000) + 7 * 3_600_000)
    assert depot.metadata("timestamp.json").read_bytes() != before
    duty(tmp_path / "nothing", region.center_folder).do(0)
    assert not (tmp_path / "nothing").exists()


def test_the_warden_says_three_weeks_before_what_a_person_has_to_sign_again(depot, region):
    keep = duty(depot.center, region.center_folder).do
    keep(int((depot.now + timedelta(days=60)).timestamp() * 1000))
    with pytest.raises(BadInput, match="list of targets: ends on"):
        keep(int((depot.now + timedelta(days=70)).timestamp() * 1000))
    assert depot.fetch(now=depot.now + timedelta(days=70)).path.read_bytes() == CONTENT


# The child


@pytest.fixture
def device(depot, region, tmp_path):
    """Give an enrolled device, a repository with the real model, and the way to start a child."""
    now = datetime.now(UTC)
    content = archive.pack(MODEL)
    target = model("mtcnn", MODEL.manifest.version, digest=MODEL.digest)
    release = updates.Release(target, content)
    updates.publish(depot.offline, depot.targets, now, withdrawn=[TARGET])
    updates.publish(depot.offline, depot.targets, now, releases=[release])
    depot.carry(now)
    place = Place(tmp_path / "identity")
    place.folder.mkdir()
    raw = (region.center_folder / "trust.json").read_bytes()
    believing.keep(place, raw, int(now.timestamp()))
    write_facts(place, Facts(device="s1-pc-1", url=region.url, from_s=0, until_s=4_000_000_000))

    def start(*words):
        return subprocess.Popen(
            [sys.executable, "-m", "ketang_agent.remote.fetching", str(place.folder), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return place, start, len(content)


def told(process):
    out, err = process.communicate(timeout=120)
    assert err == b""
    return process.returncode, json.loads(out)


def test_the_child_lays_a_model_beside_the_others_and_says_so_in_one_line(device):
    place, start, _ = device
    code, said = told(start(f"model/mtcnn/{MODEL.manifest.version}.zip"))
    assert code == 0, said
    assert said["digest"] == MODEL.digest
    laid = registry.open_model(place.folder / "data" / "models" / "mtcnn" / said["version"])
    registry.verify(laid)
    assert str(laid.folder) == said["fetched"]
    assert not list((place.folder / "data" / "updates" / "targets").iterdir())


def test_the_child_says_in_a_word_what_is_wrong(device):
    place, start, _ = device
    assert told(start("model/other/1.zip"))[1]["why"] == "no_target"
    later = ("--not-before", str(int(time.time()) + 3 * 86_400))
    assert told(start("model/mtcnn/1.0.0.zip", *later))[1]["why"] == "expired"
    facts = Facts(device="s1-pc-1", url="https://127.0.0.1:1", from_s=0, until_s=4_000_000_000)
    write_facts(place, facts)
    code, said = told(start("model/mtcnn/1.0.0.zip"))
    assert (code, said["why"]) == (1, "unreachable")


def test_a_child_killed_again_and_again_loses_nothing_and_lays_nothing_half(device):
    place, start, length = device
    target = f"model/mtcnn/{MODEL.manifest.version}.zip"
    folder = place.folder / "data" / "updates" / "targets"
    came = 0
    for _ in range(4):
        child = start(target, "--kbps", "4000")
        wait_for(lambda least=came + 100_000: part_bytes(folder) > least)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=30)
        assert part_bytes(folder) >= came
        came = part_bytes(folder)
        assert not list((place.folder / "data").glob("models/*/[!.]*"))
    assert 400_000 < came < length
    began_s = time.monotonic()
    code, said = told(start(target, "--kbps", "16000"))
    assert code == 0, said
    # No byte that came before was fetched again, or it would have taken longer than this.
    assert time.monotonic() - began_s < 60
    registry.verify(registry.open_model(place.folder / "data" / "models" / "mtcnn" / "1.0.0"))


def part_bytes(folder):
    return sum(one.stat().st_size for one in folder.glob("*.part"))


def wait_for(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
