"""The real centre, as its own process: it serves, ends in order, and never lives on half dead."""

import json
import signal
import subprocess
import sys
import time
from urllib.request import ProxyHandler, build_opener

import pytest

from ketang_center.registry.database import Registry
from ketang_cli import fiction
from ketang_cli.local_broker import LocalBroker
from ketang_provisioning.ca import ThrowawayAuthority

KETANG = [sys.executable, "-m", "ketang_cli.main"]
PATIENCE_S = 60


@pytest.fixture
def place(tmp_path):
    authority = ThrowawayAuthority(tmp_path / "keys")
    with LocalBroker(tmp_path / "broker", authority.server()) as broker:
        yield tmp_path, broker, authority.client("center_ingest")


def settings(place, port, **more):
    folder, broker, identity = place
    said = {
        "data_dir": "data",
        "broker_host": broker.host,
        "broker_port": broker.port,
        "ca": str(identity.ca_file),
        "certificate": str(identity.certificate_file),
        "key": str(identity.key_file),
        "web_port": port,
        **more,
    }
    file = folder / "center.toml"
    file.write_text("".join(f"{key} = {json.dumps(one)}\n" for key, one in said.items()), "utf-8")
    return file


def load_region(folder):
    (folder / "data").mkdir()
    with Registry(folder / "data" / "registry.db") as registry:
        registry.load(fiction.registry_data(0))


def start(file):
    return subprocess.Popen(
        [*KETANG, "center", "serve", "--settings", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def page(port):
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            return opener.open(f"http://127.0.0.1:{port}/?lang=en", timeout=5).read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the page never came")


def test_it_serves_until_asked_to_stop_and_then_says_what_it_did(place, free_port):
    load_region(place[0])
    center = start(settings(place, free_port, home="liuwan", demo=True))
    try:
        assert "Liuwan Middle School" in page(free_port)
    finally:
        center.send_signal(signal.SIGTERM)
        said, errors = center.communicate(timeout=PATIENCE_S)
    assert center.returncode == 0, errors
    assert json.loads(said.splitlines()[-1])["stored"] == 0


def test_a_part_that_fails_ends_the_whole_centre_with_an_error(place, free_port):
    load_region(place[0])
    (place[0] / "data" / "rollup.db").write_bytes(b"this is no database" * 100)
    center = start(settings(place, free_port))
    _, errors = center.communicate(timeout=PATIENCE_S)
    assert center.returncode != 0
    assert "not a database" in errors


@pytest.mark.parametrize(
    ("more", "told"),
    [({}, "the registry is empty"), ({"home": "nowhere"}, "the registry has no unit 'nowhere'")],
)
def test_what_is_missing_is_told_in_one_line(place, free_port, more, told):
    if more:
        load_region(place[0])
    center = start(settings(place, free_port, **more))
    _, errors = center.communicate(timeout=PATIENCE_S)
    assert center.returncode == 2
    assert told in errors
    assert "Traceback" not in errors


def test_its_name_stays_the_same(place, free_port):
    file = settings(place, free_port)
    names = {
        subprocess.run(
            [*KETANG, "center", "id", "--settings", str(file)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(names) == 1
