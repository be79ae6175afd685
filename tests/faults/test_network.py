"""A device behind a bad line: a network namespace with one veth to this machine, made and removed.

The device is the real one (``tests.faults.device``); the broker stays on this machine's loopback,
and a forwarder on the near end of the line passes bytes on to it.
"""

import asyncio
import itertools
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ketang_center.store.reading import StoreReader
from ketang_cli.local_broker import Kind, find_broker
from tests.faults.scene import Scene
from tests.faults.test_kills import compare_with_the_ledger, rows_of

pytestmark = pytest.mark.ip
log = logging.getLogger(__name__)

PATIENCE_S = 60
DEVICE = "panel-a"
KEEPALIVE_S = 8
SLACK_MS = 2000
"""paho looks at its clocks once a second; a busy machine takes the rest."""
_NUMBERS = itertools.count()


def run(*words):
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=20)


class Line:
    """The namespace and its veth; ``near`` is this machine's end, ``far`` the device's."""

    def __init__(self, number):
        self.name = f"ktn{os.getpid() % 100_000}-{number}"
        self.end, far_end = f"{self.name}a", f"{self.name}b"
        net = f"10.77.{os.getpid() % 256}"
        self.near, self.far = f"{net}.{number * 4 + 1}", f"{net}.{number * 4 + 2}"
        self.within = ("ip", "netns", "exec", self.name)
        self._far_end = far_end

    @contextmanager
    def made(self):
        folder = Path("/etc/netns") / self.name
        with ExitStack() as stack:
            run("ip", "netns", "add", self.name)
            stack.callback(run, "ip", "netns", "del", self.name)
            run("ip", "link", "add", self.end, "type", "veth", "peer", "name", self._far_end)
            stack.callback(subprocess.run, ("ip", "link", "del", self.end), capture_output=True)
            run("ip", "link", "set", self._far_end, "netns", self.name)
            run("ip", "address", "add", f"{self.near}/30", "dev", self.end)
            run("ip", "link", "set", self.end, "up")
            for words in (
                ("address", "add", f"{self.far}/30", "dev", self._far_end),
                ("link", "set", self._far_end, "up"),
                ("link", "set", "lo", "up"),
            ):
                run("ip", "-netns", self.name, *words)
            folder.mkdir(parents=True)
            stack.callback(shutil.rmtree, folder)
            # the broker's certificate speaks for localhost
            (folder / "hosts").write_text(f"{self.near} localhost\n", "ascii")
            (folder / "resolv.conf").write_text(f"nameserver {self.near}\n", "ascii")
            yield self

    def cut(self):
        run("ip", "link", "set", self.end, "down")

    def mend(self):
        run("ip", "link", "set", self.end, "up")

    def lose(self, percent):
        """Drop that share of the line's packets, both ways.

        Not of the loopback's, which no line loses: paho makes its wake-up sockets over it, and one
        whose first packet is refused there waits for the other for ever.
        """
        rules = "".join(
            f"add chain inet kt {hook} {{ type filter hook {hook} priority 0; }}\n"
            f"add rule inet kt {hook} {way} != lo numgen random mod 100 < {percent} drop\n"
            for hook, way in (("input", "iifname"), ("output", "oifname"))
        )
        subprocess.run(
            (*self.within, "nft", "-f", "-"),
            input=f"add table inet kt\n{rules}",
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        )


class Forwarder:
    """Passes what comes to ``address:port`` on to the same port of the loopback."""

    def __init__(self, address, port):
        self._address, self._port = address, port
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()

    @contextmanager
    def open(self):
        thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        thread.start()
        try:
            assert self._listening.wait(PATIENCE_S)
            yield
        finally:
            self._loop.call_soon_threadsafe(self._done.set)
            thread.join()
            self._loop.close()

    async def _serve(self):
        self._done = asyncio.Event()
        server = await asyncio.start_server(self._take, self._address, self._port)
        self._listening.set()
        await self._done.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _take(self, reader, writer):
        try:
            onward = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._copy(reader, onward[1]), self._copy(onward[0], writer))

    @staticmethod
    async def _copy(reader, writer):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # the other side is told by the close
        finally:
            writer.close()


@pytest.fixture
def line():
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root: sudo make test")
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Line(next(_NUMBERS)).made())
        except subprocess.CalledProcessError as problem:
            why = f"this system makes no network namespace: {problem.stderr.strip()}"
            if os.environ.get("KETANG_REQUIRE_PARTS") == "1":
                pytest.fail(why, pytrace=False)
            pytest.skip(why)
        yield made


@contextmanager
def school(folder, line, *, rate=50, host="localhost"):
    scene = Scene(
        folder,
        find_broker(Kind.NATS),
        (DEVICE,),
        rate,
        within=line.within,
        host=host,
        keepalive_s=KEEPALIVE_S,
    )
    with Forwarder(line.near, scene.broker.port).open():
        try:
            scene.start()
            yield scene
        finally:
            scene.stop()


def said(scene, word):
    """What the device has printed after a word, line by line, as numbers."""
    lines = scene.devices[DEVICE].log.read_text("utf-8").splitlines()
    return [tuple(map(int, one.split()[1:])) for one in lines if one.startswith(f"{word} ")]


def wait_for(what, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def boottime_ms():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def connected(scene):
    with StoreReader(scene.folder / "center") as reading:
        return [one.connected for one in reading.presence()]


def all_is_there_once(scene):
    assert scene.drain(120) == {DEVICE: 0}, "the device did not come to rest"
    sizes = compare_with_the_ledger(scene.folder, rows_of(scene.folder, (DEVICE,)))
    assert sizes["stored"] > 100
    return dict(sizes)


@pytest.mark.slow
def test_a_connection_that_died_without_a_word_is_noticed_and_costs_nothing(tmp_path, line):
    with school(tmp_path, line) as scene:
        wait_for(lambda: connected(scene) == [True])
        assert said(scene, "link")[-1][0] == 1
        line.cut()
        cut_ms = boottime_ms()
        noticed_ms = wait_for(lambda: [at for up, at in said(scene, "link") if not up])[0] - cut_ms
        log.info("network.noticed after_ms=%d keepalive_s=%d", noticed_ms, KEEPALIVE_S)
        assert noticed_ms <= KEEPALIVE_S * 1500 + SLACK_MS
        wait_for(lambda: connected(scene) == [False])  # by its will: the broker noticed as well
        line.mend()
        wait_for(lambda: connected(scene) == [True])
        log.info("network.mended %s", all_is_there_once(scene))


@pytest.mark.slow
def test_a_dead_name_server_does_not_delay_what_the_device_records(tmp_path, line):
    ask = "import socket; socket.getaddrinfo('broker.example', 1)"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        school(tmp_path, line, host="broker.example") as scene,
    ):
        silent.bind((line.near, 53))
        began = time.monotonic()
        asked = subprocess.run(
            (*line.within, sys.executable, "-c", ask), check=False, capture_output=True, timeout=60
        )
        blocked_s = time.monotonic() - began
        assert asked.returncode != 0
        assert blocked_s > 4, "the name server is not dead enough to prove anything"
        time.sleep(2)
        latest_ms = max((ms for (ms,) in said(scene, "late")), default=0)
        log.info("network.no_names lookup_s=%.1f latest_ms=%d", blocked_s, latest_ms)
        assert latest_ms < blocked_s * 1000 / 4
        assert not said(scene, "link")


@pytest.mark.slow
@pytest.mark.nft
def test_a_line_that_loses_every_fifth_packet_loses_no_record(tmp_path, line):
    line.lose(20)
    with school(tmp_path, line) as scene:
        # a handshake that loses the wrong packets begins anew, and each time waits longer
        wait_for(lambda: sum(rows_of(tmp_path, (DEVICE,))[DEVICE].values()) > 300, 4 * PATIENCE_S)
        log.info("network.lossy %s", all_is_there_once(scene))
