"""The centre's update repository over HTTPS: whole metadata files, and targets part by part.

No proxy, no redirect, no authority but the region's. A connection has an end by the clock whatever
comes through it, since data that drips arrives for ever and never stops; and what is read is never
more than was asked for. The rate is capped by reading no faster: TCP holds the sender back.
"""

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import quote, urlsplit

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from ketang_agent.enrol.talking import Stranger, Unreachable
from ketang_contract.errors import BadInput

_TIMEOUT_S = 15.0
_READ_BYTES = 16 << 10
_PART_S = 20.0
_LEAST_PART_BYTES, _MOST_PART_BYTES = 16 << 10, 4 << 20
_WHOLE, _PART, _GONE = 200, 206, (403, 404)


@dataclass(frozen=True, slots=True)
class Timing:
    """How time passes, and how long one request may take; tests bring their own."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    request_s: float = 50.0
    """Below the minute that the centre gives a connection."""
    timeout_s: float = _TIMEOUT_S


class Pace:
    """So many kbit/s in the mean, and no more; None: as fast as it comes."""

    def __init__(self, kbps: int | None, timing: Timing) -> None:
        self._bytes_per_s = None if kbps is None else kbps * 125
        self._timing = timing
        self._free_s = timing.monotonic()

    def take(self, count: int) -> None:
        """Account for what was read, and wait until it is paid for."""
        if self._bytes_per_s is None:
            return
        now_s = self._timing.monotonic()
        self._free_s = max(self._free_s, now_s) + count / self._bytes_per_s
        if self._free_s > now_s:
            self._timing.sleep(self._free_s - now_s)

    @property
    def part_bytes(self) -> int:
        """How much to ask for at once, so that it is there well before a connection ends."""
        if self._bytes_per_s is None:
            return _MOST_PART_BYTES
        fits = int(self._bytes_per_s * _PART_S)
        return max(_LEAST_PART_BYTES, min(fits, _MOST_PART_BYTES))


class Missing(Unreachable):
    """The centre answers, and has no such file."""


class Depot:
    """The repository at a URL, believed by the authorities in ``servers`` (PEM) and no others.

    Raises:
        BadInput: there is none in ``servers``, or no https:// address.
    """

    def __init__(self, url: str, servers: str, pace: Pace, timing: Timing) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise BadInput(f"{url[:100]}: not an https:// address")
        self.url = url.rstrip("/")
        self._host, self._port, self._prefix = parts.hostname, parts.port or 443, parts.path
        self._pace, self._timing = pace, timing
        # Not ``create_default_context``: without an authority that would take the system's.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._context.load_verify_locations(cadata=servers)
        except (ssl.SSLError, ValueError):
            raise BadInput("no authority for the centre's servers can be read") from None

    @property
    def part_bytes(self) -> int:
        """How much of a target to ask for at once."""
        return self._pace.part_bytes

    def read(self, path: str, most_bytes: int) -> Iterator[bytes]:
        """Yield a whole file, by chunks.

        Raises:
            Missing: there is none.
            Unreachable: no answer, or not a whole one in time.
            DownloadLengthMismatchError: it is larger than ``most_bytes``.
        """
        with self._answer(path, {}) as answer:
            _expect(answer, path, _WHOLE)
            said, taken = answer.length, 0
            if said is None:  # broken-off headers look like that, and so does what has no end
                raise Unreachable(f"{self.url}: answers without a length")
            while chunk := answer.read1(_READ_BYTES):
                taken += len(chunk)
                if taken > most_bytes:
                    raise DownloadLengthMismatchError(f"{path}: larger than {most_bytes} bytes")
                yield chunk
            if taken < said:
                raise Unreachable(f"{self.url}: broken off after {taken} of {said} bytes")
        # Paid for afterwards: it is small, and has to be there in one go.
        self._pace.take(taken)

    def part(self, path: str, begin: int, end: int, length: int) -> Iterator[bytes]:
        """Yield a file's bytes from ``begin`` until before ``end``, as far as they come.

        Raises:
            Missing: there is no such file.
            Unreachable: no answer, or another part than was asked for.
        """
        with self._answer(path, {"Range": f"bytes={begin}-{end - 1}"}) as answer:
            _expect(answer, path, _PART)
            wanted = f"bytes {begin}-{end - 1}/{length}"
            if answer.headers.get("Content-Range") != wanted:
                raise Unreachable(f"{self.url}: answers with another part than {wanted}")
            left = end - begin
            while left > 0 and (chunk := answer.read1(min(left, _READ_BYTES))):
                left -= len(chunk)
                yield chunk
                self._pace.take(len(chunk))

    @contextmanager
    def _answer(self, path: str, headers: dict[str, str]) -> Iterator[HTTPResponse]:
        link = _Link(self._host, self._port, self._timing.timeout_s, self._context)
        end = threading.Timer(self._timing.request_s, link.cut)
        end.daemon = True
        try:
            end.start()  # before the first byte: a handshake may drip as well
            link.connect()
            link.request("GET", quote(f"{self._prefix}{path}", safe="/+"), headers=headers)
            yield link.getresponse()
        except ssl.SSLCertVerificationError as problem:
            raise Stranger(
                f"{self.url}: its certificate is not from this region ({problem.verify_message});"
                " check the address, and this device's clock"
            ) from None
        except (OSError, HTTPException, ValueError) as problem:
            raise Unreachable(f"{self.url}: {problem or type(problem).__name__}") from None
        finally:
            end.cancel()
            link.close()


class Fetcher(FetcherInterface):
    """What ``tuf`` reads metadata through."""

    def __init__(self, depot: Depot, most_bytes: Callable[[str], int]) -> None:
        self._depot, self._most_bytes = depot, most_bytes

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(self._depot.url)
        try:
            yield from self._depot.read(path, self._most_bytes(path))
        except Missing:
            raise DownloadHTTPError(f"{path}: missing", _GONE[-1]) from None


def _expect(answer: HTTPResponse, path: str, status: int) -> None:
    if answer.status in _GONE:
        raise Missing(f"{path}: the centre has none")
    if answer.status != status:
        raise Unreachable(f"{path}: answered with status {answer.status}")


class _Link(HTTPSConnection):
    """A connection that another thread can end at any moment, in the handshake too."""

    def __init__(self, host: str, port: int, timeout_s: float, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._tls, self._is_cut = context, False

    def connect(self) -> None:
        """Connect, and shake hands over a socket that ``cut`` can see.

        Raises:
            OSError: that failed, or took too long.
        """
        plain = socket.create_connection((self.host, self.port), self.timeout)
        # The library's own would show it only when the handshake is over.
        self.sock = self._tls.wrap_socket(
            plain, server_hostname=self.host, do_handshake_on_connect=False
        )
        if self._is_cut:
            raise TimeoutError("no connection in time")
        self.sock.do_handshake()

    def cut(self) -> None:
        """End it under its reader, who finds it closed. From another thread."""
        self._is_cut = True
        if self.sock is not None:
            try:
                # The plain socket's own: TLS would first say goodbye, and wait.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError:
                return  # closed already
