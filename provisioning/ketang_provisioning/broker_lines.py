"""What a line of a broker's log says: a refusal, something to pass on, or nothing. Pure.

What cannot be told, and why:

- Mosquitto logs every certificate it refuses as "certificate verify failed": foreign, expired,
  revoked or not for clients are one kind there (``bad_certificate``). OpenSSL knows the reason and
  mosquitto does not ask it.
- Mosquitto replaces a client id by the certificate's name without a word, so an attempt to take
  over another's id is harmless and leaves no line.
- It grants every subscription and keeps what is forbidden back; a forbidden one is told by the
  rule of the ACL. The same for a will.
- NATS logs the client id and not the certificate's name; who is turned away for his name is counted
  by the doorkeeper, which knows both.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ketang_contract.ids import is_identifier
from ketang_provisioning import brokers
from ketang_provisioning.broker_log import Refusal, What


@dataclass(frozen=True, slots=True)
class Said:
    """A line for the operator; ``ready``: the broker takes clients from now on."""

    text: str
    ready: bool = False


class Lines(Protocol):
    """Reads one broker's log, line by line."""

    def take(self, line: str, at_ms: int) -> Refusal | Said | None:
        """Read a line without its end."""


_MOST_CLIENTS = 50_000
_MOST_PENDING = 64

_NEW = re.compile(r"New connection from (\S+) on port \d+\.")
_ENTERED = re.compile(
    r"New client connected from (\S+):\d+ as (.*) \(p\d, c\d, k\d+(?:, u'.*')?\)\."
)
_FAILED = re.compile(r"Client connection from (\S+) failed: (.*)")
_DENIED = re.compile(r"Denied PUBLISH from (.*) \(d\d, q(\d), r(\d), m\d+, '(.*)', \.\.\. \(")
_LEFT = re.compile(r"Client (.*?)(?: closed its connection| disconnected| has exceeded)(.*)")
_SUBSCRIBED = re.compile(r"(\S+) [012] (\S.*)")
_NOT_TLS = ("http request", "wrong version number", "unknown protocol", "https proxy request")
_OWN_DOING = (
    "unexpected eof",
    "alert unknown ca",
    "alert bad certificate",
    "shutdown while in init",
)
"""The client hung up, or does not trust us: nobody was refused."""


class Mosquitto:
    """Of mosquitto 2.0 with ``log_timestamp false`` and ``log_type debug`` and ``subscribe``."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, str] = OrderedDict()
        self._pending: deque[str] = deque(maxlen=_MOST_PENDING)
        """Addresses that were accepted and have not said who they are."""
        self._entered = ""
        self._will_of = ""
        self._failed = False

    def take(self, line: str, at_ms: int) -> Refusal | Said | None:
        """Read a line."""
        if line.startswith(("Received P", "Sending ", "No will", "Received SUB")):
            return None  # nine of ten
        if self._will_of:
            name, self._will_of = self._will_of, ""
            topic = line.strip()
            if line.startswith("\t") and not brokers.may_say(name, topic):
                return self._make(at_ms, What.FORBIDDEN_PUBLISH, name, f"will {topic}")
        if line.startswith("Will message specified"):
            self._will_of = self._entered
            return None
        for read in (self._connection, self._denied, self._handshake, self._leaving):
            handled, found = read(line, at_ms)
            if handled:
                return found
        return self._rest(line, at_ms)

    def _connection(self, line: str, at_ms: int) -> tuple[bool, Refusal | None]:
        if new := _NEW.fullmatch(line):
            self._pending.append(new[1].rpartition(":")[0])
            return True, None
        entered = _ENTERED.fullmatch(line)
        if entered is None:
            return False, None
        source, name = entered[1], entered[2]
        if source in self._pending:
            self._pending.remove(source)
        self._entered = name
        self._sources[name] = source
        self._sources.move_to_end(name)
        if len(self._sources) > _MOST_CLIENTS:
            self._sources.popitem(last=False)
        if is_identifier(name) or name in brokers.SERVICES:
            return True, None
        return True, self._make(at_ms, What.UNKNOWN_NAME, name, "let in, to no topic")

    def _denied(self, line: str, at_ms: int) -> tuple[bool, Refusal | None]:
        if denied := _DENIED.match(line):
            name, qos, retained, topic = denied.groups()
            kind = "retained " if retained == "1" else ""
            found = self._make(at_ms, What.FORBIDDEN_PUBLISH, name, f"{kind}{topic} qos {qos}")
            return True, found
        subscribed = _SUBSCRIBED.fullmatch(line)
        if subscribed is None:
            return False, None
        name, asked = subscribed.groups()
        if brokers.may_listen(name, asked):
            return True, None
        return True, self._make(at_ms, What.FORBIDDEN_SUBSCRIBE, name, asked)

    def _handshake(self, line: str, at_ms: int) -> tuple[bool, Refusal | None]:
        if failed := _FAILED.fullmatch(line):
            what = _of_openssl(failed[2])
            return True, _if_any(at_ms, what, "", failed[1], failed[2])
        if not line.startswith("OpenSSL Error[") or ":SSL routines:" not in line:
            return False, None
        what = _of_openssl(line)
        self._failed = True
        source = self._pending[0] if len(set(self._pending)) == 1 else ""
        return True, _if_any(at_ms, what, "", source, line.rpartition("::")[2])

    def _leaving(self, line: str, at_ms: int) -> tuple[bool, Refusal | None]:
        left = _LEFT.fullmatch(line)
        if left is None:
            return False, None
        name, why = left.groups()
        failed, self._failed = self._failed, False
        source = self._sources.pop(name, "")
        if name == "<unknown>":
            alone = len(set(self._pending)) == 1
            first = self._pending.popleft() if self._pending else ""
            source = first if alone else ""
        what = None
        if "oversize packet" in why:
            what = What.OVERSIZED
        elif ("protocol error" in why.lower() or "not authorised" in why) and not failed:
            what = What.BAD_CLIENT
        who = "" if name == "<unknown>" else name
        return True, _if_any(at_ms, what, who, source, why.strip(" .:"))

    def _rest(self, line: str, at_ms: int) -> Refusal | Said | None:
        del at_ms
        if re.fullmatch(r"mosquitto version \S+ running", line):
            return Said(line, ready=True)
        if line.startswith(("Error", "OpenSSL Error", "Outgoing messages are being dropped")):
            return Said(line)
        if line.startswith("Warning") and "run as root" not in line:
            return Said(line)
        return None

    def _make(self, at_ms: int, what: What, name: str, detail: str) -> Refusal:
        return Refusal(at_ms, "mosquitto", what, name, self._sources.get(name, ""), detail)


def _if_any(at_ms: int, what: What | None, who: str, source: str, detail: str) -> Refusal | None:
    return Refusal(at_ms, "mosquitto", what, who, source, detail) if what else None


def _of_openssl(text: str) -> What | None:
    if "peer did not return a certificate" in text:
        return What.NO_CERTIFICATE
    if "certificate verify failed" in text:
        return What.BAD_CERTIFICATE
    if any(one in text for one in _NOT_TLS):
        return What.NOT_TLS
    return None if any(one in text for one in _OWN_DOING) else What.BAD_CLIENT


_NATS = re.compile(r"\[\d+\] (?:\S+ \S+ )?\[(INF|WRN|ERR|FTL)\] (.*)", re.DOTALL)
_NATS_CLIENT = re.compile(
    r"(?P<source>\S+):\d+ - (?P<kind>[a-z]+):\d+ - "
    r"(?:\"(?P<who>(?:[^\"\\]|\\.)*)\" - )?(?P<text>.*)",
    re.DOTALL,
)
_KINDS: tuple[tuple[str, Callable[[str], What | None]], ...] = (
    ("Publish Violation", lambda _: What.FORBIDDEN_PUBLISH),
    ("Subscription Violation", lambda _: What.FORBIDDEN_SUBSCRIBE),
    ("maximum payload exceeded", lambda _: What.OVERSIZED),
    ("invalid character in client ID", lambda _: What.BAD_CLIENT),
    ("the first packet should be a CONNECT", lambda _: What.BAD_CLIENT),
    ("TLS handshake error", lambda text: _of_go(text)),  # noqa: PLW0108  (defined below)
)
_OF_GO = (
    ("didn't provide a certificate", What.NO_CERTIFICATE),
    ("certificate signed by unknown authority", What.FOREIGN_CERTIFICATE),
    ("certificate has expired", What.EXPIRED_CERTIFICATE),
    ("incompatible key usage", What.WRONG_CERTIFICATE),
    ("failed to verify certificate", What.BAD_CERTIFICATE),
    ("first record does not look like a TLS handshake", What.NOT_TLS),
)
_GO_OWN_DOING = ("EOF", "bad record MAC", "remote error: tls:", "connection reset", "i/o timeout")


class Nats:
    """Of nats-server 2.14 and 2.15, with or without times."""

    def take(self, line: str, at_ms: int) -> Refusal | Said | None:
        """Read a line."""
        found = _NATS.fullmatch(line)
        if found is None:
            return Said(line) if line.startswith("nats-server:") else None
        level, text = found.groups()
        if level == "INF":
            return Said(text, ready=True) if text == "Server is ready" else None
        client = _NATS_CLIENT.fullmatch(text)
        if client is None:
            # both were our own doing, and the doorkeeper counted the first
            harmless = text.startswith(("Auth callout service", "Clients that are not using"))
            return None if harmless else Said(text)
        return self._client(client, at_ms, text)

    def _client(self, client: re.Match[str], at_ms: int, text: str) -> Refusal | Said | None:
        said, who = client["text"], client["who"] or ""
        for begins, judge in _KINDS:
            if said.startswith(begins):
                what = judge(said)
                source = client["source"].strip("[]")
                return Refusal(at_ms, "nats", what, who, source, said) if what else None
        if "authentication error" in said:
            if client["kind"] == "mid":
                return None
            source = client["source"].strip("[]")
            return Refusal(at_ms, "nats", What.BAD_CLIENT, who, source, said)
        harmless = said.startswith(("Replacing old client", "unable to connect: connection closed"))
        return None if harmless else Said(text)


def _of_go(text: str) -> What | None:
    for words, what in _OF_GO:
        if words in text:
            return what
    return None if any(one in text for one in _GO_OWN_DOING) else What.BAD_CLIENT


def lines_of(broker: str) -> Lines:
    """Make the reader for ``mosquitto`` or ``nats``."""
    return Nats() if broker == "nats" else Mosquitto()
