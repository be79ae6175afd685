"""The demo from outside: what a newcomer's first command does, on both brokers."""

import json
import os
import signal
import subprocess
import sys
import time
from urllib.request import ProxyHandler, build_opener

import pytest

KETANG = [sys.executable, "-m", "ketang_cli.main"]
PATIENCE_S = 120


@pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "nats"])
def test_every_record_of_a_demo_is_stored_exactly_once(broker, tmp_path):
    options = f"--seconds 20 --days 1 --port 0 --broker {broker}".split()
    done = subprocess.run(
        [*KETANG, "demo", "--check", "--json", *options, "--data", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S * 3,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["created"] == found["stored"] > 1000
    assert found["lost"] == found["twice"] == found["waiting"] == 0
    assert found["first_publish_s"] is not None
    assert found["release_on_this_machine"] == "committed"
    assert found["release_committed"] > 20, "the simulated devices judge it and try it, too"


def test_the_first_figures_come_by_themselves_and_ctrl_c_ends_in_order(tmp_path, free_port):
    demo = subprocess.Popen(
        [
            *KETANG,
            "demo",
            "--data",
            str(tmp_path / "demo"),
            "--port",
            str(free_port),
            "--days",
            "1",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        page = first_page(free_port, lambda text: 'id="n-used"' in text and "coverage" in text)
    finally:
        demo.send_signal(signal.SIGINT)
        said, _ = demo.communicate(timeout=PATIENCE_S)
    assert 'id="own"' in page
    assert "演示数据" in said
    assert demo.returncode == 0, said
    assert "lost 0, twice 0" in said


def first_page(port, ready):
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            text = opener.open(f"http://127.0.0.1:{port}/?lang=en", timeout=5).read().decode()
        except OSError:
            text = ""
        if ready(text):
            return text
        time.sleep(0.2)
    raise AssertionError("the page never came")
