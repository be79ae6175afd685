"""How long a device takes from the start of its agent to the first publish a subscriber sees."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from ketang_bench.bare_publish import PAYLOAD as BARE
from ketang_bench.region import (
    CENTER,
    DEVICE,
    PATIENCE_S,
    DidNotHappen,
    Region,
    python,
    running,
    wire_words,
)
from ketang_bench.report import Result
from ketang_cli.local_broker import Kind
from ketang_contract import topics

ABOUT = "seconds from process start to the first publish at the broker (mosquitto, mTLS, warm)"
TARGET, LIMIT = 0.5, 0.5
_FULL, _QUICK = 20, 5


def run(folder: Path, *, quick: bool) -> Result:
    """Start the real agent again and again, in turn with a bare interpreter that does the same."""
    turns = _QUICK if quick else _FULL
    region = Region(folder / "region", Kind.MOSQUITTO)
    region.agent_settings()
    bare = [*python("ketang_bench.bare_publish"), *wire_words(region.broker, region.device)]
    topic = topics.of(DEVICE, topics.REPORTED)
    with region.broker, _ear(region) as heard:
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(turns + 1):
            pair = (
                _once(region.agent_command(), _birth, heard, folder),
                _once([*bare, DEVICE, topic], _bare, heard, folder),
            )
            if turn:  # the first one warms the page cache
                ours.append(pair[0])
                theirs.append(pair[1])
    value, limit = statistics.median(ours), statistics.median(theirs)
    return Result(
        name="start",
        value=round(value, 3),
        unit="s",
        target=TARGET,
        limit=LIMIT,
        ratio=round(value / limit, 2),
        holds=value <= LIMIT,
        detail={
            "starts": turns,
            "min_s": round(min(ours), 3),
            "max_s": round(max(ours), 3),
            "bare_python_s": round(limit, 3),
            "how": "median; from before fork to the message at a subscriber in the measuring"
            " process; the raw limit is a bare interpreter with ssl that connects and publishes"
            " one message by hand-written packets, started in turn with ours",
        },
    )


Wanted = Callable[[MQTTMessage], bool]


class _Heard:
    """When the next wanted message came, by the measuring process's own clock."""

    def __init__(self) -> None:
        self._bell = threading.Event()
        self._wanted: Wanted = _birth
        self._at_s = 0.0

    def expect(self, wanted: Wanted) -> None:
        """Wait for another. What the process before still says on its way out is not wanted."""
        self._wanted = wanted
        self._bell.clear()

    def note(self, message: MQTTMessage) -> None:
        """One came; the first that is wanted counts."""
        if not self._bell.is_set() and self._wanted(message):
            self._at_s = time.monotonic()
            self._bell.set()

    def wait(self) -> float:
        """Return when it came."""
        if not self._bell.wait(PATIENCE_S):
            raise DidNotHappen("a first publish")
        return self._at_s


@contextmanager
def _ear(region: Region) -> Iterator[_Heard]:
    heard = _Heard()
    listening = threading.Event()
    identity = region.center
    client = Client(CallbackAPIVersion.VERSION2, client_id=CENTER)
    client.tls_set(str(identity.ca_file), str(identity.certificate_file), str(identity.key_file))
    client.on_message = lambda _c, _u, message: heard.note(message)
    client.on_subscribe = lambda *_: listening.set()
    client.connect(region.broker.host, region.broker.port)
    client.loop_start()
    client.subscribe(topics.everything_up(), qos=1)
    try:
        if not listening.wait(PATIENCE_S):
            raise DidNotHappen("a subscription")
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def _birth(message: MQTTMessage) -> bool:
    return message.topic.endswith(topics.BIRTH) and not message.retain


def _bare(message: MQTTMessage) -> bool:
    return message.payload == BARE


def _once(command: list[str], wanted: Wanted, heard: _Heard, folder: Path) -> float:
    heard.expect(wanted)
    began_s = time.monotonic()
    with running(command, folder / "started.log") as process:
        try:
            return heard.wait() - began_s
        except DidNotHappen:
            if process.poll() is not None:
                raise DidNotHappen(f"{command}: ended with {process.returncode}") from None
            raise
