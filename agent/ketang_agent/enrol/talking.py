"""HTTPS to the centre's enrolment service: a few short requests, no proxy, no redirect."""

import json
import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from ketang_contract.enrolment import ENROL, NONCE, RENEW, TRUST
from ketang_contract.errors import BadInput, KetangError

_TIMEOUT_S = 15
_MOST_BYTES = 1 << 20
_FOUND = 200
_LEAST_WAIT_S = 1
TRANSIENT = frozenset({"too_many", "locked", "queue_full", "unavailable", "bad_nonce", "no_reason"})
"""Reasons that pass by themselves, and soon."""


class Unreachable(KetangError):
    """The centre does not answer, or not as it should. Caller: try again later."""


class Stranger(Unreachable):
    """Its certificate does not lead back to the authorities held: they may have been replaced."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``reason`` and ``retry_after_s`` are empty where the answer was yes."""

    status: int
    body: bytes
    reason: str = ""
    retry_after_s: int = 0

    @property
    def granted(self) -> bool:
        """Whether the centre said yes."""
        return self.status == _FOUND


class Centre:
    """The service at a URL, believed by the authorities in ``servers`` (PEM) and no others.

    Raises:
        BadInput: there is none in ``servers``.
    """

    def __init__(self, url: str, servers: str) -> None:
        self._url = url
        # Not ``create_default_context``: without an authority that would take the system's.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._context.load_verify_locations(cadata=servers)
        except (ssl.SSLError, ValueError):
            raise BadInput("no authority for the centre's servers can be read") from None

    def nonce(self) -> str:
        """Return a nonce for one request.

        Raises:
            Unreachable: no answer, or none of this kind.
        """
        reply = _ask(self._url, "GET", NONCE, self._context)
        try:
            return str(json.loads(reply.body)["nonce"])
        except (ValueError, KeyError, TypeError):
            raise Unreachable(f"{self._url}: not a centre's enrolment service") from None

    def enrol(self, application: bytes) -> Reply:
        """Hand in an application.

        Raises:
            Unreachable: no answer.
        """
        return _ask(self._url, "POST", ENROL, self._context, application)

    def renew(self, renewal: bytes) -> Reply:
        """Hand in a renewal.

        Raises:
            Unreachable: no answer.
        """
        return _ask(self._url, "POST", RENEW, self._context, renewal)

    def trust(self) -> list[bytes]:
        """Return the centre's trust documents, oldest first; their signatures are to be checked.

        Raises:
            Unreachable: no answer.
        """
        return _documents(self._url, self._context)


def fetch_trust(url: str) -> list[bytes]:
    """Return the trust documents of a centre that cannot be believed yet, oldest first.

    The one request without a check of the server: the documents carry their own proof, the
    signatures of roots whose fingerprint came with the installer. Nothing of ours is sent.

    Raises:
        Unreachable: no answer.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _documents(url, context)


def _documents(url: str, context: ssl.SSLContext) -> list[bytes]:
    reply = _ask(url, "GET", TRUST, context)
    try:
        said = json.loads(reply.body)
    except (ValueError, RecursionError):
        said = None
    if not reply.granted or not isinstance(said, list) or not said:
        raise Unreachable(f"{url}: not a centre's enrolment service")
    return [json.dumps(one).encode() for one in said]


def _ask(
    url: str, verb: str, path: str, context: ssl.SSLContext, body: bytes | None = None
) -> Reply:
    parts = urlsplit(url)
    link = HTTPSConnection(
        parts.hostname or "", parts.port or 443, timeout=_TIMEOUT_S, context=context
    )
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        link.request(verb, f"{parts.path}{path}", body, headers)
        answer = link.getresponse()
        raw = answer.read(_MOST_BYTES + 1)
        status, retry = answer.status, answer.headers.get("Retry-After", "")
    except ssl.SSLCertVerificationError as problem:
        raise Stranger(
            f"{url}: its certificate is not from this region ({problem.verify_message}); check the"
            " address, and this device's clock"
        ) from None
    except (OSError, HTTPException, ValueError) as problem:
        raise Unreachable(f"{url}: {problem or type(problem).__name__}") from None
    finally:
        link.close()
    if len(raw) > _MOST_BYTES:
        raise Unreachable(f"{url}: answers with more than {_MOST_BYTES} bytes")
    if status == _FOUND:
        return Reply(status, raw)
    return Reply(status, raw, _reason(raw), _wait_s(retry))


def _reason(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["reason"])[:40]
    except (ValueError, KeyError, TypeError):
        return "no_reason"


def _wait_s(text: str) -> int:
    return max(_LEAST_WAIT_S, min(int(text), 3600)) if text.isascii() and text.isdigit() else 0
