"""The centre's ear at the broker: messages in, one group at a time, acknowledged only when durable.

The session is clean on purpose: what arrives while the centre is down is dropped by the broker and
sent again by its device, so no broker queue can delay a record unseen or fill a disk.
"""

import logging
import socket
import sqlite3
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho_client
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ketang_center.ingest.worker import Answered, Heard, Message, Reply, Worker
from ketang_center.security import SecurityLog
from ketang_center.store.sqlite import Lease, Store
from ketang_contract import topics

log = logging.getLogger(__name__)

ALL_SHARDS = tuple(f"{number:02x}" for number in range(256))
LEASE_MS = 60_000
_GROUP_MESSAGES = 128
_GROUP_BYTES = 512 << 10
"""A group is one flush of each file it touches: large for many small batches, and for batches of a
backlog, some 30 of which fill it, still done in half a second."""
_BEHIND_MESSAGES = 8
_RETRY_S = 1.0
_ASK_AGAIN_S = 5.0
MOST_WAITING_BYTES = 64 << 20
"""What may wait in memory, some 10,000 usual batches: a window is the broker's to set, and what
is sent with QoS 0 has none."""
_MESSAGE_BYTES = 1024
"""What a message costs besides its payload."""


def _wake_pair() -> tuple[socket.socket, socket.socket]:
    """Make the two sockets by which paho wakes its thread; its own need an IPv4 loopback."""
    pair = socket.socketpair()
    for one in pair:
        one.setblocking(False)
    return pair


paho_client._socketpair_compat = _wake_pair  # noqa: SLF001  (it offers no other way)


@dataclass(frozen=True, slots=True)
class Ear:
    """Where the centre listens, and as whom. ``name`` contains ``_``, which no device id can."""

    host: str
    port: int
    ca_file: Path
    certificate_file: Path
    key_file: Path
    name: str = "center_ingest"


class Subscriber:
    """Two threads: paho's, which only queues, and the one that calls ``run``."""

    def __init__(
        self,
        ear: Ear,
        folder: Path,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
        *,
        security: SecurityLog | None = None,
        barred: Container[str] = frozenset(),
        heard: Heard | None = None,
        answered: Answered | None = None,
    ) -> None:
        self._ear = ear
        self._folder = folder
        self._now_ms = now_ms
        self._security, self._barred = security, barred
        self.heard, self.answered = heard, answered
        """Who is told what devices say of themselves and answer; set before ``run``."""
        self._waiting: deque[tuple[MQTTMessage, int]] = deque()
        self._waiting_bytes = 0
        self._overflowing = False
        self._bell = threading.Condition()
        self._stopping = False
        self._subscribed = True
        """False from a refused subscription to one that is granted."""
        self._hears = False
        self._told: str | None = None
        """The last thing logged of the connection: each once, not at every try."""
        self._listening_ms = self._noted_ms = 0
        self._client = self._make_client()
        self._leased_ms = 0
        self.worker: Worker | None = None

    def run(self) -> None:
        """Ingest until ``stop``; the store is opened, owned and closed by this thread."""
        with Store(self._folder) as store:
            worker = self.worker = Worker(
                store,
                self._lease(store),
                security=self._security,
                barred=self._barred,
                heard=self.heard,
                answered=self.answered,
            )
            self._leased_ms = self._now_ms()
            self._client.connect_async(self._ear.host, self._ear.port, 30)
            self._client.loop_start()
            try:
                while group := self._next_group():
                    self._take_in_the_end(worker, group)
            finally:
                self._client.disconnect()
                self._client.loop_stop()

    @property
    def behind(self) -> bool:
        """Whether messages wait that the group at hand will not take along. From any thread."""
        return len(self._waiting) >= _BEHIND_MESSAGES

    def stop(self) -> None:
        """Let ``run`` finish the group at hand and return."""
        with self._bell:
            self._stopping = True
            self._bell.notify_all()

    @property
    def hearing_since_ms(self) -> int | None:
        """Since when devices are heard without a break; None while they are not. Any thread."""
        return self._listening_ms if self._hears else None

    def say(self, topic: str, payload: bytes) -> None:
        """Publish to a device, QoS 1. From any thread."""
        self._client.publish(topic, payload, qos=1)

    def leave(self, topic: str, payload: bytes) -> Callable[[], bool]:
        """Publish what a device finds there whenever it comes, retained, QoS 1. From any thread.

        Returns:
            What tells whether the broker has it. Of what was given while there was no connection it
            never does, though that goes out, too.
        """
        sent = self._client.publish(topic, payload, qos=1, retain=True)

        def taken() -> bool:
            with suppress(RuntimeError, ValueError):  # there was no connection
                return sent.is_published()
            return False

        return taken

    def show_new_identity(self) -> None:
        """Read our certificate anew; the next connection shows it. From any thread."""
        self._context.load_cert_chain(self._ear.certificate_file, self._ear.key_file)

    def _take_in_the_end(self, worker: Worker, group: Sequence[tuple[MQTTMessage, int]]) -> None:
        """Take a group in; while the disk refuses, it waits unacknowledged, and the rest behind it.

        To end instead would begin again into the same full disk, and forget who is connected.
        """
        failing = False
        while not self._stopping:
            try:
                if self._now_ms() - self._leased_ms > LEASE_MS // 3:
                    worker.lease = self._lease(worker.store)
                    self._leased_ms = self._now_ms()
                self._take(worker, group)
            except sqlite3.OperationalError as problem:
                if not failing:
                    log.warning("ingest.failing why=%s", problem)
                failing = True
                with self._bell:
                    self._bell.wait_for(lambda: self._stopping, _RETRY_S)
                continue
            if failing:
                log.info("ingest.recovered")
            return

    def _take(self, worker: Worker, group: Sequence[tuple[MQTTMessage, int]]) -> None:
        if self._noted_ms != self._listening_ms:
            since_ms = self._listening_ms
            worker.store.control.note_listening(since_ms)
            self._noted_ms = since_ms
        messages = [Message(one.topic, bytes(one.payload), at_ms) for one, at_ms in group]
        for reply in worker.handle(messages):
            self._answer(reply)
        for one, _ in group:
            if one.qos:
                self._client.ack(one.mid, one.qos)

    def _answer(self, reply: Reply) -> None:
        self._client.publish(reply.topic, reply.payload, qos=1)

    def _lease(self, store: Store) -> Lease:
        return store.take_lease(ALL_SHARDS, self._ear.name, self._now_ms(), LEASE_MS)

    def _next_group(self) -> list[tuple[MQTTMessage, int]]:
        """Wait for messages; empty when stopping."""
        with self._bell:
            while not (self._waiting or self._stopping):
                if not self._bell.wait(None if self._subscribed else _ASK_AGAIN_S):
                    self._client.subscribe(topics.everything_up(), qos=1)
            group: list[tuple[MQTTMessage, int]] = []
            size = 0
            while (
                not self._stopping
                and self._waiting
                and len(group) < _GROUP_MESSAGES
                and size < _GROUP_BYTES
            ):
                group.append(self._waiting.popleft())
                size += len(group[-1][0].payload)
            self._waiting_bytes -= size + _MESSAGE_BYTES * len(group)
            return group

    def _make_client(self) -> Client:
        ear = self._ear
        client = Client(
            CallbackAPIVersion.VERSION2, client_id=ear.name, clean_session=True, manual_ack=True
        )
        self._context = ssl.create_default_context(cafile=str(ear.ca_file))
        self.show_new_identity()
        client.tls_set_context(self._context)
        client.max_inflight_messages_set(200)
        client.reconnect_delay_set(1, 5)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(
        self,
        client: Client,
        _u: Any,
        _f: ConnectFlags,
        code: ReasonCode,
        _p: Properties | None,
    ) -> None:
        if code.is_failure:
            self._tell(logging.WARNING, f"broker.refused reason={code}")
            return
        self._tell(logging.INFO, "broker.connected")
        client.subscribe(topics.everything_up(), qos=1)

    def _on_connect_fail(self, _c: Client, _u: Any) -> None:
        self._tell(logging.WARNING, "broker.unreachable")

    def _on_disconnect(
        self, _c: Client, _u: Any, _f: DisconnectFlags, code: ReasonCode, _p: Properties | None
    ) -> None:
        self._hears = False
        if self._told in {"broker.connected", "broker.deaf"} and not self._stopping:
            self._tell(logging.WARNING, "broker.lost", f" reason={code}")

    def _on_subscribe(
        self, _c: Client, _u: Any, _mid: int, codes: list[ReasonCode], _p: Properties | None
    ) -> None:
        granted = not any(code.is_failure for code in codes)
        if not granted:
            # Connected and deaf: without a word of it, every device would seem silent.
            self._tell(logging.ERROR, "broker.deaf", f" reason={codes[0]}")
        elif self._told == "broker.deaf":
            self._tell(logging.INFO, "broker.connected")
        with self._bell:
            self._subscribed = granted
            if granted:
                self._listening_ms = self._now_ms()
            self._hears = granted
            self._bell.notify()

    def _tell(self, level: int, event: str, more: str = "") -> None:
        if event != self._told:
            log.log(level, "%s%s", event, more)
        self._told = event

    def _on_message(self, client: Client, _u: Any, message: MQTTMessage) -> None:
        size = len(message.payload) + _MESSAGE_BYTES
        with self._bell:
            fits = self._waiting_bytes + size <= MOST_WAITING_BYTES
            if fits:
                self._waiting.append((message, self._now_ms()))
                self._waiting_bytes += size
                self._bell.notify()
            if not fits:
                if not self._overflowing:
                    log.warning("ingest.overflowing waiting_bytes=%d", self._waiting_bytes)
                self._listening_ms = self._now_ms()  # a good-bye may be among what is let go
            # Told again only once it was empty: at the brim it would flicker.
            self._overflowing = not fits or (self._overflowing and len(self._waiting) > 1)
        if not fits and message.qos:
            # Only the centre's own answer marks a record: a batch let go here is sent again.
            client.ack(message.mid, message.qos)
