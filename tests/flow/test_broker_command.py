"""``ketang broker``: from the folder that ``provision init`` makes to a broker that holds."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from ketang_cli.local_broker import Kind, free_port
from ketang_cli.main import main
from ketang_contract.errors import BadInput
from ketang_provisioning import broker_check, broker_log, region, region_files
from ketang_provisioning.certificates import Authority

PATIENCE_S = 60
KINDS = [pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS]


@pytest.fixture
def made(tmp_path):
    """A region for one loopback address, as init makes it."""
    plan = region.Plan(region_name="Lan", center_hosts=("::1",), broker_hosts=("::1",))
    files = region.make(plan, region.new_passphrases(), now=datetime.now(UTC))
    region_files.put(tmp_path / "region", files | {"READ-ME.txt": b""}, announce=lambda: None)
    return tmp_path / "region"


def configure(made, out, kind, port):
    words = ["broker", "config", kind, "--region", str(made), "--out", str(out)]
    words += ["--host", "::1", "--port", str(port), "--own-port", str(free_port("::1"))]
    return main(words)


KETANG = (sys.executable, "-m", "ketang_cli.main")


@contextmanager
def running(out, within=()):
    command = [*within, *KETANG, "broker", "run", "--config", str(out)]
    with (out / "run.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "broker.ready" not in (out / "run.log").read_text():
            assert process.poll() is None, (out / "run.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def point(made, port, crl):
    """Let the centre's settings name this broker."""
    file = made / "center" / "center.toml"
    text = file.read_text().replace("8883", str(port))
    said = re.sub(r"(?m)^crl = .*\n", "", text)
    assert said != text
    own = f"crl = {json.dumps(str(crl))}\n" if crl else ""
    file.write_text(said.replace("[enrolment]\n", f"[enrolment]\n{own}"))
    return file


def counted(out, wanted):
    """Wait until refusals of these kinds are written down; all that are."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        events, _ = broker_log.follow(out / "refusals.jsonl", None)
        if wanted <= {one.what for one in events}:
            return events
        assert time.monotonic() < deadline, events
        time.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_is_configured_run_on_ipv6_alone_and_holds(made, tmp_path, capsys, kind):
    out, port = tmp_path / "out", free_port("::1")
    assert configure(made, out, kind, port) == 0
    crl = made / "broker" / "clients.crl"
    settings, before = point(made, port, crl), crl.read_bytes()
    with running(out) as process:
        capsys.readouterr()
        status = main(["broker", "check", "--json", "--settings", str(settings)])
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one for one in found if one["held"] is not True] == []
        assert status == 0
        assert len(found) == 1 + len(broker_check.CHECKS)
        assert crl.read_bytes() == before
        events = counted(out, {"no_certificate", "forbidden_publish", "oversized"})
        assert {one.source for one in events} == {"::1"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


@pytest.fixture
def ipv6_alone():
    """A network namespace whose only address is ``::1``."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root: sudo make test")
    name = f"ktb{os.getpid() % 100_000}"
    steps = (("netns", "add", name), ("-netns", name, "link", "set", "lo", "up"))
    with ExitStack() as stack:
        stack.callback(subprocess.run, ("ip", "netns", "del", name), capture_output=True)
        try:
            for words in steps:
                subprocess.run(("ip", *words), check=True, capture_output=True, timeout=20)
            subprocess.run(
                ("ip", "-netns", name, "address", "del", "127.0.0.1/8", "dev", "lo"),
                check=True,
                capture_output=True,
                timeout=20,
            )
        except subprocess.CalledProcessError as problem:
            pytest.skip(f"this system makes no network namespace: {problem.stderr!r}")
        yield ("ip", "netns", "exec", name)


@pytest.mark.ip
@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_where_there_is_no_127_0_0_1(made, tmp_path, ipv6_alone, kind):
    out, port = tmp_path / "out", free_port("::1")
    configure(made, out, kind, port)
    settings = point(made, port, made / "broker" / "clients.crl")
    command = [*ipv6_alone, *KETANG, "broker", "check", "--settings", str(settings)]
    with running(out, ipv6_alone) as process:
        checked = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=2 * PATIENCE_S
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert len(checked.stdout.splitlines()) == 1 + len(broker_check.CHECKS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.mosquitto
def test_a_broker_that_ends_by_itself_ends_the_service_with_an_error(made, tmp_path):
    out = tmp_path / "out"
    configure(made, out, "mosquitto", free_port("::1"))
    with running(out) as process:
        said = (out / "run.log").read_text()
        os.kill(int(said.partition("pid=")[2].split()[0]), signal.SIGKILL)
        assert process.wait(PATIENCE_S) == 1
    assert "broker.ended" in (out / "run.log").read_text()


@pytest.mark.mosquitto
def test_mosquitto_is_not_told_of_a_new_list_while_its_certificate_is_damaged(made, tmp_path):
    out, broker = tmp_path / "out", made / "broker"
    configure(made, out, "mosquitto", free_port("::1"))
    whole = (broker / "broker.pem").read_bytes()

    def says(word):
        deadline = time.monotonic() + PATIENCE_S
        while word not in (out / "run.log").read_text():
            assert time.monotonic() < deadline, word
            time.sleep(0.05)

    with running(out):
        (broker / "broker.pem").write_bytes(whole[:100])
        files = made / "center"
        passphrase = (files / "clients-ca.passphrase").read_bytes().strip()
        authority = Authority.load(files / "clients-ca.pem", files / "clients-ca.key", passphrase)
        now = datetime.now(UTC) + timedelta(seconds=5)
        (broker / "clients.crl").write_bytes(
            authority.revocation_list([(7, now)], now=now, number=2)
        )
        says("broker.not_told")
        (broker / "broker.pem").write_bytes(whole)
        says("broker.revocations_renewed")
    assert "Unable to load" not in (out / "run.log").read_text()


@pytest.mark.mosquitto
def test_without_a_revocation_list_no_broker_starts(made, tmp_path, capsys):
    out = tmp_path / "out"
    configure(made, out, "mosquitto", free_port("::1"))
    (made / "broker" / "clients.crl").unlink()
    assert main(["broker", "run", "--config", str(out)]) == 2
    assert "no revocation list" in capsys.readouterr().err


def test_a_mistake_is_one_line(made, tmp_path, capsys):
    base = ["broker", "config", "nats", "--out", str(tmp_path / "out"), "--region"]
    assert main([*base, str(tmp_path), "--host", "::1"]) == 2
    assert "ketang provision init" in capsys.readouterr().err
    assert main([*base, str(made), "--host", "::1", "--host", "127.0.0.1"]) == 2
    assert main([*base, str(made), "--host", "broker.example"]) == 2
    assert main([*base, str(made), "--host", "::1", "--port", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert main(["broker", "run", "--config", str(tmp_path / "none")]) == 2


def test_the_brokers_own_folder_serves_as_the_region(made, tmp_path):
    shutil.copytree(made / "broker", tmp_path / "carried")
    assert configure(tmp_path / "carried", tmp_path / "out", "nats", 8883) == 0
    with pytest.raises(BadInput):
        main.__globals__["_load"]("broker")._find_region(tmp_path / "out")


def test_a_check_that_could_not_try_revocation_is_no_success(made, tmp_path, capsys, monkeypatch):
    # That all the others hold is tried above, and takes its time.
    few = tuple(one for one in broker_check.CHECKS if one.name.endswith("_certificate"))
    monkeypatch.setattr(broker_check, "CHECKS", few)
    out, port = tmp_path / "out", free_port("::1")
    configure(made, out, "nats", port)
    settings = point(made, port, None)
    with running(out):
        words = ["broker", "check", "--settings", str(settings)]
        assert main(words) == 3
        assert "not tried      revoked_certificate" in capsys.readouterr().out
        assert main([*words, "--allow-untried"]) == 0


def test_the_brokers_own_copy_is_never_the_list_that_the_centre_writes(made, tmp_path, capsys):
    base = ["broker", "config", "mosquitto", "--region", str(made), "--host", "::1", "--out"]
    assert main([*base, str(made / "broker")]) == 2
    (tmp_path / "link").symlink_to(made / "broker")
    assert main([*base, str(tmp_path / "link")]) == 2
    hard = tmp_path / "hard"
    hard.mkdir()
    os.link(made / "broker" / "clients.crl", hard / "clients.crl")
    assert main([*base, str(hard)]) == 2
    assert capsys.readouterr().err.count("own copy") == 3
    assert main([*base, str(tmp_path / "out")]) == 0
    assert main([*base, str(tmp_path / "out"), "--crl", str(tmp_path / "not-yet.crl")]) == 0
    assert "not-yet.crl" in (tmp_path / "out" / "broker.toml").read_text()


@pytest.mark.parametrize("host", ["::", "0.0.0.0", "192.168.1.5", "broker.example"])  # noqa: S104
def test_the_doorkeepers_port_is_on_the_loopback_alone(made, tmp_path, capsys, host):
    words = ["broker", "config", "nats", "--region", str(made), "--out", str(tmp_path / "out")]
    assert main([*words, "--host", "::1", "--own-host", host]) == 2
    assert "loopback" in capsys.readouterr().err
