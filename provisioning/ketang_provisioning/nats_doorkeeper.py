"""The doorkeeper: a thread that answers the NATS server's question about every new client.

It speaks the few verbs of the NATS client protocol it needs (INFO, CONNECT, SUB, MSG, PUB, PING),
over TLS, on the server's loopback port. While it is away nobody new comes in; who is in stays.

It accepts the very certificate the server was given and no other: a region's names the hosts that
devices use, which need not include the loopback's.
"""

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ketang_provisioning import nats_permits
from ketang_provisioning.broker_log import Refusal
from ketang_provisioning.nats_permits import NKey, NoEntry, Question

log = logging.getLogger(__name__)

_QUESTIONS = "$SYS.REQ.USER.AUTH"
_RETRY_S = 0.02
_CONNECT_S = 2.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where the server's own port is, who signs the permits, and how we prove who we are.

    Attributes:
        certificate_file: the server's.
        is_revoked: tells by its serial number whether a certificate may not come in.
        on_refusal: is told of everybody who is turned away, in the doorkeeper's thread.
    """

    host: str
    port: int
    certificate_file: Path
    signer: NKey
    login: NKey
    services: frozenset[str]
    is_revoked: Callable[[int], bool] = lambda _: False
    on_refusal: Callable[[Refusal], None] = lambda _: None


class Doorkeeper:
    """``start`` it before or after the server; it comes back whenever the server does."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._link: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to serve, in a thread of its own; nothing to do if it serves."""
        if self._thread is not None:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="doorkeeper", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the server will ask us; false if that did not come about in time."""
        return self._ready.wait(timeout_s)

    def stop(self) -> None:
        """Leave, and wait until the thread has ended."""
        self._stopping.set()
        link = self._link
        if link is not None:
            _hang_up(link)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve()
            except (OSError, EOFError, ValueError, KeyError) as problem:
                if self._ready.is_set() and not self._stopping.is_set():
                    log.info("doorkeeper.away reason=%r", problem)
            self._ready.clear()
            self._stopping.wait(_RETRY_S)

    def _serve(self) -> None:
        context = ssl.create_default_context(cafile=str(self._door.certificate_file))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False  # one certificate is trusted, whatever it is called
        plain = socket.create_connection((self._door.host, self._door.port), _CONNECT_S)
        with plain, context.wrap_socket(plain) as link:
            self._link = link
            lines = link.makefile("rb")
            self._enter(link, lines)
            link.settimeout(None)
            self._ready.set()
            while not self._stopping.is_set():
                self._take(link, lines)

    def _enter(self, link: ssl.SSLSocket, lines: BinaryIO) -> None:
        told = json.loads(_verb(lines, b"INFO"))
        opening = {
            "nkey": self._door.login.public,
            "sig": self._door.login.sign(told["nonce"].encode()),
            "verbose": False,
            "pedantic": False,
            "tls_required": True,
            "lang": "python",
            "version": "1",
            "protocol": 1,
        }
        link.sendall(
            b"CONNECT %b\r\nSUB %b 1\r\nPING\r\n"
            % (json.dumps(opening).encode(), _QUESTIONS.encode())
        )
        _verb(lines, b"PONG")

    def _take(self, link: ssl.SSLSocket, lines: BinaryIO) -> None:
        line = _line(lines)
        if line.startswith(b"PING"):
            link.sendall(b"PONG\r\n")
        if not line.startswith(b"MSG "):
            return
        fields = line.split()
        token = lines.read(int(fields[-1]) + 2)[:-2]
        try:
            question = nats_permits.read_question(token)
        except (ValueError, KeyError, TypeError) as problem:
            # no answer: the server refuses the client when its own time limit is over
            log.warning("doorkeeper.unreadable reason=%r", problem)
            return
        verdict = nats_permits.judge(question, self._door.services, self._door.is_revoked)
        reply = nats_permits.answer(question, verdict, self._door.signer)
        link.sendall(b"PUB %b %d\r\n%b\r\n" % (fields[-2], len(reply), reply))
        if isinstance(verdict, NoEntry):
            self._door.on_refusal(_refusal(question, verdict))


def _refusal(question: Question, verdict: NoEntry) -> Refusal:
    """Name the certificate's holder, who is to be asked about it; the id he wanted is a detail."""
    who = question.common_names[0] if question.common_names else ""
    wanted = "" if question.client_id == who else f", asked for {question.client_id}"
    now_ms = time.time_ns() // 10**6
    return Refusal(now_ms, "nats", verdict.what, who, question.source, f"{verdict.reason}{wanted}")


def _line(lines: BinaryIO) -> bytes:
    line = lines.readline(1 << 20)
    if not line.endswith(b"\n"):
        raise EOFError("the server hung up")
    if line.startswith(b"-ERR"):
        raise ValueError(line.decode(errors="replace").strip())
    return line


def _verb(lines: BinaryIO, wanted: bytes) -> bytes:
    """Skip to a line with this verb; return what follows the verb."""
    while not (line := _line(lines)).startswith(wanted):
        pass
    return line.removeprefix(wanted).strip()


def _hang_up(link: socket.socket) -> None:
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was already gone
