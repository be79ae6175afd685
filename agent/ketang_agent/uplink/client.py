"""One MQTT connection, wrapped: start it, publish, and read what happened from a queue.

paho runs the network in a thread of its own; nothing here blocks the caller, not even a dead DNS.
A connection is used once: the will names its session, so a new session is a new connection.
"""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from paho.mqtt import client as paho_client
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ketang_contract.records import Family

UNREACHABLE = "unreachable"
"""Why a connection was ``Lost`` that met no broker at all, or none that is believed."""
KEEPALIVE_S = 60
"""A connection that died without a word is noticed within 1.5 times this, by both its ends."""
_FAMILIES = {socket.AF_INET: Family.V4, socket.AF_INET6: Family.V6}
_RTT_AT = 68
"""Offset of ``tcpi_rtt``, microseconds, in Linux's ``struct tcp_info``."""
_GOODBYE_S = 2.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and who we are to it (mutual TLS)."""

    host: str
    port: int
    ca_file: Path
    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted us."""


@dataclass(frozen=True, slots=True)
class Lost:
    """No connection, or no longer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The broker took a publish over (PUBACK)."""

    mid: int


@dataclass(frozen=True, slots=True)
class Received:
    """Something came down; ``retained``: it was said before we asked."""

    topic: str
    payload: bytes
    retained: bool = False


Happening = Connected | Lost | Confirmed | Received


def wake_pair() -> tuple[socket.socket, socket.socket]:
    """Make the two sockets by which paho wakes its thread; its own need an IPv4 loopback."""
    pair = socket.socketpair()
    for one in pair:
        one.setblocking(False)
    return pair


paho_client._socketpair_compat = wake_pair  # noqa: SLF001  (it offers no other way)


def tls_context(broker: Broker) -> ssl.SSLContext:
    """Make a client context that checks the broker and shows our certificate.

    Raises:
        OSError: a file is missing or not readable.
        ssl.SSLError: a file is not what it should be.
    """
    context = ssl.create_default_context(cafile=str(broker.ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(broker.certificate_file, broker.key_file)
    return context


class Connection:
    """One try at one session. ``wake`` is called from the network thread after each happening."""

    def __init__(
        self,
        broker: Broker,
        context: ssl.SSLContext,
        client_id: str,
        will: tuple[str, bytes],
        wake: Callable[[], None],
        keepalive_s: int = KEEPALIVE_S,
    ) -> None:
        self._broker = broker
        self._keepalive_s = keepalive_s
        self._wake = wake
        self._last: MQTTMessageInfo | None = None
        self._happenings: SimpleQueue[Happening] = SimpleQueue()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            reconnect_on_failure=False,
        )
        self._client.max_inflight_messages_set(100)
        self._client.tls_set_context(context)
        self._client.will_set(*will, qos=1)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Begin to connect."""
        # paho asks after one keepalive of silence and gives up after a second: it gets 3/4 of ours
        keepalive_s = self._keepalive_s * 3 // 4
        self._client.connect_async(self._broker.host, self._broker.port, keepalive_s)
        try:
            self._client.loop_start()
        except (OSError, RuntimeError) as problem:  # no file or no thread to be had just now
            self._say(Lost(f"cannot begin: {problem}"))

    def happenings(self) -> list[Happening]:
        """Take everything that happened since the last call."""
        found: list[Happening] = []
        while True:
            try:
                found.append(self._happenings.get_nowait())
            except Empty:
                return found

    def route(self) -> tuple[Family, int | None]:
        """Return the address family in use, and the round trip in ms as the kernel smooths it.

        The time is that of the TCP connection itself (tcp(7), TCP_INFO), so asking costs no packet;
        None where the system does not tell.
        """
        taken = self._client.socket()
        if taken is None:
            return Family.NONE, None
        try:
            with socket.socket(fileno=os.dup(taken.fileno())) as ours:
                family = _FAMILIES.get(ours.family, Family.NONE)
                return family, _round_trip_ms(ours)
        except OSError:  # it went this very moment
            return Family.NONE, None

    def subscribe(self, topic: str) -> None:
        """Ask for a topic, QoS 1."""
        self._client.subscribe(topic, qos=1)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Queue a publish; return the number its confirmation will carry."""
        self._last = self._client.publish(topic, payload, qos=qos, retain=retain)
        return self._last.mid

    def close(self) -> None:
        """Say good-bye to the broker and let the thread end by itself."""
        self._client.disconnect()
        self._let_go()

    def finish(self) -> None:
        """Say good-bye once the broker has confirmed the last publish.

        Closing right after writing loses it: unread answers turn the close into a reset.
        """
        if self._last is not None:
            with suppress(RuntimeError, ValueError):  # never queued: the connection is gone
                self._last.wait_for_publish(_GOODBYE_S)
        self._client.disconnect()
        # A peer that takes nothing any more would hold the thread for two keepalives.
        ending = threading.Thread(target=self._join, daemon=True)
        with suppress(RuntimeError):  # not even a thread: the process ends anyway
            ending.start()
            ending.join(_GOODBYE_S)
        self._let_go()

    def _join(self) -> None:
        with suppress(AttributeError):  # paho forgets its thread the moment that ends
            self._client.loop_stop()

    def _let_go(self) -> None:
        """Break the circle between the client and us: its two wake-up sockets close with it.

        Left to the garbage collector they pile up by the hundred while a broker is away.
        """
        client = self._client
        client.on_connect = client.on_connect_fail = client.on_disconnect = None
        client.on_publish = client.on_message = None

    def _say(self, happening: Happening) -> None:
        self._happenings.put(happening)
        self._wake()

    def _on_connect(
        self,
        _c: Client,
        _u: Any,
        _f: ConnectFlags,
        code: ReasonCode,
        _p: Properties | None,
    ) -> None:
        self._say(Lost(str(code)) if code.is_failure else Connected())

    def _on_connect_fail(self, client: Client, _u: Any) -> None:
        client.disconnect()
        self._say(Lost(UNREACHABLE))

    def _on_disconnect(
        self,
        _c: Client,
        _u: Any,
        _f: DisconnectFlags,
        code: ReasonCode,
        _p: Properties | None,
    ) -> None:
        self._say(Lost(str(code)))

    def _on_publish(
        self,
        _c: Client,
        _u: Any,
        mid: int,
        _code: ReasonCode,
        _p: Properties,
    ) -> None:
        self._say(Confirmed(mid))

    def _on_message(self, _c: Client, _u: Any, message: MQTTMessage) -> None:
        self._say(Received(message.topic, bytes(message.payload), bool(message.retain)))


def _round_trip_ms(connection: socket.socket) -> int | None:
    if not hasattr(socket, "TCP_INFO"):
        return None
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + 4)
    (rtt_us,) = struct.unpack_from("=I", told, _RTT_AT)
    return round(float(rtt_us) / 1000)


__all__ = [
    "Broker",
    "Confirmed",
    "Connected",
    "Connection",
    "Happening",
    "Lost",
    "Received",
    "tls_context",
]
