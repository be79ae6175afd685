"""A region where the only address is ``::1``: no IPv4, no other interface, no names, no way out.

Everything runs in a network namespace of its own, so whatever tried to leave would fail here.
"""

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.flow.test_enrolment import stored, wait_for
from tests.regions import KETANG, Region, enroll

from ketang_cli.local_broker import Kind, find_broker

BROKERS = (pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS)


def run(*words):
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=20)


@contextmanager
def only_loopback6(*, bare):
    """Make the namespace; yields the words that run a program in it.

    ``bare``: without 127.0.0.1 too, which Linux gives every loopback.
    """
    name = f"kt6-{os.getpid()}"
    names = Path("/etc/netns") / name
    with ExitStack() as stack:
        run("ip", "netns", "add", name)
        stack.callback(run, "ip", "netns", "del", name)
        run("ip", "-netns", name, "link", "set", "lo", "up")
        if bare:
            run("ip", "-netns", name, "address", "del", "127.0.0.1/8", "dev", "lo")
        names.mkdir(parents=True)
        stack.callback(names.rmdir)
        for file in ("hosts", "resolv.conf"):
            (names / file).write_text("", "ascii")
            stack.callback((names / file).unlink)
        yield ("ip", "netns", "exec", name)


def try_it(folder, kind, *, bare):
    with only_loopback6(bare=bare) as within:
        done = subprocess.run(
            [*within, sys.executable, "-m", __name__, str(folder), kind.value],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.ip
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
@pytest.mark.parametrize("kind", BROKERS)
def test_everything_from_the_kit_to_the_figure_works_on_ipv6_alone(tmp_path, kind):
    try_it(tmp_path, kind, bare=False)


@pytest.mark.ip
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
@pytest.mark.parametrize("kind", BROKERS)
def test_it_works_where_not_even_the_loopback_has_an_ipv4_address(tmp_path, kind):
    try_it(tmp_path, kind, bare=True)


def told(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout


def from_the_kit_to_the_figure(folder, kind):
    """What runs inside."""
    addresses = told("ip", "-o", "address")
    assert "::1/128" in addresses
    assert all(" lo " in line for line in addresses.splitlines()), "nothing else to leave by"
    region = Region(folder, host="::1")
    (asset,) = region.register(1)
    kit = region.kit(folder / "kit", region.code())
    device = region.device_folder(folder / "device")
    with region.broker(find_broker(kind)), region.center():
        said = enroll(device, "--kit", str(kit), "--serial", asset.serial)
        assert said.returncode == 0, said.stderr + region.log()
        with (folder / "agent.log").open("wb") as log:
            agent = subprocess.Popen(
                [*KETANG, "agent", "run", "--settings", str(device / "agent.toml")], stderr=log
            )
        try:
            wait_for(lambda: stored(region, asset.device) > 0 or agent.poll() is not None)
            assert agent.poll() is None, (folder / "agent.log").read_text("utf-8")
        finally:
            agent.terminate()
            agent.wait(30)


if __name__ == "__main__":
    from_the_kit_to_the_figure(Path(sys.argv[1]), Kind(sys.argv[2]))
